//! The server for operators, as the companion of a server's control thread.

use std::net::TcpListener;

use corelane::ServerHandle;
use corelane::admin::{Plane, PlaneHandle};
use corelane::process::control::{Companion, Stage};
use tokio::sync::watch;

/// Serves operators on this socket, if there is one, from this stage on, and logs the server's
/// figures.
pub(super) fn companion(
    handle: ServerHandle,
    socket: Option<TcpListener>,
    from: Stage,
) -> Companion {
    Box::new(move |mut stage| {
        Box::pin(async move {
            // It is told by the end of whoever could tell, too: then this ends as well.
            if stage.wait_for(|stage| *stage >= from).await.is_ok() {
                serve(handle, socket, stage).await;
            }
        })
    })
}

async fn serve(handle: ServerHandle, socket: Option<TcpListener>, stage: watch::Receiver<Stage>) {
    if let Some(Ok(address)) = socket.as_ref().map(TcpListener::local_addr) {
        tracing::info!(%address, "the admin server listens");
    }
    let plane = match socket.map(|socket| Plane::new(handle.clone(), socket)) {
        None => Plane::without_http(handle),
        Some(Ok(plane)) => plane,
        Some(Err(error)) => return tracing::error!("operators can't be served: {error}"),
    };
    let control = plane.handle();
    tokio::select! {
        served = plane.run() => {
            if let Err(error) = served {
                tracing::error!("operators are served no more: {error}");
            }
        }
        () = follow(stage, &control) => {}
    }
}

/// Tells it how far the server's life is. Ends with the server's control.
async fn follow(mut stage: watch::Receiver<Stage>, control: &PlaneHandle) {
    loop {
        match *stage.borrow_and_update() {
            Stage::Starting | Stage::Serving => {}
            Stage::GoingDown => control.set_draining(),
            // The socket is another's as well: who asks there is to be answered by that one.
            Stage::Replaced | Stage::Ended => control.retire(),
        }
        if stage.changed().await.is_err() {
            return;
        }
    }
}

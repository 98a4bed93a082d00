//! Connections of the admin server: how many, how long, and how much of a request.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Site, router};

/// Connections at once; further ones wait in the backlog.
const CONNECTIONS_MAX: u32 = 64;

/// A connection's place is taken for so long at least, however short the connection is: it bounds
/// how many come in a second.
const PLACE_MIN: Duration = Duration::from_millis(100);

/// How long a request's head may take, and how long a connection may be quiet.
const HEAD_MAX: Duration = Duration::from_secs(5);

/// A request's head, in bytes and in lines.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEAD_LINES_MAX: usize = 64;

/// A connection ends after so long, between two requests.
const AGE_MAX: Duration = Duration::from_mins(1);

/// An answer that is under way when a connection is to end may take so long.
const LAST_ANSWER_MAX: Duration = Duration::from_secs(5);

/// How long to wait when there is no descriptor for a connection.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(100);

/// Serves who connects until it retires, and then who has asked.
pub(in crate::admin) async fn serve(
    listener: TcpListener,
    site: Arc<Site>,
    mut retired: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX as usize));
    let router = router(site);
    let watching = retired.clone();
    tokio::select! {
        () = accept(listener, &places, &router, &watching) => {}
        () = until_retired(&mut retired) => {}
    }
    // The listener is closed. Those at work see for themselves that it is over.
    let all = places.acquire_many(CONNECTIONS_MAX).await;
    debug_assert!(all.is_ok(), "the semaphore is never closed");
}

/// Ends only if there are no places to be had any more, which there always are.
async fn accept(
    listener: TcpListener,
    places: &Arc<Semaphore>,
    router: &Router,
    retired: &watch::Receiver<bool>,
) {
    while let Ok(place) = Arc::clone(places).acquire_owned().await {
        let stream = next(&listener).await;
        let connection = serve_one(stream, router.clone(), retired.clone());
        tokio::spawn(holding(place, connection));
    }
}

async fn next(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => return stream,
            // The peer was gone before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!("the admin server can't accept a connection: {error}");
                sleep(NO_ROOM_PAUSE).await;
            }
        }
    }
}

async fn holding(place: OwnedSemaphorePermit, connection: impl Future<Output = ()>) {
    let free_at = Instant::now() + PLACE_MIN;
    connection.await;
    sleep_until(free_at).await;
    drop(place);
}

async fn serve_one(stream: TcpStream, router: Router, mut retired: watch::Receiver<bool>) {
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEAD_LINES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = sleep(AGE_MAX) => end(connection).await,
        () = until_retired(&mut retired) => end(connection).await,
    };
    if let Err(error) = outcome {
        // Whatever a peer does wrong: it is told what can be told.
        tracing::debug!("a connection to the admin server ended: {error}");
    }
}

type Connection = http1::Connection<TokioIo<TcpStream>, TowerToHyperService<Router>>;

/// Ends a connection after the answer that is under way.
async fn end(mut connection: std::pin::Pin<&mut Connection>) -> hyper::Result<()> {
    connection.as_mut().graceful_shutdown();
    // One that takes no answer is dropped.
    timeout(LAST_ANSWER_MAX, connection).await.unwrap_or(Ok(()))
}

async fn until_retired(retired: &mut watch::Receiver<bool>) {
    // If nobody can say so any more, nobody will.
    if retired.wait_for(|is_retired| *is_retired).await.is_err() {
        std::future::pending::<()>().await;
    }
}

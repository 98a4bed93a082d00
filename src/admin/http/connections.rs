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
    let mut is_told = false;
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => return stream,
            // The peer was gone before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                // Once, however long it lasts.
                if !is_told {
                    tracing::warn!("the admin server can't accept a connection: {error}");
                }
                is_told = true;
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::runtime::Builder;

    use super::*;

    /// Serves one connection with a page of a megabyte; `ask` is the client. The clock is made up: it
    /// goes on by itself when nothing else does.
    fn with_client<Ask: Future<Output = ()>>(ask: impl FnOnce(TcpStream) -> Ask) {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)));
            let listener = listener.await.unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap());
            let client = client.await.unwrap();
            let stream = next(&listener).await;
            let router = Router::new().route("/", get(async || "x".repeat(1 << 20)));
            let retired = watch::Sender::new(false);
            let served = serve_one(stream, router, retired.subscribe());
            tokio::join!(served, ask(client));
        });
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n";

    async fn read(client: &TcpStream) -> usize {
        let mut bytes = vec![0; 1 << 16];
        loop {
            client.readable().await.unwrap();
            match client.try_read(&mut bytes) {
                Ok(count) => return count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // A reset is an end, too.
                Err(_) => return 0,
            }
        }
    }

    #[test]
    fn a_connection_that_goes_on_asking_ends_at_last() {
        // Where the host is slow to carry an answer, the clock takes that for having nothing to do
        // and jumps, which makes a connection quiet that is not: then it has to be tried again.
        let has_jumped = Cell::new(true);
        for _ in 0..100 {
            has_jumped.set(false);
            with_client(async |client| go_on_asking(&client, &has_jumped).await);
            if !has_jumped.get() {
                return;
            }
        }
        panic!("the clock has always jumped");
    }

    async fn go_on_asking(client: &TcpStream, has_jumped: &Cell<bool>) {
        let began = Instant::now();
        while client.try_write(REQUEST).is_ok() {
            let asked = Instant::now();
            let mut left_bytes = 1_usize << 20;
            while left_bytes > 0 {
                let count = read(client).await;
                if count == 0 {
                    break;
                }
                left_bytes = left_bytes.saturating_sub(count);
            }
            has_jumped.set(has_jumped.get() || !asked.elapsed().is_zero());
            if left_bytes > 0 || has_jumped.get() {
                break;
            }
            sleep(Duration::from_secs(3)).await;
        }
        let took = began.elapsed();
        let expected = AGE_MAX..AGE_MAX + Duration::from_secs(4);
        assert!(has_jumped.get() || expected.contains(&took), "{took:?}");
    }

    #[test]
    fn a_connection_that_takes_no_answer_is_dropped() {
        with_client(async |client| {
            let began = Instant::now();
            // Many times what fits on the way.
            for _ in 0..64 {
                assert_eq!(client.try_write(REQUEST).unwrap(), REQUEST.len());
            }
            sleep(AGE_MAX + LAST_ANSWER_MAX + Duration::from_secs(1)).await;
            let mut received_bytes = 0;
            loop {
                let count = read(&client).await;
                if count == 0 {
                    break;
                }
                received_bytes += count;
            }
            assert!(received_bytes < 64 << 20, "{received_bytes}");
            let took = began.elapsed();
            assert!(took < AGE_MAX + LAST_ANSWER_MAX * 2, "{took:?}");
        });
    }

    #[test]
    fn a_connection_that_says_nothing_is_ended() {
        with_client(async |client| {
            let began = Instant::now();
            assert_eq!(read(&client).await, 0);
            let took = began.elapsed();
            assert!(took >= HEAD_MAX && took < HEAD_MAX * 2, "{took:?}");
        });
    }
}

//! Connections of the admin server: how many, how long, and how much of a request.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::activity::{Activity, Asked, Seen};
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

/// A request that is to be expected when a connection is to end has to have come by then: the rest of
/// one that has begun, or the first.
const LAST_REQUEST_MAX: Duration = Duration::from_secs(1);

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
    let activity = Arc::new(Activity::new());
    let service = Asked {
        router: TowerToHyperService::new(router),
        activity: Arc::clone(&activity),
    };
    let stream = Seen {
        stream,
        activity: Arc::clone(&activity),
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEAD_LINES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = sleep(AGE_MAX) => end(connection, &activity).await,
        () = until_retired(&mut retired) => end(connection, &activity).await,
    };
    if let Err(error) = outcome {
        // Whatever a peer does wrong: it is told what can be told.
        tracing::debug!("a connection to the admin server ended: {error}");
    }
}

type Connection = http1::Connection<TokioIo<Seen>, Asked>;

/// Ends a connection after the answer that is owed. hyper alone would close one that has not asked
/// yet, even if its first request has come and was not read.
async fn end(mut connection: Pin<&mut Connection>, activity: &Activity) -> hyper::Result<()> {
    activity.end_with_the_next_answer();
    tokio::select! {
        biased;
        outcome = connection.as_mut() => return outcome,
        // What the kernel has of a request is read first.
        () = yield_now() => {}
    }
    if activity.owes_an_answer() {
        tokio::select! {
            outcome = connection.as_mut() => return outcome,
            asked = timeout(LAST_REQUEST_MAX, activity.asked()) => if asked.is_err() {
                return Ok(());
            }
        }
    }
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
        with_client_and_end(Clock::MadeUp, async |client, _retired| ask(client).await);
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Clock {
        /// For what takes long; where the host is slow to carry bytes, it may take longer.
        MadeUp,
        Real,
    }

    /// Likewise; the client can have the server retire.
    fn with_client_and_end<Ask: Future<Output = ()>>(
        clock: Clock,
        ask: impl FnOnce(TcpStream, watch::Sender<bool>) -> Ask,
    ) {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .start_paused(clock == Clock::MadeUp)
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
            tokio::join!(served, ask(client, retired));
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

    /// Reads until the end; gives back what came.
    async fn read_to_end(client: &TcpStream) -> String {
        let mut text = String::new();
        let mut bytes = vec![0; 1 << 16];
        loop {
            client.readable().await.unwrap();
            match client.try_read(&mut bytes) {
                Ok(0) => return text,
                Ok(count) => text.push_str(std::str::from_utf8(&bytes[..count]).unwrap()),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
    }

    #[test]
    fn a_first_request_is_answered_though_the_server_retires_before_it_is_read() {
        for asks_later in [false, true] {
            with_client_and_end(Clock::Real, async |client, retired| {
                if !asks_later {
                    client.try_write(REQUEST).unwrap();
                }
                retired.send_replace(true);
                if asks_later {
                    for _ in 0..9 {
                        yield_now().await;
                    }
                    client.try_write(REQUEST).unwrap();
                }
                let answer = read_to_end(&client).await;
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer:.100}");
                // One that is under way already can't say so any more.
                let is_last = answer.contains("connection: close\r\n");
                assert!(is_last || !asks_later, "{answer:.300}");
            });
        }
    }

    #[test]
    fn a_first_request_is_not_waited_for_long_when_the_server_retires() {
        for half in ["", "GET / HT"] {
            with_client_and_end(Clock::MadeUp, async |client, retired| {
                client.try_write(half.as_bytes()).unwrap();
                retired.send_replace(true);
                let began = Instant::now();
                assert_eq!(read_to_end(&client).await, "");
                let took = began.elapsed();
                assert!((LAST_REQUEST_MAX..HEAD_MAX).contains(&took), "{took:?}");
            });
        }
    }

    #[test]
    fn a_connection_that_was_answered_and_is_quiet_ends_at_once_when_the_server_retires() {
        with_client_and_end(Clock::Real, async |client, retired| {
            client
                .try_write(b"HEAD / HTTP/1.1\r\nHost: here\r\n\r\n")
                .unwrap();
            assert!(read(&client).await > 0);
            let began = Instant::now();
            retired.send_replace(true);
            assert_eq!(read_to_end(&client).await, "");
            assert!(began.elapsed() < LAST_REQUEST_MAX, "{:?}", began.elapsed());
        });
    }
}

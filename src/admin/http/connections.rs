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
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::activity::{Activity, Asked, Seen};
use super::places::{Place, Places};
use super::{Site, router};

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

/// Serves who connects until it retires, and then who has.
pub(in crate::admin) async fn serve(
    listener: TcpListener,
    site: Arc<Site>,
    retired: watch::Receiver<bool>,
) {
    let handle = site.handle.clone();
    let reception = Reception {
        places: Places::new(),
        router: router(site),
        retired,
    };
    reception.accept(&listener).await;
    // Where the socket is another's as well, the rest comes to that one.
    if !handle.is_replaced()
        && let Ok(listener) = listener.into_std()
    {
        reception.accept_the_rest(&listener);
    }
    // The listener is closed. Those at work see for themselves that it is over.
    reception.places.all_free().await;
}

/// What each connection is given.
struct Reception {
    places: Arc<Places>,
    router: Router,
    retired: watch::Receiver<bool>,
}

impl Reception {
    /// Until it retires. Who was accepted has a place by then: on the way to one, nobody is dropped.
    async fn accept(&self, listener: &TcpListener) {
        let mut retired = self.retired.clone();
        loop {
            let stream = tokio::select! {
                stream = next(listener) => stream,
                () = until_retired(&mut retired) => return,
            };
            // Now: who waits may be why somebody else has to leave.
            let Some(place) = self.places.find().await else {
                return;
            };
            self.seat(stream, place);
        }
    }

    /// Whoever is in the backlog, as long as there are places.
    fn accept_the_rest(&self, listener: &std::net::TcpListener) {
        while let Some(place) = self.places.find_now() {
            // Its error is that nobody is there, or that nobody can be had.
            let Ok((stream, _peer)) = listener.accept() else {
                return;
            };
            let stream = stream.set_nonblocking(true).map(|()| stream);
            match stream.and_then(TcpStream::from_std) {
                Ok(stream) => self.seat(stream, place),
                Err(error) => {
                    tracing::warn!("the admin server can't serve a connection: {error}");
                }
            }
        }
    }

    fn seat(&self, stream: TcpStream, place: Place) {
        let activity = Arc::clone(&place.activity);
        let connection = serve_one(stream, activity, self.router.clone(), self.retired.clone());
        tokio::spawn(async move {
            connection.await;
            place.leave().await;
        });
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

async fn serve_one(
    stream: TcpStream,
    activity: Arc<Activity>,
    router: Router,
    mut retired: watch::Receiver<bool>,
) {
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
    let old_at = Instant::now() + AGE_MAX;
    let outcome = loop {
        tokio::select! {
            // Who asks once it retires is told that the answer is the last.
            biased;
            () = until_retired(&mut retired) => break end(connection, &activity).await,
            () = sleep_until(old_at) => break end(connection, &activity).await,
            outcome = connection.as_mut() => break outcome,
            () = activity.asked_to_leave() => {}
        }
        if let Some(outcome) = read_what_has_come(connection.as_mut()).await {
            break outcome;
        }
        if activity.leaves() {
            break Ok(());
        }
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
    if let Some(outcome) = read_what_has_come(connection.as_mut()).await {
        return outcome;
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

/// Has hyper see what the kernel has of a request by now. Gives back how the connection ended, if it
/// has.
async fn read_what_has_come(connection: Pin<&mut Connection>) -> Option<hyper::Result<()>> {
    tokio::select! {
        biased;
        outcome = connection => Some(outcome),
        // The runtime looks what has come before this goes on.
        () = yield_now() => None,
    }
}

async fn until_retired(retired: &mut watch::Receiver<bool>) {
    // If nobody can say so any more, nobody will.
    if retired.wait_for(|is_retired| *is_retired).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests;

//! What a connection is at: whether its peer is quiet, asks, or is being answered.
//!
//! hyper does not tell, so it is seen from outside: in what goes through the socket, and in the
//! calls of the service.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing of a request has come since the last answer.
    Quiet,
    /// A part of a request has come.
    Asking,
    /// The answer is being made.
    Asked,
    /// The answer is being written.
    Answering,
}

#[derive(Clone, Copy, Debug)]
struct State {
    phase: Phase,
    has_been_answered: bool,
    ends: bool,
}

/// What one connection is at.
#[derive(Debug)]
pub(super) struct Activity(watch::Sender<State>);

impl Activity {
    /// Of a connection that was accepted just now.
    pub(super) fn new() -> Activity {
        Activity(watch::Sender::new(State {
            phase: Phase::Quiet,
            has_been_answered: false,
            ends: false,
        }))
    }

    /// Whether an answer is owed, or may be: a request is under way, or the peer has connected to
    /// ask one and has not come to it.
    pub(super) fn owes_an_answer(&self) -> bool {
        let state = self.0.borrow();
        state.phase != Phase::Quiet || !state.has_been_answered
    }

    /// Waits until a whole request has come.
    pub(super) async fn asked(&self) {
        let is_asked = |state: &State| matches!(state.phase, Phase::Asked | Phase::Answering);
        let waited = self.0.subscribe().wait_for(is_asked).await.is_ok();
        debug_assert!(waited, "the sender lives as long as this");
    }

    /// From now on, answers say that they are the last.
    pub(super) fn end_with_the_next_answer(&self) {
        self.0.send_modify(|state| state.ends = true);
    }

    fn ends(&self) -> bool {
        self.0.borrow().ends
    }

    fn enter(&self, phase: Phase) {
        self.0.send_modify(|state| state.phase = phase);
    }

    fn note_read(&self) {
        if self.0.borrow().phase == Phase::Quiet {
            self.enter(Phase::Asking);
        }
    }

    /// All that there was to write is.
    fn note_written(&self) {
        self.0.send_if_modified(|state| {
            let is_answered = state.phase == Phase::Answering;
            if is_answered {
                state.phase = Phase::Quiet;
                state.has_been_answered = true;
            }
            is_answered
        });
    }
}

/// The socket of a connection.
pub(super) struct Seen {
    pub(super) stream: TcpStream,
    pub(super) activity: Arc<Activity>,
}

impl AsyncRead for Seen {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before_bytes = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before_bytes {
            self.activity.note_read();
        }
        outcome
    }
}

impl AsyncWrite for Seen {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper calls this when it has written all that it had, and answers come to it whole.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(outcome, Poll::Ready(Ok(()))) {
            self.activity.note_written();
        }
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The endpoints, as one connection asks them.
pub(super) struct Asked {
    pub(super) router: TowerToHyperService<Router>,
    pub(super) activity: Arc<Activity>,
}

impl Service<Request<Incoming>> for Asked {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let activity = Arc::clone(&self.activity);
        activity.enter(Phase::Asked);
        let answer = self.router.call(request);
        Box::pin(async move {
            let mut answer = answer.await?;
            activity.enter(Phase::Answering);
            if activity.ends() {
                let last = HeaderValue::from_static("close");
                answer.headers_mut().insert(header::CONNECTION, last);
            }
            Ok(answer)
        })
    }
}

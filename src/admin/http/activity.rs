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
use tokio::time::Instant;

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
    /// When it has become quiet last.
    quiet_since: Instant,
    has_been_answered: bool,
    is_to_leave: bool,
    ends: bool,
}

/// What one connection is at.
#[derive(Debug)]
pub(super) struct Activity {
    accepted_at: Instant,
    state: watch::Sender<State>,
}

impl Activity {
    /// Of a connection that was accepted just now.
    pub(super) fn new() -> Activity {
        let now = Instant::now();
        Activity {
            accepted_at: now,
            state: watch::Sender::new(State {
                phase: Phase::Quiet,
                quiet_since: now,
                has_been_answered: false,
                is_to_leave: false,
                ends: false,
            }),
        }
    }

    /// Since when it is quiet, if it is, was accepted by then, and has not been asked to leave.
    pub(super) fn quiet_since(&self, accepted_by: Instant) -> Option<Instant> {
        let state = self.state.borrow();
        let may_leave = state.phase == Phase::Quiet && !state.is_to_leave;
        (may_leave && self.accepted_at <= accepted_by).then_some(state.quiet_since)
    }

    /// Asks the connection to make room for another.
    pub(super) fn ask_to_leave(&self) {
        self.state.send_modify(|state| state.is_to_leave = true);
    }

    /// Waits until it is asked to leave.
    pub(super) async fn asked_to_leave(&self) {
        self.until(|state| state.is_to_leave).await;
    }

    /// Whether it leaves: not if a request has come meanwhile, and then it stays until asked again.
    pub(super) fn leaves(&self) -> bool {
        let is_quiet = self.state.borrow().phase == Phase::Quiet;
        if !is_quiet {
            self.state.send_modify(|state| state.is_to_leave = false);
        }
        is_quiet
    }

    /// Whether an answer is owed, or may be: a request is under way, or the peer has connected to
    /// ask one and has not come to it.
    pub(super) fn owes_an_answer(&self) -> bool {
        let state = self.state.borrow();
        state.phase != Phase::Quiet || !state.has_been_answered
    }

    /// Waits until a whole request has come.
    pub(super) async fn asked(&self) {
        self.until(|state| matches!(state.phase, Phase::Asked | Phase::Answering))
            .await;
    }

    /// From now on, answers say that they are the last.
    pub(super) fn end_with_the_next_answer(&self) {
        self.state.send_modify(|state| state.ends = true);
    }

    async fn until(&self, holds: impl Fn(&State) -> bool) {
        let waited = self
            .state
            .subscribe()
            .wait_for(|state| holds(state))
            .await
            .is_ok();
        debug_assert!(waited, "the sender lives as long as this");
    }

    fn ends(&self) -> bool {
        self.state.borrow().ends
    }

    fn enter(&self, phase: Phase) {
        self.state.send_modify(|state| state.phase = phase);
    }

    fn note_read(&self) {
        if self.state.borrow().phase == Phase::Quiet {
            self.enter(Phase::Asking);
        }
    }

    /// All that there was to write is.
    fn note_written(&self) {
        self.state.send_if_modified(|state| {
            let is_answered = state.phase == Phase::Answering;
            if is_answered {
                state.phase = Phase::Quiet;
                state.quiet_since = Instant::now();
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

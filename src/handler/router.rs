//! The table of handlers, indexed by message code.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use super::context::{ConnectionId, Context, Exchange, Request};
use super::panic::caught;
use super::reply::Reply;
use crate::metrics::CloseCause;
use crate::metrics::own::{Metrics, Published, Series};

/// An asynchronous handler at work.
pub(crate) type HandlerFuture = Pin<Box<dyn Future<Output = Reply>>>;

/// A synchronous handler as the shard calls it: gives back whether it has written a reply. Where it
/// has not, what it returned is in the exchange.
//
// A reply is larger than what fits registers: returned, each would go through memory, though hardly any
// is more than that it is written.
pub(crate) type SyncHandler<S> = dyn Fn(&S, &mut Exchange, &[u8]) -> bool + Send + Sync;
type AsyncHandler<S> = dyn Fn(Rc<S>, Request) -> HandlerFuture + Send + Sync;

type OpenHook<S> = dyn Fn(&S, ConnectionId) + Send + Sync;
type CloseHook<S> = dyn Fn(&S, ConnectionId, CloseCause) + Send + Sync;

/// A handler, to be called.
pub(crate) enum Handler<'a, S> {
    Sync(&'a SyncHandler<S>),
    /// A synchronous one whose requests carry secrets. A kind of its own, so that asking costs the
    /// others nothing.
    Secret(&'a SyncHandler<S>),
    Async(&'a AsyncHandler<S>),
}

/// The same as it stands in the table.
enum Entry<S> {
    Sync(Arc<SyncHandler<S>>),
    Secret(Arc<SyncHandler<S>>),
    Async(Arc<AsyncHandler<S>>),
}

/// The handlers of a server by message code. Every shard has a copy of the table; the state that
/// the handlers get is the shard's own.
pub struct Router<S> {
    table: Vec<Option<Entry<S>>>,
    on_open: Vec<Arc<OpenHook<S>>>,
    on_close: Vec<Arc<CloseHook<S>>>,
    /// The codes whose requests carry secrets; few.
    secrets: Vec<u16>,
    /// The codes whose asynchronous handlers are slow by design; few.
    patient: Vec<u16>,
    metrics: Metrics<S>,
}

impl<S: 'static> Router<S> {
    /// A table without handlers.
    pub fn new() -> Router<S> {
        Router {
            table: Vec::new(),
            on_open: Vec::new(),
            on_close: Vec::new(),
            secrets: Vec::new(),
            patient: Vec::new(),
            metrics: Metrics::default(),
        }
    }

    /// Has the requests with this code wiped from memory once they are handled, or refused: they
    /// carry a password or the like. The code need not have a handler. What the handler itself
    /// copies is its own to wipe.
    pub fn secret(&mut self, code: u16) {
        if !self.is_secret(code) {
            self.secrets.push(code);
        }
        if let Some(place) = self.table.get_mut(usize::from(code)) {
            *place = place.take().map(Entry::into_secret);
        }
    }

    /// However long the asynchronous handler of this code takes, that is not counted or logged as
    /// slow: it waits by design, for work on another thread for example. A turn that it holds up is
    /// slow all the same.
    pub fn patient(&mut self, code: u16) {
        if !self.is_patient(code) {
            self.patient.push(code);
        }
    }

    /// Whether the handler of this code is slow by design.
    pub(crate) fn is_patient(&self, code: u16) -> bool {
        self.patient.contains(&code)
    }

    /// Whether requests with this code carry secrets.
    pub(crate) fn is_secret(&self, code: u16) -> bool {
        self.secrets.contains(&code)
    }

    /// Whether any requests do.
    pub(crate) fn has_secrets(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// Has a synchronous handler answer the requests with this code. Returns whether the code was
    /// free; if not, the former handler is replaced.
    pub fn handler<F>(&mut self, code: u16, handler: F) -> bool
    where
        F: Fn(&S, Context<'_>, &[u8]) -> Reply + Send + Sync + 'static,
    {
        let answer = move |state: &S, exchange: &mut Exchange, body: &[u8]| {
            let reply = handler(state, Context(&mut *exchange), body);
            let is_written = reply.is_written();
            if !is_written {
                exchange.returned = Some(reply);
            }
            is_written
        };
        self.set(code, Entry::Sync(Arc::new(answer)))
    }

    /// Has an asynchronous handler answer the requests with this code. Returns whether the code
    /// was free; if not, the former handler is replaced.
    pub fn async_handler<F, Fut>(&mut self, code: u16, handler: F) -> bool
    where
        F: Fn(Rc<S>, Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Reply> + 'static,
    {
        let boxed = move |state: Rc<S>, request: Request| -> HandlerFuture {
            Box::pin(handler(state, request))
        };
        self.set(code, Entry::Async(Arc::new(boxed)))
    }

    /// Has a function called once for each connection that is opened, on its shard, before its first
    /// frame is handled. Several are called in the order in which they were given.
    pub fn on_open(&mut self, hook: impl Fn(&S, ConnectionId) + Send + Sync + 'static) {
        self.on_open.push(Arc::new(hook));
    }

    /// Has a function called once for each connection that was opened, on its shard, when it is over.
    /// Nothing that is pushed to it reaches it any more.
    pub fn on_close(
        &mut self,
        hook: impl Fn(&S, ConnectionId, CloseCause) + Send + Sync + 'static,
    ) {
        self.on_close.push(Arc::new(hook));
    }

    /// Has the admin server show a metric of the program's own. What is wrong with it is told by the
    /// server's start; see [`own`](crate::metrics::own).
    pub fn metric(&mut self, metric: Published<S>) {
        self.metrics.add(metric);
    }

    pub(crate) fn metrics(&self) -> &Metrics<S> {
        &self.metrics
    }

    /// The figures of the metrics that are read off a shard's state, in their order; those of which
    /// the reading panicked are not a number.
    pub(crate) fn read_metrics(&self, state: &S) -> Vec<f64> {
        let mut figures = Vec::new();
        for (series, read) in self.metrics.of_shard() {
            read_figures(series, &mut figures, |figures| read(state, figures));
        }
        figures
    }

    pub(crate) fn open_hooks(&self) -> &[Arc<OpenHook<S>>] {
        &self.on_open
    }

    pub(crate) fn close_hooks(&self) -> &[Arc<CloseHook<S>>] {
        &self.on_close
    }

    fn set(&mut self, code: u16, entry: Entry<S>) -> bool {
        let index = usize::from(code);
        let entry = if self.is_secret(code) {
            entry.into_secret()
        } else {
            entry
        };
        if self.table.len() <= index {
            self.table.resize_with(index + 1, || None);
        }
        self.table[index].replace(entry).is_none()
    }

    /// The codes that have a handler, ascending.
    pub(crate) fn codes(&self) -> impl Iterator<Item = u16> {
        let codes = (0..=u16::MAX).zip(&self.table);
        codes.filter_map(|(code, handler)| handler.as_ref().map(|_| code))
    }

    /// The handler of this code.
    #[inline]
    pub(crate) fn get(&self, code: u16) -> Option<Handler<'_, S>> {
        let entry = self.table.get(usize::from(code))?.as_ref()?;
        Some(match entry {
            Entry::Sync(handler) => Handler::Sync(&**handler),
            Entry::Secret(handler) => Handler::Secret(&**handler),
            Entry::Async(handler) => Handler::Async(&**handler),
        })
    }
}

/// Has the figures of a metric read, behind those that there are. They are not a number if that
/// panics, which is logged.
pub(crate) fn read_figures(
    series: &Series,
    figures: &mut Vec<f64>,
    read: impl FnOnce(&mut Vec<f64>),
) {
    let end = figures.len() + series.len();
    if let Err(panicked) = caught(|| read(figures)) {
        tracing::error!(
            metric = series.description.name,
            panic = panicked.message,
            backtrace = panicked.backtrace,
            "a metric could not be read"
        );
    }
    figures.resize(end, f64::NAN);
}

impl<S: 'static> Default for Router<S> {
    fn default() -> Self {
        Router::new()
    }
}

impl<S> Clone for Router<S> {
    fn clone(&self) -> Self {
        Router {
            table: self.table.clone(),
            on_open: self.on_open.clone(),
            on_close: self.on_close.clone(),
            secrets: self.secrets.clone(),
            patient: self.patient.clone(),
            metrics: self.metrics.clone(),
        }
    }
}

impl<S> Entry<S> {
    /// The same for requests that carry secrets.
    fn into_secret(self) -> Entry<S> {
        match self {
            Entry::Sync(handler) => Entry::Secret(handler),
            // Whether an asynchronous one is, is asked when it is called: that is slow anyway.
            other => other,
        }
    }
}

impl<S> Clone for Entry<S> {
    fn clone(&self) -> Self {
        match self {
            Entry::Sync(handler) => Entry::Sync(Arc::clone(handler)),
            Entry::Secret(handler) => Entry::Secret(Arc::clone(handler)),
            Entry::Async(handler) => Entry::Async(Arc::clone(handler)),
        }
    }
}

/// The codes that have a handler.
impl<S: 'static> fmt::Debug for Router<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.codes()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::{ConnectionId, Content};

    fn run(router: &Router<String>, code: u16, body: &[u8]) -> Option<(Content, Vec<u8>)> {
        let Handler::Sync(handler) = router.get(code)? else {
            panic!("not a synchronous handler");
        };
        let mut exchange = Exchange {
            connection: ConnectionId {
                shard: 0,
                slot: 0,
                generation: 0,
            },
            code,
            frame_bytes_max: 100,
            out: Vec::new(),
            returned: None,
        };
        let is_written = handler(&"state".to_owned(), &mut exchange, body);
        assert_eq!(is_written, exchange.returned.is_none());
        let content = exchange.returned.map_or(Content::Written, |reply| reply.0);
        Some((content, exchange.out))
    }

    #[test]
    fn a_handler_is_found_by_its_code_alone() {
        let mut router = Router::new();
        assert!(router.handler(3, |state: &String, context, body| {
            context.reply(format!("{state} {}", body.len()).as_bytes())
        }));
        assert!(router.async_handler(5, |_, request| async { Reply::new(request.into_body()) }));
        let (content, out) = run(&router, 3, b"abc").unwrap();
        assert!(matches!(content, Content::Written));
        assert_eq!(out[8..], *b"state 3");
        assert_eq!(format!("{router:?}"), "{3, 5}");
        for code in [0, 2, 4, 6, u16::MAX] {
            assert!(router.get(code).is_none());
        }
    }

    #[test]
    fn a_second_handler_replaces_the_first_and_says_so() {
        let mut router = Router::<String>::new();
        assert!(router.handler(u16::MAX, |_, context, _| context.reply(b"first")));
        assert!(!router.handler(u16::MAX, |_, context, _| context.reply(b"second")));
        assert_eq!(run(&router, u16::MAX, b"").unwrap().1[8..], *b"second");
    }

    #[test]
    fn a_code_is_secret_whether_that_is_said_before_its_handler_or_after() {
        let mut router = Router::<String>::new();
        assert!(!router.has_secrets());
        router.secret(1);
        router.handler(1, |_, context, _| context.reply(b""));
        router.handler(2, |_, context, _| context.reply(b""));
        router.handler(3, |_, context, _| context.reply(b""));
        router.secret(2);
        router.secret(1000);
        let router = router.clone();
        for code in [1, 2] {
            assert!(matches!(router.get(code), Some(Handler::Secret(_))));
        }
        assert!(matches!(router.get(3), Some(Handler::Sync(_))));
        let secret = [1, 2, 3, 1000].map(|code| router.is_secret(code));
        assert_eq!(secret, [true, true, false, true]);
    }

    #[test]
    fn a_reply_over_the_frame_limit_is_a_failure_and_leaves_no_trace() {
        let mut router = Router::<String>::new();
        router.handler(1, |_, context, _| context.reply(&[0; 93]));
        router.handler(2, |_, context, _| {
            context.reply_with(7, |body| body.put(&[0; 93]))
        });
        router.handler(3, |_, context, _| context.reply(&[0; 92]));
        for code in [1, 2] {
            let (content, out) = run(&router, code, b"").unwrap();
            assert!(matches!(content, Content::TooLong { body_bytes: 93 }));
            assert!(out.is_empty());
        }
        assert_eq!(run(&router, 3, b"").unwrap().1.len(), 100);
    }
}

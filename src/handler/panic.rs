//! Panics of handlers: caught, with message, place and backtrace, so that one ends a connection
//! and not the server.
//!
//! A backtrace can only be taken by the panic hook, while the stack still stands. So the hook is
//! extended once for the process: on a thread that is inside [`caught`] it keeps a report for the
//! one who catches; everywhere else the former hook does what it always did.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

/// What is known about a panic.
#[derive(Debug)]
pub(crate) struct Panicked {
    /// What it said, and where, if the hook saw it.
    pub(crate) message: String,
    /// The stack at that moment; empty where the hook is not there.
    pub(crate) backtrace: String,
}

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    /// Whether there is a report: the next one has a destructor, which makes looking at it dear.
    static REPORTED: Cell<bool> = const { Cell::new(false) };
    /// Panics that were caught by [`contain`] and not asked for.
    static CONTAINED: Cell<u64> = const { Cell::new(0) };
    static REPORT: RefCell<Option<Panicked>> = const { RefCell::new(None) };
}

/// Extends the process's panic hook. Once is enough; more often does no harm.
pub(crate) fn keep_reports() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let former = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if INSIDE.get() {
                REPORT.set(Some(report(info)));
                REPORTED.set(true);
            } else {
                former(info);
            }
        }));
    });
}

/// Runs `work`; a panic in it comes back as an error.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    // AssertUnwindSafe: what a panic can leave half done belongs to the connection, which its
    // shard ends, or to the shard's state, whose own author decides what may panic.
    let before = INSIDE.replace(true);
    // A panic that a handler caught itself may have left its report.
    if REPORTED.get() {
        drop(take_report());
    }
    let result = catch_unwind(AssertUnwindSafe(work));
    INSIDE.set(before);
    result.map_err(|payload| {
        let report = take_report().unwrap_or_else(|| Panicked {
            message: message_of(payload.as_ref()),
            backtrace: String::new(),
        });
        // Even the payload's own drop must not end more than this connection.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
        report
    })
}

/// Runs `work`, which is no handler's and has nobody who waits for it, such as dropping what belongs
/// to a caller. A panic in it is logged and counted for this thread.
pub(crate) fn contain(work: impl FnOnce()) {
    if let Err(panicked) = caught(work) {
        CONTAINED.set(CONTAINED.get() + 1);
        tracing::error!(
            panic = panicked.message,
            backtrace = panicked.backtrace,
            "what was held for a function, or answered by it, panicked as it was dropped"
        );
    }
}

/// Panics that [`contain`] has caught on this thread since it was asked for last.
#[inline]
pub(crate) fn take_contained() -> u64 {
    CONTAINED.take()
}

#[cold]
fn take_report() -> Option<Panicked> {
    REPORTED.set(false);
    REPORT.take()
}

fn report(info: &PanicHookInfo<'_>) -> Panicked {
    let message = message_of(info.payload());
    Panicked {
        message: match info.location() {
            Some(location) => format!("{message} (at {location})"),
            None => message,
        },
        backtrace: Backtrace::force_capture().to_string(),
    }
}

pub(crate) fn message_of(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_caught_with_message_place_and_backtrace() {
        keep_reports();
        let panicked = caught(|| panic!("number {}", 7)).unwrap_err();
        assert!(
            panicked.message.starts_with("number 7 (at "),
            "{panicked:?}"
        );
        assert!(panicked.message.contains("panic.rs"), "{panicked:?}");
        assert!(panicked.backtrace.contains("catch_unwind"), "{panicked:?}");
        assert_eq!(caught(|| 8).unwrap(), 8);
    }
}

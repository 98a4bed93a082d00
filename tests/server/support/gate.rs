//! Asynchronous handlers that wait for the test, and tell it what becomes of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use corelane::{Reply, Request};

use super::waiting::DEADLINE;

/// A gate that handlers wait at until the test opens it.
#[derive(Clone)]
pub(crate) struct Gate {
    open: Arc<AtomicBool>,
    passing: mpsc::Sender<Passing>,
}

/// What handlers tell of themselves, one after the other.
pub(crate) struct Passings(Mutex<mpsc::Receiver<Passing>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passing {
    /// A handler has started and waits.
    Arrived,
    /// A handler went through the open gate.
    Passed,
    /// A handler was dropped while it waited.
    Dropped,
}

/// A closed gate, and the news of it.
pub(crate) fn closed() -> (Gate, Passings) {
    let (passing, passings) = mpsc::channel();
    let gate = Gate {
        open: Arc::default(),
        passing,
    };
    (gate, Passings(Mutex::new(passings)))
}

impl Gate {
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// The handler: waits at the gate, then answers with its request's body.
    pub(crate) async fn handle(self, request: Request) -> Reply {
        let mut visit = Visit {
            gate: &self,
            outcome: Passing::Dropped,
        };
        self.tell(Passing::Arrived);
        while !self.open.load(Ordering::Acquire) {
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
        visit.outcome = Passing::Passed;
        drop(visit);
        Reply::new(request.into_body())
    }

    fn tell(&self, passing: Passing) {
        // A test that has failed does not listen any more.
        let _ = self.passing.send(passing);
    }
}

struct Visit<'a> {
    gate: &'a Gate,
    outcome: Passing,
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.gate.tell(self.outcome);
    }
}

impl Passings {
    /// Asserts what is told next; waits for it.
    #[track_caller]
    pub(crate) fn expect(&self, passing: Passing) {
        let told = self.0.lock().unwrap().recv_timeout(DEADLINE);
        assert_eq!(told, Ok(passing));
    }
}

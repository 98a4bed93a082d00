//! What wakes an asynchronous handler, from any thread.
//!
//! Invariant: no waker of glommio's leaves its thread. One (0.12) that is dropped on another thread
//! lets go of its task and then looks at it once more, by when the task may have ended and been freed;
//! with a handler that another thread answers, that is one of some ten thousand times. So a handler is
//! polled with a waker of ours, and that has its glommio task woken on the shard's own thread: at once
//! where it is woken there, and by the shard, for which the eventfd is written to, where it is woken
//! elsewhere. No lock is taken, since who wakes may run when nothing else does, and could hold one for
//! long.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Wake, Waker};

use crate::sys::Wakeup;

/// Handlers by the number of their task that were woken on other threads: 64 to a word.
const PER_WORD: usize = u64::BITS as usize;

thread_local! {
    /// The relay of the shard that runs on this thread.
    static HERE: RefCell<Option<Rc<Local>>> = const { RefCell::new(None) };
}

/// The shard's side: the wakers of its handlers' glommio tasks.
pub(super) struct Relay {
    local: Rc<Local>,
    words: Vec<Arc<AtomicU64>>,
    wakers: Vec<Waker>,
}

/// What stays on the shard's thread.
struct Local {
    tasks: RefCell<Vec<Option<Waker>>>,
    bell: Arc<Bell>,
}

/// What tells a shard that handlers were woken elsewhere.
struct Bell {
    is_rung: AtomicBool,
    wakeup: Wakeup,
}

/// The waker of whatever handler has the task of this number. Woken late, it wakes the next one, which
/// does not mind.
struct Signal {
    task: usize,
    /// Its bit, and the word that it is in.
    bit: u64,
    word: Arc<AtomicU64>,
    bell: Arc<Bell>,
}

impl Relay {
    /// For the shard that runs on this thread and is woken by `wakeup` when it is parked.
    pub(super) fn new(wakeup: Wakeup) -> Relay {
        let local = Rc::new(Local {
            tasks: RefCell::default(),
            bell: Arc::new(Bell {
                is_rung: AtomicBool::new(false),
                wakeup,
            }),
        });
        HERE.set(Some(Rc::clone(&local)));
        Relay {
            local,
            words: Vec::new(),
            wakers: Vec::new(),
        }
    }

    /// The way for the handler with the task of this number; they are small numbers.
    pub(super) fn handler(&mut self, task: usize) -> Polled {
        while self.wakers.len() <= task {
            self.add_task();
        }
        Polled {
            task,
            waker: self.wakers[task].clone(),
            local: Rc::clone(&self.local),
        }
    }

    fn add_task(&mut self) {
        let task = self.wakers.len();
        if task / PER_WORD == self.words.len() {
            self.words.push(Arc::default());
        }
        self.wakers.push(Waker::from(Arc::new(Signal {
            task,
            bit: 1 << (task % PER_WORD),
            word: Arc::clone(&self.words[task / PER_WORD]),
            bell: Arc::clone(&self.local.bell),
        })));
        self.local.tasks.borrow_mut().push(None);
    }

    /// Whether handlers were woken on other threads that [`Relay::pass_on`] has not been called for.
    #[inline]
    pub(super) fn is_rung(&self) -> bool {
        self.local.bell.is_rung.load(Ordering::Relaxed)
    }

    /// Wakes those tasks here, and the shard when it parks next: see the invariant of `run`.
    pub(super) fn pass_on(&self) {
        // Before the words are read: what is set later rings again.
        self.local.bell.is_rung.swap(false, Ordering::AcqRel);
        for (number, word) in self.words.iter().enumerate() {
            let mut bits = word.swap(0, Ordering::AcqRel);
            while bits != 0 {
                let bit = bits.trailing_zeros() as usize;
                bits &= bits - 1;
                self.local.wake(number * PER_WORD + bit);
            }
        }
        self.local.bell.wakeup.wake();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Whoever is left with a waker wakes nobody.
        HERE.set(None);
    }
}

impl Local {
    fn wake(&self, task: usize) {
        if let Some(Some(waker)) = self.tasks.borrow().get(task) {
            waker.wake_by_ref();
        }
    }
}

impl Signal {
    fn is_here(&self) -> Option<Rc<Local>> {
        let here = HERE.try_with(|here| here.borrow().clone()).ok().flatten()?;
        Arc::ptr_eq(&here.bell, &self.bell).then_some(here)
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(here) = self.is_here() {
            return here.wake(self.task);
        }
        self.word.fetch_or(self.bit, Ordering::AcqRel);
        if !self.bell.is_rung.swap(true, Ordering::AcqRel) {
            self.bell.wakeup.wake();
        }
    }
}

/// How one handler is polled. Its glommio task is woken for it until this is dropped.
pub(super) struct Polled {
    task: usize,
    waker: Waker,
    local: Rc<Local>,
}

impl Polled {
    /// What the handler is to be woken by; `of_task` wakes the glommio task that it runs in.
    pub(super) fn waker(&self, of_task: &Waker) -> &Waker {
        let mut tasks = self.local.tasks.borrow_mut();
        match &mut tasks[self.task] {
            Some(waker) => waker.clone_from(of_task),
            none => *none = Some(of_task.clone()),
        }
        &self.waker
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        // Dropped outside of the borrow: it may be the last of its task.
        let waker = self.local.tasks.borrow_mut()[self.task].take();
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;

    /// Counts how often it was woken.
    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Counter {
        fn woken(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    struct Handler {
        counter: Arc<Counter>,
        polled: Polled,
        waker: Waker,
    }

    fn handler(relay: &mut Relay, task: usize) -> Handler {
        let counter = Arc::new(Counter::default());
        let polled = relay.handler(task);
        let waker = polled.waker(&Waker::from(Arc::clone(&counter))).clone();
        Handler {
            counter,
            polled,
            waker,
        }
    }

    fn relay() -> Relay {
        Relay::new(Wakeup::new().unwrap())
    }

    #[test]
    fn woken_on_its_own_thread_a_handler_goes_on_at_once() {
        let mut relay = relay();
        let handler = handler(&mut relay, 3);
        handler.waker.wake_by_ref();
        assert_eq!(handler.counter.woken(), 1);
        assert!(!relay.is_rung());
    }

    #[test]
    fn woken_elsewhere_it_goes_on_when_that_is_passed_on() {
        let mut relay = relay();
        let tasks = [0, 1, 63, 64, 200];
        let handlers: Vec<_> = tasks.map(|task| handler(&mut relay, task)).into();
        for woken in [0, 2, 4] {
            let waker = handlers[woken].waker.clone();
            thread::spawn(move || waker.wake()).join().unwrap();
        }
        let count = || handlers.iter().map(|each| each.counter.woken());
        assert_eq!(count().collect::<Vec<_>>(), [0; 5]);
        assert!(relay.is_rung());
        relay.pass_on();
        assert_eq!(count().collect::<Vec<_>>(), [1, 0, 1, 0, 1]);
        assert!(!relay.is_rung());
        relay.pass_on();
        assert_eq!(count().sum::<usize>(), 3, "once each");
    }

    #[test]
    fn the_task_of_a_handler_is_let_go_of_with_it_whoever_has_wakers() {
        let mut relay = relay();
        let first = handler(&mut relay, 0);
        drop(first.polled);
        assert_eq!(Arc::strong_count(&first.counter), 1);
        // Another one has its number by now.
        let second = handler(&mut relay, 0);
        thread::spawn(move || first.waker.wake()).join().unwrap();
        relay.pass_on();
        assert_eq!((first.counter.woken(), second.counter.woken()), (0, 1));
    }

    #[test]
    fn a_shard_that_is_gone_is_not_woken() {
        let mut relay = relay();
        let handler = handler(&mut relay, 0);
        let gone = handler.waker.clone();
        drop(relay);
        gone.wake();
        assert_eq!(handler.counter.woken(), 0);
    }
}

//! Keeps a connection alive while its program does something else: a thread that sends heartbeats.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::link::Link;

/// A thread that sends the heartbeats of one client, as long as this lives.
#[derive(Debug)]
pub(super) struct Keeper {
    /// Dropped to end the thread.
    alive: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts it; it looks after the connection at least every so often.
    pub(super) fn start(link: Arc<Mutex<Link>>, every: Duration) -> std::io::Result<Keeper> {
        let (alive, ends) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("corelane-client".to_owned())
            .spawn(move || keep(&link, every, &ends))?;
        Ok(Keeper {
            alive: Some(alive),
            thread: Some(thread),
        })
    }
}

/// Ends the thread and waits for it; it never waits for the server.
impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.alive.take());
        if let Some(thread) = self.thread.take() {
            // It has no result, and a panic in it was told by the panic hook.
            let _ = thread.join();
        }
    }
}

fn keep(link: &Mutex<Link>, every: Duration, ends: &Receiver<()>) {
    let mut pause = every;
    while ends.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        let mut link = lock(link);
        // Twice: the first turn may find that a heartbeat is due, the second sends it.
        link.look();
        link.look();
        pause = link.next_look().map_or(every, |due| due.min(every));
    }
}

/// A link is whole after a panic, too: each of its methods leaves it so.
pub(super) fn lock(link: &Mutex<Link>) -> MutexGuard<'_, Link> {
    link.lock().unwrap_or_else(PoisonError::into_inner)
}

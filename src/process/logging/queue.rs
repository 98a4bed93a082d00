//! Lines on their way to the thread that writes them: whoever logs puts a line down and goes on,
//! whatever becomes of the file.
//!
//! The queue is bounded by its bytes. A line that finds it full is dropped and counted, and so are
//! those after it until half of the queue is written: then one line says how many, instead of one
//! for every line that leaves. Orders to the thread go the same way, so they take effect between
//! the lines before and after them; they are few, and count for nothing.
//!
//! It is ours because tracing-appender's knows no order but the last: no reopening at a place among
//! the lines, no flush that leaves it at work, and nothing that comes by itself when no line does.

use std::fs::File;
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow};

use super::limit::Limit;
use super::losses;
use super::sink::Sink;

/// Bytes of the queue: some ten thousand lines, what a busy server logs while a disk is slow for a
/// moment.
const QUEUE_BYTES_MAX: usize = 4 << 20;
/// Where a queue that was full takes lines again.
const QUEUE_BYTES_LOW: usize = QUEUE_BYTES_MAX / 2;
/// What a line costs beyond its own bytes: the message, and what the allocator rounds up.
const LINE_OVERHEAD_BYTES: usize = size_of::<Message>() + 32;
/// Bytes written at once: what a pipe takes in one piece (PIPE_BUF), so that lines of two
/// processes on one pipe do not mix.
const WRITE_BYTES_MAX: usize = 4096;
/// How long a count of repeats may wait.
const TELL_REPEATS_AFTER: Duration = Duration::from_secs(1);
/// How long someone waits for the thread, which may hang at a pipe that nobody reads.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Where lines are put down.
#[derive(Debug)]
pub(super) struct Queue {
    messages: Sender<Message>,
    queued_bytes: AtomicUsize,
    full: AtomicBool,
    dropped: AtomicU64,
}

#[derive(Debug)]
enum Message {
    Line(Box<[u8]>),
    /// Into this file from here on.
    Reopen(Option<File>, Sender<()>),
    /// Tell what is lost, and say when all that was logged so far is written.
    Flush(Sender<()>),
    /// What a flush waits for is before this.
    Flushed(Sender<()>),
    /// A line was dropped, and may be the last.
    Dropped,
    /// A repeated event was left out, and may be the last.
    LeftOut,
}

impl Queue {
    /// The queue, and its other end.
    pub(super) fn new() -> (Arc<Queue>, Outlet) {
        let (sender, receiver) = mpsc::channel();
        let queue = Queue {
            messages: sender,
            queued_bytes: AtomicUsize::new(0),
            full: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
        };
        (Arc::new(queue), Outlet(receiver))
    }

    /// Puts down a line, if there is room.
    pub(super) fn put(&self, line: &[u8]) {
        if self.full.load(Ordering::Relaxed) {
            return self.drop_line();
        }
        let bytes = cost_bytes(line);
        let before = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > QUEUE_BYTES_MAX {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.full.store(true, Ordering::SeqCst);
            return self.drop_line();
        }
        self.send(Message::Line(line.into()));
    }

    /// Puts down a line of those that tell what is lost, which has room always.
    pub(super) fn put_always(&self, line: &[u8]) {
        self.queued_bytes
            .fetch_add(cost_bytes(line), Ordering::Relaxed);
        self.send(Message::Line(line.into()));
    }

    /// Has the count of repeats be told soon.
    pub(super) fn tell_repeats_soon(&self) {
        self.send(Message::LeftOut);
    }

    /// Goes on in this file. Gives back whether it is so already: everything before is in the old
    /// one.
    pub(super) fn reopen(&self, file: Option<File>) -> bool {
        self.await_thread(|done| Message::Reopen(file, done))
    }

    /// Waits until everything logged so far is written, but no longer than [`PATIENCE`].
    pub(super) fn flush(&self) {
        // Lines that a stuck pipe does not take have no other place to go.
        let _ = self.await_thread(Message::Flush);
    }

    fn await_thread(&self, order: impl FnOnce(Sender<()>) -> Message) -> bool {
        let (done, is_done) = mpsc::channel();
        self.send(order(done));
        is_done.recv_timeout(PATIENCE).is_ok()
    }

    fn drop_line(&self) {
        // After `full`: whoever takes this count opens the queue after it.
        if self.dropped.fetch_add(1, Ordering::SeqCst) == 0 {
            self.send(Message::Dropped);
        }
    }

    fn send(&self, message: Message) {
        // The thread ends with the process: then there is nobody to tell.
        let _ = self.messages.send(message);
    }

    /// These bytes have left the queue.
    fn release(&self, bytes: usize) {
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Opens the queue again if there is room. Gives back how many lines were dropped.
    fn reopen_for_lines(&self) -> u64 {
        if self.queued_bytes.load(Ordering::Relaxed) > QUEUE_BYTES_LOW {
            return 0;
        }
        let dropped = self.dropped.swap(0, Ordering::SeqCst);
        self.full.store(false, Ordering::SeqCst);
        dropped
    }
}

fn cost_bytes(line: &[u8]) -> usize {
    line.len() + LINE_OVERHEAD_BYTES
}

/// The end of the queue where lines come out.
#[derive(Debug)]
pub(super) struct Outlet(Receiver<Message>);

impl Outlet {
    /// Starts the thread that writes, for as long as the process lives or until it executes another
    /// program.
    pub(super) fn start(self, queue: Arc<Queue>, sink: Sink, limit: Arc<Limit>) -> io::Result<()> {
        let mut writer = Writer {
            queue,
            sink,
            limit,
            lines: Vec::with_capacity(WRITE_BYTES_MAX),
            taken_bytes: 0,
            tell_repeats_at: None,
        };
        let write = move || {
            while let Some(message) = writer.next(&self.0) {
                writer.take(message);
            }
        };
        // It takes no signals: a master reads them from a descriptor, which gets none that a thread
        // takes. What a thread has blocked is so from its beginning in those that it makes.
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let started = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(write);
        mask.thread_set_mask()?;
        started.map(drop)
    }
}

/// The thread that writes.
struct Writer {
    queue: Arc<Queue>,
    sink: Sink,
    limit: Arc<Limit>,
    /// Lines to be written at once.
    lines: Vec<u8>,
    /// What they take of the queue.
    taken_bytes: usize,
    tell_repeats_at: Option<Instant>,
}

impl Writer {
    /// The next message; before it waits for one, all that has come is written.
    fn next(&mut self, messages: &Receiver<Message>) -> Option<Message> {
        loop {
            match messages.try_recv() {
                Ok(message) => return Some(message),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => self.write_out(),
            }
            let Some(at) = self.tell_repeats_at else {
                return messages.recv().ok();
            };
            match messages.recv_timeout(at.saturating_duration_since(Instant::now())) {
                Ok(message) => return Some(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Line(line) => {
                if self.lines.len() + line.len() > WRITE_BYTES_MAX {
                    self.write_out();
                }
                self.lines.extend_from_slice(&line);
                self.taken_bytes += cost_bytes(&line);
            }
            Message::Reopen(file, done) => {
                self.write_out();
                self.sink.replace(file);
                // Whoever asked may have lost patience.
                let _ = done.send(());
            }
            Message::Flush(done) => {
                self.write_out();
                self.limit.tell();
                self.tell_repeats_at = None;
                self.queue.send(Message::Flushed(done));
            }
            Message::Flushed(done) => {
                self.write_out();
                let _ = done.send(());
            }
            Message::Dropped => {}
            Message::LeftOut => {
                self.tell_repeats_at
                    .get_or_insert_with(|| Instant::now() + TELL_REPEATS_AFTER);
            }
        }
    }

    /// Writes the lines taken so far, and puts down what there is to tell of losses.
    fn write_out(&mut self) {
        if !self.lines.is_empty() {
            let lost = self.sink.write(&self.lines);
            self.lines.clear();
            self.queue.release(mem::take(&mut self.taken_bytes));
            if let Some(lost) = lost {
                losses::tell_unwritten(lost.lines, &lost.error.to_string());
            }
        }
        let dropped = self.queue.reopen_for_lines();
        if dropped > 0 {
            losses::tell_dropped(dropped);
        }
        if self.tell_repeats_at.is_some_and(|at| Instant::now() >= at) {
            self.tell_repeats_at = None;
            self.limit.tell();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: [u8; 1000] = [b'x'; 1000];

    #[test]
    fn a_full_queue_takes_lines_again_when_half_is_written() {
        let (queue, _outlet) = Queue::new();
        let bytes = cost_bytes(&LINE);
        let fitting = QUEUE_BYTES_MAX / bytes;
        for _ in 0..fitting + 3 {
            queue.put(&LINE);
        }
        assert_eq!(queue.reopen_for_lines(), 0, "nothing is written yet");
        let written = fitting / 3;
        queue.release(written * bytes);
        queue.put(&LINE);
        assert_eq!(queue.reopen_for_lines(), 0, "a third is");
        queue.release((fitting - written) * bytes);
        assert_eq!(queue.reopen_for_lines(), 4);
        queue.put(&LINE);
        assert_eq!(queue.reopen_for_lines(), 0, "none was dropped since");
        assert_eq!(queue.queued_bytes.load(Ordering::Relaxed), bytes);
    }

    #[test]
    fn a_line_about_losses_has_room_in_a_full_queue() {
        let (queue, outlet) = Queue::new();
        while !queue.full.load(Ordering::Relaxed) {
            queue.put(&LINE);
        }
        queue.put_always(b"dropped\n");
        let last = outlet.0.try_iter().last();
        assert!(matches!(last, Some(Message::Line(line)) if &*line == b"dropped\n"));
    }

    #[test]
    fn the_first_drop_wakes_the_thread_and_no_other() {
        let (queue, outlet) = Queue::new();
        queue.full.store(true, Ordering::Relaxed);
        for _ in 0..9 {
            queue.put(&LINE);
        }
        let messages: Vec<Message> = outlet.0.try_iter().collect();
        assert!(matches!(messages[..], [Message::Dropped]), "{messages:?}");
    }
}

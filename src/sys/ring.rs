//! One io_uring for the sockets of one shard.
//!
//! Invariants:
//! - Memory that an operation in flight may touch belongs to the ring: bytes to send are taken by
//!   value and come back with their completion, or, where others have them as well, are kept alive by
//!   the ring until then; receives go into the ring's own buffers.
//! - Operations reach the kernel in the order in which they were asked for, each looks its socket
//!   up as it gets there, and a socket is closed by an operation too. So whatever was asked of a
//!   socket before it was dropped still finds that socket, never another one with the same number.
//!   A socket that is released to another ring has nothing asked of it any more.
//! - The ring stays on the thread that made it (SINGLE_ISSUER), which its type says: it is not
//!   `Send`.

mod alarm;
mod entrance;
mod readiness;
mod reaping;
mod sending;
mod sockets;
mod user_data;

use std::collections::VecDeque;
use std::hint::cold_path;
use std::io;
use std::mem::ManuallyDrop;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd, Fixed, Timespec};
use io_uring::{IoUring, opcode};

pub(crate) use self::reaping::Event;
pub(crate) use self::sending::SendBytes;
pub(crate) use self::sockets::Socket;
pub(crate) use self::user_data::Token;

use self::alarm::{Alarm, Request};
use self::entrance::Entrance;
use self::readiness::Readiness;
use self::sending::{Sending, Sends};
use self::sockets::{Closing, OpenSocket, Slots};
use self::user_data::Kind;
use super::buffers::{Buffers, GROUP};
use super::doorbell::Doorbell;
use super::socket;
use super::wakeup::Wakeup;

/// Submission queue entries. What a turn asks for beyond that is submitted turn by turn.
const SUBMISSIONS: u32 = 1024;
/// Completion queue entries: several times as many, since one multishot operation completes often.
const COMPLETIONS: u32 = 8192;
/// Completions waiting from which on what found no room in the submission queue waits as well. A
/// completion that finds no room costs the kernel an allocation, and a second copy.
const CROWDED: usize = COMPLETIONS as usize / 2;

/// What a watched doorbell is polled for.
const POLL_IN: u32 = libc::POLLIN.unsigned_abs() as u32;

/// How long dropping the ring waits for the kernel to let go of what is in flight.
const DROP_WAIT: Duration = Duration::from_secs(5);

/// The ring.
pub(crate) struct Ring {
    uring: ManuallyDrop<IoUring>,
    entrance: Entrance,
    alarm: Alarm,
    buffers: ManuallyDrop<Rc<Buffers>>,
    /// `None` where nobody is listened for any more.
    listeners: Vec<Option<TcpListener>>,
    /// What found no room in the submission queue, in order.
    overflow: VecDeque<Entry>,
    sends: ManuallyDrop<Sends>,
    readiness: Readiness,
    closing: Closing,
    slots: Slots,
    /// Operations that may touch memory of ours and have not completed for the last time.
    in_flight: usize,
    /// Completions that are still to be taken of those that there were.
    to_reap: usize,
    /// What completions write to while they wake the shard.
    wakeup: Wakeup,
    /// What is watched, for as long as the ring lives.
    watched: Option<Doorbell>,
}

impl Ring {
    /// A ring that accepts from these listeners, and wakes a parked shard through `wakeup`.
    ///
    /// Up to `registered_max` sockets at once are registered with it, which must be at most the
    /// process's limit of open files; see [`super::host::registered_files_max`]. More work too,
    /// but less well.
    ///
    /// # Errors
    ///
    /// What the kernel says; `host` knows what it means.
    pub(crate) fn new(
        listeners: Vec<TcpListener>,
        registered_max: u32,
        wakeup: Wakeup,
    ) -> io::Result<Ring> {
        let uring = build(SUBMISSIONS, COMPLETIONS)?;
        let slots = Slots::new(registered_max);
        if slots.max() > 0 {
            uring.submitter().register_files_sparse(slots.max())?;
        }
        let buffers = Buffers::register(&uring)?;
        Ok(Ring {
            entrance: Entrance::new(&uring),
            alarm: Alarm::default(),
            uring: ManuallyDrop::new(uring),
            buffers: ManuallyDrop::new(buffers),
            listeners: listeners.into_iter().map(Some).collect(),
            overflow: VecDeque::new(),
            sends: ManuallyDrop::default(),
            readiness: Readiness::default(),
            closing: Closing::default(),
            slots,
            in_flight: 0,
            to_reap: 0,
            wakeup,
            watched: None,
        })
    }

    /// Accepts connections from a listener, again and again.
    pub(crate) fn accept(&mut self, listener: usize) {
        let Some(Some(socket)) = self.listeners.get(listener) else {
            return;
        };
        let entry = opcode::AcceptMulti::new(Fd(socket.as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC)
            .build()
            .user_data(Kind::Accept.user_data(listener as u64));
        self.in_flight += 1;
        self.push(&entry);
    }

    /// Whether connections wait at a listener to be accepted.
    pub(crate) fn somebody_waits(&self, listener: usize) -> bool {
        let listener = self.listeners.get(listener).and_then(Option::as_ref);
        listener.is_some_and(socket::somebody_waits)
    }

    /// Closes a listener, after what was asked of it before.
    pub(crate) fn stop_listening(&mut self, listener: usize) {
        let listener = self.listeners.get_mut(listener).and_then(Option::take);
        self.closing
            .borrow_mut()
            .extend(listener.map(|listener| OpenSocket {
                fd: listener.into(),
                registered: None,
            }));
    }

    /// From now on, ringing this ends the waiting of this ring, and counts as a completion where
    /// completions wake the shard. Call it once.
    pub(crate) fn watch(&mut self, doorbell: Doorbell) {
        self.watched = Some(doorbell);
        self.watch_on();
    }

    fn watch_on(&mut self) {
        let Some(doorbell) = &self.watched else {
            return;
        };
        let entry = opcode::PollAdd::new(Fd(doorbell.as_raw_fd()), POLL_IN)
            .multi(true)
            .build()
            .user_data(Kind::Watch.user_data(0));
        self.in_flight += 1;
        self.push(&entry);
    }

    /// Accepts no more from a listener.
    pub(crate) fn cancel_accept(&mut self, listener: usize) {
        self.cancel(Kind::Accept.user_data(listener as u64));
    }

    /// Takes a connected socket in.
    pub(crate) fn connected(&mut self, stream: TcpStream) -> Socket {
        self.adopt(stream.into())
    }

    /// Takes in the descriptor of a connected socket: one that is new, or that another ring has
    /// released.
    pub(crate) fn adopt(&mut self, fd: OwnedFd) -> Socket {
        let mut registered = self.slots.take();
        if let Some(slot) = registered {
            let update = self
                .uring
                .submitter()
                .register_files_update(slot, &[fd.as_raw_fd()]);
            if update.is_err() {
                self.slots.give_back(slot);
                registered = None;
            }
        }
        Socket {
            open: Some(OpenSocket { fd, registered }),
            closing: Rc::clone(&self.closing),
        }
    }

    /// Lets go of a socket, open as it is, so that the ring of another thread can adopt it.
    ///
    /// All that was asked of it must have completed for the last time: a receive that goes on
    /// would take bytes that are the other ring's, and a send that the kernel has not got yet
    /// looks its descriptor up when that may be another connection's. Until this ring is entered
    /// next, its table may still hold the connection open, whoever closes the descriptor.
    pub(crate) fn release(&mut self, mut socket: Socket) -> OwnedFd {
        self.check_own(&socket);
        let Some(OpenSocket { fd, registered }) = socket.open.take() else {
            unreachable!("`open` is taken by those who consume the socket")
        };
        self.forget_reader(&fd);
        self.clear(registered);
        fd
    }

    /// Receives from a socket, again and again.
    #[inline]
    pub(crate) fn receive(&mut self, token: Token, socket: &Socket) {
        let (fd, flags) = self.target(socket);
        let entry = opcode::RecvMulti::new(fd, GROUP)
            .build()
            .flags(flags)
            .user_data(Kind::Receive.user_data(token.0));
        self.in_flight += 1;
        self.push(&entry);
    }

    /// Receives from a socket once, as much as is there and fits one buffer.
    pub(crate) fn receive_once(&mut self, token: Token, socket: &Socket) {
        let (fd, flags) = self.target(socket);
        // No memory is named: the kernel takes one of the ring's own buffers, as long as that is.
        let entry = opcode::Recv::new(fd, std::ptr::null_mut(), 0)
            .buf_group(GROUP)
            .build()
            .flags(flags | Flags::BUFFER_SELECT)
            .user_data(Kind::Receive.user_data(token.0));
        self.in_flight += 1;
        self.push(&entry);
    }

    /// Receives no more under this token.
    pub(crate) fn cancel_receive(&mut self, token: Token) {
        if !self.cancel_receive_large(token) {
            self.cancel(Kind::Receive.user_data(token.0));
        }
    }

    /// Sends the bytes from `offset` on. The number that comes back is for [`Ring::cancel_send`].
    pub(crate) fn send(
        &mut self,
        token: Token,
        socket: &Socket,
        bytes: impl Into<SendBytes>,
        offset: usize,
    ) -> u32 {
        let target = self.target(socket);
        let (number, sending) = self.sends.add(Sending {
            token,
            bytes: bytes.into(),
            offset,
        });
        let rest = &sending.bytes.bytes()[offset..];
        let (address, len) = (rest.as_ptr(), rest.len());
        self.push_send(number, target, address, len)
    }

    /// Sends all of these bytes, which are taken out of where they are. Otherwise as [`Ring::send`].
    #[expect(clippy::inline_always, reason = "measured")]
    #[inline(always)]
    pub(crate) fn send_all_of(
        &mut self,
        bytes: &mut Vec<u8>,
        token: Token,
        socket: &Socket,
    ) -> u32 {
        let target = self.target(socket);
        // They stay there while the vector that owns them moves.
        let (address, len) = (bytes.as_ptr(), bytes.len());
        let number = self.sends.add_all_of(bytes, token);
        self.push_send(number, target, address, len)
    }

    /// Queues the send with this number, of what is at `address` as long as it is kept.
    #[inline]
    fn push_send(
        &mut self,
        number: usize,
        (fd, flags): (Fd, Flags),
        address: *const u8,
        len: usize,
    ) -> u32 {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let user_data = Kind::Send.user_data(number as u64);
        self.in_flight += 1;
        self.push_made(|| {
            opcode::Send::new(fd, address, len)
                .flags(libc::MSG_NOSIGNAL)
                .build()
                .flags(flags)
                .user_data(user_data)
        });
        // Each takes memory of its own: there are never 2^32 in flight.
        u32::try_from(number).unwrap_or(u32::MAX)
    }

    /// Cancels the send with this token that gave this number, if it is still in flight.
    pub(crate) fn cancel_send(&mut self, number: u32, token: Token) {
        if self.sends.is_in_flight(number as usize, token) {
            self.cancel(Kind::Send.user_data(u64::from(number)));
        }
    }

    /// Whether there is something to submit, or completions found no room, which entering the kernel
    /// brings. What the kernel has to do for this ring is not among that: it says so only where it is
    /// asked to keep a flag of it, which costs it two atomic operations for each time, 0.9% of a small
    /// message. Who has no completions at hand enters, and sees.
    #[inline]
    pub(crate) fn has_work(&mut self) -> bool {
        if !self.closing.borrow().is_empty() || !self.overflow.is_empty() {
            return true;
        }
        let submissions = self.uring.submission();
        !submissions.is_empty() || submissions.cq_overflow()
    }

    /// How many receive buffers held bytes at once at most, since it was asked for last.
    pub(crate) fn take_buffers_peak(&self) -> usize {
        self.buffers.take_lent_peak()
    }

    /// Whether something has happened that waits to be taken.
    #[inline]
    pub(crate) fn has_events(&mut self) -> bool {
        self.has_completions() || self.readiness.again() > 0
    }

    /// Whether the kernel has told something that waits to be taken. Without, there may be events all
    /// the same: what there is to be received again.
    #[inline]
    pub(crate) fn has_completions(&mut self) -> bool {
        !self.uring.completion().is_empty()
    }

    /// Submits what was asked for and has the kernel do what it has to do for this ring.
    ///
    /// That is as much as the submission queue holds. Where thousands of operations were asked for
    /// at once, the rest comes with the next calls, so that its completions find room, and whoever
    /// else has something to do is served in between: [`Ring::has_work`] says that there is a rest.
    ///
    /// # Errors
    ///
    /// Only such as leave the ring unusable.
    #[inline]
    pub(crate) fn enter(&mut self) -> io::Result<()> {
        self.close_dropped();
        self.submit()
    }

    /// Like [`Ring::enter`], and then waits until something has completed, or until a time, whichever
    /// is first. Both times are in nanoseconds of the caller's clock, which must not go back.
    ///
    /// It may end early and bring nothing, at the time at which one before was to end.
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub(crate) fn wait(&mut self, now_ns: u64, until_ns: u64) -> io::Result<()> {
        self.close_dropped();
        self.set_alarm(now_ns, until_ns);
        self.refill_submissions();
        // While there is more to submit, or something that the kernel told before, nobody may sleep.
        let may_sleep = self.overflow.is_empty() && self.readiness.again() == 0;
        self.enter_for(u32::from(may_sleep))
    }

    #[inline]
    fn set_alarm(&mut self, now_ns: u64, at_ns: u64) {
        match self.alarm.set(now_ns, at_ns) {
            None => {}
            Some(Request::Set(entry)) => {
                self.in_flight += 1;
                self.push(&entry);
            }
            Some(Request::BringForward(entry)) => self.push(&entry),
        }
    }

    #[inline]
    fn submit(&mut self) -> io::Result<()> {
        self.refill_submissions();
        self.enter_for(0)
    }

    #[inline]
    fn enter_for(&mut self, completions: u32) -> io::Result<()> {
        let submissions = self.submissions();
        match self.entrance.enter(submissions, completions) {
            Ok(()) => {
                self.reuse_registered();
                Ok(())
            }
            Err(error) => match error.raw_os_error() {
                // Interrupted, or completions must be taken first: the next turn goes on.
                Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// How many entries the kernel is to take.
    #[inline]
    fn submissions(&mut self) -> u32 {
        u32::try_from(self.uring.submission().len()).unwrap_or(u32::MAX)
    }

    /// Slots that were being cleared are free once the kernel has got all that was asked of it.
    #[inline]
    fn reuse_registered(&mut self) {
        if self.overflow.is_empty() && self.uring.submission().is_empty() {
            self.slots.reuse_cleared();
        }
    }

    /// From now on, completions wake the shard. Enter and look for completions once more before
    /// sleeping: those that came before woke nobody.
    ///
    /// Only for as long as it sleeps: where a ring has an eventfd, the kernel looks at every completion
    /// whether it is to be written to, which is 0.3% of a small message.
    ///
    /// # Errors
    ///
    /// What the kernel says, which then wakes nobody.
    pub(crate) fn enable_wakeups(&mut self) -> io::Result<()> {
        let submitter = self.uring.submitter();
        submitter.register_eventfd(self.wakeup.as_raw_fd())
    }

    /// From now on, completions wake nobody.
    ///
    /// # Errors
    ///
    /// What the kernel says: it does not where they did.
    pub(crate) fn disable_wakeups(&mut self) -> io::Result<()> {
        self.uring.submitter().unregister_eventfd()
    }

    /// A socket of another ring would be closed by that one, in no order with what is asked of
    /// this one.
    #[inline]
    fn check_own(&self, socket: &Socket) {
        assert!(
            Rc::ptr_eq(&self.closing, &socket.closing),
            "a socket belongs to the ring that took it in"
        );
    }

    /// How an entry names a socket of this ring: by descriptor, or by slot and the flag that says
    /// so.
    #[inline]
    fn target(&self, socket: &Socket) -> (Fd, Flags) {
        self.check_own(socket);
        match &socket.open {
            Some(OpenSocket {
                registered: Some(slot),
                ..
            }) => (Fd(slot.cast_signed()), Flags::FIXED_FILE),
            Some(OpenSocket { fd, .. }) => (Fd(fd.as_raw_fd()), Flags::empty()),
            None => unreachable!("`open` is taken by those who consume the socket"),
        }
    }

    /// Cancels by user data, which the kernel finds by a hash. By socket, it would look at all that
    /// is in flight: milliseconds, with thousands of connections.
    fn cancel(&mut self, user_data: u64) {
        let entry = opcode::AsyncCancel::new(user_data)
            .build()
            .user_data(Kind::Unwatched.user_data(0));
        self.push(&entry);
    }

    /// Queues an entry for the kernel, behind all those before.
    ///
    /// Every entry that gets here is valid until it completes: its descriptor is open (sockets and
    /// listeners are closed by an entry behind it, or when the ring is gone), its memory, if any,
    /// belongs to the ring.
    fn push(&mut self, entry: &Entry) {
        self.push_made(|| entry.clone());
    }

    /// Queues an entry that `make` makes, where it is to be. One that is made elsewhere and copied
    /// has the CPU wait until what it is made of has reached the cache: stores of some bytes each can
    /// not be passed on to a load of more.
    #[inline]
    fn push_made(&mut self, make: impl Fn() -> Entry) {
        if self.overflow.is_empty() {
            // SAFETY: see `push`.
            let pushed = unsafe { self.uring.submission().push(&make()) };
            if pushed.is_ok() {
                return;
            }
        }
        cold_path();
        self.overflow.push_back(make());
    }

    fn refill_submissions(&mut self) {
        if self.overflow.is_empty() || self.uring.completion().len() > CROWDED {
            return;
        }
        while let Some(entry) = self.overflow.front() {
            // SAFETY: see `push`.
            let pushed = unsafe { self.uring.submission().push(entry) };
            if pushed.is_err() {
                return;
            }
            self.overflow.pop_front();
        }
    }

    /// Has the kernel close the sockets that were dropped, behind what was asked of them.
    ///
    /// Entering does so too; before, it is worth it where the descriptors are needed at once.
    #[inline]
    pub(crate) fn close_dropped(&mut self) {
        if !self.closing.borrow().is_empty() {
            self.close_all_dropped();
        }
    }

    #[cold]
    fn close_all_dropped(&mut self) {
        for OpenSocket { fd, registered } in self.closing.take() {
            self.forget_reader(&fd);
            self.clear(registered);
            // The entry owns the descriptor from here on.
            self.push_close(opcode::Close::new(Fd(fd.into_raw_fd())).build());
        }
    }

    /// Has the kernel clear a socket's slot of the table of registered files, if it has one.
    fn clear(&mut self, registered: Option<u32>) {
        if let Some(slot) = registered {
            self.push_close(opcode::Close::new(Fixed(slot)).build());
            self.slots.clear(slot);
        }
    }

    fn push_close(&mut self, entry: Entry) {
        let entry = entry
            .flags(Flags::SKIP_SUCCESS)
            .user_data(Kind::Unwatched.user_data(0));
        self.push(&entry);
    }

    /// Cancels everything and waits for the last completions. Gives back whether all are in.
    fn wind_down(&mut self) -> bool {
        let deadline = Instant::now() + DROP_WAIT;
        while self.in_flight > 0 || !self.overflow.is_empty() {
            if self.enter().is_err() || Instant::now() >= deadline {
                return false;
            }
            let timeout = Timespec::from(Duration::from_millis(10));
            // That nothing was there to cancel, or not all of it in time, is seen by `in_flight`.
            let _ = self
                .uring
                .submitter()
                .register_sync_cancel(Some(timeout), CancelBuilder::any());
            self.reap(usize::MAX, drop);
        }
        // The sockets that the last completions brought, however many.
        loop {
            if self.enter().is_err() || Instant::now() >= deadline {
                return false;
            }
            if self.overflow.is_empty() {
                return true;
            }
            self.reap(usize::MAX, drop);
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let idle = self.wind_down();
        self.entrance.close(&self.uring);
        // SAFETY: `uring` is not used again: this runs once, at the end.
        unsafe { ManuallyDrop::drop(&mut self.uring) };
        if !idle {
            // The kernel may still read and write our memory. Better lose it than reuse it.
            tracing::error!(
                in_flight = self.in_flight,
                "the kernel did not let go of a ring's operations in time; their memory is lost"
            );
            return;
        }
        // SAFETY: `buffers` is not used again, as above. Nothing is in flight on the ring.
        unsafe { ManuallyDrop::drop(&mut self.buffers) };
        // SAFETY: `sends` is not used again, as above. Nothing is in flight on the ring.
        unsafe { ManuallyDrop::drop(&mut self.sends) };
    }
}

/// A ring with the flags that a shard's ring has; [`super::host`] tries it too.
pub(super) fn build(submissions: u32, completions: u32) -> io::Result<IoUring> {
    IoUring::builder()
        .setup_cqsize(completions)
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_clamp()
        .dontfork()
        .build(submissions)
}

#[cfg(test)]
mod tests;

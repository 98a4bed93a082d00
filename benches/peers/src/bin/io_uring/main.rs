//! The server that a C programmer would write by hand on a bare io_uring, as lean as it gets and
//! still right: the yardstick. One thread, one ring, one system call a turn.
//!
//! Multishot accept into registered files; multishot receive into provided buffers; replies of a
//! turn leave a connection with one send, of which no more than one is in flight. Sockets are
//! registered files only, so no operation looks a descriptor up.
//!
//! Invariant: bytes that the kernel sends are not touched, and a slot of the table of files is not
//! given up, until the last completion of what was asked for it.

#![allow(unsafe_code)] // a ring takes addresses; each block says why it is sound

mod buffers;
mod connection;

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd as _;
use std::process::ExitCode;

use corelane_peers::{Failure, OrFailed as _, Words, announce, listener, run};
use io_uring::squeue::Entry;
use io_uring::types::{CancelBuilder, Fd, Fixed};
use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue, opcode};
use rustix::process::{Resource, getrlimit};

use buffers::{Buffers, GROUP};
use connection::{Connection, Next, Receive};

const NAME: &str = "io_uring";
const SUBMISSIONS: u32 = 4096;
const COMPLETIONS: u32 = 16 * 1024;
/// Registered files at most, and so connections.
const FILES_MAX: u64 = 64 * 1024;
/// Buffers of replies that are kept for the next ones.
const SPARE_MAX: usize = 1024;

/// What a completion is of; the lower half of its user data is the slot.
const ACCEPT: u32 = 0;
const RECEIVE: u32 = 1;
const SEND: u32 = 2;
const UNWATCHED: u32 = 3;

fn user_data(kind: u32, slot: u32) -> u64 {
    u64::from(kind) << 32 | u64::from(slot)
}

fn kind_and_slot(user_data: u64) -> [u32; 2] {
    let [k0, k1, k2, k3, s0, s1, s2, s3] = user_data.to_be_bytes();
    [[k0, k1, k2, k3], [s0, s1, s2, s3]].map(u32::from_be_bytes)
}

fn main() -> ExitCode {
    run(NAME, serve)
}

fn serve(words: Words) -> Result<(), Failure> {
    let listener = listener(words.address)?;
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_cqsize(COMPLETIONS)
        .build(SUBMISSIONS)
        .or_failed("io_uring_setup")?;
    // Never dropped, nor are the connections: the kernel may use their memory until it ends.
    let mut ring = ManuallyDrop::new(ring);
    let (mut submitter, submissions, completions) = ring.split();
    // It spares the kernel a look-up at each call; on a kernel that can't, all else is the same.
    let _ = submitter.register_ring_fd();
    let files = getrlimit(Resource::Nofile).current.unwrap_or(FILES_MAX);
    let files = u32::try_from(files.min(FILES_MAX)).or_failed("descriptors")?;
    submitter
        .register_files_sparse(files)
        .or_failed("files cannot be registered")?;
    let buffers = Buffers::register(&submitter).or_failed("buffers cannot be registered")?;
    announce(NAME, listener.local_addr())?;
    let mut server = ManuallyDrop::new(Server {
        submitter,
        submissions,
        buffers,
        connections: Vec::new(),
        spare: Vec::new(),
        due: Vec::new(),
        listener: Fd(listener.as_raw_fd()),
    });
    server.run(completions).or_failed("the ring failed")
}

struct Server<'r> {
    submitter: Submitter<'r>,
    submissions: SubmissionQueue<'r>,
    buffers: Buffers,
    /// By slot of the table of files, which are small numbers.
    connections: Vec<Option<Connection>>,
    spare: Vec<Vec<u8>>,
    /// Connections that something happened to in this turn.
    due: Vec<u32>,
    listener: Fd,
}

impl Server<'_> {
    fn run(&mut self, mut completions: CompletionQueue<'_>) -> io::Result<()> {
        self.accept()?;
        loop {
            self.submissions.sync();
            match self.submitter.submit_and_wait(1) {
                Ok(_) => {}
                // Completions overflowed, or a signal came: see to what is there.
                Err(error)
                    if error.kind() == io::ErrorKind::Interrupted
                        || error.kind() == io::ErrorKind::ResourceBusy => {}
                Err(error) => return Err(error),
            }
            completions.sync();
            for completion in &mut completions {
                self.completed(&completion)?;
            }
            while let Some(slot) = self.due.pop() {
                self.go_on(slot)?;
            }
        }
    }

    #[inline]
    fn completed(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let [kind, slot] = kind_and_slot(completion.user_data());
        match kind {
            ACCEPT => return self.accepted(completion),
            RECEIVE => self.received(slot, completion),
            SEND => self.sent(slot, completion.result()),
            _ => return Ok(()),
        }
        if let Some(connection) = connection(&mut self.connections, slot)
            && !connection.due
        {
            connection.due = true;
            self.due.push(slot);
        }
        Ok(())
    }

    fn accepted(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        if let Ok(slot) = u32::try_from(completion.result()) {
            let index = slot as usize;
            if self.connections.len() <= index {
                self.connections.resize_with(index + 1, || None);
            }
            self.connections[index] = Some(Connection::default());
            self.go_on(slot)?;
        } else if completion.result() != -libc::ECONNABORTED {
            return Err(io::Error::from_raw_os_error(-completion.result()));
        }
        if cqueue::more(completion.flags()) {
            Ok(())
        } else {
            self.accept()
        }
    }

    #[inline]
    fn received(&mut self, slot: u32, completion: &cqueue::Entry) {
        let Some(connection) = connection(&mut self.connections, slot) else {
            return;
        };
        if !cqueue::more(completion.flags()) {
            connection.receive = Receive::Off;
        }
        if let Some(id) = cqueue::buffer_select(completion.flags()) {
            let len = completion.result().max(0).unsigned_abs();
            // SAFETY: both come from this completion, and the buffer is given back only below.
            let slice = unsafe { self.buffers.received(id, len) };
            connection.received(slice);
            self.buffers.give_back(id);
        }
        match -completion.result() {
            0 => connection.ended(),
            // Out of buffers for a moment, or stopped by us: `go_on` sees to it.
            libc::ENOBUFS | libc::ECANCELED => {}
            error if error > 0 => connection.broken(),
            _ => {}
        }
    }

    #[inline]
    fn sent(&mut self, slot: u32, result: i32) {
        let Some(connection) = connection(&mut self.connections, slot) else {
            return;
        };
        connection.send_in_flight = false;
        let Ok(bytes) = usize::try_from(result) else {
            connection.broken();
            return;
        };
        if let Some(buffer) = connection.sent(bytes)
            && self.spare.len() < SPARE_MAX
        {
            self.spare.push(buffer);
        }
    }

    /// Sends what waits, and does what else the connection needs.
    #[inline]
    fn go_on(&mut self, slot: u32) -> io::Result<()> {
        let Some(connection) = connection(&mut self.connections, slot) else {
            return Ok(());
        };
        connection.due = false;
        let file = Fixed(slot);
        let spare = || self.spare.pop().unwrap_or_default();
        let send = connection.next_to_send(spare).map(|bytes| {
            // A queue is far shorter than 4 GiB; were it not, the rest would leave with the next.
            let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            opcode::Send::new(file, bytes.as_ptr(), len)
                .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
                .build()
                .user_data(user_data(SEND, slot))
        });
        connection.send_in_flight |= send.is_some();
        let next = connection.next();
        let entry = match next {
            Next::Wait => None,
            Next::Receive => {
                connection.receive = Receive::On;
                Some(opcode::RecvMulti::new(file, GROUP).build())
            }
            Next::StopReceiving => {
                connection.receive = Receive::Stopping;
                let receive = CancelBuilder::user_data(user_data(RECEIVE, slot));
                Some(opcode::AsyncCancel2::new(receive).build())
            }
            Next::Close => {
                self.connections[slot as usize] = None;
                Some(opcode::Close::new(file).build())
            }
        };
        if let Some(send) = send {
            self.submit(&send)?;
        }
        let Some(entry) = entry else { return Ok(()) };
        let kind = if next == Next::Receive {
            RECEIVE
        } else {
            UNWATCHED
        };
        self.submit(&entry.user_data(user_data(kind, slot)))
    }

    fn accept(&mut self) -> io::Result<()> {
        let accept = opcode::AcceptMulti::new(self.listener)
            .allocate_file_index(true)
            .build()
            .user_data(user_data(ACCEPT, 0));
        self.submit(&accept)
    }

    #[inline]
    fn submit(&mut self, entry: &Entry) -> io::Result<()> {
        loop {
            // SAFETY: the only memory of ours that an entry names is what a send sends. It is in
            // `Connection::sending`, which is neither changed nor freed while the send is in
            // flight: `next_to_send` and `next` see to that, and the server is never dropped.
            if unsafe { self.submissions.push(entry) }.is_ok() {
                return Ok(());
            }
            self.submissions.sync();
            self.submitter.submit()?;
            self.submissions.sync();
        }
    }
}

#[inline]
fn connection(connections: &mut [Option<Connection>], slot: u32) -> Option<&mut Connection> {
    connections.get_mut(slot as usize)?.as_mut()
}

//! How a ring's thread enters the kernel for it.
//!
//! By the ring's number in the thread's own table of rings, if it has got one there: in a process of
//! several threads, a descriptor would cost a look-up and two changes of an atomic count each time,
//! together with what is called around that 0.4% of a small message.

use std::ffi::{c_int, c_long, c_uint};
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::ptr;
use std::time::Duration;

use io_uring::{EnterFlags, IoUring};

/// `IORING_REGISTER_RING_FDS` and `IORING_UNREGISTER_RING_FDS`, of the kernel since 5.18.
const REGISTER_RING: c_uint = 20;
const UNREGISTER_RING: c_uint = 21;

/// The way into the kernel for one ring. It stays on the thread that made it.
#[derive(Debug)]
pub(super) struct Entrance {
    /// The number in the thread's table, or the descriptor.
    ring: c_int,
    /// Whether it is the former.
    is_registered: bool,
    _stays_here: PhantomData<*const ()>,
}

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct RingUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// `struct __kernel_timespec`.
#[repr(C)]
struct KernelTimespec {
    seconds: i64,
    nanoseconds: i64,
}

/// `struct io_uring_getevents_arg`, with nothing but a timeout.
#[repr(C)]
struct WaitArguments<'a> {
    signals: u64,
    signals_bytes: u32,
    min_wait_us: u32,
    /// As wide as the kernel wants it on 64-bit machines.
    timeout: &'a KernelTimespec,
}

// The kernel reads 24 bytes.
const _: () = assert!(size_of::<WaitArguments<'_>>() == 24);

impl Entrance {
    /// For this ring, which must be on this thread. Call [`Entrance::close`] before it is dropped:
    /// the thread's table would keep it.
    pub(super) fn new(uring: &IoUring) -> Entrance {
        let fd = uring.as_raw_fd();
        let mut update = RingUpdate {
            offset: u32::MAX, // any that is free
            reserved: 0,
            data: u64::from(fd.unsigned_abs()),
        };
        // Sixteen rings of a thread at most get one.
        let number = match register(fd, REGISTER_RING, &mut update) {
            Ok(()) => c_int::try_from(update.offset).ok(),
            Err(_) => None,
        };
        Entrance {
            ring: number.unwrap_or(fd),
            is_registered: number.is_some(),
            _stays_here: PhantomData,
        }
    }

    #[cfg(test)]
    pub(super) fn is_registered(&self) -> bool {
        self.is_registered
    }

    /// Takes the ring out of the thread's table; from now on it is entered by its descriptor.
    pub(super) fn close(&mut self, uring: &IoUring) {
        if !self.is_registered {
            return;
        }
        let mut update = RingUpdate {
            offset: self.ring.unsigned_abs(),
            reserved: 0,
            data: 0,
        };
        // It is there, as nobody else takes it out.
        let closed = register(uring.as_raw_fd(), UNREGISTER_RING, &mut update);
        debug_assert!(closed.is_ok(), "{closed:?}");
        self.ring = uring.as_raw_fd();
        self.is_registered = false;
    }

    /// Submits so many entries and has the kernel do what it has to do for the ring.
    #[inline]
    pub(super) fn enter(&self, submissions: u32) -> io::Result<()> {
        self.call(submissions, None)
    }

    /// The same, and then waits for a completion, but no longer than this: then it is `ETIME`.
    #[inline]
    pub(super) fn wait(&self, submissions: u32, timeout: Duration) -> io::Result<()> {
        let timeout = KernelTimespec {
            seconds: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: timeout.subsec_nanos().into(),
        };
        let arguments = WaitArguments {
            signals: 0,
            signals_bytes: 0,
            min_wait_us: 0,
            timeout: &timeout,
        };
        self.call(submissions, Some(&arguments))
    }

    #[inline]
    fn call(&self, submissions: u32, waits: Option<&WaitArguments<'_>>) -> io::Result<()> {
        let mut flags = EnterFlags::GETEVENTS;
        if self.is_registered {
            flags |= EnterFlags::REGISTERED_RING;
        }
        let mut arguments_bytes = 0;
        if waits.is_some() {
            flags |= EnterFlags::EXT_ARG;
            arguments_bytes = size_of::<WaitArguments<'_>>();
        }
        let completions = c_uint::from(waits.is_some());
        // SAFETY: the kernel reads the arguments, if there are any, and the timeout that they refer to,
        // before it returns; both are borrowed until then, and laid out as it wants. It writes to none
        // of this. What it does with the entries is the affair of who pushed them.
        let entered = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.ring,
                submissions,
                completions,
                flags.bits(),
                waits.map_or(ptr::null(), ptr::from_ref),
                arguments_bytes,
            )
        };
        result(entered)
    }
}

fn register(fd: c_int, what: c_uint, update: &mut RingUpdate) -> io::Result<()> {
    let one: c_uint = 1;
    // SAFETY: the kernel reads and writes the one update, which is borrowed until it returns, and is
    // laid out as it wants.
    let registered = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            fd,
            what,
            ptr::from_mut(update),
            one,
        )
    };
    result(registered)
}

#[inline]
fn result(returned: c_long) -> io::Result<()> {
    if returned < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

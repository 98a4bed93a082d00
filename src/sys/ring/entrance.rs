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

    /// Submits so many entries, has the kernel do what it has to do for the ring, and waits until so
    /// many completions are there.
    #[inline]
    pub(super) fn enter(&self, submissions: u32, completions: u32) -> io::Result<()> {
        let mut flags = EnterFlags::GETEVENTS;
        if self.is_registered {
            flags |= EnterFlags::REGISTERED_RING;
        }
        // SAFETY: with these flags the kernel reads and writes no memory of the arguments. What it
        // does with the entries is the affair of who pushed them.
        let entered = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.ring,
                submissions,
                completions,
                flags.bits(),
                ptr::null::<libc::sigset_t>(),
                0_usize,
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

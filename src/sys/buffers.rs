//! The provided-buffer ring: memory that the kernel receives into.
//!
//! Invariant: a buffer is either the kernel's (its entry is in the ring) or lent out as one
//! [`Received`], never both. A `Received` gives its buffer back when it is dropped. One buffer more,
//! [`NEAR`], is never the kernel's: what is received into it is received by a call of its own.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use rustix::net::{RecvFlags, recv};

/// Buffers of a shard. A power of two, as the ring wants it, and at most 32,768. As many
/// connections can receive in one turn before the next has to wait for a buffer. Few, since the
/// kernel takes them in turn and each is cold when its turn comes.
const BUFFERS: u16 = 128;
/// Bytes of a buffer: more than a frame of 16 KiB, which then need not be put together from two.
/// 4 MiB a shard, of which only the pages that were used are resident. Measured against 512 of
/// 8 KiB: 19% less CPU for frames of 16 KiB, and no more for small ones.
pub(crate) const BUFFER_BYTES: u32 = 32 * 1024;
const _: () = assert!(BUFFERS.is_power_of_two());
/// From one buffer to the next. A cache line more than their length: small messages are at the
/// buffers' beginnings, and at distances of 32 KiB those would all fall into a few sets of the caches
/// and drive one another out.
const STRIDE_BYTES: usize = BUFFER_BYTES as usize + 64;

/// The number of the buffer behind those of the kernel.
const NEAR: u16 = BUFFERS;
/// Its bytes: more than the longest frame, and several large ones, which then need not be put together.
/// Measured against 32 KiB: 7% less CPU for frames of 16 KiB that come eight at a time, 22% less for
/// those of 8 KiB that come four at a time.
pub(super) const NEAR_BYTES: u32 = 64 * 1024;

/// The group that the ring's receives take their buffers from.
pub(super) const GROUP: u16 = 0;

const PAGE_BYTES: usize = 4096;

/// The buffers, and the ring of entries that offers them to the kernel.
pub(super) struct Buffers {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    /// The ring's tail as the kernel sees it next.
    tail: Cell<u16>,
    /// [`NEAR`] is lent out.
    near_is_lent: Cell<bool>,
    /// How many were lent of what was reaped last, and the most of one time since it was asked for.
    lent: Cell<usize>,
    lent_peak: Cell<usize>,
}

impl Buffers {
    /// Makes the buffers and registers them with `ring`, all of them for the kernel to use.
    ///
    /// They must be kept until the ring is gone or nothing is in flight on it any more: that is
    /// the caller's part, and why this is not visible outside `sys`.
    pub(super) fn register(ring: &IoUring) -> io::Result<Rc<Buffers>> {
        let buffers = Rc::new(Buffers {
            entries: allocate(ENTRIES_LAYOUT).cast(),
            memory: allocate(MEMORY_LAYOUT),
            tail: Cell::new(0),
            near_is_lent: Cell::new(false),
            lent: Cell::new(0),
            lent_peak: Cell::new(0),
        });
        for id in 0..BUFFERS {
            buffers.give_back(id);
        }
        let address = buffers.entries.as_ptr() as u64;
        let submitter = ring.submitter();
        // SAFETY: the address is that of BUFFERS entries, page-aligned, and stays valid until the
        // ring is gone, as the caller keeps the buffers so long.
        unsafe { submitter.register_buf_ring_with_flags(address, BUFFERS, GROUP, 0) }?;
        Ok(buffers)
    }

    /// The buffer that a completion names, with as many bytes as it says.
    ///
    /// # Safety
    ///
    /// `id` and `len` come from a completion of a receive on the ring that these buffers are
    /// registered with, and this is called once for that completion.
    pub(super) unsafe fn lend(self: &Rc<Buffers>, id: u16, len: u32) -> Received {
        assert!(id < BUFFERS && len <= BUFFER_BYTES, "the kernel's promise");
        self.lent.set(self.lent.get() + 1);
        Received {
            buffers: Some(Rc::clone(self)),
            id,
            len,
        }
    }

    /// Receives what is there, as much as fits one buffer, into the one that is not the kernel's.
    ///
    /// # Errors
    ///
    /// `ENOBUFS` while what was received so before is still held, `EAGAIN` if nothing is there, or what
    /// the kernel says.
    pub(super) fn receive_at_once(self: &Rc<Buffers>, fd: BorrowedFd<'_>) -> io::Result<Received> {
        if self.near_is_lent.get() {
            return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
        }
        let address = self.address(NEAR).as_ptr();
        // SAFETY: the bytes are within the allocation (see `address`) and initialised. Nobody else has
        // a reference to them: the kernel is never offered this buffer, and no `Received` has it, as
        // `near_is_lent` says; none gets it before this reference is given up.
        let buffer = unsafe { std::slice::from_raw_parts_mut(address, NEAR_BYTES as usize) };
        let (len, _) = recv(fd, buffer, RecvFlags::DONTWAIT)?;
        if len == 0 {
            return Ok(Received::end());
        }
        self.near_is_lent.set(true);
        Ok(Received {
            buffers: Some(Rc::clone(self)),
            id: NEAR,
            len: u32::try_from(len).unwrap_or(NEAR_BYTES),
        })
    }

    /// What is lent from here on is of another time.
    #[inline]
    pub(super) fn begin_to_lend(&self) {
        let lent = self.lent.take();
        self.lent_peak.set(self.lent_peak.get().max(lent));
    }

    /// How many held bytes at one time at most, since it was asked for last.
    pub(super) fn take_lent_peak(&self) -> usize {
        self.begin_to_lend();
        self.lent_peak.take()
    }

    /// Where a buffer's bytes are.
    #[inline]
    fn address(&self, id: u16) -> NonNull<u8> {
        assert!(id <= NEAR);
        // SAFETY: the offset is within the one allocation of BUFFERS * STRIDE_BYTES + NEAR_BYTES bytes,
        // since the id is at most NEAR, which is BUFFERS.
        unsafe { self.memory.add(usize::from(id) * STRIDE_BYTES) }
    }

    /// Offers a buffer to the kernel.
    #[inline]
    fn give_back(&self, id: u16) {
        let tail = self.tail.get();
        let index = usize::from(tail & (BUFFERS - 1));
        // SAFETY: the index is less than BUFFERS, so the offset is within the one allocation of
        // that many entries.
        let entry = unsafe { self.entries.add(index) };
        // SAFETY: the entry is valid for writes: allocated, aligned and zeroed, and any bit pattern
        // is a BufRingEntry. Nobody else has a reference to it: Rust code only makes one here, on
        // the one thread that owns `self` (it is neither Send nor Sync), and gives it up before
        // this function ends; the kernel reads an entry only after the tail has moved past it,
        // below, and is done with the one that stood here before, as no more than BUFFERS buffers
        // exist.
        let entry = unsafe { &mut *entry.as_ptr() };
        entry.set_addr(self.address(id).as_ptr() as u64);
        entry.set_len(BUFFER_BYTES);
        entry.set_bid(id);
        let next = tail.wrapping_add(1);
        self.tail.set(next);
        // SAFETY: `entries` is the address of the ring's first entry, initialised by alloc_zeroed.
        let shared_tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: the address is valid and aligned for a u16 as long as `self` lives. The kernel
        // reads it concurrently; Rust code writes it only here, atomically: `set_addr`, `set_len`
        // and `set_bid` above write other fields, and their `&mut` is not used any more.
        let shared_tail = unsafe { AtomicU16::from_ptr(shared_tail.cast_mut()) };
        // The kernel must see the entry before the tail that covers it.
        shared_tail.store(next, Ordering::Release);
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        let entries = self.entries.as_ptr().cast();
        // SAFETY: allocated with this layout by `allocate`, and nobody uses it any more: the ring
        // is gone or idle (see `register`).
        unsafe { dealloc(entries, ENTRIES_LAYOUT) };
        // SAFETY: as above; and every `Received` holds an Rc of `self`, so none is left.
        unsafe { dealloc(self.memory.as_ptr(), MEMORY_LAYOUT) };
    }
}

/// Bytes that were received, in the buffer that the kernel put them into. Dropping it gives the
/// buffer back.
pub(crate) struct Received {
    /// `None` for the end of a stream, which takes no buffer.
    buffers: Option<Rc<Buffers>>,
    id: u16,
    len: u32,
}

impl Received {
    /// No bytes: the end of a stream.
    pub(super) fn end() -> Received {
        Received {
            buffers: None,
            id: 0,
            len: 0,
        }
    }

    /// Overwrites the bytes, and gives the buffer back.
    pub(crate) fn wipe(self) {
        if let Some(buffers) = &self.buffers {
            let address = buffers.address(self.id).as_ptr();
            // SAFETY: `len` is at most what the buffer holds (checked by `lend`, or what was received
            // into a slice of it), so the range is within the buffer, which is lent to `self` alone:
            // nobody receives into it, and as `self` was given away no reference to its bytes is left.
            unsafe { address.write_bytes(0, self.len as usize) };
        }
    }
}

impl Deref for Received {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let Some(buffers) = &self.buffers else {
            return &[];
        };
        let address = buffers.address(self.id).as_ptr();
        // SAFETY: `len` is at most what the buffer holds (checked by `lend`, or what was received into
        // a slice of it), so the range is within it; its bytes are initialised (zeroed at first, then
        // written by the kernel); nobody writes to them while `self` lives, since the kernel gets the
        // buffer back, or NEAR is received into again, only when `self` is dropped; the allocation
        // lives as long as the Rc.
        unsafe { std::slice::from_raw_parts(address, self.len as usize) }
    }
}

impl Drop for Received {
    #[inline]
    fn drop(&mut self) {
        match &self.buffers {
            Some(buffers) if self.id == NEAR => buffers.near_is_lent.set(false),
            Some(buffers) => buffers.give_back(self.id),
            None => {}
        }
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Received({} bytes)", self.len)
    }
}

const ENTRIES_LAYOUT: Layout = layout(size_of::<BufRingEntry>() * BUFFERS as usize);
const MEMORY_LAYOUT: Layout = layout(STRIDE_BYTES * BUFFERS as usize + NEAR_BYTES as usize);

const fn layout(bytes: usize) -> Layout {
    match Layout::from_size_align(bytes, PAGE_BYTES) {
        Ok(layout) => layout,
        Err(_) => panic!("evaluated by the compiler alone"),
    }
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: both layouts have a size above zero.
    let address = unsafe { alloc_zeroed(layout) };
    NonNull::new(address).unwrap_or_else(|| handle_alloc_error(layout))
}

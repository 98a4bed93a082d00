//! The buffers that the kernel receives into, and the ring of entries that offers them to it.
//!
//! They are made once and never freed, since the kernel may write to them for as long as the
//! process lives.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// The kernel takes them in turn, so many of them are many cold lines; too few, and receives run out
/// of them within a turn. Measured at 32, 64, 256 and 512.
const BUFFERS: u16 = 64;
/// What peers with a buffer for each connection have: one holds a frame with a body of 16 KiB.
const BUFFER_BYTES: u32 = 32 * 1024;
/// The group that receives take their buffers from.
pub(crate) const GROUP: u16 = 0;

const PAGE_BYTES: usize = 4096;

pub(crate) struct Buffers {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    tail: u16,
}

impl Buffers {
    /// Makes the buffers and offers all of them to the kernel.
    pub(crate) fn register(submitter: &Submitter<'_>) -> io::Result<Buffers> {
        let mut buffers = Buffers {
            entries: allocate(size_of::<BufRingEntry>() * usize::from(BUFFERS))?.cast(),
            memory: allocate(BUFFER_BYTES as usize * usize::from(BUFFERS))?,
            tail: 0,
        };
        let address = buffers.entries.as_ptr() as u64;
        // SAFETY: the address is that of BUFFERS entries, page-aligned, and never freed.
        unsafe { submitter.register_buf_ring_with_flags(address, BUFFERS, GROUP, 0) }?;
        for id in 0..BUFFERS {
            buffers.give_back(id);
        }
        Ok(buffers)
    }

    /// The bytes of the completion that names this buffer.
    ///
    /// # Safety
    ///
    /// `id` and `len` come from one completion of a receive out of [`GROUP`], and the buffer was
    /// not given back since.
    #[inline]
    pub(crate) unsafe fn received(&self, id: u16, len: u32) -> &[u8] {
        assert!(len <= BUFFER_BYTES, "the kernel's promise");
        // SAFETY: `address` is that of BUFFER_BYTES bytes, of which the kernel wrote the first
        // `len` and the others are zero. It writes there again only once the buffer is given back,
        // which takes `&mut self`.
        unsafe { std::slice::from_raw_parts(self.address(id).as_ptr(), len as usize) }
    }

    /// Offers a buffer to the kernel.
    #[inline]
    pub(crate) fn give_back(&mut self, id: u16) {
        let index = usize::from(self.tail & (BUFFERS - 1));
        // SAFETY: the index is less than BUFFERS, so the offset is within the one allocation.
        let entry = unsafe { self.entries.add(index) };
        // SAFETY: allocated, aligned and zeroed, and any bit pattern is a BufRingEntry. The kernel
        // reads it only once the tail has moved past it, below, and Rust code makes a reference to
        // an entry here alone.
        let entry = unsafe { &mut *entry.as_ptr() };
        entry.set_addr(self.address(id).as_ptr() as u64);
        entry.set_len(BUFFER_BYTES);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `entries` is the address of the ring's first entry, initialised.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: valid and aligned for as long as the process lives, and written atomically, as
        // the setters above write other fields.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // The kernel must see the entry before the tail that covers it.
        tail.store(self.tail, Ordering::Release);
    }

    #[inline]
    fn address(&self, id: u16) -> NonNull<u8> {
        assert!(id < BUFFERS, "the kernel's promise");
        // SAFETY: within the one allocation of BUFFERS * BUFFER_BYTES bytes, since id < BUFFERS.
        unsafe { self.memory.add(usize::from(id) * BUFFER_BYTES as usize) }
    }
}

/// Zeroed and aligned to a page; `bytes` is above zero.
fn allocate(bytes: usize) -> io::Result<NonNull<u8>> {
    let layout = Layout::from_size_align(bytes, PAGE_BYTES).map_err(io::Error::other)?;
    // SAFETY: the layout's size is above zero.
    let address = unsafe { alloc_zeroed(layout) };
    Ok(NonNull::new(address).unwrap_or_else(|| handle_alloc_error(layout)))
}

//! Work that leaves nothing of a secret on the stack.

use std::hint::black_box;

/// How deep a stack is overwritten, in bytes: deeper than the work here goes. Hashing has a few
/// blocks of 1 KiB there, and the state of a digest.
const OVERWRITTEN_BYTES: usize = 64 * 1024;

/// Does this work, and overwrites the stack that it used: what it moved or copied there, and
/// whatever code that it called did not wipe itself. Its result is to hold no secret.
pub(super) fn without_trace<T>(work: impl FnOnce() -> T) -> T {
    /// Also after a panic.
    struct Overwriting;
    impl Drop for Overwriting {
        fn drop(&mut self) {
            overwrite();
        }
    }
    let _overwriting = Overwriting;
    deeper(work)
}

/// In a frame of its own, which lies where [`overwrite`] has its own.
#[inline(never)]
fn deeper<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[expect(clippy::large_stack_arrays, reason = "that is the point")]
#[inline(never)]
fn overwrite() {
    let mut room = [0_u8; OVERWRITTEN_BYTES];
    // The compiler has to take it for read.
    black_box(&mut room);
}

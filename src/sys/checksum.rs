//! The checksum of small frames, by the CPU's multiplication without carry.
//!
//! It computes and asks nothing of the system. It is here because only at run time is it known
//! whether the CPU has that instruction, so calling what was compiled for it is unsafe.
//!
//! For long bodies crc32fast is as fast as it gets. Of a small one's, most is not the sum itself, but
//! the call, the choice of a way and the odd bytes at the end.

#[cfg(target_arch = "x86_64")]
mod x86_64;

/// The bytes in front of a body. They may be anything, but must be there.
pub(crate) const LEAD_BYTES: usize = 8;

/// The longest body that this is for, in bytes. From here on crc32fast, which folds four blocks at a
/// time, is as fast.
pub(crate) const SMALL_BODY_BYTES_MAX: usize = 128;

/// The CPU multiplies without carry: whoever has this may use it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clmul(());

/// What is done with [`Clmul::checksum`] again and again.
///
/// What is called on the way is to be inlined always, down to that: only what lies in [`Clmul::run`] is
/// compiled for such a CPU, and all else calls it. A closure would not do, as those can't be inlined
/// always.
pub(crate) trait Work {
    /// What comes of it.
    type Output;

    /// Does it.
    fn run(self, clmul: Clmul) -> Self::Output;
}

impl Clmul {
    /// Whether the CPU does.
    #[inline]
    pub(crate) fn detect() -> Option<Clmul> {
        #[cfg(target_arch = "x86_64")]
        let multiplies = std::arch::is_x86_feature_detected!("pclmulqdq");
        #[cfg(not(target_arch = "x86_64"))]
        let multiplies = false; // Other CPUs are left to crc32fast.
        multiplies.then_some(Clmul(()))
    }
}

#[cfg(target_arch = "x86_64")]
impl Clmul {
    /// Does some work, compiled for such a CPU.
    #[inline]
    pub(crate) fn run<W: Work>(self, work: W) -> W::Output {
        // SAFETY: there is a Clmul, so the CPU has the instruction.
        unsafe { x86_64::run(self, work) }
    }

    /// The checksum of the body behind the first [`LEAD_BYTES`]; nothing if that is longer than
    /// [`SMALL_BODY_BYTES_MAX`], or not even those are there.
    #[expect(clippy::inline_always, reason = "as `Work` says")]
    #[expect(clippy::unused_self, reason = "the proof that the CPU can do it")]
    #[inline(always)]
    pub(crate) fn checksum(self, bytes: &[u8]) -> Option<u32> {
        // SAFETY: there is a Clmul, so the CPU has the instruction.
        unsafe { x86_64::checksum(bytes) }
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Clmul {
    pub(crate) fn run<W: Work>(self, work: W) -> W::Output {
        work.run(self)
    }

    pub(crate) fn checksum(self, _bytes: &[u8]) -> Option<u32> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Checksum<'a>(&'a [u8]);

    impl Work for Checksum<'_> {
        type Output = Option<u32>;

        fn run(self, clmul: Clmul) -> Option<u32> {
            clmul.checksum(self.0)
        }
    }

    /// A CPU may be without; where the tests have to know, they fail then.
    fn clmul() -> Option<Clmul> {
        let clmul = Clmul::detect();
        if clmul.is_none() {
            let is_required = std::env::var("CORELANE_TEST_CLMUL").as_deref() == Ok("required");
            assert!(!is_required, "this CPU does not multiply without carry");
            eprintln!("skipped: this CPU does not multiply without carry");
        }
        clmul
    }

    #[test]
    fn it_is_that_of_crc32fast_for_every_length() {
        let Some(clmul) = clmul() else { return };
        let mut random = fastrand::Rng::with_seed(1);
        for body_bytes in 0..=SMALL_BODY_BYTES_MAX {
            for _ in 0..16 {
                let length = LEAD_BYTES + body_bytes;
                let bytes: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
                let expected = crc32fast::hash(&bytes[LEAD_BYTES..]);
                let checksum = clmul.run(Checksum(&bytes));
                assert_eq!(checksum, Some(expected), "{bytes:02x?}");
            }
        }
    }

    #[test]
    fn it_is_for_small_bodies_behind_something() {
        let Some(clmul) = clmul() else { return };
        let longest = LEAD_BYTES + SMALL_BODY_BYTES_MAX;
        assert_eq!(clmul.checksum(&[1; LEAD_BYTES - 1]), None);
        assert_eq!(clmul.checksum(&[1; LEAD_BYTES]), Some(0));
        assert!(clmul.checksum(&vec![1; longest]).is_some());
        assert_eq!(clmul.checksum(&vec![1; longest + 1]), None);
    }
}

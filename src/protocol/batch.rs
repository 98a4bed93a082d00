//! The checksums of small frames that stand one behind the other, many at a time.
//!
//! Of what a small message takes in user space, its two checksums are the greatest part. Computed in a
//! loop of their own, from which nothing is called, they cost two thirds of that for bodies of whole
//! blocks, half of it for others.

use super::frame::{CHECKSUM, Frame, HEADER_BYTES, Header, checksum, in_range};
use crate::sys::checksum::{Clmul, LEAD_BYTES, SMALL_BODY_BYTES_MAX, Work};

// What stands in front of a body there is the header.
const _: () = assert!(LEAD_BYTES == HEADER_BYTES);

/// In place of the checksum of a small frame until [`seal`] writes it. It may come out as this, too.
const UNSEALED: u32 = 0;

/// How far is looked ahead, in bytes: what is checked should still be in the nearest cache when it is
/// handled.
const AHEAD_BYTES: usize = 4096;

/// Frames one behind the other, the first of which may be known to be small, whole and good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ahead<'a> {
    rest: &'a [u8],
    /// So many bytes are such frames.
    checked_bytes: usize,
}

impl<'a> Ahead<'a> {
    /// Nothing is known of these bytes.
    #[inline]
    pub(crate) fn new(bytes: &'a [u8]) -> Ahead<'a> {
        Ahead {
            rest: bytes,
            checked_bytes: 0,
        }
    }

    /// What is not taken yet.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// What is known to be small, whole and good frames, from the first on.
    #[inline]
    pub(crate) fn checked(&self) -> Checked<'a> {
        Checked {
            bytes: self.rest.get(..self.checked_bytes).unwrap_or_default(),
        }
    }

    /// Some of those frames were taken; these are left.
    #[inline]
    pub(crate) fn skip_to(&mut self, left: Checked<'a>) {
        let taken_bytes = self.checked_bytes.saturating_sub(left.bytes.len());
        self.rest = self.rest.get(taken_bytes..).unwrap_or_default();
        self.checked_bytes = left.bytes.len();
    }

    /// Takes the first frame off, if it is known to be small, whole and good, or found to be now. Nothing
    /// may be any frame all the same, a good one too: [`decode`](super::decode) says what is there.
    #[inline]
    pub(crate) fn take_small(&mut self, frame_bytes_max: usize) -> Option<Frame<'a>> {
        if self.checked_bytes == 0 {
            self.checked_bytes = check(self.rest, frame_bytes_max);
        }
        let mut checked = self.checked();
        let frame = checked.take()?;
        self.skip_to(checked);
        Some(frame)
    }
}

/// Small, whole and good frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checked<'a> {
    bytes: &'a [u8],
}

impl<'a> Checked<'a> {
    /// The code of the first one.
    #[inline]
    pub(crate) fn code(&self) -> Option<u16> {
        Some(Header::from_bytes(*self.bytes.first_chunk()?).code)
    }

    /// Takes the first one off.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Frame<'a>> {
        let Header { length, code, .. } = Header::from_bytes(*self.bytes.first_chunk()?);
        let (frame, behind) = self.bytes.split_at_checked(length.into())?;
        let body = frame.get(HEADER_BYTES..)?;
        self.bytes = behind;
        Some(Frame { code, body })
    }
}

/// How many bytes, from the first on, are small whole frames whose checksums are right; of many, the
/// first. None where [`batching`] is of no use.
fn check(bytes: &[u8], frame_bytes_max: usize) -> usize {
    let bytes = &bytes[..bytes.len().min(AHEAD_BYTES)];
    match batching(bytes) {
        Some(clmul) => clmul.run(Check {
            bytes,
            frame_bytes_max,
        }),
        None => 0,
    }
}

/// What it takes to have the checksums of these frames in one loop, unless there is but one, for which
/// another way of computing them is not worth its code.
#[inline]
fn batching(frames: &[u8]) -> Option<Clmul> {
    let first = Header::from_bytes(*frames.first_chunk()?);
    if frames.len() > first.length.into() {
        Clmul::detect()
    } else {
        None
    }
}

struct Check<'a> {
    bytes: &'a [u8],
    frame_bytes_max: usize,
}

impl Work for Check<'_> {
    type Output = usize;

    #[expect(clippy::inline_always, reason = "as `Work` says")]
    #[inline(always)]
    fn run(self, clmul: Clmul) -> usize {
        let bytes_max = self
            .frame_bytes_max
            .min(HEADER_BYTES + SMALL_BODY_BYTES_MAX);
        let mut rest = self.bytes;
        while let Some(header) = rest.first_chunk() {
            let header = Header::from_bytes(*header);
            if !in_range(header.length, bytes_max) {
                break;
            }
            let Some((frame, behind)) = rest.split_at_checked(header.length.into()) else {
                break;
            };
            if clmul.checksum(frame) != Some(header.checksum) {
                break;
            }
            rest = behind;
        }
        self.bytes.len() - rest.len()
    }
}

/// The checksum of a body, or [`UNSEALED`] if it is small: whoever encodes with this has the frames
/// sealed.
#[inline]
pub(super) fn checksum_unless_small(body: &[u8]) -> u32 {
    if body.len() <= SMALL_BODY_BYTES_MAX {
        UNSEALED
    } else {
        checksum(body)
    }
}

/// Writes the checksums into frames that were encoded without; the others stay as they are.
pub(crate) fn seal(frames: &mut [u8]) {
    match batching(frames) {
        Some(clmul) => clmul.run(Seal { frames }),
        None => seal_by(None, frames),
    }
}

struct Seal<'a> {
    frames: &'a mut [u8],
}

impl Work for Seal<'_> {
    type Output = ();

    #[expect(clippy::inline_always, reason = "as `Work` says")]
    #[inline(always)]
    fn run(self, clmul: Clmul) {
        seal_by(Some(clmul), self.frames);
    }
}

#[expect(clippy::inline_always, reason = "as `Work` says")]
#[inline(always)]
fn seal_by(clmul: Option<Clmul>, frames: &mut [u8]) {
    let mut rest = frames;
    while let Some(header) = rest.first_chunk() {
        let header = Header::from_bytes(*header);
        // At least a header, whatever it says: each round leaves less.
        let frame_bytes = usize::from(header.length).max(HEADER_BYTES);
        let Some((frame, behind)) = rest.split_at_mut_checked(frame_bytes) else {
            break;
        };
        if header.checksum == UNSEALED {
            let checksum = match clmul {
                Some(clmul) => clmul.checksum(frame),
                None => None,
            }
            .unwrap_or_else(|| checksum(&frame[HEADER_BYTES..]));
            // The whole header would have to be put together again.
            frame[CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
        }
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Decoded, decode, encode, encode_unsealed};

    const MAX: usize = 29_000;

    fn random_body(random: &mut fastrand::Rng, bytes_max: usize) -> Vec<u8> {
        let body_bytes = random.usize(..=bytes_max);
        (0..body_bytes).map(|_| random.u8(..)).collect()
    }

    /// Small frames and large ones, some of them spoilt, and a piece of one at the end.
    fn stream(random: &mut fastrand::Rng) -> Vec<u8> {
        let mut bytes = Vec::new();
        for code in 0..random.u16(..100) {
            let bytes_max = [40, SMALL_BODY_BYTES_MAX + 20, 2000][random.usize(..3)];
            let start = bytes.len();
            encode(&mut bytes, code, &random_body(random, bytes_max)).unwrap();
            if random.u8(..50) == 0 {
                let spoilt = random.usize(start..bytes.len());
                bytes[spoilt] ^= 1 << random.u8(..8);
            }
        }
        bytes.truncate(bytes.len().saturating_sub(random.usize(..3)));
        bytes
    }

    #[test]
    fn what_is_taken_is_what_decode_finds() {
        let mut small = 0;
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let bytes = stream(&mut random);
            let frame_bytes_max = [20, MAX][random.usize(..2)];
            let mut ahead = Ahead::new(&bytes);
            let mut rest = &bytes[..];
            loop {
                let decoded = decode(rest, frame_bytes_max);
                let code = ahead.checked().code();
                if let Some(frame) = ahead.take_small(frame_bytes_max) {
                    assert_eq!(decoded, Decoded::Whole(frame), "seed {seed}");
                    assert!(code.is_none_or(|code| code == frame.code), "seed {seed}");
                    assert!(frame.body.len() <= SMALL_BODY_BYTES_MAX, "seed {seed}");
                    small += 1;
                } else if decoded.frame_bytes() > 0 {
                    ahead = Ahead::new(&rest[decoded.frame_bytes()..]);
                } else {
                    break;
                }
                rest = &rest[decoded.frame_bytes()..];
                assert_eq!(ahead.rest(), rest, "seed {seed}");
            }
        }
        assert_eq!(small > 1000, Clmul::detect().is_some());
    }

    #[test]
    fn nothing_is_checked_before_it_is_looked_at_or_behind_what_was() {
        let mut bytes = Vec::new();
        encode(&mut bytes, 7, b"small").unwrap();
        encode(&mut bytes, 8, &[1; SMALL_BODY_BYTES_MAX + 1]).unwrap();
        let mut ahead = Ahead::new(&bytes);
        assert_eq!(ahead.checked().take(), None);
        if Clmul::detect().is_some() {
            assert_eq!(ahead.take_small(MAX).unwrap().body, b"small");
        }
        assert_eq!(ahead.checked().take(), None);
        assert_eq!(ahead.take_small(MAX), None);
    }

    #[test]
    fn a_sealed_frame_is_what_encode_makes() {
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut expected, mut unsealed) = (Vec::new(), Vec::new());
            for code in 0..random.u16(..50) {
                let body = random_body(&mut random, 2 * SMALL_BODY_BYTES_MAX);
                encode(&mut expected, code, &body).unwrap();
                if random.bool() {
                    encode(&mut unsealed, code, &body).unwrap();
                } else {
                    encode_unsealed(u16::MAX, &mut unsealed, code, &body).unwrap();
                }
            }
            let mut by_others = unsealed.clone();
            seal_by(None, &mut by_others);
            assert_eq!(by_others, expected, "seed {seed}");
            seal(&mut unsealed);
            assert_eq!(unsealed, expected, "seed {seed}");
            seal(&mut unsealed);
            assert_eq!(unsealed, expected, "seed {seed}");
        }
    }

    #[test]
    fn what_is_no_frame_is_left_alone() {
        // No length, one beyond the end, and less than a header.
        for bytes in [&[0; 9][..], &[0, 10, 0, 0, 0, 0, 0, 0, 1], &[0, 8, 0, 0]] {
            let mut sealed = bytes.to_vec();
            seal(&mut sealed);
            assert_eq!(sealed, bytes);
        }
    }
}

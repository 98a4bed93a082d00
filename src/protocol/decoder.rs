//! Frames in: decoded in place over whatever slice arrived; only the tail of an incomplete frame
//! is copied.
//!
//! Invariant: the frames that come out, and where decoding stops for good, depend on the bytes
//! alone, never on how the network cut them into slices.

use zeroize::Zeroize as _;

use super::frame::{Frame, HEADER_BYTES, Header, checksum, in_range};

/// What the next bytes of a stream are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// Not a whole frame yet; at least so many bytes more are needed to say what it is.
    Incomplete {
        /// Bytes.
        missing: usize,
    },
    /// A whole frame whose checksum is right.
    Whole(Frame<'a>),
    /// A whole frame whose checksum is wrong. The stream goes on behind it.
    BadChecksum {
        /// The message code that its header names.
        code: u16,
        /// Its whole length, in bytes.
        length: u16,
    },
    /// No frame: its length is out of range, so nothing from here on can be trusted.
    BadLength {
        /// The message code that its header names.
        code: u16,
        /// What its header says, in bytes.
        length: u16,
    },
}

impl Decoded<'_> {
    /// The length of the whole frame that this is, good or bad, header included; 0 if it is none.
    #[inline]
    pub fn frame_bytes(&self) -> usize {
        match self {
            Decoded::Whole(frame) => HEADER_BYTES + frame.body.len(),
            Decoded::BadChecksum { length, .. } => usize::from(*length),
            Decoded::BadLength { .. } | Decoded::Incomplete { .. } => 0,
        }
    }

    /// The message code that its header names; 0 where there is no header yet.
    pub fn code(&self) -> u16 {
        match *self {
            Decoded::Whole(frame) => frame.code,
            Decoded::BadChecksum { code, .. } | Decoded::BadLength { code, .. } => code,
            Decoded::Incomplete { .. } => 0,
        }
    }
}

/// Says what `bytes` begin with. Frames longer than `frame_bytes_max` (header and body) are not
/// accepted.
///
/// A bad length is told as soon as length and code are there, not before, so that the code can
/// always be named.
#[expect(clippy::inline_always, reason = "measured")]
#[inline(always)]
pub fn decode(bytes: &[u8], frame_bytes_max: usize) -> Decoded<'_> {
    let Some(&[l0, l1, c0, c1]) = bytes.first_chunk::<PREFIX_BYTES>() else {
        return Decoded::Incomplete {
            missing: PREFIX_BYTES - bytes.len(),
        };
    };
    let (length, code) = (u16::from_be_bytes([l0, l1]), u16::from_be_bytes([c0, c1]));
    if !in_range(length, frame_bytes_max) {
        return Decoded::BadLength { code, length };
    }
    let Some((header, body)) = bytes
        .get(..usize::from(length))
        .and_then(<[u8]>::split_first_chunk::<HEADER_BYTES>)
    else {
        return Decoded::Incomplete {
            missing: usize::from(length) - bytes.len(),
        };
    };
    if checksum(body) == Header::from_bytes(*header).checksum {
        Decoded::Whole(Frame { code, body })
    } else {
        Decoded::BadChecksum { code, length }
    }
}

/// How many bytes [`decode`] needs beyond these; the same without looking at the body.
fn missing_bytes(bytes: &[u8], frame_bytes_max: usize) -> usize {
    match bytes.first_chunk::<PREFIX_BYTES>() {
        None => PREFIX_BYTES - bytes.len(),
        Some(&[l0, l1, ..]) => {
            let length = u16::from_be_bytes([l0, l1]);
            if in_range(length, frame_bytes_max) {
                usize::from(length).saturating_sub(bytes.len())
            } else {
                0
            }
        }
    }
}

/// Length and code: what it takes to judge a length and to name what it came with.
const PREFIX_BYTES: usize = 4;

/// Beyond this, what waits gets as much memory as it needs, or a quarter more where there may be
/// secrets in it, and not up to twice as much, in bytes.
const DOUBLED_BYTES_MAX: usize = 16 * 1024;

/// The receiving end of one connection: what has arrived and was not decoded yet.
///
/// It holds no memory while the stream stands between two frames.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The bytes that wait; those before `read` are done with.
    held: Vec<u8>,
    read: usize,
    /// There may be secrets in `held`: what is done with is wiped.
    guarded: bool,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// The frames in what waits, followed by `slice`. What is not taken from them waits on, copied.
    #[inline]
    pub fn frames<'d>(&'d mut self, slice: &'d [u8], frame_bytes_max: usize) -> Frames<'d> {
        Frames {
            decoder: self,
            slice,
            frame_bytes_max,
        }
    }

    /// Has `slice` wait behind what waits already.
    pub fn hold(&mut self, slice: &[u8]) {
        if self.guarded {
            self.make_room_guarded(slice.len());
        } else if self.held.len() + slice.len() > DOUBLED_BYTES_MAX {
            self.held.reserve_exact(slice.len());
        }
        self.held.extend_from_slice(slice);
    }

    /// Has what waits wiped from memory as it is done with, and so on until nothing waits any more:
    /// there may be secrets in it.
    pub fn guard(&mut self) {
        self.guarded = true;
    }

    /// Whether one of the frames that wait has such a code, or may have: of its header too little is
    /// there, or it comes behind a wrong length.
    pub fn may_hold(&self, frame_bytes_max: usize, is_one: impl Fn(u16) -> bool) -> bool {
        let mut rest = &self.held[self.read..];
        while !rest.is_empty() {
            let Some(&[l0, l1, c0, c1]) = rest.first_chunk::<PREFIX_BYTES>() else {
                return true;
            };
            let length = u16::from_be_bytes([l0, l1]);
            if !in_range(length, frame_bytes_max) || is_one(u16::from_be_bytes([c0, c1])) {
                return true;
            }
            rest = rest.get(usize::from(length)..).unwrap_or_default();
        }
        false
    }

    /// Makes room for more, and leaves no copy behind.
    fn make_room_guarded(&mut self, more_bytes: usize) {
        let needed_bytes = self.held.len() + more_bytes;
        if needed_bytes <= self.held.capacity() {
            return;
        }
        let capacity_bytes = self.held.capacity();
        let doubled_bytes = (2 * capacity_bytes).min(DOUBLED_BYTES_MAX);
        // A quarter at least, or each slice would have all that waits copied and wiped.
        let grown_bytes = doubled_bytes.max(capacity_bytes + capacity_bytes / 4);
        let mut roomier = Vec::with_capacity(needed_bytes.max(grown_bytes));
        roomier.extend_from_slice(&self.held);
        self.held.zeroize();
        self.held = roomier;
    }

    /// Bytes that wait.
    #[inline]
    pub fn held_bytes(&self) -> usize {
        self.held.len() - self.read
    }

    /// Memory that is held for what waits, in bytes.
    #[inline]
    pub fn memory_bytes(&self) -> usize {
        self.held.capacity()
    }

    /// Forgets what waits: the stream ends here.
    pub fn discard(&mut self) {
        if self.guarded {
            self.held.zeroize();
            self.guarded = false;
        }
        self.held = Vec::new();
        self.read = 0;
    }

    /// Drops the bytes that are done with.
    fn settle(&mut self) {
        if self.read == self.held.len() {
            // Most connections stand between two frames most of the time: give the memory back.
            self.discard();
        } else if self.guarded {
            self.settle_guarded();
        } else if self.read >= self.held.len() / 2 {
            // Not at every frame: where many wait, each byte is moved at most once more.
            self.held.drain(..self.read);
            self.read = 0;
            if self.held.capacity() > DOUBLED_BYTES_MAX.max(4 * self.held.len()) {
                self.held.shrink_to(self.held.len());
            }
        }
    }

    /// The same, and at once: what is done with is not to stay.
    fn settle_guarded(&mut self) {
        let left_bytes = self.held_bytes();
        self.held.copy_within(self.read.., 0);
        self.held[left_bytes..].zeroize();
        self.held.truncate(left_bytes);
        self.read = 0;
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        self.discard();
    }
}

/// The frames of one slice, one after the other; see [`Decoder::frames`].
#[derive(Debug)]
pub struct Frames<'d> {
    decoder: &'d mut Decoder,
    slice: &'d [u8],
    frame_bytes_max: usize,
}

impl<'d> Frames<'d> {
    /// The bytes of the slice that are not taken yet, if the next frame begins with them; none if a
    /// part of it has come before.
    ///
    /// For whoever takes frames off them by [`decode`], and tells of it by [`Frames::skip_to`]. Most
    /// frames lie whole and good in a slice, which by itself stays in registers.
    #[inline]
    pub(crate) fn rest_of_slice(&self) -> &'d [u8] {
        if self.decoder.held.is_empty() {
            self.slice
        } else {
            &[]
        }
    }

    /// Whether no part of the next frame has come before the slice.
    #[inline]
    pub(crate) fn holds_nothing(&self) -> bool {
        self.decoder.held.is_empty()
    }

    /// What is left of the bytes that [`Frames::rest_of_slice`] gave: the others are taken.
    #[inline]
    pub(crate) fn skip_to(&mut self, rest: &'d [u8]) {
        if self.decoder.held.is_empty() {
            self.slice = rest;
        }
    }

    /// The next frame, good or bad, or `None` when the rest is incomplete.
    ///
    /// After [`Decoded::BadLength`] the same comes again: there is no way on.
    #[inline]
    #[allow(clippy::should_implement_trait)] // a frame borrows from this: no Iterator can say so
    pub fn next(&mut self) -> Option<Decoded<'_>> {
        if self.decoder.held.is_empty() {
            self.next_in_slice()
        } else {
            self.next_held().0
        }
    }

    /// The same, and what [`Frames::rest_of_slice`] gives behind it.
    #[inline]
    pub(crate) fn next_and_rest(&mut self) -> (Option<Decoded<'_>>, &'d [u8]) {
        if self.decoder.held.is_empty() {
            (self.next_in_slice(), self.slice)
        } else {
            self.next_held()
        }
    }

    fn next_held(&mut self) -> (Option<Decoded<'_>>, &'d [u8]) {
        match self.complete_held() {
            None => (self.next_in_slice(), self.slice),
            Some(0) => {
                let waiting = &self.decoder.held[self.decoder.read..];
                let decoded = decode(waiting, self.frame_bytes_max);
                self.decoder.read += taken_bytes(&decoded).unwrap_or(0);
                (Some(decoded), &[])
            }
            Some(_) => (None, &[]),
        }
    }

    /// Completes the first frame that waits with as many bytes of the slice as it needs. Gives how
    /// many it still lacks, or nothing if none waits any more.
    fn complete_held(&mut self) -> Option<usize> {
        loop {
            if self.decoder.held_bytes() == 0 {
                self.decoder.discard();
                return None;
            }
            let waiting = &self.decoder.held[self.decoder.read..];
            let missing = missing_bytes(waiting, self.frame_bytes_max);
            if missing == 0 || self.slice.is_empty() {
                return Some(missing);
            }
            let (needed, rest) = self.slice.split_at(missing.min(self.slice.len()));
            if self.decoder.guarded {
                self.decoder.make_room_guarded(needed.len());
            }
            self.decoder.held.extend_from_slice(needed);
            self.slice = rest;
        }
    }

    #[inline]
    fn next_in_slice(&mut self) -> Option<Decoded<'d>> {
        let decoded = decode(self.slice, self.frame_bytes_max);
        self.slice = &self.slice[taken_bytes(&decoded)?..];
        Some(decoded)
    }
}

impl Drop for Frames<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.decoder.held.is_empty() {
            self.decoder.settle();
        }
        if !self.slice.is_empty() {
            self.decoder.hold(self.slice);
        }
    }
}

/// How far the stream moves on past this, in bytes; `None` where it can't yet.
#[inline]
fn taken_bytes(decoded: &Decoded<'_>) -> Option<usize> {
    match decoded {
        Decoded::Incomplete { .. } => None,
        _ => Some(decoded.frame_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::{FRAME_BYTES_MAX, encode};

    /// What a stream came to: owned, so that runs can be compared.
    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Event {
        Frame(u16, Vec<u8>),
        BadChecksum(u16, u16),
        BadLength(u16, u16),
    }

    fn event(decoded: &Decoded<'_>) -> Event {
        match *decoded {
            Decoded::Whole(Frame { code, body }) => Event::Frame(code, body.to_vec()),
            Decoded::BadChecksum { code, length } => Event::BadChecksum(code, length),
            Decoded::BadLength { code, length } => Event::BadLength(code, length),
            Decoded::Incomplete { .. } => unreachable!("Frames never gives this out"),
        }
    }

    const MAX: usize = 29_000;

    /// Decodes the slices; `take` is how many frames are taken from each before it is left.
    fn decode_slices(slices: &[&[u8]], take: usize) -> (Vec<Event>, usize) {
        let mut decoder = Decoder::new();
        let mut events = Vec::new();
        for slice in slices.iter().chain(std::iter::repeat_n(&&[][..], 64)) {
            let mut frames = decoder.frames(slice, MAX);
            for _ in 0..take {
                let Some(decoded) = frames.next() else { break };
                events.push(event(&decoded));
                if let Decoded::BadLength { .. } = decoded {
                    return (events, 0);
                }
            }
        }
        (events, decoder.held_bytes())
    }

    fn stream() -> (Vec<u8>, Vec<Event>) {
        let bodies: [&[u8]; 6] = [b"", b"x", b"hello", b"", &[7; 300], b"last"];
        let mut bytes = Vec::new();
        let mut events = Vec::new();
        for (code, body) in (0..).zip(bodies) {
            encode(&mut bytes, code, body).unwrap();
            events.push(Event::Frame(code, body.to_vec()));
        }
        (bytes, events)
    }

    #[test]
    fn every_split_point_gives_the_same_frames() {
        let (bytes, expected) = stream();
        for first in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(first);
            assert_eq!(decode_slices(&[head, tail], 99), (expected.clone(), 0));
            // Three slices, the middle one short.
            let second = tail.len().min(3);
            let slices = [head, &tail[..second], &tail[second..]];
            assert_eq!(decode_slices(&slices, 99), (expected.clone(), 0));
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode_slices(&single, 99), (expected, 0));
    }

    #[test]
    fn frames_that_were_left_wait() {
        let (bytes, expected) = stream();
        for take in 1..4 {
            for cut in 1..bytes.len() {
                let slices: Vec<&[u8]> = bytes.chunks(cut).collect();
                assert_eq!(decode_slices(&slices, take), (expected.clone(), 0));
            }
        }
    }

    /// What it keeps besides is wiped memory, which can't be looked at from here.
    #[test]
    fn a_guarded_decoder_gives_the_same_frames_and_keeps_none_of_them() {
        let (bytes, expected) = stream();
        for cut in 1..bytes.len() {
            let mut decoder = Decoder::new();
            let (mut events, mut taken_bytes, mut given_bytes) = (Vec::new(), 0, 0);
            for slice in bytes.chunks(cut) {
                given_bytes += slice.len();
                let mut slice = slice;
                loop {
                    decoder.guard();
                    let mut frames = decoder.frames(slice, MAX);
                    // One at a time, so that others wait behind it.
                    let next = frames.next().map(|decoded| {
                        taken_bytes += decoded.frame_bytes();
                        event(&decoded)
                    });
                    drop(frames);
                    slice = &[];
                    assert_eq!(decoder.read, 0);
                    assert_eq!(
                        decoder.held,
                        bytes[taken_bytes..given_bytes],
                        "cut at {cut}"
                    );
                    let Some(event) = next else { break };
                    events.push(event);
                }
            }
            assert_eq!(events, expected);
        }
    }

    /// Beyond 16 KiB each slice once had all that waits copied, and wiped where it was.
    #[test]
    fn a_guarded_decoder_moves_what_waits_now_and_then_only() {
        let mut decoder = Decoder::new();
        decoder.guard();
        let (mut capacity_bytes, mut moves) = (0, 0);
        for _ in 0..640 {
            decoder.hold(&[0; 100]);
            moves += usize::from(decoder.memory_bytes() != capacity_bytes);
            capacity_bytes = decoder.memory_bytes();
        }
        assert!(moves < 20, "{moves} moves");
        assert!(
            capacity_bytes <= 640 * 100 * 5 / 4,
            "{capacity_bytes} bytes"
        );
    }

    #[test]
    fn what_waits_may_hold_what_it_has_or_what_can_not_be_told() {
        let header = |length: u16, code: u16| [length.to_be_bytes(), code.to_be_bytes()].concat();
        let frame = |code| [header(10, code), vec![0; 6]].concat();
        let may_hold = |parts: &[&[u8]]| {
            let mut decoder = Decoder::new();
            decoder.hold(&parts.concat());
            decoder.may_hold(MAX, |code| code == 7)
        };
        let (other, wanted) = (frame(1), frame(7));
        assert!(!may_hold(&[]));
        assert!(!may_hold(&[&other, &other, &other[..9]]));
        for cut in 1..=wanted.len() {
            assert!(may_hold(&[&other, &wanted[..cut]]), "cut at {cut}");
            assert_eq!(may_hold(&[&other[..cut]]), cut < 4, "cut at {cut}");
        }
        assert!(may_hold(&[&other, &wanted, &other]));
        for wrong in [7, u16::try_from(MAX + 1).unwrap()] {
            assert!(
                may_hold(&[&header(wrong, 1), &other]),
                "a length of {wrong}"
            );
        }
    }

    #[test]
    fn a_decoder_between_frames_holds_no_memory() {
        let (bytes, _) = stream();
        let mut decoder = Decoder::new();
        for slice in bytes.chunks(7) {
            let mut frames = decoder.frames(slice, MAX);
            while frames.next().is_some() {}
        }
        assert_eq!(decoder.held_bytes(), 0);
        assert_eq!(decoder.held.capacity(), 0);
    }

    #[test]
    fn a_bad_length_ends_the_stream_at_any_split() {
        for length in [0_u16, 1, 7, 29_001, 65_535] {
            let mut bytes = Vec::new();
            encode(&mut bytes, 1, b"before").unwrap();
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(&[0x12, 0x34]);
            let expected = vec![
                Event::Frame(1, b"before".to_vec()),
                Event::BadLength(0x1234, length),
            ];
            for first in 0..=bytes.len() {
                let (head, tail) = bytes.split_at(first);
                assert_eq!(decode_slices(&[head, tail], 99), (expected.clone(), 0));
            }
        }
    }

    #[test]
    fn the_longest_frames_are_whole() {
        let mut bytes = Vec::new();
        encode(&mut bytes, 1, &vec![9; MAX - HEADER_BYTES]).unwrap();
        assert!(matches!(decode(&bytes, MAX), Decoded::Whole(_)));
        assert!(matches!(
            decode(&bytes, MAX - 1),
            Decoded::BadLength { length: 29_000, .. }
        ));
        bytes.clear();
        encode(&mut bytes, 1, &vec![9; FRAME_BYTES_MAX - HEADER_BYTES]).unwrap();
        assert!(matches!(decode(&bytes, FRAME_BYTES_MAX), Decoded::Whole(_)));
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let mut good = Vec::new();
        encode(&mut good, 7, b"some body").unwrap();
        let length = u16::try_from(good.len()).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let decoded = decode(&bytes, MAX);
            match bit / 8 {
                0 | 1 => assert!(
                    matches!(
                        decoded,
                        Decoded::BadLength { .. }
                            | Decoded::Incomplete { .. }
                            | Decoded::BadChecksum { .. }
                    ),
                    "bit {bit}: {decoded:?}"
                ),
                // The code is not covered by the checksum: it comes out as another code.
                2 | 3 => assert!(
                    matches!(decoded, Decoded::Whole(frame) if frame.code != 7),
                    "bit {bit}: {decoded:?}"
                ),
                _ => assert_eq!(
                    decoded,
                    Decoded::BadChecksum { code: 7, length },
                    "bit {bit}"
                ),
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_chunks_decode_alike(
            frames in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..200)), 0..12),
            flips in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 0..3),
            cuts in prop::collection::vec(1_usize..70, 1..40),
            take in 1_usize..9,
        ) {
            let mut bytes = Vec::new();
            for (code, body) in &frames {
                encode(&mut bytes, *code, body).unwrap();
            }
            if !bytes.is_empty() {
                for (index, bit) in flips {
                    let index = index.index(bytes.len());
                    bytes[index] ^= 1 << bit;
                }
            }
            let whole = decode_slices(&[&bytes], usize::MAX);
            let mut slices = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (slice, tail) = rest.split_at((*cut).min(rest.len()));
                slices.push(slice);
                rest = tail;
            }
            prop_assert_eq!(decode_slices(&slices, take), whole);
        }

        #[test]
        fn what_is_encoded_decodes(code in any::<u16>(), body in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut bytes = Vec::new();
            encode(&mut bytes, code, &body).unwrap();
            prop_assert_eq!(decode(&bytes, MAX), Decoded::Whole(Frame { code, body: &body }));
        }
    }
}

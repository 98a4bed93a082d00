//! The requests of one connection, encoded beforehand, and what their replies must be.
//!
//! They repeat after a window of a power of two. Within it, no two are alike as long as their body
//! has room for their number: the first 4 bytes of a body are the position in the window, the next
//! 4 the connection's number, and noise fills it up. A shorter body has as much of the position as
//! there is room for.

use crate::protocol::{BodyTooLong, HEADER_BYTES, encode};

/// The encoded requests.
#[derive(Debug)]
pub(super) struct Requests {
    stream: Vec<u8>,
    frame_bytes: usize,
    window: u64,
}

/// Bytes at the beginning of a body that are the request's position in the window.
const POSITION_BYTES: usize = 4;

/// How many requests a window has, for so many in flight: as many again may be given up and still
/// be answered, without being taken for others.
pub(super) fn window(pipeline: usize, body_bytes: usize) -> usize {
    let window_min = if body_bytes < LARGE_BODY_BYTES {
        WINDOW_MIN
    } else {
        1
    };
    (2 * pipeline).max(window_min).next_power_of_two()
}

const WINDOW_MIN: usize = 8;

/// Of bodies this long no more are made than there must be, so that they stay in the caches.
pub(super) const LARGE_BODY_BYTES: usize = 8 * 1024;

impl Requests {
    /// The requests of connection `number`, with so many in flight at most.
    pub(super) fn new(
        number: usize,
        code: u16,
        body_bytes: usize,
        pipeline: usize,
    ) -> Result<Requests, BodyTooLong> {
        let window = window(pipeline, body_bytes);
        let frame_bytes = HEADER_BYTES + body_bytes;
        let mut stream = Vec::with_capacity(window * frame_bytes);
        let mut body = vec![0; body_bytes];
        for position in 0..window {
            fill(&mut body, number, position);
            encode(&mut stream, code, &body)?;
        }
        Ok(Requests {
            stream,
            frame_bytes,
            window: window as u64,
        })
    }

    pub(super) fn frame_bytes(&self) -> usize {
        self.frame_bytes
    }

    pub(super) fn window(&self) -> u64 {
        self.window
    }

    /// Where in the window a request stands.
    #[inline]
    pub(super) fn position(&self, request: u64) -> usize {
        // Less than the window, which is in memory.
        #[expect(clippy::cast_possible_truncation, reason = "less than the window")]
        let position = (request & (self.window - 1)) as usize;
        position
    }

    /// One request as it is sent.
    #[inline]
    pub(super) fn frame(&self, request: u64) -> &[u8] {
        let start = self.position(request) * self.frame_bytes;
        &self.stream[start..start + self.frame_bytes]
    }

    pub(super) fn body(&self, request: u64) -> &[u8] {
        &self.frame(request)[HEADER_BYTES..]
    }

    /// Whether no two requests of a window are alike.
    pub(super) fn are_distinct(&self) -> bool {
        let named_bytes = (self.frame_bytes - HEADER_BYTES).min(POSITION_BYTES);
        self.window <= 1 << (8 * named_bytes)
    }

    /// The latest request before `next` that a body names as its own; it may not be alike all the
    /// same. Only where they are distinct.
    pub(super) fn latest_like(&self, body: &[u8], next: u64) -> Option<u64> {
        let mut position = [0; 8];
        let named_bytes = body.len().min(POSITION_BYTES);
        position[..named_bytes].copy_from_slice(&body[..named_bytes]);
        let position = u64::from_le_bytes(position);
        let back = next.wrapping_sub(position + 1) & (self.window - 1);
        (position < self.window).then(|| next.checked_sub(back + 1))?
    }

    /// Appends the requests from `from` up to `to`, at most a window of them.
    #[inline]
    pub(super) fn append(&self, out: &mut Vec<u8>, from: u64, to: u64) {
        let mut from = from;
        while from < to {
            let bytes = self.contiguous(from, to);
            out.extend_from_slice(bytes);
            from += (bytes.len() / self.frame_bytes) as u64;
        }
    }

    /// The requests from `from` on, as far as they lie together, up to `to`.
    #[inline]
    pub(super) fn contiguous(&self, from: u64, to: u64) -> &[u8] {
        let position = self.position(from);
        let together = (self.window - position as u64).min(to - from);
        let start = position * self.frame_bytes;
        #[expect(clippy::cast_possible_truncation, reason = "at most the window")]
        let bytes = together as usize * self.frame_bytes;
        &self.stream[start..start + bytes]
    }
}

fn fill(body: &mut [u8], number: usize, position: usize) {
    let mut noise = (number as u64) << 32 | position as u64;
    for chunk in body.chunks_mut(8) {
        chunk.copy_from_slice(&split_mix(&mut noise).to_le_bytes()[..chunk.len()]);
    }
    // Little-endian, so that a short body has the bytes that tell neighbours apart.
    let names = (position as u64 & 0xffff_ffff) | (number as u64) << 32;
    let named = body.len().min(8);
    body[..named].copy_from_slice(&names.to_le_bytes()[..named]);
}

/// SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::protocol::{Decoded, FRAME_BYTES_MAX, decode};

    #[test]
    fn no_two_requests_in_flight_are_alike() {
        let mut bodies = HashSet::new();
        let (connections, pipeline) = (5, 32);
        for number in 0..connections {
            let requests = Requests::new(number, 1, 32, pipeline).unwrap();
            for request in 0..requests.window() {
                assert!(bodies.insert(requests.body(request).to_vec()));
            }
        }
        assert_eq!(bodies.len(), connections * window(pipeline, 32));
        // As many as may be in flight, and as many again that may be answered late.
        assert_eq!(Requests::new(0, 1, 16_384, 1).unwrap().window(), 2);
        let short = Requests::new(0, 1, 1, 100).unwrap();
        let bodies: HashSet<&[u8]> = (0..256).map(|request| short.body(request)).collect();
        assert_eq!(bodies.len(), 256);
    }

    #[test]
    fn a_body_names_its_request() {
        for (body_bytes, pipeline, distinct) in [
            (32, 32, true),
            (4, 4096, true),
            (2, 32_768, true),
            (1, 128, true),
            (1, 129, false),
            (0, 1, false),
        ] {
            let requests = Requests::new(9, 1, body_bytes, pipeline).unwrap();
            assert_eq!(
                requests.are_distinct(),
                distinct,
                "{body_bytes}, {pipeline}"
            );
            if !distinct {
                continue;
            }
            let window = requests.window();
            for next in [1, 2, window - 1, window, window + 1, 3 * window + 5] {
                for request in next.saturating_sub(window)..next {
                    let body = requests.body(request);
                    assert_eq!(requests.latest_like(body, next), Some(request));
                }
            }
        }
        let requests = Requests::new(9, 1, 32, 4).unwrap();
        assert_eq!(
            requests.latest_like(&[0xff; 32], 20),
            None,
            "no such position"
        );
        assert_eq!(
            requests.latest_like(requests.body(5), 3),
            None,
            "it was not sent yet"
        );
    }

    #[test]
    fn requests_are_whole_frames_that_repeat() {
        for body_bytes in [0, 1, 7, 8, 9, 300] {
            let requests = Requests::new(3, 7, body_bytes, 4).unwrap();
            let Decoded::Whole(frame) = decode(requests.frame(5), FRAME_BYTES_MAX) else {
                panic!("not a frame");
            };
            assert_eq!((frame.code, frame.body.len()), (7, body_bytes));
            assert_eq!(requests.frame(5), requests.frame(5 + requests.window()));
        }
    }

    #[test]
    fn requests_are_appended_across_the_end_of_the_window() {
        let requests = Requests::new(0, 1, 3, 4).unwrap();
        for (from, to) in [(0, 0), (0, 8), (6, 9), (7, 15), (23, 26)] {
            let mut out = Vec::new();
            requests.append(&mut out, from, to);
            let expected: Vec<u8> = (from..to)
                .flat_map(|request| requests.frame(request).to_vec())
                .collect();
            assert_eq!(out, expected, "{from}..{to}");
        }
    }

    #[test]
    fn a_body_that_fits_no_frame_is_refused() {
        assert!(Requests::new(0, 1, FRAME_BYTES_MAX, 1).is_err());
    }
}

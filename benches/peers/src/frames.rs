//! The work on frames, with corelane's own decoder, encoder and checksum: each request's checksum
//! is verified, each reply's computed.
//!
//! PING is answered by PING, ECHO by the same body. Anything else ends the connection once the
//! replies before it have left: peers send no ERROR, since what is measured never needs one.

use corelane::protocol::{
    Decoded, Decoder, FRAME_BYTES_MAX, Frame, HEADER_BYTES, codes, decode, encode,
};

/// What a peer with a read buffer for each connection reads at once: a frame with the longest body
/// that is measured, 16 KiB, and then some.
pub const READ_BYTES: usize = 32 * 1024;

/// How a stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Stream {
    /// More frames may come.
    Open,
    /// Close it once the replies have left.
    Broken,
}

/// Answers every whole frame in what `decoder` holds and `slice`; an incomplete one waits in
/// `decoder`. Replies are appended to `out`.
#[inline]
pub fn answer(decoder: &mut Decoder, slice: &[u8], out: &mut Vec<u8>) -> Stream {
    let mut frames = decoder.frames(slice, FRAME_BYTES_MAX);
    while let Some(decoded) = frames.next() {
        if reply(&decoded, out).is_none() {
            return Stream::Broken;
        }
    }
    Stream::Open
}

/// Answers every whole frame at the beginning of `bytes`, for peers whose buffer keeps what is
/// incomplete. Returns how many bytes they were.
#[inline]
pub fn answer_whole(bytes: &[u8], out: &mut Vec<u8>) -> (usize, Stream) {
    let mut taken = 0;
    loop {
        let decoded = decode(&bytes[taken..], FRAME_BYTES_MAX);
        if let Decoded::Incomplete { .. } = decoded {
            return (taken, Stream::Open);
        }
        match reply(&decoded, out) {
            Some(frame_bytes) => taken += frame_bytes,
            None => return (taken, Stream::Broken),
        }
    }
}

/// Appends the reply to a good request and says how long the request was; `None` if it is not one.
#[inline]
fn reply(decoded: &Decoded<'_>, out: &mut Vec<u8>) -> Option<usize> {
    let Decoded::Whole(Frame { code, body }) = *decoded else {
        return None;
    };
    match code {
        codes::PING => encode(out, codes::PING, &[]),
        codes::ECHO => encode(out, codes::ECHO, body),
        _ => return None,
    }
    .ok()?;
    Some(HEADER_BYTES + body.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> (Vec<u8>, Vec<u8>) {
        let (mut requests, mut replies) = (Vec::new(), Vec::new());
        for body in [&b""[..], b"x", b"hello", &[7; 16 * 1024], b"last"] {
            for bytes in [&mut requests, &mut replies] {
                encode(bytes, codes::ECHO, body).unwrap();
            }
            encode(&mut requests, codes::PING, b"ignored").unwrap();
            encode(&mut replies, codes::PING, b"").unwrap();
        }
        (requests, replies)
    }

    #[test]
    fn both_ways_answer_the_same_however_the_stream_is_cut() {
        let (requests, replies) = stream();
        for cut in [1, 2, 3, 7, 8, 9, 100, 16_384, requests.len()] {
            let mut decoder = Decoder::new();
            let (mut by_slices, mut kept, mut whole) = (Vec::new(), Vec::new(), Vec::new());
            for slice in requests.chunks(cut) {
                assert_eq!(answer(&mut decoder, slice, &mut by_slices), Stream::Open);
                kept.extend_from_slice(slice);
                let (taken, stream) = answer_whole(&kept, &mut whole);
                assert_eq!(stream, Stream::Open);
                kept.drain(..taken);
            }
            assert_eq!(by_slices, replies, "slices of {cut}");
            assert_eq!(whole, replies, "slices of {cut}");
        }
    }

    #[test]
    fn what_is_no_request_ends_the_stream_behind_the_replies() {
        let mut wrong_checksum = Vec::new();
        encode(&mut wrong_checksum, codes::ECHO, b"hello").unwrap();
        wrong_checksum[12] ^= 1;
        let mut wrong_code = Vec::new();
        encode(&mut wrong_code, 99, b"").unwrap();
        for bad in [&wrong_checksum[..], &wrong_code, &[0, 7, 0, 1]] {
            let mut requests = Vec::new();
            encode(&mut requests, codes::ECHO, b"before").unwrap();
            let replies = requests.clone();
            requests.extend_from_slice(bad);
            let (mut decoded, mut whole) = (Vec::new(), Vec::new());
            let stream = answer(&mut Decoder::new(), &requests, &mut decoded);
            assert_eq!((stream, &decoded), (Stream::Broken, &replies));
            let stream = answer_whole(&requests, &mut whole);
            assert_eq!(
                (stream, &whole),
                ((replies.len(), Stream::Broken), &replies)
            );
        }
    }
}

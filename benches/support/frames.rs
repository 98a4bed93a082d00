//! The work on frames that both peers do, with corelane's own decoder and encoder, so that what
//! is compared is how the bytes get in and out.

use corelane::protocol::{Decoded, Decoder, FRAME_BYTES_MAX, Reason, codes, encode, encode_error};

/// The longest frame accepted: corelane's default for `limits.max_frame_bytes`.
const ACCEPTED_BYTES_MAX: usize = 29_000;
const _: () = assert!(ACCEPTED_BYTES_MAX <= FRAME_BYTES_MAX);

/// How a stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Open,
    /// Nothing after a bad length can be trusted: close once the answer has left.
    Broken,
}

/// Answers every whole frame in `slice`: the checksum of each is verified, that of each reply
/// computed. Replies are appended to `out`.
pub(crate) fn answer(decoder: &mut Decoder, slice: &[u8], out: &mut Vec<u8>) -> Stream {
    let mut frames = decoder.frames(slice, ACCEPTED_BYTES_MAX);
    while let Some(decoded) = frames.next() {
        match decoded {
            Decoded::Whole(frame) => match frame.code {
                codes::PING => append(out, codes::PING, &[]),
                codes::ECHO => append(out, codes::ECHO, frame.body),
                code => encode_error(out, code, Reason::UnknownCode, "unknown message code"),
            },
            Decoded::BadChecksum { code, .. } => {
                encode_error(out, code, Reason::BadChecksum, "wrong checksum");
            }
            Decoded::BadLength { code, .. } => {
                encode_error(out, code, Reason::BadLength, "length out of range");
                return Stream::Broken;
            }
            Decoded::Incomplete { .. } => break,
        }
    }
    Stream::Open
}

fn append(out: &mut Vec<u8>, code: u16, body: &[u8]) {
    encode(out, code, body).expect("a body that came in a frame fits one");
}

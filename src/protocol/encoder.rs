//! Frames out: appended to a buffer of the caller, without an allocation of their own.

use super::batch::checksum_unless_small;
use super::frame::{BODY_BYTES_MAX, HEADER_BYTES, Header, checksum};

/// The body does not fit a frame: the caller's mistake. Nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a body of {body_bytes} bytes is too long: at most {BODY_BYTES_MAX} fit a frame")]
pub struct BodyTooLong {
    /// How long it would have been, in bytes.
    pub body_bytes: usize,
}

/// Appends one frame with this code and body to `out`.
///
/// # Errors
///
/// [`BodyTooLong`] if the body does not fit a frame; `out` is as it was.
// Left to itself, the compiler makes a call of it, which saves and restores what its caller has in
// registers: 3% of a message.
#[expect(clippy::inline_always, reason = "measured")]
#[inline(always)]
pub fn encode(out: &mut Vec<u8>, code: u16, body: &[u8]) -> Result<(), BodyTooLong> {
    put(u16::MAX, out, code, body, checksum)
}

/// The same with frames of at most so many bytes, small ones without their checksum: whoever uses this
/// has them sealed by [`seal`](super::batch::seal).
#[expect(clippy::inline_always, reason = "measured, as `encode`")]
#[inline(always)]
pub(crate) fn encode_unsealed(
    frame_bytes_max: u16,
    out: &mut Vec<u8>,
    code: u16,
    body: &[u8],
) -> Result<(), BodyTooLong> {
    put(frame_bytes_max, out, code, body, checksum_unless_small)
}

#[expect(clippy::inline_always, reason = "measured, as `encode`")]
#[inline(always)]
fn put(
    frame_bytes_max: u16,
    out: &mut Vec<u8>,
    code: u16,
    body: &[u8],
    checksum_of: impl FnOnce(&[u8]) -> u32,
) -> Result<(), BodyTooLong> {
    let frame_bytes = HEADER_BYTES + body.len();
    if frame_bytes > usize::from(frame_bytes_max) {
        return Err(BodyTooLong {
            body_bytes: body.len(),
        });
    }
    #[expect(clippy::cast_possible_truncation, reason = "just compared with a u16")]
    let length = frame_bytes as u16;
    let header = Header {
        length,
        code,
        checksum: checksum_of(body),
    };
    // Room for both at once would be looked for first, and each would be looked at again.
    out.extend_from_slice(&header.to_bytes());
    out.extend_from_slice(body);
    Ok(())
}

/// Appends one frame to `out` whose body `write` puts together in place, piece by piece.
///
/// # Errors
///
/// [`BodyTooLong`] if the body came out too long for a frame; `out` is as it was.
pub fn encode_with(
    out: &mut Vec<u8>,
    code: u16,
    write: impl FnOnce(&mut BodyWriter<'_>),
) -> Result<(), BodyTooLong> {
    put_with(out, code, write, checksum)
}

/// The same, with a small frame without its checksum, as [`encode_unsealed`].
pub(crate) fn encode_with_unsealed(
    out: &mut Vec<u8>,
    code: u16,
    write: impl FnOnce(&mut BodyWriter<'_>),
) -> Result<(), BodyTooLong> {
    put_with(out, code, write, checksum_unless_small)
}

fn put_with(
    out: &mut Vec<u8>,
    code: u16,
    write: impl FnOnce(&mut BodyWriter<'_>),
    checksum_of: impl FnOnce(&[u8]) -> u32,
) -> Result<(), BodyTooLong> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    write(&mut BodyWriter { out });
    let body = &out[start + HEADER_BYTES..];
    match frame_length(body.len()) {
        Ok(length) => {
            let header = Header {
                length,
                code,
                checksum: checksum_of(body),
            };
            out[start..start + HEADER_BYTES].copy_from_slice(&header.to_bytes());
            Ok(())
        }
        Err(too_long) => {
            out.truncate(start);
            Err(too_long)
        }
    }
}

/// Where [`encode_with`] lets a body be written: it can only grow.
#[derive(Debug)]
pub struct BodyWriter<'a> {
    out: &'a mut Vec<u8>,
}

impl BodyWriter<'_> {
    /// Appends bytes to the body. Integers go in with their `to_be_bytes`.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Appends so many zero bytes to the body.
    #[inline]
    pub fn put_zeros(&mut self, bytes: usize) {
        self.out.resize(self.out.len() + bytes, 0);
    }
}

fn frame_length(body_bytes: usize) -> Result<u16, BodyTooLong> {
    u16::try_from(HEADER_BYTES + body_bytes).map_err(|_| BodyTooLong { body_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codes;

    fn encoded(code: u16, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, code, body).unwrap();
        out
    }

    #[test]
    fn frames_match_the_published_vectors() {
        assert_eq!(encoded(codes::PING, b""), [0, 8, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            encoded(codes::ECHO, b"hello"),
            *b"\x00\x0d\x00\x01\x36\x10\xa6\x86hello"
        );
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(
            encoded(codes::ECHO, &all)[..12],
            *b"\x01\x08\x00\x01\x29\x05\x8c\x73\x00\x01\x02\x03"
        );
        let mut register = Vec::new();
        encode_with(&mut register, 5, |body| {
            body.put(&1u32.to_be_bytes());
            body.put(&padded::<56>(b"alice"));
            body.put(&padded::<40>(b"correct horse"));
        })
        .unwrap();
        assert_eq!(
            register[..17],
            *b"\x00\x6c\x00\x05\x76\x87\x6d\x70\x00\x00\x00\x01alice"
        );
        let mut login = Vec::new();
        encode_with(&mut login, 6, |body| {
            body.put(&padded::<56>(b"alice"));
            body.put(&padded::<40>(b"correct horse"));
        })
        .unwrap();
        assert_eq!(login[..13], *b"\x00\x68\x00\x06\x20\x4e\x6b\x05alice");
    }

    fn padded<const N: usize>(text: &[u8]) -> [u8; N] {
        let mut field = [0; N];
        field[..text.len()].copy_from_slice(text);
        field
    }

    #[test]
    fn both_ways_to_encode_agree() {
        let mut pieces = Vec::from(*b"before");
        encode_with(&mut pieces, 7, |body| {
            body.put(b"he");
            body.put(b"llo");
        })
        .unwrap();
        assert_eq!(pieces[6..], encoded(7, b"hello"));
        assert_eq!(pieces[..6], *b"before");
    }

    #[test]
    fn a_body_that_does_not_fit_leaves_no_trace() {
        let longest = vec![7; BODY_BYTES_MAX];
        assert_eq!(encoded(1, &longest).len(), 65_535);

        let too_long = vec![7; BODY_BYTES_MAX + 1];
        let error = BodyTooLong { body_bytes: 65_528 };
        let mut out = Vec::from(*b"kept");
        assert_eq!(encode(&mut out, 1, &too_long), Err(error));
        assert_eq!(
            encode_with(&mut out, 1, |body| body.put(&too_long)),
            Err(error)
        );
        assert_eq!(out, b"kept");
        assert_eq!(
            error.to_string(),
            "a body of 65528 bytes is too long: at most 65527 fit a frame"
        );
    }
}

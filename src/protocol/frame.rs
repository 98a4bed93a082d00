//! What a frame is: its header's layout, its limits and its checksum.

use std::ops::Range;

use crc32fast::Hasher;

/// Bytes of a frame's header: length, code and checksum.
pub const HEADER_BYTES: usize = 8;

/// Where the checksum stands in a frame.
pub(super) const CHECKSUM: Range<usize> = 4..8;

/// The longest frame that the length field can say, header included, in bytes. What a server
/// accepts is `limits.max_frame_bytes`, which is never above this.
pub const FRAME_BYTES_MAX: usize = u16::MAX as usize;

/// The longest body that fits a frame, in bytes.
pub const BODY_BYTES_MAX: usize = FRAME_BYTES_MAX - HEADER_BYTES;

/// One whole frame whose checksum is right, borrowed from the bytes that it arrived in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The message code.
    pub code: u16,
    /// What follows the header.
    pub body: &'a [u8],
}

/// The checksum of a body: CRC-32 as in zlib, PNG and Ethernet (reflected 0x04C11DB7, initial and
/// final 0xFFFFFFFF). The checksum of an empty body is 0.
#[inline]
pub fn checksum(body: &[u8]) -> u32 {
    let mut hasher = HASHER.with(Hasher::clone);
    hasher.update(body);
    hasher.finalize()
}

thread_local! {
    /// The beginning of a checksum. It knows what crc32fast found out about the CPU; a new one asks
    /// again, more than a third of the instructions for a small body. One a thread, as shards
    /// share nothing.
    static HASHER: Hasher = Hasher::new();
}

/// A header as it stands on the wire, not yet judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) length: u16,
    pub(super) code: u16,
    pub(super) checksum: u32,
}

impl Header {
    #[inline]
    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..2].copy_from_slice(&self.length.to_be_bytes());
        bytes[2..4].copy_from_slice(&self.code.to_be_bytes());
        bytes[CHECKSUM].copy_from_slice(&self.checksum.to_be_bytes());
        bytes
    }

    #[inline]
    pub(super) fn from_bytes(bytes: [u8; HEADER_BYTES]) -> Header {
        let [l0, l1, c0, c1, s0, s1, s2, s3] = bytes;
        Header {
            length: u16::from_be_bytes([l0, l1]),
            code: u16::from_be_bytes([c0, c1]),
            checksum: u32::from_be_bytes([s0, s1, s2, s3]),
        }
    }
}

/// Whether a frame may have this length, header included, where so many bytes are the most.
#[inline]
pub(super) fn in_range(length: u16, frame_bytes_max: usize) -> bool {
    (HEADER_BYTES..=frame_bytes_max).contains(&usize::from(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_has_the_published_check_value() {
        assert_eq!(checksum(b"123456789"), 0xcbf4_3926);
        assert_eq!(checksum(b""), 0);
    }

    #[test]
    fn header_survives_the_wire() {
        let header = Header {
            length: 0x0102,
            code: 0x0304,
            checksum: 0x0506_0708,
        };
        assert_eq!(header.to_bytes(), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(Header::from_bytes(header.to_bytes()), header);
    }
}

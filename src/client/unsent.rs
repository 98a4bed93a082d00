//! Bytes on their way out. What is secret among them is wiped as soon as all of them are out, and
//! when they are dropped.

use zeroize::Zeroize;

use crate::protocol::FRAME_BYTES_MAX;

/// Whole frames, of which the beginning may be out already.
#[derive(Default)]
pub(super) struct Unsent {
    bytes: Vec<u8>,
    sent_bytes: usize,
    is_secret: bool,
}

/// Memory that is kept for the next frames, in bytes.
const KEPT_BYTES: usize = 64 * 1024;

impl Unsent {
    /// Where a frame is appended.
    pub(super) fn end(&mut self) -> &mut Vec<u8> {
        if self.is_secret {
            self.make_room_for_a_frame();
        }
        &mut self.bytes
    }

    /// A vector that grows by itself would leave a copy of its secrets behind.
    fn make_room_for_a_frame(&mut self) {
        let needed_bytes = self.bytes.len() + FRAME_BYTES_MAX;
        if needed_bytes <= self.bytes.capacity() {
            return;
        }
        let doubled_bytes = 2 * self.bytes.capacity();
        let mut roomier = Vec::with_capacity(needed_bytes.max(doubled_bytes));
        roomier.extend_from_slice(&self.bytes);
        self.bytes.zeroize();
        self.bytes = roomier;
    }

    /// From now until all are sent, the bytes are secret.
    pub(super) fn keep_secret(&mut self) {
        self.is_secret = true;
    }

    /// What to send next.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.sent_bytes..]
    }

    /// So many bytes of it are sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent_bytes += bytes;
        if self.sent_bytes >= self.bytes.len() {
            self.wipe();
        }
    }

    /// Nothing of it is to be sent.
    pub(super) fn wipe(&mut self) {
        if std::mem::take(&mut self.is_secret) {
            self.bytes.zeroize();
        }
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.sent_bytes = 0;
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        self.wipe();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_gone_and_what_is_not_waits() {
        let mut unsent = Unsent::default();
        unsent.end().extend_from_slice(b"abc");
        unsent.sent(2);
        unsent.end().extend_from_slice(b"def");
        assert_eq!(unsent.bytes(), b"cdef");
        unsent.sent(4);
        assert!(unsent.bytes().is_empty() && unsent.end().is_empty());
    }

    #[test]
    fn secrets_are_wiped_once_they_are_out() {
        let mut unsent = Unsent::default();
        unsent.keep_secret();
        unsent.end().extend_from_slice(b"correct horse");
        unsent.sent(5);
        assert!(unsent.is_secret);
        unsent.sent(8);
        assert!(!unsent.is_secret);
        // What the buffer held is zero now, and is overwritten by what comes next.
        unsent.end().resize(13, 1);
        assert_eq!(unsent.bytes(), [1; 13]);
    }

    /// Frames behind a secret one made the vector grow, which freed the old block as it was.
    #[test]
    fn no_frame_moves_a_secret() {
        let mut unsent = Unsent::default();
        unsent.keep_secret();
        for frames in 1..10 {
            let end = unsent.end();
            let before = end.as_ptr();
            end.resize(frames * FRAME_BYTES_MAX, 7);
            assert_eq!(end.as_ptr(), before);
        }
        assert_eq!(unsent.bytes(), vec![7; 9 * FRAME_BYTES_MAX]);
    }
}

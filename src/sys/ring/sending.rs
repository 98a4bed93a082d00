//! What is being sent: bytes that the ring keeps until the kernel has taken them.

use std::fmt;
use std::hint::cold_path;
use std::rc::Rc;

use super::user_data::Token;

/// Bytes to be sent, for as long as the ring has them.
pub(crate) enum SendBytes {
    /// Nobody else has them.
    Own(Vec<u8>),
    /// Others of this thread have them, too. What they are can't change or end while the ring has
    /// its reference: `as_ref` lends them out for as long as the value is borrowed, and having an
    /// `Rc` of it is as good as borrowing it.
    Shared(Rc<dyn AsRef<[u8]>>),
}

impl SendBytes {
    /// The bytes. They stay where they are while `self` is moved about, since neither kind holds them
    /// in itself.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            SendBytes::Own(bytes) => bytes,
            SendBytes::Shared(bytes) => (**bytes).as_ref(),
        }
    }
}

impl From<Vec<u8>> for SendBytes {
    #[inline]
    fn from(bytes: Vec<u8>) -> SendBytes {
        SendBytes::Own(bytes)
    }
}

impl From<SendBytes> for Vec<u8> {
    /// What others have, too, is copied.
    #[inline]
    fn from(bytes: SendBytes) -> Vec<u8> {
        match bytes {
            SendBytes::Own(bytes) => bytes,
            SendBytes::Shared(bytes) => (*bytes).as_ref().to_vec(),
        }
    }
}

impl fmt::Debug for SendBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SendBytes({} bytes)", self.bytes().len())
    }
}

/// A send in flight.
pub(super) struct Sending {
    pub(super) token: Token,
    pub(super) bytes: SendBytes,
    /// Where in the bytes it begins.
    pub(super) offset: usize,
}

/// All of them, by number.
#[derive(Default)]
pub(super) struct Sends {
    by_number: Vec<Option<Sending>>,
    free: Vec<usize>,
}

impl Sends {
    /// Keeps one until it is taken. Gives it a number, which another may get after that.
    #[inline]
    pub(super) fn add(&mut self, sending: Sending) -> (usize, &Sending) {
        let number = self.free_number();
        (number, self.by_number[number].insert(sending))
    }

    /// The same for all of these bytes, which are taken out of where they are.
    //
    // As the last thing, when nothing can fail any more: an owner that might have to be dropped is kept
    // in memory, and copied from there.
    #[expect(clippy::inline_always, reason = "measured")]
    #[inline(always)]
    pub(super) fn add_all_of(&mut self, bytes: &mut Vec<u8>, token: Token) -> usize {
        let number = self.free_number();
        let place = &mut self.by_number[number];
        *place = Some(Sending {
            token,
            bytes: SendBytes::Own(std::mem::take(bytes)),
            offset: 0,
        });
        number
    }

    #[inline]
    fn free_number(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            cold_path();
            self.by_number.push(None);
            self.by_number.len() - 1
        })
    }

    /// Gives one back, if that number is in flight.
    #[inline]
    pub(super) fn take(&mut self, number: u64) -> Option<Sending> {
        let number = usize::try_from(number).ok()?;
        let sending = self.by_number.get_mut(number)?.take()?;
        self.free.push(number);
        Some(sending)
    }

    /// Whether that number is in flight, under this token.
    pub(super) fn is_in_flight(&self, number: usize, token: Token) -> bool {
        let sending = self.by_number.get(number).and_then(Option::as_ref);
        sending.is_some_and(|sending| sending.token == token)
    }
}

//! What an operation's 64 bits of user data say: what kind it is of, and what it is for.

/// A number of the caller's choice, below 2^56, that names what an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token(pub(super) u64);

impl Token {
    pub(super) const BITS: u32 = 56;

    /// # Panics
    ///
    /// If the number is too large: a mistake in this program, since tokens are made from bounded
    /// parts.
    #[inline]
    pub(crate) fn new(number: u64) -> Token {
        assert!(number >> Token::BITS == 0, "a token has 56 bits");
        Token(number)
    }

    #[inline]
    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

/// What a completion is of: the highest byte of its user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing that anybody waits for: a cancel or a close.
    Unwatched = 0,
    Accept = 1,
    Receive = 2,
    Send = 3,
    Watch = 4,
    Alarm = 5,
    Ready = 6,
}

impl Kind {
    #[inline]
    pub(super) fn user_data(self, number: u64) -> u64 {
        (self as u64) << Token::BITS | number
    }

    #[inline]
    pub(super) fn of(user_data: u64) -> Kind {
        match user_data >> Token::BITS {
            1 => Kind::Accept,
            2 => Kind::Receive,
            3 => Kind::Send,
            4 => Kind::Watch,
            5 => Kind::Alarm,
            6 => Kind::Ready,
            _ => Kind::Unwatched,
        }
    }
}

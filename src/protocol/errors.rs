//! ERROR: why a request failed, and the frame that says so. The body, for those who receive one, is
//! [`ErrorBody`](super::ErrorBody).

use super::codes;
use super::encoder::encode_with;
use super::frame::BODY_BYTES_MAX;

/// Why a request failed, as ERROR says it. What the server does next is part of the meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u16)]
pub enum Reason {
    /// The length field is out of range. The server closes: nothing after it can be trusted.
    BadLength = 1,
    /// The checksum does not fit the body. That frame is dropped; too many of them close.
    BadChecksum = 2,
    /// No handler has this code. That frame is dropped; it counts as a bad frame.
    UnknownCode = 3,
    /// The body does not fit the code. It counts as a bad frame.
    BadBody = 4,
    /// More frames than allowed. The server closes.
    RateLimited = 5,
    /// The request was not carried out and may be sent again later.
    Overloaded = 6,
    /// The code needs a LOGIN first.
    NotAuthenticated = 7,
    /// The handler said no.
    Rejected = 8,
    /// The handler panicked or failed. The server closes.
    Internal = 9,
    /// Idle for too long. The server closes.
    TimedOut = 10,
    /// The server goes down. It closes.
    ShuttingDown = 11,
}

impl Reason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Reason; 11] = [
        Reason::BadLength,
        Reason::BadChecksum,
        Reason::UnknownCode,
        Reason::BadBody,
        Reason::RateLimited,
        Reason::Overloaded,
        Reason::NotAuthenticated,
        Reason::Rejected,
        Reason::Internal,
        Reason::TimedOut,
        Reason::ShuttingDown,
    ];

    /// The number on the wire.
    pub fn number(self) -> u16 {
        self as u16
    }

    /// The reason with this number, if there is one.
    pub fn from_number(number: u16) -> Option<Reason> {
        Reason::ALL
            .into_iter()
            .find(|reason| reason.number() == number)
    }

    /// Whether the server closes the connection after an ERROR with this reason.
    pub fn closes(self) -> bool {
        matches!(
            self,
            Reason::BadLength
                | Reason::RateLimited
                | Reason::Internal
                | Reason::TimedOut
                | Reason::ShuttingDown
        )
    }

    /// Whether the frame that it answers counts as a bad one (`limits.max_bad_frames`).
    pub fn is_bad_frame(self) -> bool {
        matches!(
            self,
            Reason::BadChecksum | Reason::UnknownCode | Reason::BadBody
        )
    }

    /// The name as the protocol writes it, like `BAD_LENGTH`.
    pub fn name(self) -> &'static str {
        match self {
            Reason::BadLength => "BAD_LENGTH",
            Reason::BadChecksum => "BAD_CHECKSUM",
            Reason::UnknownCode => "UNKNOWN_CODE",
            Reason::BadBody => "BAD_BODY",
            Reason::RateLimited => "RATE_LIMITED",
            Reason::Overloaded => "OVERLOADED",
            Reason::NotAuthenticated => "NOT_AUTHENTICATED",
            Reason::Rejected => "REJECTED",
            Reason::Internal => "INTERNAL",
            Reason::TimedOut => "TIMED_OUT",
            Reason::ShuttingDown => "SHUTTING_DOWN",
        }
    }
}

/// Appends an ERROR frame: it answers a frame of the code `answered`. A text that does not fit the
/// frame is cut at the last character that does.
pub fn encode_error(out: &mut Vec<u8>, answered: u16, reason: Reason, text: &str) {
    let text = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
    let encoded = encode_with(out, codes::ERROR, |body| {
        body.put(&answered.to_be_bytes());
        body.put(&reason.number().to_be_bytes());
        body.put(text.as_bytes());
    });
    debug_assert!(encoded.is_ok(), "the text was cut to fit");
}

const FIXED_BYTES: usize = 4;
const TEXT_BYTES_MAX: usize = BODY_BYTES_MAX - FIXED_BYTES;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{ErrorBody, HEADER_BYTES};

    #[test]
    fn an_error_frame_matches_the_published_vector() {
        let mut out = Vec::new();
        encode_error(&mut out, 99, Reason::UnknownCode, "unknown message code 99");
        assert_eq!(
            out,
            *b"\x00\x23\x00\x02\x24\x82\xd1\x9b\x00\x63\x00\x03unknown message code 99"
        );
        let body = ErrorBody::parse(&out[HEADER_BYTES..]).unwrap();
        assert_eq!(body.answered, 99);
        assert_eq!(body.reason_name(), "UNKNOWN_CODE");
        assert_eq!(body.text, "unknown message code 99");
    }

    #[test]
    fn numbers_and_names_are_those_of_the_protocol() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(reason.number()), index + 1);
            assert_eq!(Reason::from_number(reason.number()), Some(reason));
        }
        assert_eq!(Reason::from_number(0), None);
        assert_eq!(Reason::from_number(12), None);
    }

    #[test]
    fn a_text_too_long_is_cut_between_characters() {
        let mut out = Vec::new();
        encode_error(&mut out, 1, Reason::Internal, &"é".repeat(40_000));
        let body = ErrorBody::parse(&out[HEADER_BYTES..]).unwrap();
        assert_eq!(body.text.len(), TEXT_BYTES_MAX - TEXT_BYTES_MAX % 2);
    }

    #[test]
    fn a_body_that_is_no_error_is_told_apart() {
        let problem = |body| ErrorBody::parse(body).unwrap_err().to_string();
        assert_eq!(
            problem(b"\0\x01\0"),
            "the reason of ErrorBody takes 2 bytes, but the body has only 1 left"
        );
        assert_eq!(
            problem(b"\0\x01\0\x03\xff"),
            "the text of ErrorBody must be UTF-8 text"
        );
        let unknown = ErrorBody::parse(b"\0\x01\x01\0").unwrap();
        assert_eq!(unknown.reason_name(), "256");
    }
}

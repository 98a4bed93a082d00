//! The wire protocol: framing, checksum, message codes and error reasons.
//!
//! Pure: bytes go in, frames and bytes come out. Nothing here knows a socket, a clock or a
//! handler, so every rule of the wire can be tested by writing bytes down.
//!
//! ```text
//!  0               2               4                               8
//!  +---------------+---------------+-------------------------------+----------- - -
//!  |  length: u16  |   code: u16   |        checksum: u32          |  body
//!  +---------------+---------------+-------------------------------+----------- - -
//! ```
//!
//! All integers are big-endian. `length` counts header and body; `checksum` is the CRC-32 of the
//! body alone.

pub mod codes;
mod decoder;
mod encoder;
mod errors;
mod frame;

pub use decoder::{Decoded, Decoder, Frames, decode};
pub use encoder::{BodyTooLong, BodyWriter, encode, encode_with};
pub use errors::{ErrorBody, MalformedError, Reason, encode_error};
pub use frame::{BODY_BYTES_MAX, FRAME_BYTES_MAX, Frame, HEADER_BYTES, checksum};

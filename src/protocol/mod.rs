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
//! body alone. What a body holds is declared with [`message!`](crate::message); those of the protocol
//! itself are in [`messages`].

#[macro_use]
mod message;

mod batch;
pub mod codes;
mod decoder;
mod encoder;
mod errors;
mod field;
mod frame;
pub mod messages;
mod secret;

pub(crate) use batch::{Ahead, Checked, seal};
pub use decoder::{Decoded, Decoder, Frames, decode};
pub use encoder::{BodyTooLong, BodyWriter, encode, encode_with};
pub(crate) use encoder::{encode_unsealed, encode_with_unsealed};
pub use errors::{Reason, encode_error};
pub use field::{BodyReader, Counted, Field, FieldProblem, Padded, Text, Zeros};
pub use frame::{BODY_BYTES_MAX, FRAME_BYTES_MAX, Frame, HEADER_BYTES, checksum};
#[doc(hidden)]
pub use message::rest_comes_last;
pub use message::{BodyError, EncodeError, Message, ReadFields, Request, encode_message};
pub use messages::ErrorBody;
pub use secret::Secret;

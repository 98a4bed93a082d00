//! Messages: a body with a code and named fields, declared once with [`message!`](crate::message).
//!
//! What a message decodes from is exactly what it encodes to: a body with bytes missing or left
//! over is refused, and the error names the field and what would be right.

use super::encoder::{BodyTooLong, BodyWriter, encode_with};
use super::field::{BodyReader, FieldProblem};

/// A body with a code and named fields; [`message!`](crate::message) declares one.
pub trait Message {
    /// Its message code.
    const CODE: u16;
    /// Its name, for errors.
    const NAME: &'static str;
    /// Whether a field of it is [secret](super::Secret).
    const SECRET: bool;

    /// The message with what it borrows borrowed for `'body`.
    type In<'body>: Message + ReadFields<'body>;

    /// Reads a body; allocates nothing.
    ///
    /// # Errors
    ///
    /// [`BodyError`]: the sender's mistake.
    fn decode(body: &[u8]) -> Result<Self::In<'_>, BodyError> {
        let mut fields = BodyReader::new(body);
        let message = Self::In::read_fields(&mut fields)?;
        match fields.left_bytes() {
            0 => Ok(message),
            left => Err(BodyError::Trailing {
                message: Self::NAME,
                expected_bytes: body.len() - left,
                bytes: body.len(),
            }),
        }
    }

    /// Appends it to a body that is being written.
    ///
    /// # Errors
    ///
    /// [`BodyError`]: the caller's mistake, a value that its field can't hold.
    fn write(&self, body: &mut BodyWriter<'_>) -> Result<(), BodyError>;
}

/// The fields of a message, out of a body; the half of [`Message`] that knows how long they are
/// borrowed.
pub trait ReadFields<'body>: Sized {
    /// Takes the message's fields from where the reader stands. What is left is not looked at.
    ///
    /// # Errors
    ///
    /// [`BodyError::Field`]: the sender's mistake.
    fn read_fields(body: &mut BodyReader<'body>) -> Result<Self, BodyError>;
}

/// A message that is answered with another one.
pub trait Request: Message {
    /// What it is answered with, unless with ERROR.
    type Reply: Message;
}

/// A body is not the message that it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// A field is wrong.
    #[error("the {field} of {message} {problem}")]
    Field {
        /// The message's name.
        message: &'static str,
        /// The field's name.
        field: &'static str,
        /// What is wrong with it.
        problem: FieldProblem,
    },
    /// The body goes on behind the last field.
    #[error("{message} takes {expected_bytes} bytes of body, but {bytes} came")]
    Trailing {
        /// The message's name.
        message: &'static str,
        /// How long all its fields are, in bytes.
        expected_bytes: usize,
        /// How long the body is.
        bytes: usize,
    },
}

/// A message can't be sent: the caller's mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A field can't hold its value.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// It is too long for a frame.
    #[error(transparent)]
    TooLong(#[from] BodyTooLong),
}

/// Appends a message's frame to `out`.
///
/// # Errors
///
/// [`EncodeError`]; `out` is as it was.
pub fn encode_message<M: Message>(out: &mut Vec<u8>, message: &M) -> Result<(), EncodeError> {
    let start = out.len();
    let mut written = Ok(());
    encode_with(out, M::CODE, |body| written = message.write(body))?;
    if written.is_err() {
        out.truncate(start);
    }
    Ok(written?)
}

/// Whether no field but the last takes the rest of the body; what [`message!`](crate::message)
/// asserts as it compiles.
#[doc(hidden)]
#[must_use]
pub const fn rest_comes_last(takes_rest: &[bool]) -> bool {
    let mut at = 0;
    while at + 1 < takes_rest.len() {
        if takes_rest[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Declares a message: a struct whose fields stand in the body in their order, with encode and
/// decode that check them.
///
/// A field's type says how it stands there: integers big-endian, `[u8; N]` as it is, `&'a [u8]` and
/// `&'a str` as the rest of the body. Text can also stand `as` [`Padded`](crate::protocol::Padded),
/// [`Counted`](crate::protocol::Counted) or bounded [`Text`](crate::protocol::Text), and whatever
/// implements [`Field`](crate::protocol::Field) can stand in either place. What is borrowed is
/// borrowed from the body, for the struct's lifetime. With `reply`, the message is a
/// [`Request`].
///
/// ```
/// use corelane::client::Client;
/// use corelane::protocol::{BodyError, Message, Padded};
/// use corelane::{Config, Server};
///
/// corelane::message! {
///     /// Somebody takes a seat.
///     #[derive(Clone, Debug, PartialEq, Eq)]
///     pub struct Sit<'a>(code = 1000, reply = Seated) {
///         /// Where.
///         pub table: u32,
///         /// Who: at most 15 bytes, padded to 16.
///         pub name: &'a str as Padded<16>,
///         /// What they say as they sit down: the rest of the body.
///         pub words: &'a str,
///     }
/// }
///
/// corelane::message! {
///     /// The seat that they got.
///     #[derive(Clone, Debug, PartialEq, Eq)]
///     pub struct Seated(code = 1000) {
///         /// Counted from 0.
///         pub seat: u8,
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut config = Config::default();
/// config.server.listen = vec!["127.0.0.1:0".parse()?];
/// # config.shards.pin = false;
/// let server = Server::builder(config)
///     // What is not a Sit gets ERROR BAD_BODY with a sentence, and never comes here.
///     .message_handler::<Sit, _>(|_state, context, sit| {
///         let seat = if sit.name == "alice" { 0 } else { 1 };
///         context.reply_message(&Seated { seat })
///     })
///     .start()?;
///
/// let mut client = Client::connect(server.addresses()[0], std::time::Duration::from_secs(10))?;
/// let mut frame = Vec::new();
/// let sit = Sit { table: 7, name: "alice", words: "hello" };
/// corelane::protocol::encode_message(&mut frame, &sit)?;
/// client.send(Sit::CODE, &frame[8..])?;
/// assert_eq!(Seated::decode(&client.receive()?.body)?, Seated { seat: 0 });
///
/// // Bytes are missing: the error says where and what would be right.
/// let error = Sit::decode(&[0, 0, 0, 7, b'a']).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "the name of Sit takes 16 bytes, but the body has only 1 left"
/// );
/// # Ok(())
/// # }
/// ```
#[macro_export]
macro_rules! message {
    // How a field stands in the body: as its type does, unless it names another way.
    (@way $type:ty) => { $type };
    (@way $type:ty, $way:ty) => { $way };

    // One message with a lifetime, or without one.
    ($(#[$meta:meta])* $visibility:vis struct $name:ident<$life:lifetime>
        (code = $code:expr $(, reply = $reply:ty)?) { $($fields:tt)* }
    ) => {
        $crate::message! { @declare
            [$(#[$meta])* $visibility struct $name] [<$life>] [$name<'body>] [$life $life]
            [$code] { $($fields)* }
        }
        $(impl<$life> $crate::protocol::Request for $name<$life> {
            type Reply = $reply;
        })?
    };
    ($(#[$meta:meta])* $visibility:vis struct $name:ident
        (code = $code:expr $(, reply = $reply:ty)?) { $($fields:tt)* }
    ) => {
        $crate::message! { @declare
            [$(#[$meta])* $visibility struct $name] [] [$name] ['body 'static]
            [$code] { $($fields)* }
        }
        $(impl $crate::protocol::Request for $name {
            type Reply = $reply;
        })?
    };

    (@declare
        [$(#[$meta:meta])* $visibility:vis struct $name:ident]
        [$($generics:tt)*] [$in_body:ty] [$read_life:lifetime $life:lifetime]
        [$code:expr]
        { $(
            $(#[$field_meta:meta])*
            $field_visibility:vis $field:ident : $type:ty $(as $way:ty)?
        ),* $(,)? }
    ) => {
        $(#[$meta])*
        $visibility struct $name $($generics)* {
            $($(#[$field_meta])* $field_visibility $field: $type,)*
        }

        impl<$read_life> $crate::protocol::ReadFields<$read_life> for $name $($generics)* {
            fn read_fields(
                body: &mut $crate::protocol::BodyReader<$read_life>,
            ) -> ::core::result::Result<Self, $crate::protocol::BodyError> {
                const {
                    assert!(
                        $crate::protocol::rest_comes_last(&[$(
                            <$crate::message!(@way $type $(, $way)?)
                                as $crate::protocol::Field<$read_life>>::TAKES_REST
                        ),*]),
                        "a field that takes the rest of the body must be the last",
                    );
                }
                // For a message without fields.
                let _ = &body;
                ::core::result::Result::Ok(Self { $(
                    $field: <$crate::message!(@way $type $(, $way)?)
                        as $crate::protocol::Field<$read_life>>::read(body)
                        .map_err(|problem| $crate::protocol::BodyError::Field {
                            message: ::core::stringify!($name),
                            field: ::core::stringify!($field),
                            problem,
                        })?,
                )* })
            }
        }

        impl $($generics)* $crate::protocol::Message for $name $($generics)* {
            const CODE: u16 = $code;
            const NAME: &'static str = ::core::stringify!($name);
            const SECRET: bool = false $(
                | <$crate::message!(@way $type $(, $way)?)
                    as $crate::protocol::Field<$life>>::SECRET
            )*;
            type In<'body> = $in_body;

            fn write(
                &self,
                body: &mut $crate::protocol::BodyWriter<'_>,
            ) -> ::core::result::Result<(), $crate::protocol::BodyError> {
                let _ = &body;
                $(
                    <$crate::message!(@way $type $(, $way)?)
                        as $crate::protocol::Field<$life>>::write(&self.$field, body)
                        .map_err(|problem| $crate::protocol::BodyError::Field {
                            message: ::core::stringify!($name),
                            field: ::core::stringify!($field),
                            problem,
                        })?;
                )*
                ::core::result::Result::Ok(())
            }
        }
    };
}

//! Fields of message bodies: how a value stands in a body, and what can be wrong with it.
//!
//! A type that implements [`Field`] is a way to write values down. Integers, arrays of bytes,
//! `&str` and `&[u8]` are their own way; the others here name one for text: [`Text`], [`Counted`],
//! [`Padded`]. Reading borrows from the body and allocates nothing.

use super::encoder::BodyWriter;

/// A way for values to stand in a body; what [`message!`](crate::message) puts behind a field's
/// name or its `as`.
pub trait Field<'a> {
    /// What is read and written.
    type Value;

    /// Whether it takes all that is left of the body: then no other field can follow.
    const TAKES_REST: bool = false;
    /// Whether the bytes are secret: clients wipe what they have sent of them.
    const SECRET: bool = false;

    /// Takes the value from where the reader stands.
    ///
    /// # Errors
    ///
    /// [`FieldProblem`]: the peer's mistake.
    fn read(body: &mut BodyReader<'a>) -> Result<Self::Value, FieldProblem>;

    /// Appends the value to a body.
    ///
    /// # Errors
    ///
    /// [`FieldProblem`]: the caller's mistake, a value that can't be written down this way.
    fn write(value: &Self::Value, body: &mut BodyWriter<'_>) -> Result<(), FieldProblem>;
}

/// What is wrong with a field; reads on from "the name of Seat ...".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldProblem {
    /// The body ends before the field does.
    #[error("takes {needed_bytes} bytes, but the body has only {left_bytes} left")]
    Short {
        /// What it takes, in bytes.
        needed_bytes: usize,
        /// What there is, in bytes.
        left_bytes: usize,
    },
    /// The text is too short or too long.
    #[error("must be {bytes_min} to {bytes_max} bytes of text, not {bytes}")]
    Length {
        /// How long it is.
        bytes: usize,
        /// The shortest that is right.
        bytes_min: usize,
        /// The longest that is right.
        bytes_max: usize,
    },
    /// The text is none.
    #[error("must be UTF-8 text")]
    NotUtf8,
    /// A padded text goes on behind its end.
    #[error("must have nothing but NUL bytes behind the first NUL")]
    BehindNul,
    /// A text to be padded has the padding's byte in it.
    #[error("must be text without a NUL byte")]
    HasNul,
    /// What is left out is there.
    #[error("must be all NUL bytes")]
    NotZero,
    /// A rule of the application's own; reads on as the others do, like "must be even".
    #[error("{0}")]
    Other(&'static str),
}

/// What is left of a body as its fields are taken, one after the other.
#[derive(Debug)]
pub struct BodyReader<'a> {
    rest: &'a [u8],
}

impl<'a> BodyReader<'a> {
    /// Stands at the start of a body.
    pub fn new(body: &'a [u8]) -> BodyReader<'a> {
        BodyReader { rest: body }
    }

    /// Takes so many bytes.
    ///
    /// # Errors
    ///
    /// [`FieldProblem::Short`] if fewer are left; none is taken.
    pub fn take(&mut self, bytes: usize) -> Result<&'a [u8], FieldProblem> {
        let (taken, rest) = self
            .rest
            .split_at_checked(bytes)
            .ok_or(FieldProblem::Short {
                needed_bytes: bytes,
                left_bytes: self.rest.len(),
            })?;
        self.rest = rest;
        Ok(taken)
    }

    /// Takes so many bytes, as an array.
    ///
    /// # Errors
    ///
    /// [`FieldProblem::Short`] if fewer are left; none is taken.
    pub fn take_array<const N: usize>(&mut self) -> Result<&'a [u8; N], FieldProblem> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(FieldProblem::Short {
            needed_bytes: N,
            left_bytes: self.rest.len(),
        })?;
        self.rest = rest;
        Ok(taken)
    }

    /// Takes all that is left.
    pub fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// How much is left, in bytes.
    pub fn left_bytes(&self) -> usize {
        self.rest.len()
    }
}

macro_rules! integers {
    ($($integer:ty)*) => { $(
        impl<'a> Field<'a> for $integer {
            type Value = $integer;

            fn read(body: &mut BodyReader<'a>) -> Result<$integer, FieldProblem> {
                body.take_array().copied().map(<$integer>::from_be_bytes)
            }

            fn write(value: &$integer, body: &mut BodyWriter<'_>) -> Result<(), FieldProblem> {
                body.put(&value.to_be_bytes());
                Ok(())
            }
        }
    )* };
}

integers! { u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 }

/// So many bytes, whatever they are.
impl<'a, const N: usize> Field<'a> for [u8; N] {
    type Value = [u8; N];

    fn read(body: &mut BodyReader<'a>) -> Result<[u8; N], FieldProblem> {
        body.take_array().copied()
    }

    fn write(value: &[u8; N], body: &mut BodyWriter<'_>) -> Result<(), FieldProblem> {
        body.put(value);
        Ok(())
    }
}

/// The rest of the body, whatever it is.
impl<'a> Field<'a> for &'a [u8] {
    type Value = &'a [u8];
    const TAKES_REST: bool = true;

    fn read(body: &mut BodyReader<'a>) -> Result<&'a [u8], FieldProblem> {
        Ok(body.take_rest())
    }

    fn write(value: &&'a [u8], body: &mut BodyWriter<'_>) -> Result<(), FieldProblem> {
        body.put(value);
        Ok(())
    }
}

/// The rest of the body as UTF-8 text.
impl<'a> Field<'a> for &'a str {
    type Value = &'a str;
    const TAKES_REST: bool = true;

    fn read(body: &mut BodyReader<'a>) -> Result<&'a str, FieldProblem> {
        text(body.take_rest())
    }

    fn write(value: &&'a str, body: &mut BodyWriter<'_>) -> Result<(), FieldProblem> {
        body.put(value.as_bytes());
        Ok(())
    }
}

/// The rest of the body as UTF-8 text of `MIN` to `MAX` bytes; the value is a `&str`.
#[derive(Debug)]
pub enum Text<const MIN: usize, const MAX: usize> {}

impl<'a, const MIN: usize, const MAX: usize> Field<'a> for Text<MIN, MAX> {
    type Value = &'a str;
    const TAKES_REST: bool = true;

    fn read(body: &mut BodyReader<'a>) -> Result<&'a str, FieldProblem> {
        within::<MIN, MAX>(body.left_bytes())?;
        text(body.take_rest())
    }

    fn write(value: &&'a str, body: &mut BodyWriter<'_>) -> Result<(), FieldProblem> {
        within::<MIN, MAX>(value.len())?;
        body.put(value.as_bytes());
        Ok(())
    }
}

/// UTF-8 text of `MIN` to `MAX` bytes (at most 255) behind a `u8` that says how many; the value is
/// a `&str`.
#[derive(Debug)]
pub enum Counted<const MIN: usize, const MAX: usize> {}

impl<'a, const MIN: usize, const MAX: usize> Field<'a> for Counted<MIN, MAX> {
    type Value = &'a str;

    fn read(body: &mut BodyReader<'a>) -> Result<&'a str, FieldProblem> {
        let bytes = usize::from(u8::read(body)?);
        within::<MIN, MAX>(bytes)?;
        text(body.take(bytes)?)
    }

    fn write(value: &&'a str, body: &mut BodyWriter<'_>) -> Result<(), FieldProblem> {
        const { assert!(MAX <= 255, "a u8 counts up to 255") }
        within::<MIN, MAX>(value.len())?;
        body.put(&value.len().to_be_bytes()[size_of::<usize>() - 1..]);
        body.put(value.as_bytes());
        Ok(())
    }
}

/// UTF-8 text in `N` bytes, of which the last is NUL and all behind the text; the value is a `&str`
/// of at most `N - 1` bytes.
#[derive(Debug)]
pub enum Padded<const N: usize> {}

impl<'a, const N: usize> Field<'a> for Padded<N> {
    type Value = &'a str;

    fn read(body: &mut BodyReader<'a>) -> Result<&'a str, FieldProblem> {
        text(before_padding(body.take_array::<N>()?)?)
    }

    fn write(value: &&'a str, body: &mut BodyWriter<'_>) -> Result<(), FieldProblem> {
        check_padded::<N>(value)?;
        body.put(value.as_bytes());
        body.put_zeros(N - value.len());
        Ok(())
    }
}

/// `N` bytes that are all NUL: for what is left out. The value is nothing, `()`.
#[derive(Debug)]
pub enum Zeros<const N: usize> {}

impl<'a, const N: usize> Field<'a> for Zeros<N> {
    type Value = ();

    fn read(body: &mut BodyReader<'a>) -> Result<(), FieldProblem> {
        let is_zero = body.take_array::<N>()?.iter().all(|&byte| byte == 0);
        is_zero.then_some(()).ok_or(FieldProblem::NotZero)
    }

    fn write((): &(), body: &mut BodyWriter<'_>) -> Result<(), FieldProblem> {
        body.put_zeros(N);
        Ok(())
    }
}

pub(super) fn text(bytes: &[u8]) -> Result<&str, FieldProblem> {
    std::str::from_utf8(bytes).map_err(|_| FieldProblem::NotUtf8)
}

/// The bytes before the padding of a field of `N` bytes.
pub(super) fn before_padding<const N: usize>(field: &[u8; N]) -> Result<&[u8], FieldProblem> {
    let end = field.iter().position(|&byte| byte == 0);
    let (text, padding) = field.split_at(end.ok_or(FieldProblem::Length {
        bytes: N,
        bytes_min: 0,
        bytes_max: N.saturating_sub(1),
    })?);
    if padding.iter().any(|&byte| byte != 0) {
        return Err(FieldProblem::BehindNul);
    }
    Ok(text)
}

/// Whether this text can stand in a padded field of `N` bytes.
pub(super) fn check_padded<const N: usize>(text: &str) -> Result<(), FieldProblem> {
    const { assert!(N > 0, "a padded text ends with a NUL") }
    if text.contains('\0') {
        return Err(FieldProblem::HasNul);
    }
    if text.len() >= N {
        return Err(FieldProblem::Length {
            bytes: text.len(),
            bytes_min: 0,
            bytes_max: N - 1,
        });
    }
    Ok(())
}

fn within<const MIN: usize, const MAX: usize>(bytes: usize) -> Result<(), FieldProblem> {
    if (MIN..=MAX).contains(&bytes) {
        return Ok(());
    }
    Err(FieldProblem::Length {
        bytes,
        bytes_min: MIN,
        bytes_max: MAX,
    })
}

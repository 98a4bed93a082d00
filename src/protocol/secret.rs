//! Secret text in a message: not shown by `Debug`, and wiped when it is dropped.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::encoder::BodyWriter;
use super::field::{BodyReader, Field, FieldProblem, before_padding, check_padded, text};

/// Secret text like a password, at most `N - 1` bytes of it. In a body it is padded with NUL to
/// `N` bytes.
///
/// It is the one field that copies: the bytes that it was read from are somebody else's to wipe.
/// Nor can it reach what a move leaves behind on the stack, so hand it on by reference.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Secret<const N: usize> {
    /// UTF-8 up to the first NUL, and NUL from there on.
    padded: [u8; N],
}

impl<const N: usize> Secret<N> {
    /// Keeps a copy of this text.
    ///
    /// # Errors
    ///
    /// [`FieldProblem`] if it is longer than `N - 1` bytes or has a NUL in it.
    pub fn new(text: &str) -> Result<Secret<N>, FieldProblem> {
        check_padded::<N>(text)?;
        let mut padded = [0; N];
        padded[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Secret { padded })
    }

    /// The text. Whoever asks sees to it that it goes nowhere.
    pub fn expose(&self) -> &str {
        let text = self.padded.split(|&byte| byte == 0).next();
        // It was UTF-8 when it came in, and so it is one valid chunk.
        let chunk = text.and_then(|text| text.utf8_chunks().next());
        chunk.map_or("", |chunk| chunk.valid())
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }
}

/// Tells nothing, not even the length.
impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl<'a, const N: usize> Field<'a> for Secret<N> {
    type Value = Secret<N>;
    const SECRET: bool = true;

    fn read(body: &mut BodyReader<'a>) -> Result<Secret<N>, FieldProblem> {
        let padded = body.take_array::<N>()?;
        text(before_padding(padded)?)?;
        Ok(Secret { padded: *padded })
    }

    fn write(value: &Secret<N>, body: &mut BodyWriter<'_>) -> Result<(), FieldProblem> {
        body.put(&value.padded);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_to_whoever_asks_for_it_and_to_nobody_else() {
        let secret = Secret::<40>::new("correct hörse").unwrap();
        assert_eq!(secret.expose(), "correct hörse");
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert!(Secret::<40>::new("").unwrap().is_empty());
    }

    #[test]
    fn a_secret_has_room_for_all_but_one_of_its_bytes() {
        let longest = "x".repeat(39);
        assert_eq!(Secret::<40>::new(&longest).unwrap().expose(), longest);
        let error = Secret::<40>::new(&"x".repeat(40)).unwrap_err();
        assert_eq!(error.to_string(), "must be 0 to 39 bytes of text, not 40");
        let error = Secret::<40>::new("a\0b").unwrap_err();
        assert_eq!(error, FieldProblem::HasNul);
    }

    #[test]
    fn a_wiped_secret_is_empty() {
        fn wiped_on_drop<T: ZeroizeOnDrop>(_: &T) {}
        let mut secret = Secret::<40>::new("correct horse").unwrap();
        wiped_on_drop(&secret);
        secret.zeroize();
        assert_eq!(secret.padded, [0; 40]);
    }
}

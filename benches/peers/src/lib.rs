//! What all peers share: their command line, their listener, and the work on frames. What is left
//! to each of them is how the bytes get in and out, which is what is compared.

mod frames;
mod start;

pub use frames::{READ_BYTES, Stream, answer, answer_whole};
pub use start::{Failure, OrFailed, Words, announce, listener, run};

//! The log of this process, for tests of what the library logs.

use std::io;
use std::sync::{Mutex, Once};

/// All that was logged so far: tests run side by side, so look for words of your own.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Starts to capture, down to debug lines, each an object of JSON; before the server of the test
/// starts.
pub(crate) fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        tracing_subscriber::fmt()
            .json()
            .with_env_filter("corelane=debug")
            .with_writer(|| Writer)
            .init();
    });
}

/// The first line that contains these words.
pub(crate) fn line_with(words: &str) -> Option<String> {
    text()
        .lines()
        .find(|line| line.contains(words))
        .map(str::to_owned)
}

/// All of it.
pub(crate) fn text() -> String {
    String::from_utf8(LOG.lock().unwrap().clone()).unwrap()
}

struct Writer;

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

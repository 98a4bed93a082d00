//! Where the lines end up: a file or stderr. Lines that can't be written are counted, not tried
//! again, and never glued to a part of another that did get out.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::LogError;

#[derive(Debug)]
pub(super) struct Sink {
    /// `None` is stderr: not std's, whose lock would let a reader that has stopped hold up whoever
    /// panics or reports a failure.
    file: Option<File>,
    /// Whether the last line there has no end yet.
    cut: bool,
    lost: Option<Lost>,
}

/// Lines that could not be written, and why the last of them could not.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) lines: u64,
    pub(super) error: Errno,
}

impl Sink {
    /// Into this file, or `None` for stderr.
    pub(super) fn open(file: Option<&Path>) -> Result<Sink, LogError> {
        Ok(Sink {
            file: file.map(open).transpose()?,
            cut: false,
            lost: None,
        })
    }

    /// From now on into this file, or `None` for stderr.
    pub(super) fn replace(&mut self, file: Option<File>) {
        self.file = file;
        self.cut = false;
    }

    /// Writes whole lines. Gives back those that were lost before, once there is room again: if
    /// these have been written.
    pub(super) fn write(&mut self, lines: &[u8]) -> Option<Lost> {
        match self.try_to_write(lines) {
            Ok(()) => self.lost.take(),
            Err((written, error)) => {
                let (out, rest) = lines.split_at(written);
                self.cut = out.last().map_or(self.cut, |last| *last != b'\n');
                let lines = rest.split_inclusive(|byte| *byte == b'\n').count() as u64;
                let before = self.lost.take().map_or(0, |lost| lost.lines);
                self.lost = Some(Lost {
                    lines: before + lines,
                    error,
                });
                None
            }
        }
    }

    /// The error comes with how much has been written.
    fn try_to_write(&mut self, lines: &[u8]) -> Result<(), (usize, Errno)> {
        if self.cut {
            self.write_all(b"\n").map_err(|(_, error)| (0, error))?;
            self.cut = false;
        }
        self.write_all(lines)
    }

    fn write_all(&self, bytes: &[u8]) -> Result<(), (usize, Errno)> {
        let target = self.target();
        let mut written = 0;
        while written < bytes.len() {
            match rustix::io::write(target, &bytes[written..]) {
                Ok(length) => written += length,
                Err(Errno::INTR) => {}
                // Somebody else who has this pipe or terminal made it so.
                Err(Errno::AGAIN) => wait_for_room(target).map_err(|error| (written, error))?,
                Err(error) => return Err((written, error)),
            }
        }
        Ok(())
    }

    fn target(&self) -> BorrowedFd<'_> {
        self.file
            .as_ref()
            .map_or_else(|| rustix::stdio::stderr(), AsFd::as_fd)
    }
}

fn wait_for_room(target: BorrowedFd<'_>) -> Result<(), Errno> {
    match poll(&mut [PollFd::new(&target, PollFlags::OUT)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Opens a log file, to add to it.
pub(super) fn open(path: &Path) -> Result<File, LogError> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(|error| LogError::File {
            file: path.to_owned(),
            error,
        })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_a_full_disk_has_lost_is_told_when_there_is_room_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut sink = Sink::open(Some(Path::new("/dev/full"))).unwrap();
        assert!(sink.write(b"one\ntwo\n").is_none());
        assert!(sink.write(b"three\n").is_none());
        sink.replace(Some(open(&path).unwrap()));
        let lost = sink.write(b"four\n").unwrap();
        assert_eq!((lost.lines, lost.error), (3, Errno::NOSPC));
        assert!(sink.write(b"five\n").is_none());
        assert_eq!(fs::read_to_string(&path).unwrap(), "four\nfive\n");
    }

    #[test]
    fn a_line_that_was_cut_gets_its_end_before_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut sink = Sink::open(Some(&path)).unwrap();
        sink.write(b"whole\nha");
        sink.cut = true;
        sink.write(b"next\n");
        sink.write(b"last\n");
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "whole\nha\nnext\nlast\n"
        );
    }
}

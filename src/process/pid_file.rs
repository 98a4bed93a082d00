//! The pid file: who runs, and the proof that it does.
//!
//! It holds a process id and a line end, is never seen half written, and is locked by that process
//! as long as it lives. So whoever finds it unlocked knows that it is stale, whatever process has
//! the id by now.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The pid file can't be had, or does not lead to a process.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PidFileError {
    /// Another process holds it.
    #[error(
        "the pid file {} is held by process {pid}, which runs: stop that one first, or set another \
         process.pid_file", file.display()
    )]
    Held {
        /// The file.
        file: PathBuf,
        /// Who holds it.
        pid: u32,
    },
    /// It can't be written.
    #[error("cannot write the pid file {}: {error}", file.display())]
    Unwritable {
        /// The file.
        file: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// It can't be read.
    #[error("cannot read the pid file {}: {error}; is the server running?", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// It holds something else.
    #[error("{} is not a pid file: it must hold a process id and nothing else", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
    },
    /// Whoever wrote it is gone.
    #[error("the pid file {} is stale: it names process {pid}, but nobody holds it", file.display())]
    Stale {
        /// The file.
        file: PathBuf,
        /// Whom it names.
        pid: u32,
    },
}

/// A pid file of this process. Dropping it removes it.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    /// Locked.
    file: File,
}

/// How often a file is looked at that changes hands at this moment, and how long between.
const TRIES: u32 = 100;
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

impl PidFile {
    /// Makes the pid file of this process.
    ///
    /// # Errors
    ///
    /// [`PidFileError::Held`] says who has it.
    pub fn claim(path: &Path) -> Result<PidFile, PidFileError> {
        let unwritable = |error| PidFileError::Unwritable {
            file: path.to_owned(),
            error,
        };
        // Held until the new one has its name, so that of two who claim it one waits.
        let _old = lock_what_is_there(path)?;
        let temporary = temporary_beside(path);
        let file = write_locked(&temporary)
            .and_then(|file| std::fs::rename(&temporary, path).map(|()| file))
            .map_err(|error| {
                // It may not be there; what counts is the error above.
                let _ = std::fs::remove_file(&temporary);
                unwritable(error)
            })?;
        Ok(PidFile {
            path: path.to_owned(),
            file,
        })
    }
}

impl PidFile {
    /// The one that an old program of this process has claimed.
    pub(crate) fn inherit(path: &Path, file: OwnedFd) -> PidFile {
        PidFile {
            path: path.to_owned(),
            file: file.into(),
        }
    }
}

impl AsFd for PidFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if is_at(&self.file, &self.path)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(%error, file = %self.path.display(), "the pid file can't be removed");
        }
    }
}

/// The process that holds this pid file.
///
/// # Errors
///
/// All but [`PidFileError::Held`] and [`PidFileError::Unwritable`].
pub fn holder(path: &Path) -> Result<u32, PidFileError> {
    let unreadable = |error| PidFileError::Unreadable {
        file: path.to_owned(),
        error,
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let pid = read_pid(&mut file)
        .map_err(unreadable)?
        .ok_or_else(|| PidFileError::Foreign {
            file: path.to_owned(),
        })?;
    // Shared, so that two who look do not take one another for the holder.
    let has_holder = is_locked(&file, FlockOperation::NonBlockingLockShared);
    if has_holder.map_err(unreadable)? {
        return Ok(pid);
    }
    Err(PidFileError::Stale {
        file: path.to_owned(),
        pid,
    })
}

/// Locks the file that has this name, making it if there is none.
fn lock_what_is_there(path: &Path) -> Result<File, PidFileError> {
    let unwritable = |error| PidFileError::Unwritable {
        file: path.to_owned(),
        error,
    };
    let mut pid = 0;
    for _ in 0..TRIES {
        let mut file = options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(unwritable)?;
        let has_holder = is_locked(&file, FlockOperation::NonBlockingLockExclusive);
        if !has_holder.map_err(unwritable)? {
            if is_at(&file, path) {
                return Ok(file);
            }
            // Somebody else got ahead.
            continue;
        }
        let Some(found) = read_pid(&mut file).map_err(unwritable)? else {
            // Whoever locked it is about to put another file in its place.
            std::thread::sleep(BETWEEN_TRIES);
            continue;
        };
        pid = found;
        if is_at(&file, path) {
            break;
        }
    }
    Err(PidFileError::Held {
        file: path.to_owned(),
        pid,
    })
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o644);
    options
}

fn write_locked(path: &Path) -> io::Result<File> {
    let mut file = options()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes())?;
    Ok(file)
}

/// In the same folder, so that it can be renamed; by this process alone.
fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    name.into()
}

/// Locks the file; `true` if another has it.
fn is_locked(file: &File, how: FlockOperation) -> io::Result<bool> {
    match flock(file, how) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Whether this file is the one that has this name.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(own), Ok(there)) => (own.dev(), own.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// The process id in a file; nothing if it holds something else.
fn read_pid(file: &mut File) -> io::Result<Option<u32>> {
    let mut bytes = Vec::new();
    // Longer than any process id.
    file.take(16).read_to_end(&mut bytes)?;
    let pid = str::from_utf8(&bytes).ok().and_then(|text| {
        let digits = text.strip_suffix('\n').unwrap_or(text);
        digits.parse().ok()
    });
    Ok(pid.filter(|&pid| pid > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("corelane.pid");
        (folder, path)
    }

    #[test]
    fn it_is_whole_held_and_removed_at_the_end() {
        let (folder, path) = in_folder();
        let claimed = PidFile::claim(&path).unwrap();
        let own = std::process::id();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{own}\n"));
        assert_eq!(holder(&path).unwrap(), own);
        let error = PidFile::claim(&path).unwrap_err().to_string();
        assert!(
            error.contains(&format!("is held by process {own}, which runs")),
            "{error}"
        );
        drop(claimed);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn a_stale_one_is_taken_over() {
        let (_folder, path) = in_folder();
        std::fs::write(&path, "4000000\n").unwrap();
        let error = holder(&path).unwrap_err().to_string();
        let words = "is stale: it names process 4000000, but nobody holds it";
        assert!(error.ends_with(words), "{error}");
        let _claimed = PidFile::claim(&path).unwrap();
        assert_eq!(holder(&path).unwrap(), std::process::id());
    }

    #[test]
    fn what_is_no_pid_file_is_told() {
        let (_folder, path) = in_folder();
        assert!(matches!(
            holder(&path),
            Err(PidFileError::Unreadable { .. })
        ));
        for text in ["", "0", "-1", "12 13", "hello\n", "1\n2\n"] {
            std::fs::write(&path, text).unwrap();
            assert!(
                matches!(holder(&path), Err(PidFileError::Foreign { .. })),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_file_that_took_its_place_stays() {
        let (_folder, path) = in_folder();
        let claimed = PidFile::claim(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "1\n").unwrap();
        drop(claimed);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n");
    }

    #[test]
    fn of_many_who_claim_it_at_once_one_gets_it() {
        let (_folder, path) = in_folder();
        let claims: Vec<_> = std::thread::scope(|scope| {
            let claim = || scope.spawn(|| PidFile::claim(&path));
            let threads: Vec<_> = (0..2).map(|_| claim()).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(
            claims.iter().filter(|claim| claim.is_ok()).count(),
            1,
            "{claims:?}"
        );
    }
}

//! What is at the place of the accounts when a server starts, or when another file is there than
//! before: ours, nothing, or something that is to be left alone.

use std::fs::{Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase as _, StorageError, TableError,
};
use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::making::folder_of;
use super::untouched::Untouched;
use super::{ACCOUNTS, FORMAT, FORMAT_OF, Retry, VERSION, builder};
use crate::handler::panic::{caught, keep_reports};

/// A file up to this size is read as a whole at the start, and each of its pages compared with its
/// checksum: about a million accounts, in about a second. Of a larger one what is looked at is
/// what it takes to open it.
const CHECKED_BYTES_MAX: u64 = 256 << 20;

/// The accounts can't be kept where `accounts.path` says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// There is no file and none can be made.
    #[error(
        "accounts.path is {path:?}, but no file can be made in {folder:?}: {error}; create the \
         folder and let the server's user write there, name another path, or set \
         accounts.store = \"off\""
    )]
    NoFolder {
        /// The file.
        path: PathBuf,
        /// Where it would be.
        folder: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// The file can't be opened for reading and writing.
    #[error(
        "accounts.path is {path:?}, which can't be read and written: {error}; let the server's user \
         do so, name another path, or set accounts.store = \"off\""
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// It is something else.
    #[error(
        "accounts.path is {path:?}, but that is {what}, not a file of accounts: name another path, or \
         move it away"
    )]
    Foreign {
        /// What is there.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// It is ours and broken.
    #[error(
        "accounts.path is {path:?}, and that file of accounts is damaged ({reason}): put a copy of it \
         back, or move it away to begin without accounts"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, as far as it can be told.
        reason: String,
    },
    /// It is a newer program's.
    #[error(
        "accounts.path is {path:?}, and that file of accounts has format {version}, but this program \
         knows formats up to {VERSION}: run the program that wrote it, or name another path"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: u64,
    },
    /// Somebody keeps it open.
    #[error(
        "accounts.path is {path:?}, but another program keeps that file open: end it, or name another \
         path"
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
}

/// Which file it is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// That of what is there, if anything is.
    pub(super) fn at(path: &Path) -> io::Result<Option<FileId>> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Some(FileId::of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn of(metadata: &Metadata) -> FileId {
        FileId {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// Looks at what is there, and changes nothing. Gives back which file it is, if there is one.
pub(super) fn check(path: &Path, patience: Duration) -> Result<Option<FileId>, FileError> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return check_folder(path).map(|()| None);
        }
        Err(error) => return Err(unreadable(path, error)),
    };
    let foreign = |what| FileError::Foreign {
        path: path.to_owned(),
        what,
    };
    if metadata.is_dir() {
        return Err(foreign("a folder"));
    }
    if !metadata.is_file() {
        return Err(foreign("no regular file"));
    }
    if metadata.len() == 0 {
        return Err(foreign("an empty file"));
    }
    let is_whole_checked = metadata.len() <= CHECKED_BYTES_MAX;
    // A damaged file can make redb panic.
    keep_reports();
    let checked = caught(|| check_content(path, is_whole_checked, patience));
    checked.unwrap_or_else(|panicked| Err(damaged(path, panicked.message)))?;
    Ok(Some(FileId::of(&metadata)))
}

fn check_folder(path: &Path) -> Result<(), FileError> {
    let folder = folder_of(path);
    let may_write = Access::WRITE_OK | Access::EXEC_OK;
    accessat(CWD, folder, may_write, AtFlags::EACCESS).map_err(|error| FileError::NoFolder {
        path: path.to_owned(),
        folder: folder.to_owned(),
        error: error.into(),
    })
}

fn unreadable(path: &Path, error: io::Error) -> FileError {
    FileError::Unreadable {
        path: path.to_owned(),
        error,
    }
}

fn check_content(path: &Path, is_whole_checked: bool, patience: Duration) -> Result<(), FileError> {
    let mut retry = Retry::new(patience);
    let database = loop {
        match open_untouched(path, is_whole_checked)? {
            Ok(database) => break database,
            Err(DatabaseError::Storage(StorageError::Io(error)))
                if error.kind() == io::ErrorKind::InvalidData =>
            {
                return Err(FileError::Foreign {
                    path: path.to_owned(),
                    what: "no database",
                });
            }
            Err(error @ DatabaseError::DatabaseAlreadyOpen) => {
                retry.after(error).map_err(|_| FileError::Locked {
                    path: path.to_owned(),
                })?;
            }
            Err(error) => return Err(damaged(path, error)),
        }
    };
    check_format(path, &database)
}

fn open_untouched(
    path: &Path,
    is_whole_checked: bool,
) -> Result<Result<Database, DatabaseError>, FileError> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.map_err(|error| unreadable(path, error))?;
    let mut builder = builder();
    builder.set_check_integrity_on_open(is_whole_checked);
    Ok(Untouched::new(file).and_then(|untouched| builder.create_with_backend(untouched)))
}

fn check_format(path: &Path, database: &Database) -> Result<(), FileError> {
    let foreign = || FileError::Foreign {
        path: path.to_owned(),
        what: "a database of something else",
    };
    let transaction = database.begin_read().map_err(|e| damaged(path, e))?;
    match version_in(&transaction).map_err(|e| damaged(path, e))? {
        Some(VERSION) => {}
        Some(version) if version > VERSION => {
            return Err(FileError::Newer {
                path: path.to_owned(),
                version,
            });
        }
        _ => return Err(foreign()),
    }
    let accounts = transaction.open_table(ACCOUNTS);
    accounts.map(drop).map_err(|error| damaged(path, error))
}

/// The number of the format, if it is a file of accounts.
pub(super) fn version_in(transaction: &ReadTransaction) -> Result<Option<u64>, StorageError> {
    let format = match transaction.open_table(FORMAT) {
        Ok(format) => format,
        Err(TableError::Storage(error)) => return Err(error),
        Err(_) => return Ok(None),
    };
    Ok(format.get(FORMAT_OF)?.map(|version| version.value()))
}

fn damaged(path: &Path, reason: impl std::fmt::Display) -> FileError {
    FileError::Damaged {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

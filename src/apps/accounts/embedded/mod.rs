//! The embedded store: one redb file.
//!
//! Several processes may share the file: an old worker that drains and a new one, or servers that
//! were started in one folder. redb locks a file that is open, so it is open only for the time of a
//! transaction, and whoever finds it locked tries again for a while.
//!
//! Invariants:
//! - Nothing is written into a file that was not looked at and found to be ours (see [`look`]). One
//!   that takes its place is looked at first, and each transaction reads the format again.
//! - Where a file of accounts was, none is made: without it, every name would be free.
//! - A file's place in its folder is on disk before anything is committed to it.

mod look;
mod making;
mod untouched;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase as _, TableDefinition,
    WriteTransaction,
};

use super::store::{Account, Store, StoreError};
pub use look::FileError;
use look::FileId;

/// Says what the file is, in its only entry: the number of the format of [`ACCOUNTS`].
const FORMAT: TableDefinition<'_, &str, u64> = TableDefinition::new("corelane.format");
const FORMAT_OF: &str = "accounts";
const VERSION: u64 = 1;

/// Name -> type and hash.
const ACCOUNTS: TableDefinition<'_, &str, (i32, &str)> = TableDefinition::new("accounts");

/// How long to try for a file that others have locked.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two tries, at first and at most; doubled from one to the next.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// What redb may keep of a file in memory while it is open.
const CACHE_BYTES: usize = 4 << 20;

/// Accounts in a file.
#[derive(Debug)]
pub(super) struct Embedded {
    path: PathBuf,
    patience: Duration,
    /// Held while the file is open: this process is not to lock itself out.
    known: Mutex<Known>,
}

/// What is known of the file.
#[derive(Debug)]
struct Known {
    /// The one that was looked at last; without it, none was there so far.
    file: Option<FileId>,
    /// Its place in the folder is on disk, whoever put it there.
    is_place_kept: bool,
}

impl Known {
    fn new(file: Option<FileId>) -> Known {
        Known {
            file,
            is_place_kept: false,
        }
    }
}

impl Embedded {
    /// The store in this file. What is there must be ours and is not changed; what is not there is
    /// made when the first account comes, and it must be possible to make it.
    pub(super) fn at(path: &Path) -> Result<Embedded, FileError> {
        Embedded::patient_at(path, PATIENCE)
    }

    fn patient_at(path: &Path, patience: Duration) -> Result<Embedded, FileError> {
        let found = look::check(path, patience)?;
        Ok(Embedded {
            path: path.to_owned(),
            patience,
            known: Mutex::new(Known::new(found)),
        })
    }

    /// Does `work` in a transaction for reading; nothing if there was no file so far.
    fn read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<Option<T>, StoreError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_there(&mut known)? {
            return Ok(None);
        }
        let mut retry = Retry::new(self.patience);
        let database = loop {
            match builder().open_read_only(&self.path) {
                Ok(database) => break database,
                // Whoever wrote last was killed. Opening it for writing repairs it.
                Err(DatabaseError::RepairAborted) => {
                    self.open(&mut retry)?.close().map_err(failed)?;
                }
                Err(error) => retry.after(error)?,
            }
        };
        let transaction = database.begin_read().map_err(failed)?;
        self.check_format(&transaction)?;
        work(&transaction).map(Some).map_err(failed)
    }

    /// Does `work` in a transaction, which is kept on disk when this returns.
    fn write(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<bool, redb::Error>,
    ) -> Result<bool, StoreError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.find_or_make(&mut known)?;
        let database = self.open(&mut Retry::new(self.patience))?;
        // The file is locked: what is read here holds for what is written.
        self.check_format(&database.begin_read().map_err(failed)?)?;
        let mut transaction = database.begin_write().map_err(failed)?;
        // Killed in the middle, we leave a file that the next opens without reading all of it.
        transaction.set_quick_repair(true);
        let has_changed = work(&transaction).map_err(failed)?;
        if has_changed {
            transaction.commit().map_err(failed)?;
        } else {
            transaction.abort().map_err(failed)?;
        }
        if let Err(error) = database.close() {
            tracing::warn!(path = %self.path.display(), %error,
                "the file of the accounts was not closed well; the next to open it repairs it");
        }
        Ok(has_changed)
    }

    /// Has a file there that is ours, and its place on disk.
    fn find_or_make(&self, known: &mut Known) -> Result<(), StoreError> {
        let path = self.path.display();
        if !self.is_there(known)? {
            making::make(&self.path)
                .map_err(|error| StoreError::Failed(format!("{path} can't be made: {error}")))?;
            if !self.is_there(known)? {
                return Err(self.gone());
            }
        }
        if !known.is_place_kept {
            making::keep_place(&self.path).map_err(|error| {
                StoreError::Failed(format!("the folder of {path} can't be synced: {error}"))
            })?;
            known.is_place_kept = true;
        }
        Ok(())
    }

    /// Whether there is a file; one that was not looked at yet is, and must be ours. One that was
    /// there must still be.
    fn is_there(&self, known: &mut Known) -> Result<bool, StoreError> {
        let mut found = FileId::at(&self.path).map_err(|error| {
            let path = self.path.display();
            StoreError::Failed(format!("{path} can't be looked at: {error}"))
        })?;
        if found.is_some() && found != known.file {
            found = look::check(&self.path, self.patience).map_err(|error| match error {
                FileError::Locked { .. } => StoreError::Busy,
                error => failed(error),
            })?;
        }
        match found {
            None if known.file.is_some() => Err(self.gone()),
            None => Ok(false),
            Some(_) if found == known.file => Ok(true),
            Some(_) => {
                *known = Known::new(found);
                Ok(true)
            }
        }
    }

    fn gone(&self) -> StoreError {
        let path = self.path.display();
        StoreError::Failed(format!(
            "{path} was there and is gone: put it back, or start the server anew to begin without \
             accounts"
        ))
    }

    fn check_format(&self, transaction: &ReadTransaction) -> Result<(), StoreError> {
        let what = match look::version_in(transaction).map_err(failed)? {
            Some(VERSION) => return Ok(()),
            Some(version) => format!("has format {version} by now, not {VERSION}"),
            None => "is a database of something else by now".to_owned(),
        };
        let path = self.path.display();
        Err(StoreError::Failed(format!(
            "{path} {what}: put the file of accounts back"
        )))
    }

    fn open(&self, retry: &mut Retry) -> Result<Database, StoreError> {
        loop {
            match builder().open(&self.path) {
                Ok(database) => return Ok(database),
                Err(error) => retry.after(error)?,
            }
        }
    }
}

impl Store for Embedded {
    fn find(&self, name: &str) -> Result<Option<Account>, StoreError> {
        let found = self.read(|transaction| {
            let accounts = transaction.open_table(ACCOUNTS)?;
            let found = redb::ReadableTable::get(&accounts, name)?;
            Ok(found.map(|entry| {
                let (kind, hash) = entry.value();
                Account {
                    kind,
                    hash: hash.to_owned(),
                }
            }))
        })?;
        Ok(found.flatten())
    }

    fn insert(&self, name: &str, account: &Account) -> Result<bool, StoreError> {
        self.write(|transaction| {
            let mut accounts = transaction.open_table(ACCOUNTS)?;
            if redb::ReadableTable::get(&accounts, name)?.is_some() {
                return Ok(false);
            }
            accounts.insert(name, (account.kind, account.hash.as_str()))?;
            Ok(true)
        })
    }
}

/// How to open files here.
fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Tries that are left for a file that others have locked.
struct Retry {
    until: Instant,
    pause: Duration,
}

impl Retry {
    fn new(patience: Duration) -> Retry {
        Retry {
            until: Instant::now() + patience,
            pause: PAUSE_MIN,
        }
    }

    /// Waits for the next try after this error, if there is to be one.
    fn after(&mut self, error: DatabaseError) -> Result<(), StoreError> {
        if !matches!(error, DatabaseError::DatabaseAlreadyOpen) {
            return Err(failed(error));
        }
        if Instant::now() >= self.until {
            return Err(StoreError::Busy);
        }
        sleep(self.pause);
        self.pause = PAUSE_MAX.min(self.pause * 2);
        Ok(())
    }
}

fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(error.to_string())
}

#[cfg(test)]
mod tests;

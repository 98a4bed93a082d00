//! The embedded store: one redb file.
//!
//! Several processes may share the file: an old worker that drains and a new one, or servers that
//! were started in one folder. redb locks a file that is open, so it is open only for the time of a
//! transaction, and whoever finds it locked tries again for a while. Invariant: nothing is written
//! into a file that was not looked at and found to be ours (see [`look`]), or made by us.

mod look;
mod making;
mod untouched;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use redb::{
    Builder, Database, DatabaseError, ReadOnlyDatabase, ReadableDatabase as _, StorageError,
    TableDefinition, WriteTransaction,
};

use super::store::{Account, Store, StoreError};
pub use look::FileError;

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
    opening: Mutex<()>,
}

impl Embedded {
    /// The store in this file. What is there must be ours and is not changed; what is not there is
    /// made when the first account comes, and it must be possible to make it.
    pub(super) fn at(path: &Path) -> Result<Embedded, FileError> {
        Embedded::patient_at(path, PATIENCE)
    }

    fn patient_at(path: &Path, patience: Duration) -> Result<Embedded, FileError> {
        look::check(path, patience)?;
        Ok(Embedded {
            path: path.to_owned(),
            patience,
            opening: Mutex::new(()),
        })
    }

    /// Does `work` with the file open for reading; nothing if there is no file.
    fn read<T>(
        &self,
        work: impl FnOnce(&ReadOnlyDatabase) -> Result<T, redb::Error>,
    ) -> Result<Option<T>, StoreError> {
        let _only_one = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let mut retry = Retry::new(self.patience);
        let database = loop {
            match builder().open_read_only(&self.path) {
                Ok(database) => break database,
                Err(error) if is_not_there(&error) => return Ok(None),
                // Whoever wrote last was killed. Opening it for writing repairs it.
                Err(DatabaseError::RepairAborted) => {
                    self.open(&mut retry)?.close().map_err(failed)?;
                }
                Err(error) => retry.after(error)?,
            }
        };
        work(&database).map(Some).map_err(failed)
    }

    /// Does `work` in a transaction, which is kept on disk when this returns.
    fn write(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<bool, redb::Error>,
    ) -> Result<bool, StoreError> {
        let _only_one = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let mut retry = Retry::new(self.patience);
        let database = self.open_or_make(&mut retry)?;
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

    fn open_or_make(&self, retry: &mut Retry) -> Result<Database, StoreError> {
        let metadata = std::fs::metadata(&self.path);
        if matches!(&metadata, Err(error) if error.kind() == io::ErrorKind::NotFound) {
            making::make(&self.path).map_err(|error| {
                let path = self.path.display();
                StoreError::Failed(format!("{path} can't be made: {error}"))
            })?;
        }
        self.open(retry)
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
        let found = self.read(|database| {
            let accounts = database.begin_read()?.open_table(ACCOUNTS)?;
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

fn is_not_there(error: &DatabaseError) -> bool {
    matches!(error, DatabaseError::Storage(StorageError::Io(error))
        if error.kind() == io::ErrorKind::NotFound)
}

fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(error.to_string())
}

#[cfg(test)]
mod tests;

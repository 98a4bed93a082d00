//! A store that is gone with the process: for tests.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::store::{Account, Store, StoreError};

/// Accounts in memory.
#[derive(Debug, Default)]
pub(super) struct Memory {
    accounts: Mutex<HashMap<String, Account>>,
}

impl Memory {
    fn accounts(&self) -> MutexGuard<'_, HashMap<String, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Memory {
    fn find(&self, name: &str) -> Result<Option<Account>, StoreError> {
        Ok(self.accounts().get(name).cloned())
    }

    fn insert(&self, name: &str, account: &Account) -> Result<bool, StoreError> {
        match self.accounts().entry(name.to_owned()) {
            Entry::Occupied(_) => Ok(false),
            Entry::Vacant(place) => {
                place.insert(account.clone());
                Ok(true)
            }
        }
    }
}

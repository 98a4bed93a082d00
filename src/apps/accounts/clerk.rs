//! What registering and logging in come to: one look into the store and one hashing each.
//!
//! Whether a name is unknown or a password wrong can be told neither by what is done nor by how
//! long it takes: an unknown name's password is compared with a hash that nobody's has.

use std::sync::Arc;

use super::hashing::{self, HashError, Hasher};
use super::store::{Account, Store, StoreError};

/// Hashing, as a clerk needs it.
pub(super) trait Hashing {
    fn hash(&mut self, password: &[u8]) -> Result<String, HashError>;
    fn matches(&mut self, password: &[u8], hash: &str) -> Result<bool, HashError>;
}

impl Hashing for Hasher {
    fn hash(&mut self, password: &[u8]) -> Result<String, HashError> {
        Hasher::hash(self, password)
    }

    fn matches(&mut self, password: &[u8], hash: &str) -> Result<bool, HashError> {
        Hasher::matches(self, password, hash)
    }
}

/// Why a clerk could not carry something out.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Hash(#[from] HashError),
}

/// Carries out what clients ask for, one after the other.
pub(super) struct Clerk<H> {
    store: Arc<dyn Store>,
    hasher: H,
    nobodys: String,
}

impl<H: Hashing> Clerk<H> {
    pub(super) fn new(store: Arc<dyn Store>, hasher: H) -> Result<Clerk<H>, HashError> {
        Ok(Clerk {
            store,
            hasher,
            nobodys: hashing::nobodys()?,
        })
    }

    /// Makes an account; gives back whether its name was free.
    pub(super) fn register(
        &mut self,
        kind: i32,
        name: &str,
        password: &[u8],
    ) -> Result<bool, Trouble> {
        let hash = self.hasher.hash(password)?;
        Ok(self.store.insert(name, &Account { kind, hash })?)
    }

    /// Whether there is an account of this name with this password.
    pub(super) fn log_in(&mut self, name: &str, password: &[u8]) -> Result<bool, Trouble> {
        let account = self.store.find(name)?;
        let hash = account
            .as_ref()
            .map_or(self.nobodys.as_str(), |account| account.hash.as_str());
        let matches = self.hasher.matches(password, hash)?;
        Ok(account.is_some() & matches)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::apps::accounts::memory::Memory;

    /// What was done, in order.
    #[derive(Clone, Default)]
    struct Diary(Arc<Mutex<Vec<&'static str>>>);

    impl Diary {
        fn note(&self, what: &'static str) {
            self.0.lock().unwrap().push(what);
        }

        fn take(&self) -> Vec<&'static str> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    struct Noted<T>(T, Diary);

    impl Store for Noted<Memory> {
        fn find(&self, name: &str) -> Result<Option<Account>, StoreError> {
            self.1.note("find");
            self.0.find(name)
        }

        fn insert(&self, name: &str, account: &Account) -> Result<bool, StoreError> {
            self.1.note("insert");
            self.0.insert(name, account)
        }
    }

    impl Hashing for Noted<Hasher> {
        fn hash(&mut self, password: &[u8]) -> Result<String, HashError> {
            self.1.note("hash");
            self.0.hash(password)
        }

        fn matches(&mut self, password: &[u8], hash: &str) -> Result<bool, HashError> {
            self.1.note("compare");
            // As long as for any other.
            assert!(
                hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
                "{hash}"
            );
            self.0.matches(password, hash)
        }
    }

    #[test]
    fn an_unknown_name_takes_the_same_steps_as_a_wrong_password() {
        let diary = Diary::default();
        let store = Noted(Memory::default(), diary.clone());
        let hasher = Noted(Hasher::new().unwrap(), diary.clone());
        let mut clerk = Clerk::new(Arc::new(store), hasher).unwrap();
        assert!(clerk.register(1, "alice", b"correct horse").unwrap());
        assert_eq!(diary.take(), ["hash", "insert"]);

        for (name, password, is_right) in [
            ("alice", "correct horse", true),
            ("alice", "wrong horse", false),
            ("Alice", "correct horse", false),
            ("bob", "correct horse", false),
        ] {
            let outcome = clerk.log_in(name, password.as_bytes()).unwrap();
            assert_eq!(outcome, is_right, "{name} {password}");
            assert_eq!(diary.take(), ["find", "compare"], "{name} {password}");
        }
    }

    #[test]
    fn a_name_is_given_once() {
        let mut clerk = Clerk::new(Arc::new(Memory::default()), Hasher::new().unwrap()).unwrap();
        assert!(clerk.register(1, "alice", b"first").unwrap());
        assert!(!clerk.register(2, "alice", b"second").unwrap());
        assert!(clerk.log_in("alice", b"first").unwrap());
        assert!(!clerk.log_in("alice", b"second").unwrap());
    }
}

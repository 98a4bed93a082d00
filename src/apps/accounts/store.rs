//! Where accounts are kept, as far as the rest of this app sees it.

/// What is kept of an account, beside its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The type that it was registered with: the application's own number.
    pub kind: i32,
    /// The hash of its password, as a PHC string.
    pub hash: String,
}

/// A store of accounts by name. Names are compared byte by byte.
///
/// Hash threads call it, and wait for it: it may block.
pub trait Store: Send + Sync + 'static {
    /// The account of this name.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn find(&self, name: &str) -> Result<Option<Account>, StoreError>;

    /// Keeps an account, if its name is free; gives back whether it was. Of several that want one
    /// name at once, in whatever process, one gets it. When this returns, the account outlasts
    /// whatever the store outlasts.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; then nothing was kept.
    fn insert(&self, name: &str, account: &Account) -> Result<bool, StoreError>;
}

/// The store did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Others are at it for too long. Asking again later helps.
    #[error("others are at the accounts for too long")]
    Busy,
    /// It can't.
    #[error("{0}")]
    Failed(String),
}

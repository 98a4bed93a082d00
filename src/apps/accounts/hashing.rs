//! Passwords and their hashes: Argon2id, written as PHC strings.
//!
//! A [`Hasher`] has the memory that hashing takes, allocated once. Invariant: between two calls that
//! memory is all zero, and nothing of a password is left on the stack.

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, Version};
use zeroize::Zeroize as _;

use super::stack::without_trace;

/// 19 MiB in KiB, the passes over them, and the lanes: what OWASP's Password Storage Cheat Sheet
/// recommends for Argon2id, <https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html>.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// RFC 9106, section 3.1, has 16 bytes of salt and 32 of hash for passwords.
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// More passes than any hash of ours had, or will have before this code changes: a hash that asks
/// for more would hold up everybody else's.
const PASSES_MAX: u32 = 16;

const PARAMETERS: Params = match Params::new(MEMORY_KIB, PASSES, LANES, Some(HASH_BYTES)) {
    Ok(parameters) => parameters,
    Err(_) => panic!("evaluated by the compiler alone"),
};

/// A password can't be hashed, or not be compared with a hash.
#[derive(Debug, thiserror::Error)]
pub(super) enum HashError {
    /// There is no memory for it.
    #[error("there is no memory of {MEMORY_KIB} KiB to hash passwords in")]
    NoMemory,
    /// The operating system has no random numbers for a salt.
    #[error("there are no random numbers for a salt: {0}")]
    NoSalt(std::io::Error),
    /// A hash is none of Argon2id, or takes more than is granted.
    #[error("a stored hash can't be used: {0}")]
    Unusable(String),
}

/// Hashes passwords.
pub(super) struct Hasher {
    blocks: Vec<Block>,
}

impl Hasher {
    /// Allocates its memory. That is touched, and so resident, from the first hash on: where nobody
    /// logs in, accounts cost nothing.
    pub(super) fn new() -> Result<Hasher, HashError> {
        let mut blocks = Vec::new();
        blocks
            .try_reserve_exact(PARAMETERS.block_count())
            .map_err(|_| HashError::NoMemory)?;
        Ok(Hasher { blocks })
    }

    /// The hash of a password, with a salt of its own.
    pub(super) fn hash(&mut self, password: &[u8]) -> Result<String, HashError> {
        let mut salt = [0; SALT_BYTES];
        let salt_bytes = rustix::rand::getrandom(&mut salt, rustix::rand::GetRandomFlags::empty());
        salt_bytes.map_err(|error| HashError::NoSalt(error.into()))?;
        let mut hash = [0; HASH_BYTES];
        self.derive(password, &salt, PARAMETERS, &mut hash)?;
        phc(&salt, &hash)
    }

    /// Whether this is the hash of this password. Takes the same time whether it is or not.
    pub(super) fn matches(&mut self, password: &[u8], hash: &str) -> Result<bool, HashError> {
        let stored = PasswordHash::new(hash).map_err(unusable)?;
        let parameters = Params::try_from(&stored).map_err(unusable)?;
        let of_argon2id = stored.algorithm == ARGON2ID_IDENT
            && stored.version == Some(Version::V0x13.into())
            && parameters.t_cost() <= PASSES_MAX;
        let (Some(salt), Some(expected), true) = (stored.salt, stored.hash, of_argon2id) else {
            return Err(unusable(
                "it is no hash of Argon2id that this program makes",
            ));
        };
        let mut buffer = [0; Output::MAX_LENGTH];
        let derived = &mut buffer[..expected.len()];
        self.derive(password, &salt, parameters, derived)?;
        // Outputs are compared in constant time.
        Ok(Output::new(derived).map_err(unusable)? == expected)
    }

    fn derive(
        &mut self,
        password: &[u8],
        salt: &[u8],
        parameters: Params,
        out: &mut [u8],
    ) -> Result<(), HashError> {
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters);
        // All that was reserved; nothing is allocated here.
        self.blocks
            .resize(PARAMETERS.block_count(), Block::default());
        let blocks = self.blocks.as_mut_slice();
        let derived = without_trace(|| {
            argon2.hash_password_into_with_memory(password, salt, out, &mut *blocks)
        });
        blocks.iter_mut().zeroize();
        derived.map_err(unusable)
    }
}

/// A hash that no password has, but for one in 2^256, and that takes as long to find out as any
/// other: what the password for an unknown name is compared with.
pub(super) fn nobodys() -> Result<String, HashError> {
    phc(&[0; SALT_BYTES], &[0; HASH_BYTES])
}

fn phc(salt: &[u8], hash: &[u8]) -> Result<String, HashError> {
    let written = PasswordHash {
        algorithm: ARGON2ID_IDENT,
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(&PARAMETERS).map_err(unusable)?,
        salt: Some(Salt::new(salt).map_err(unusable)?),
        hash: Some(Output::new(hash).map_err(unusable)?),
    };
    Ok(written.to_string())
}

fn unusable(reason: impl std::fmt::Display) -> HashError {
    HashError::Unusable(reason.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_matches_its_hash_and_no_other() {
        let mut hasher = Hasher::new().unwrap();
        let hash = hasher.hash(b"correct horse").unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        assert!(hasher.matches(b"correct horse", &hash).unwrap());
        assert!(!hasher.matches(b"correct hors", &hash).unwrap());
        assert!(!hasher.matches(b"", &hash).unwrap());
        assert!(!hasher.matches(b"", &nobodys().unwrap()).unwrap());
        assert_ne!(hasher.hash(b"correct horse").unwrap(), hash, "salted");
    }

    /// From the tests of the reference implementation, phc-winner-argon2's `src/test.c`.
    #[test]
    fn hashes_are_those_of_the_reference_implementation() {
        let hash =
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        let mut hasher = Hasher::new().unwrap();
        assert!(hasher.matches(b"password", hash).unwrap());
        assert!(!hasher.matches(b"passwore", hash).unwrap());
    }

    #[test]
    fn memory_is_left_wiped() {
        let mut hasher = Hasher::new().unwrap();
        assert!(hasher.blocks.is_empty(), "untouched before the first");
        hasher.hash(b"correct horse").unwrap();
        assert_eq!(hasher.blocks.len(), PARAMETERS.block_count());
        let is_zero = |block: &Block| block.as_ref().iter().all(|&word| word == 0);
        assert!(hasher.blocks.iter().all(is_zero));
    }

    #[test]
    fn hashes_that_are_none_of_ours_are_told() {
        let mut hasher = Hasher::new().unwrap();
        let of_zeros = nobodys().unwrap();
        for wrong in [
            String::new(),
            "plain".to_owned(),
            of_zeros.replace("argon2id", "argon2i"),
            of_zeros.replace("v=19", "v=16"),
            of_zeros.replace("t=2", "t=17"),
            of_zeros.replace("m=19456", "m=19464"),
        ] {
            assert!(hasher.matches(b"x", &wrong).is_err(), "{wrong}");
        }
    }
}

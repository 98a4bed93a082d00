//! The user that a server runs as, and its tie to its master.

use std::ffi::CString;
use std::io;
use std::os::unix::fs::chown;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{User, getuid, initgroups, setgid, setuid};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::config::Process;

/// The server can't become the user that it is to be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// There is none of that name.
    #[error("process.user is {user:?}, but this host has no such user: create it or name another")]
    Unknown {
        /// The name.
        user: String,
    },
    /// The user database can't be read.
    #[error("process.user is {user:?}, but the users of this host can't be looked up: {error}")]
    Unreadable {
        /// The name.
        user: String,
        /// What the operating system says.
        error: io::Error,
    },
    /// It may not.
    #[error(
        "cannot become the user {user:?} of process.user: {error}; start as root, or as that user \
         with process.user = \"\""
    )]
    Refused {
        /// The name.
        user: String,
        /// What the operating system says.
        error: io::Error,
    },
}

/// Whether the user of a configuration exists.
///
/// # Errors
///
/// [`IdentityError`].
pub fn check(process: &Process) -> Result<(), IdentityError> {
    process.user().map_or(Ok(()), |name| find(name).map(drop))
}

/// Becomes the user of the configuration, with its group and supplementary groups, for good; warns
/// where root stays root. Call it once the sockets are open, and before there are threads.
///
/// # Errors
///
/// [`IdentityError`]: then do not go on.
pub fn take_on(process: &Process) -> Result<(), IdentityError> {
    let Some(name) = process.user() else {
        if getuid().is_root() {
            tracing::warn!(
                "running as root: set process.user, so that a mistake in a handler is not root's"
            );
        }
        return Ok(());
    };
    let user = find(name)?;
    if user.uid == getuid() && !user.uid.is_root() {
        return Ok(());
    }
    become_user(&user).map_err(|error| IdentityError::Refused {
        user: name.to_owned(),
        error: error.into(),
    })
}

fn find(name: &str) -> Result<User, IdentityError> {
    let user = name.to_owned();
    match User::from_name(name) {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(IdentityError::Unknown { user }),
        Err(error) => Err(IdentityError::Unreadable {
            user,
            error: error.into(),
        }),
    }
}

/// Groups first: afterwards it may not change them any more.
fn become_user(user: &User) -> Result<(), Errno> {
    let name = CString::new(user.name.as_str()).map_err(|_| Errno::EINVAL)?;
    initgroups(&name, user.gid)?;
    setgid(user.gid)?;
    setuid(user.uid)
}

/// Gives a file that root has made to the user that the server will be, so that it can write there
/// as well.
///
/// # Errors
///
/// [`IdentityError`].
pub fn share(file: &Path, process: &Process) -> Result<(), IdentityError> {
    let Some(name) = process.user().filter(|_| getuid().is_root()) else {
        return Ok(());
    };
    let user = find(name)?;
    chown(file, Some(user.uid.as_raw()), Some(user.gid.as_raw())).map_err(|error| {
        IdentityError::Refused {
            user: name.to_owned(),
            error,
        }
    })
}

/// From now on this process drains should its master die: nobody would replace it, and it would
/// keep the sockets from the next master. Call it after [`take_on`], which unties it.
///
/// # Errors
///
/// What the operating system says against it.
pub fn tie_to_master() -> io::Result<()> {
    let master = getppid();
    set_parent_process_death_signal(Some(Signal::QUIT))?;
    if getppid() == master {
        return Ok(());
    }
    Err(io::Error::other("the master is gone"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_user(user: &str) -> Process {
        Process {
            user: user.to_owned(),
            ..Process::default()
        }
    }

    #[test]
    fn users_are_looked_up_by_name() {
        check(&with_user("")).unwrap();
        check(&with_user("root")).unwrap();
        assert_eq!(
            check(&with_user("no such user")).unwrap_err().to_string(),
            "process.user is \"no such user\", but this host has no such user: create it or name \
             another"
        );
    }
}

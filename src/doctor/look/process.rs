//! What the start says against user, log file and pid file, as far as it can be told without taking
//! them: nothing is opened, made or become.

use std::ffi::CString;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{User, getgrouplist, getuid};
use rustix::fs::{Access, access};

use super::super::facts;
use crate::config::{Config, Process};
use crate::process::identity::{self, IdentityError};
use crate::process::logging::LogError;
use crate::process::pid_file::{self, PidFileError};

pub(super) fn look(config: &Config) -> facts::Process {
    facts::Process {
        user: user(&config.process),
        log_file: config.log.file().and_then(log_file),
        pid_file: config.process.pid_file().and_then(pid_file),
        pid_file_holder: None,
    }
}

fn log_file(file: &Path) -> Option<LogError> {
    let error = writable(file).err()?;
    Some(LogError::File {
        file: file.to_owned(),
        error,
    })
}

fn pid_file(file: &Path) -> Option<PidFileError> {
    if let Ok(pid) = pid_file::holder(file) {
        let file = file.to_owned();
        return Some(PidFileError::Held { file, pid });
    }
    // Another takes its place.
    let error = writable(file).and_then(|()| room_beside(file)).err()?;
    Some(PidFileError::Unwritable {
        file: file.to_owned(),
        error,
    })
}

/// Whether a file can be written, or made where there is none.
fn writable(file: &Path) -> io::Result<()> {
    match file.metadata() {
        Ok(found) if found.is_dir() => Err(Errno::EISDIR.into()),
        Ok(_) => Ok(access(file, Access::WRITE_OK)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => room_beside(file),
        Err(error) => Err(error),
    }
}

/// Whether files can be made in the folder of this one.
fn room_beside(file: &Path) -> io::Result<()> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    Ok(access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// What the start says against the user, as far as it can be told without becoming that user: it
/// takes root.
fn user(process: &Process) -> Option<IdentityError> {
    if let Err(error) = identity::check(process) {
        return Some(error);
    }
    let user = User::from_name(process.user()?).ok()??;
    let is_refused = !getuid().is_root() && user.uid != getuid();
    is_refused.then(|| IdentityError::Refused {
        user: user.name,
        error: Errno::EPERM.into(),
    })
}

/// The groups of the user that the server is to become, if that is not root.
pub(super) fn groups(process: &Process) -> Option<Vec<u32>> {
    let user = User::from_name(process.user()?).ok()??;
    if user.uid.is_root() {
        return None;
    }
    let name = CString::new(user.name).ok()?;
    let groups = getgrouplist(&name, user.gid).ok()?;
    Some(groups.into_iter().map(nix::unistd::Gid::as_raw).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_or_can_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("there"), "").unwrap();
        for (name, expected) in [
            ("there", None),
            ("to-be-made", None),
            ("no-folder/file", Some(io::ErrorKind::NotFound)),
            ("there/file", Some(io::ErrorKind::NotADirectory)),
            ("", Some(io::ErrorKind::IsADirectory)),
        ] {
            let kind = writable(&path(name)).err().map(|error| error.kind());
            assert_eq!(kind, expected, "{name:?}");
        }
        assert!(!path("to-be-made").exists());
        assert!(writable(Path::new("to-be-made-here")).is_ok());
    }

    #[test]
    fn a_pid_file_that_is_held_names_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        assert!(pid_file(&path).is_none());
        let _held = pid_file::PidFile::claim(&path).unwrap();
        let own_pid = std::process::id();
        let held = pid_file(&path);
        assert!(
            matches!(held, Some(PidFileError::Held { pid, .. }) if pid == own_pid),
            "{held:?}"
        );
    }
}

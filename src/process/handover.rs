//! How a master puts the program now on disk in its own place, and what that one inherits.
//!
//! The process stays: its id, its children, its session. The new program gets the descriptors that
//! matter, which are open across exec, and an [`Estate`] in the environment that says what they are
//! and what the old master knew. Exec comes last, when the new program has proved itself: its
//! worker is ready and has said that it reads this version of the estate.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use rustix::io::{FdFlags, fcntl_setfd};
use serde::{Deserialize, Serialize};

use super::launch::ESTATE;
use crate::config::{Config, ConfigError};
use crate::sys::passed;

/// The version of [`Estate`]: another one wherever it changes but by what may be missing.
const VERSION: u32 = 1;

/// What a worker says whose program can be a master's successor.
pub const CAN_SUCCEED: &str = "X_CORELANE_ESTATE=1";

/// The estate can't be taken on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EstateError {
    /// It says nonsense, or something of another version.
    #[error("what the old master has left can't be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// Of another version.
    #[error("what the old master has left is of version {there}, but this program reads {VERSION}")]
    Version {
        /// Which.
        there: u32,
    },
    /// The configuration is wrong for this program.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A descriptor is missing.
    #[error("descriptor {number} of the old master is not there: {error}")]
    Descriptor {
        /// Which.
        number: RawFd,
        /// What the operating system says.
        error: io::Error,
    },
}

/// What a new program's master inherits. Descriptors are numbers, workers and askers as well.
#[derive(Debug, Serialize, Deserialize)]
pub struct Estate {
    pub(crate) version: u32,
    /// Of whom: it is nobody else's.
    pub(crate) pid: u32,
    /// In force, as TOML.
    pub(crate) config: String,
    pub(crate) shards: usize,
    pub(crate) sockets: Vec<SocketsOf>,
    #[serde(default)]
    pub(crate) admin: Option<SocketsOf>,
    pub(crate) pid_file: Option<RawFd>,
    pub(crate) mailbox: RawFd,
    pub(crate) workers: Vec<Known>,
    pub(crate) old: Option<u32>,
    pub(crate) new: u32,
    pub(crate) leaving: Vec<u32>,
    pub(crate) askers: Vec<u32>,
    pub(crate) reload: Option<Vec<u32>>,
}

/// The sockets of one address.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SocketsOf {
    pub(crate) asked: Option<SocketAddr>,
    pub(crate) address: SocketAddr,
    pub(crate) sockets: Vec<RawFd>,
}

/// A worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) id: u32,
    pub(crate) pid: i32,
    pub(crate) goes: bool,
    #[serde(default)]
    pub(crate) mailbox: Option<String>,
}

impl Estate {
    /// What another program has left to this process, if one has.
    ///
    /// # Errors
    ///
    /// All of [`EstateError`] but those about descriptors.
    pub fn inherited() -> Result<Option<Estate>, EstateError> {
        let Ok(text) = std::env::var(ESTATE) else {
            return Ok(None);
        };
        let estate: Estate = serde_json::from_str(&text)?;
        if estate.version != VERSION {
            return Err(EstateError::Version {
                there: estate.version,
            });
        }
        Ok(Some(estate).filter(|estate| estate.pid == std::process::id()))
    }

    /// The configuration in force.
    ///
    /// # Errors
    ///
    /// [`EstateError::Config`].
    pub fn config(&self) -> Result<Config, EstateError> {
        Ok(Config::parse(
            &self.config,
            "the old master's configuration",
            &[],
        )?)
    }

    /// An estate of this process, for the rest to be filled in.
    pub(crate) fn of_this_process(config: &Config, shards: usize) -> Estate {
        Estate {
            version: VERSION,
            pid: std::process::id(),
            config: config.to_toml(),
            shards,
            sockets: Vec::new(),
            admin: None,
            pid_file: None,
            mailbox: -1,
            workers: Vec::new(),
            old: None,
            new: 0,
            leaving: Vec::new(),
            askers: Vec::new(),
            reload: None,
        }
    }

    /// All its descriptors: those of the sockets in order, for operators last, the mailbox, the pid
    /// file.
    pub(crate) fn take_descriptors(&self) -> Result<Vec<OwnedFd>, EstateError> {
        let all = self.sockets.iter().chain(&self.admin);
        let of_sockets = all.flat_map(|of_one| &of_one.sockets);
        let numbers: Vec<RawFd> = of_sockets
            .copied()
            .chain([self.mailbox])
            .chain(self.pid_file)
            .collect();
        passed::take_numbers(&numbers)
            .map_err(|(number, error)| EstateError::Descriptor { number, error })
    }
}

/// Becomes the program in this file. Returns only if it can't, and then nothing has changed.
pub(crate) fn hand_over(program: &Path, estate: &Estate, descriptors: &[BorrowedFd]) -> io::Error {
    let error = become_successor(program, estate, descriptors);
    for descriptor in descriptors {
        // What could be opened up can be shut again.
        let _ = fcntl_setfd(descriptor, FdFlags::CLOEXEC);
    }
    error
}

fn become_successor(program: &Path, estate: &Estate, descriptors: &[BorrowedFd]) -> io::Error {
    let estate = match serde_json::to_string(estate) {
        Ok(estate) => estate,
        Err(error) => return error.into(),
    };
    for descriptor in descriptors {
        if let Err(error) = fcntl_setfd(descriptor, FdFlags::empty()) {
            return error.into();
        }
    }
    let title = std::env::args_os().next().unwrap_or_default();
    Command::new(program).arg0(title).env(ESTATE, estate).exec()
}

/// The number of a descriptor, to be put into an estate.
pub(crate) fn number(of: &impl AsFd) -> RawFd {
    of.as_fd().as_raw_fd()
}

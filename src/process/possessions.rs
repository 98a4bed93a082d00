//! What a master has in its hands, be it that it has just started or that it took over from an old
//! program in the same process.

use std::io;
use std::os::fd::OwnedFd;

use rustix::process::Pid;

use super::handover::{self, Estate, Known};
use super::holding::Holding;
use super::master::{Asker, Succession, WorkerId};
use super::notify::Mailbox;
use super::pid_file::PidFile;
use super::setting::Setting;
use super::supervisor::SuperviseError;
use crate::config::Config;

/// A child that is a worker.
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) pid: Pid,
    /// Whether it was told to go, so that its end is no news.
    pub(crate) goes: bool,
    /// Where it gets mail, once it has said so.
    pub(crate) mailbox: Option<String>,
}

pub(crate) struct Possessions {
    pub(crate) setting: Setting,
    pub(crate) mailbox: Mailbox,
    pub(crate) pid_file: Option<PidFile>,
    pub(crate) workers: Vec<Worker>,
    /// What the old program's master knew, if there was one.
    pub(crate) succession: Option<Succession>,
}

impl Possessions {
    /// Those of a master that starts. The pid file first: who holds it says more than who has the
    /// port.
    pub(crate) fn acquire(config: Config) -> Result<Possessions, SuperviseError> {
        let pid_file = config.process.pid_file().map(PidFile::claim).transpose()?;
        Ok(Possessions {
            setting: Setting::new(config)?,
            mailbox: Mailbox::open()?,
            pid_file,
            workers: Vec::new(),
            succession: None,
        })
    }

    /// Those that an old program's master has left.
    pub(crate) fn inherit(estate: &Estate, config: Config) -> Result<Possessions, SuperviseError> {
        let mut descriptors = estate.take_descriptors()?.into_iter();
        let admin = estate.admin.as_ref();
        let holding = Holding::inherit(&estate.sockets, admin, &mut descriptors)?;
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let mailbox = Mailbox::inherit(descriptors.next().ok_or_else(missing)?)?;
        let pid_file = config.process.pid_file().zip(descriptors.next());
        let pid_file = pid_file.map(|(path, file): (_, OwnedFd)| PidFile::inherit(path, file));
        Ok(Possessions {
            setting: Setting {
                config,
                shards: estate.shards,
                holding,
            },
            mailbox,
            pid_file,
            workers: estate.workers.iter().filter_map(known).collect(),
            succession: Some(succession(estate)),
        })
    }
}

fn known(worker: &Known) -> Option<Worker> {
    Some(Worker {
        id: WorkerId(worker.id),
        pid: Pid::from_raw(worker.pid)?,
        goes: worker.goes,
        mailbox: worker.mailbox.clone(),
    })
}

fn succession(estate: &Estate) -> Succession {
    let askers = |pids: &Vec<u32>| pids.iter().copied().map(Asker).collect();
    Succession {
        old: estate.old.map(WorkerId),
        new: WorkerId(estate.new),
        leaving: estate.leaving.iter().copied().map(WorkerId).collect(),
        askers: askers(&estate.askers),
        reload: estate.reload.as_ref().map(askers),
    }
}

/// All that the new program's master needs.
pub(crate) fn bequeath(
    setting: &Setting,
    mailbox: &Mailbox,
    pid_file: Option<&PidFile>,
    workers: &[Worker],
    succession: Succession,
) -> Estate {
    let (sockets, admin) = setting.holding.bequeath();
    let pids = |askers: Vec<Asker>| askers.into_iter().map(|asker| asker.0).collect();
    Estate {
        sockets,
        admin,
        pid_file: pid_file.map(handover::number),
        mailbox: handover::number(mailbox),
        workers: workers
            .iter()
            .map(|worker| Known {
                id: worker.id.0,
                pid: worker.pid.as_raw_pid(),
                goes: worker.goes,
                mailbox: worker.mailbox.clone(),
            })
            .collect(),
        old: succession.old.map(|old| old.0),
        new: succession.new.0,
        leaving: succession.leaving.into_iter().map(|id| id.0).collect(),
        askers: pids(succession.askers),
        reload: succession.reload.map(pids),
        ..Estate::of_this_process(&setting.config, setting.shards)
    }
}

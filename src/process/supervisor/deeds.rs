//! The part of the supervisor that carries actions out.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use super::super::logging::LogError;
use super::super::master::{Action, Design, Event, Finding, Message, Order, Outcome, WorkerId};
use super::super::possessions::{self, Worker};
use super::super::setting::Setting;
use super::super::{answers, daemon, handover, launch, logging, notify};
use super::{Supervisor, share_log};
use crate::config::Log;

/// The program that runs, whatever its file is by now.
const RUNNING_PROGRAM: &str = "/proc/self/exe";

impl Supervisor<'_> {
    pub(super) fn carry_out(&mut self, action: Action) -> io::Result<()> {
        match action {
            Action::Start(id, design) => self.start(id, design),
            Action::Tell(id, message) => self.tell(id, message),
            Action::Announce => self.announce()?,
            Action::CloseSockets => self.close_sockets(),
            Action::Examine => {
                let finding = self.examine();
                self.handle(Event::Examined(finding));
            }
            Action::Adopt => self.adopt(),
            Action::HandOver => {
                let error = self.hand_over();
                tracing::error!("this program goes on: {error}");
                self.handle(Event::NotHandedOver);
            }
            Action::ReopenLog => self.reopen_log(),
            Action::Report(outcome, askers) => {
                if matches!(outcome, Outcome::Died(_) | Outcome::Late(_)) {
                    // With the sockets that were opened for it alone.
                    self.candidate = None;
                }
                let (is_good, words) =
                    answers::outcome(outcome, &self.finding, |id| self.pid_of(id));
                if is_good {
                    tracing::info!("{words}");
                } else {
                    tracing::error!("{words}");
                }
                for asker in askers {
                    answers::tell(asker, is_good, &words);
                }
            }
            Action::Late(id) => {
                self.late = true;
                let pid = self.pid_of(id);
                tracing::error!(pid, "a worker was not ready within process.ready_ms");
            }
            Action::Pause(pause_ms) => {
                tracing::warn!(
                    pause_ms,
                    "workers keep dying young: a pause before the next"
                );
            }
            Action::Exit(_) => {}
        }
        Ok(())
    }

    fn reopen_log(&self) {
        if let Err(error) = logging::reopen() {
            tracing::error!("the old log file stays in use: {error}");
        }
        let Some(setting) = &self.in_force else {
            return;
        };
        if let Err(error) = share_log(&setting.config) {
            tracing::error!("the worker can't write to the new log file: {error}");
        }
    }

    fn start(&mut self, id: WorkerId, design: Design) {
        let (setting, program) = match design {
            Design::InForce => (&self.in_force, Path::new(RUNNING_PROGRAM)),
            Design::Candidate => (&self.candidate, Path::new(RUNNING_PROGRAM)),
            Design::OnDisk => (&self.in_force, self.duties.program),
        };
        let Some(setting) = setting else {
            self.handle(Event::Ended(id));
            return;
        };
        let Setting {
            config, holding, ..
        } = setting;
        let succeeds = self.workers.iter().any(|worker| !worker.goes);
        match launch::start(program, config, holding, self.mailbox.address(), succeeds) {
            Ok(pid) => {
                tracing::info!(pid, "a worker was started");
                // Process ids are positive.
                self.workers
                    .extend(Pid::from_raw(pid.cast_signed()).map(|pid| Worker {
                        id,
                        pid,
                        goes: false,
                        mailbox: None,
                    }));
            }
            Err(error) => {
                let program = program.display();
                tracing::error!("no worker can be started from {program}: {error}");
                self.handle(Event::Ended(id));
            }
        }
    }

    fn tell(&mut self, id: WorkerId, message: Message) {
        let Some(worker) = self.workers.iter_mut().find(|worker| worker.id == id) else {
            return;
        };
        let signal = match message {
            Message::Drain => Signal::QUIT,
            Message::Stop => Signal::TERM,
            Message::Kill => Signal::KILL,
            Message::Reopen => Signal::USR1,
            Message::Adapt => return self.send_candidate(id),
        };
        // While the sockets are held, there is another one, and this one need not be asked any more.
        if message == Message::Drain
            && self.in_force.is_some()
            && let Some(mailbox) = &worker.mailbox
            && let Err(error) = notify::send_at_once(OsStr::new(mailbox), notify::REPLACED)
        {
            tracing::warn!(pid = worker.pid.as_raw_pid(), %error, "a worker can't be told that it is replaced");
        }
        worker.goes |= matches!(message, Message::Drain | Message::Stop | Message::Kill);
        // It was not reaped, so the id is still its own.
        if let Err(error) = kill_process(worker.pid, signal) {
            tracing::error!(pid = worker.pid.as_raw_pid(), %error, "a worker can't be told");
        }
    }

    /// Has a worker take over the configuration that was examined last.
    fn send_candidate(&mut self, id: WorkerId) {
        let worker = self.workers.iter().find(|worker| worker.id == id);
        // A worker of an older program has none.
        let mailbox = worker.and_then(|worker| worker.mailbox.as_ref());
        let words = self.candidate.as_ref();
        let words = words.and_then(|setting| launch::words_with_config(&setting.config));
        let sent = mailbox.zip(words).map_or_else(
            || {
                Err(io::Error::other(
                    "it has no mailbox, or there is too much to send",
                ))
            },
            |(mailbox, words)| notify::send_at_once(OsStr::new(mailbox), &words),
        );
        if let Err(error) = sent {
            let pid = self.pid_of(id);
            tracing::info!(
                pid,
                "a new worker is started, as this one takes no reload: {error}"
            );
            self.handle(Event::NotAdapted(id));
        }
    }

    /// 0 for one that was reaped or never started.
    fn pid_of(&self, id: WorkerId) -> i32 {
        let known = self.workers.iter().find(|worker| worker.id == id);
        known.map_or(0, |worker| worker.pid.as_raw_pid())
    }

    fn announce(&self) -> io::Result<()> {
        if let Some(setting) = &self.in_force {
            (self.duties.announce)(&setting.holding.addresses(), setting.shards)?;
        }
        daemon::let_go_of_streams()?;
        tell_manager(notify::READY);
        Ok(())
    }

    /// Returns only if it fails.
    fn hand_over(&self) -> io::Error {
        let (Some(setting), Some(succession)) = (&self.in_force, self.master.succession()) else {
            return io::Error::other("there is nothing to hand over");
        };
        if !self.successors.contains(&succession.new) {
            return io::Error::other(
                "the new program does not know how to take over from this one",
            );
        }
        let estate = possessions::bequeath(
            setting,
            &self.mailbox,
            self.pid_file.as_ref(),
            &self.workers,
            succession,
        );
        let mut descriptors = setting.holding.sockets();
        descriptors.push(self.mailbox.as_fd());
        descriptors.extend(self.pid_file.as_ref().map(AsFd::as_fd));
        // Counts of this program's end with it.
        logging::flush();
        handover::hand_over(self.duties.program, &estate, &descriptors)
    }

    fn close_sockets(&mut self) {
        self.in_force = None;
        self.candidate = None;
        tell_manager(notify::STOPPING);
    }

    fn examine(&mut self) -> Finding {
        self.candidate = None;
        if logging::lacks_file() {
            // What kept it from being opened may be mended, whether or not anything else has changed;
            // and it has kept the worker from it, too.
            self.handle(Event::Asked(Order::Reopen, None));
        }
        let Some(in_force) = &self.in_force else {
            return Finding::Same;
        };
        let candidate = (self.duties.read_config)().and_then(|config| {
            let changes = in_force.config.changes_to(&config);
            if changes.is_empty() {
                return Ok(None);
            }
            Ok(Some((changes, in_force.changed(config)?)))
        });
        let (changes, candidate) = match candidate {
            Ok(Some(found)) => found,
            Ok(None) => return Finding::Same,
            Err(reason) => {
                self.finding = reason;
                return Finding::Wrong;
            }
        };
        self.candidate = Some(candidate);
        self.finding = changes.keys();
        if changes.fixed.is_empty() {
            Finding::InPlace
        } else {
            Finding::NewWorker
        }
    }

    fn adopt(&mut self) {
        if let Some(setting) = self.candidate.take() {
            self.master.set_patience(setting.patience());
            let before = self.in_force.as_ref().map(|setting| &setting.config.log);
            if let Err(error) = log_as(&setting.config.log, before) {
                tracing::error!("the master's log stays as it was: {error}");
            }
            if let Err(error) = share_log(&setting.config) {
                tracing::error!("the worker can't reopen the log file: {error}");
            }
            self.in_force = Some(setting);
        }
    }
}

/// The master's own log follows the configuration in force, but for how its lines look. The file is
/// changed only if it is another: lines may wait for a reader that takes none.
fn log_as(log: &Log, before: Option<&Log>) -> Result<(), LogError> {
    if before.is_none_or(|before| before.file() != log.file()) {
        logging::set_file(log.file())?;
    }
    logging::set_level(&log.level)?;
    logging::set_repeats(log.repeats_per_second, log.repeats_burst)
}

/// systemd, if it is who started this.
fn tell_manager(words: &str) {
    match notify::tell(words) {
        Ok(()) => {}
        // The command that started a daemon has seen what it waited for.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(error) => tracing::warn!(%error, words, "the service manager can't be told"),
    }
}

//! The control thread of a server: it carries out what operators order by signal, and masters by
//! mail.

use std::io;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::getppid;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use super::handle::ServerHandle;
use super::master::Order;
use super::notify::{self, Mailbox};
use super::{launch, logging, signals};
use crate::config::Config;

/// Reads and checks the configuration anew; the error is a sentence.
pub type ReadConfig = Box<dyn Fn() -> Result<Config, String> + Send>;

/// Who has a server reload, and how.
pub enum Superior {
    /// An operator, by HUP: the configuration is read again.
    Operator(ReadConfig),
    /// The master of this worker, by mail that brings the configuration.
    Master(Mailbox),
}

/// How far the server has been told to go down, in the order of haste.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Descent {
    None,
    Drain,
    Stop,
    StopAtOnce,
}

impl Descent {
    /// What another order to go down means.
    fn after(self, order: Order) -> Descent {
        match (self, order) {
            (Descent::None, Order::Quit) => Descent::Drain,
            (Descent::None | Descent::Drain, _) => Descent::Stop,
            (Descent::Stop | Descent::StopAtOnce, _) => Descent::StopAtOnce,
        }
    }

    fn carry_out(self, handle: &ServerHandle) {
        match self {
            Descent::None => {}
            Descent::Drain => handle.drain(),
            Descent::Stop => handle.stop(),
            Descent::StopAtOnce => handle.stop_at_once(),
        }
    }

    /// What the server does, for people.
    fn doing(self) -> &'static str {
        match self {
            Descent::None => "going on",
            Descent::Drain => "draining",
            Descent::Stop => "stopping",
            Descent::StopAtOnce => "stopping at once",
        }
    }
}

/// From now on, QUIT drains the server of this handle, INT and TERM stop it, and so does any of
/// them while it drains. One more stops it at once.
///
/// # Errors
///
/// What the operating system says against a handler or a thread.
pub fn stop_on_signals(handle: ServerHandle) -> io::Result<()> {
    start(handle, None, |order| {
        matches!(order, Order::Stop | Order::Quit)
    })
}

/// As [`stop_on_signals`], USR1 reopens the log file, and the server reloads as its superior wants
/// it. USR2, and HUP where a master is the superior, are orders for a master: they are logged, and
/// change nothing.
///
/// # Errors
///
/// What the operating system says against a handler or a thread.
pub fn obey(handle: ServerHandle, superior: Superior) -> io::Result<()> {
    start(handle, Some(superior), |_| true)
}

fn start(
    handle: ServerHandle,
    superior: Option<Superior>,
    takes: impl Fn(Order) -> bool,
) -> io::Result<()> {
    let taken = signals::TABLE.iter().filter(|(_, order)| takes(*order));
    let (read, write) = UnixStream::pair()?;
    let taken = taken.map(|(signal, _)| signal);
    let mut control = Control {
        handle,
        signals: SignalDelivery::with_pipe(read, write, SignalOnly, taken)?,
        superior,
        descent: Descent::None,
    };
    std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || {
            if let Err(error) = control.run() {
                tracing::error!("the server obeys no signals any more: {error}");
            }
        })?;
    Ok(())
}

struct Control {
    handle: ServerHandle,
    signals: SignalDelivery<UnixStream, SignalOnly>,
    superior: Option<Superior>,
    descent: Descent,
}

impl Control {
    /// Never returns but with an error.
    fn run(&mut self) -> io::Result<()> {
        loop {
            for signal in self.signals.pending() {
                if let Some(order) = signals::order_of(signal) {
                    self.carry_out(order, signals::name_of(signal));
                }
            }
            self.read_mail()?;
            let mut waiting = vec![PollFd::new(self.signals.get_read(), PollFlags::IN)];
            if let Some(Superior::Master(mailbox)) = &self.superior {
                waiting.push(PollFd::new(mailbox, PollFlags::IN));
            }
            match poll(&mut waiting, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn carry_out(&mut self, order: Order, signal: &str) {
        match (order, &self.superior) {
            (Order::Stop | Order::Quit, _) => {
                self.descent = self.descent.after(order);
                // Before it is done: the process may be gone a moment later.
                tracing::info!(signal, "{}", self.descent.doing());
                self.descent.carry_out(&self.handle);
            }
            (Order::Reopen, _) => reopen(signal),
            (Order::Reload, Some(Superior::Operator(read_config))) => {
                match read_config().and_then(|config| take_over(&self.handle, config)) {
                    Ok(changed) => tracing::info!(signal, "reloaded: {changed}"),
                    Err(reason) => {
                        tracing::error!(signal, "not reloaded, nothing has changed: {reason}");
                    }
                }
            }
            (Order::Reload, _) => tracing::warn!(
                signal,
                "the master of this worker takes this; nothing was changed"
            ),
            (Order::Upgrade, _) => tracing::warn!(
                signal,
                "this takes a master, which process.mode = \"supervised\" has; nothing was changed"
            ),
        }
    }

    fn read_mail(&self) -> io::Result<()> {
        let Some(Superior::Master(mailbox)) = &self.superior else {
            return Ok(());
        };
        while let Some((sender, words)) = mailbox.receive()? {
            if getppid().is_none_or(|master| master.as_raw_pid().unsigned_abs() != sender) {
                tracing::warn!(
                    sender,
                    "words of a process that is not the master were thrown away"
                );
                continue;
            }
            let Some(config) = launch::config_in_words(&words) else {
                tracing::warn!("words of the master that make no sense were thrown away");
                continue;
            };
            let config = config.map_err(|error| error.to_string());
            let answer = match config.and_then(|config| take_over(&self.handle, config)) {
                Ok(changed) => {
                    tracing::info!("reloaded: {changed}");
                    notify::RELOADED
                }
                Err(reason) => {
                    tracing::error!("not reloaded: {reason}");
                    notify::NOT_RELOADED
                }
            };
            if let Err(error) = notify::tell(answer) {
                tracing::warn!(%error, "the master can't be told how the reload came out");
            }
        }
        Ok(())
    }
}

/// Has the server and the log go by this configuration. Gives back what has changed, for people.
fn take_over(handle: &ServerHandle, config: Config) -> Result<String, String> {
    let level = config.log.level.clone();
    let changes = handle.reload(config).map_err(|error| error.to_string())?;
    logging::set_level(&level).map_err(|error| error.to_string())?;
    Ok(if changes.is_empty() {
        "the configuration is the same, nothing has changed".to_owned()
    } else {
        format!("{} changed in place", changes.keys())
    })
}

fn reopen(signal: &str) {
    match logging::reopen() {
        Ok(()) => tracing::info!(signal, "the log file was reopened"),
        Err(error) => tracing::error!(signal, "the old log file stays in use: {error}"),
    }
    // The master counts whoever has tried.
    if let Err(error) = notify::tell(notify::REOPENED) {
        tracing::warn!(%error, "the master can't be told that the log file was reopened");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_signal_makes_more_haste() {
        let descent = Descent::None.after(Order::Quit);
        assert_eq!(descent, Descent::Drain);
        for order in [Order::Quit, Order::Stop] {
            assert_eq!(descent.after(order), Descent::Stop);
            assert_eq!(descent.after(order).after(order), Descent::StopAtOnce);
        }
        assert_eq!(Descent::None.after(Order::Stop), Descent::Stop);
    }
}

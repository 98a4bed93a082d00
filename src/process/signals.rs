//! Signals: one table of what each of them orders, for the master and for a server.

use std::io;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use super::master::Order;
use super::worker::ServerHandle;
use super::{logging, notify};

/// What each signal orders. A new signal gets a line here, and a new order besides.
pub(crate) const TABLE: [(i32, Order); 6] = [
    (SIGTERM, Order::Stop),
    (SIGINT, Order::Stop),
    (SIGQUIT, Order::Quit),
    (SIGHUP, Order::Reload),
    (SIGUSR1, Order::Reopen),
    (SIGUSR2, Order::Upgrade),
];

/// What a signal orders, if it does.
pub(crate) fn order_of(signal: i32) -> Option<Order> {
    let mut lines = TABLE.iter();
    lines.find_map(|&(known, order)| (known == signal).then_some(order))
}

/// Its name, for people.
pub(crate) fn name_of(signal: i32) -> &'static str {
    signal_hook::low_level::signal_name(signal).unwrap_or("a signal")
}

/// Has the signals of the table, and those of ended children, come out of a descriptor, and blocks
/// them: none interrupts anything, and one that comes while a child is made waits. For programs of
/// one thread.
pub(crate) fn descriptor() -> io::Result<SignalFd> {
    let mut all = SigSet::empty();
    for (signal, _) in TABLE {
        all.add(Signal::try_from(signal)?);
    }
    all.add(Signal::SIGCHLD);
    all.thread_block()?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(&all, flags)?)
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
    obey(handle, |order| matches!(order, Order::Stop | Order::Quit))
}

/// As [`stop_on_signals`], and USR1 reopens the log file. HUP and USR2 are orders for a master:
/// without one, they are logged, and change nothing.
///
/// # Errors
///
/// What the operating system says against a handler or a thread.
pub fn obey_signals(handle: ServerHandle) -> io::Result<()> {
    obey(handle, |_| true)
}

fn obey(handle: ServerHandle, takes: impl Fn(Order) -> bool) -> io::Result<()> {
    let taken = TABLE.iter().filter(|(_, order)| takes(*order));
    let mut signals = Signals::new(taken.map(|(signal, _)| signal))?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let mut descent = Descent::None;
            for signal in signals.forever() {
                let name = name_of(signal);
                match order_of(signal) {
                    Some(order @ (Order::Stop | Order::Quit)) => {
                        descent = descent.after(order);
                        // Before it is done: the process may be gone a moment later.
                        tracing::info!(signal = name, "{}", descent.doing());
                        descent.carry_out(&handle);
                    }
                    Some(Order::Reopen) => reopen(name),
                    Some(Order::Reload | Order::Upgrade) => tracing::warn!(
                        signal = name,
                        "this takes a master, which process.mode = \"supervised\" has; nothing \
                         was changed"
                    ),
                    None => {}
                }
            }
        })?;
    Ok(())
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

    #[test]
    fn a_signal_orders_one_thing() {
        for (signal, order) in TABLE {
            assert_eq!(order_of(signal), Some(order));
            assert!(name_of(signal).starts_with("SIG"));
        }
        assert_eq!(order_of(signal_hook::consts::SIGCHLD), None);
    }
}

//! Signals: one table of what each of them orders, for the [master](super::supervisor) and for a
//! [server](super::control).

use std::io;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use super::master::Order;

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
/// them: none interrupts anything, and one that comes while a child is made waits. For programs
/// whose other threads take no signals, as that of the log.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_orders_one_thing() {
        for (signal, order) in TABLE {
            assert_eq!(order_of(signal), Some(order));
            assert!(name_of(signal).starts_with("SIG"));
        }
        assert_eq!(order_of(signal_hook::consts::SIGCHLD), None);
    }
}

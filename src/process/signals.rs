//! Signals that a server obeys.

use std::io;

use signal_hook::consts::{SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use super::worker::ServerHandle;

/// How far the server has been told to go down, in the order of haste.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Descent {
    None,
    Drain,
    Stop,
    StopAtOnce,
}

impl Descent {
    /// What another of these signals means.
    fn after(self, signal: i32) -> Descent {
        match (self, signal) {
            (Descent::None, SIGQUIT) => Descent::Drain,
            (Descent::None | Descent::Drain, _) => Descent::Stop,
            (Descent::Stop | Descent::StopAtOnce, _) => Descent::StopAtOnce,
        }
    }

    fn carry_out(self, handle: &ServerHandle) -> &'static str {
        match self {
            Descent::None => "going on",
            Descent::Drain => {
                handle.drain();
                "draining"
            }
            Descent::Stop => {
                handle.stop();
                "stopping"
            }
            Descent::StopAtOnce => {
                handle.stop_at_once();
                "stopping at once"
            }
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
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGQUIT])?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let mut descent = Descent::None;
            for signal in signals.forever() {
                let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
                descent = descent.after(signal);
                let doing = descent.carry_out(&handle);
                tracing::info!(signal = name, "{doing}");
            }
        })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_signal_makes_more_haste() {
        let descent = Descent::None.after(SIGQUIT);
        assert_eq!(descent, Descent::Drain);
        for signal in [SIGQUIT, SIGTERM, SIGINT] {
            assert_eq!(descent.after(signal), Descent::Stop);
            assert_eq!(descent.after(signal).after(signal), Descent::StopAtOnce);
        }
        assert_eq!(Descent::None.after(SIGTERM), Descent::Stop);
        assert_eq!(Descent::None.after(SIGINT), Descent::Stop);
    }
}

//! Signals that a server obeys.

use std::io;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::worker::ServerHandle;

/// From now on, INT and TERM stop the server of this handle; the second one at once.
///
/// # Errors
///
/// What the operating system says against a handler or a thread.
pub fn stop_on_signals(handle: ServerHandle) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for (count, signal) in signals.forever().enumerate() {
                let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
                if count == 0 {
                    tracing::info!(signal = name, "stopping");
                    handle.stop();
                } else {
                    tracing::info!(signal = name, "stopping at once");
                    handle.stop_at_once();
                }
            }
        })?;
    Ok(())
}

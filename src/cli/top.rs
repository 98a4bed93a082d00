//! `corelane top`: what the dashboard shows, in a terminal, asked for each second; or once, as text.

mod fetch;
mod model;
mod numbers;
mod screen;
mod tables;
mod text;
mod view;

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag;

use super::{Failure, print, resolve_like};
use model::Status;
use screen::Screen;
use view::Palette;

/// Where a server's admin plane is, unless it is told otherwise.
const ADMIN_ADDRESS: &str = "127.0.0.1:8701";

/// From one question to the next.
const ASK_EACH: Duration = Duration::from_secs(1);

/// How long keys are waited for before answers and signals are looked for: people notice no less.
const LOOK_EACH: Duration = Duration::from_millis(50);

#[derive(Args)]
pub(super) struct Arguments {
    /// Admin address of the server (admin.listen of its configuration): host and port
    #[arg(value_name = "ADMIN-ADDR", default_value = ADMIN_ADDRESS)]
    address: String,
    /// Print one snapshot as text and end, for scripts
    #[arg(long)]
    once: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let addresses = resolve_like(&arguments.address, ADMIN_ADDRESS)?;
    if arguments.once {
        let status = fetch::status(&addresses, &arguments.address)
            .map_err(|why| Failure::Run(format!("no answer from {}: {why}", arguments.address)))?;
        return print(&text::snapshot(&status));
    }
    if !io::stdout().is_terminal() {
        return Err(Failure::Usage(
            "stdout is no terminal, which a live view takes; --once prints a snapshot as text"
                .to_owned(),
        ));
    }
    let stop = stop_by_signal().map_err(Failure::run)?;
    let answers = ask_forever(addresses, arguments.address.clone()).map_err(Failure::run)?;
    watch(Screen::new(arguments.address.clone()), &answers, &stop)
}

/// A flag that goes up when a signal asks for the end. HUP is left as it is, and ends the process:
/// it comes when the terminal is gone, so there is nothing to restore. Where it is ignored, as under
/// nohup, [`Keys`] sees that the terminal is gone.
fn stop_by_signal() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGQUIT, SIGTERM] {
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// Asks on a thread of its own, so that keys never wait for a server. It ends with whoever takes the
/// answers.
fn ask_forever(
    addresses: Vec<SocketAddr>,
    host: String,
) -> io::Result<Receiver<Result<Status, String>>> {
    let (sender, answers) = sync_channel(1);
    let ask = move || ask_until_unwanted(&addresses, &host, &sender);
    thread::Builder::new().name("ask".to_owned()).spawn(ask)?;
    Ok(answers)
}

fn ask_until_unwanted(
    addresses: &[SocketAddr],
    host: &str,
    sender: &SyncSender<Result<Status, String>>,
) {
    loop {
        let next = Instant::now() + ASK_EACH;
        if sender.send(fetch::status(addresses, host)).is_err() {
            return;
        }
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// The terminal, which is as it was before when this is dropped. A panic restores it, too, before
/// it is told.
struct Terminal(DefaultTerminal);

impl Terminal {
    fn take() -> io::Result<Terminal> {
        ratatui::try_init()
            .map(Terminal)
            .inspect_err(|_| ratatui::restore())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Err(error) = ratatui::try_restore() {
            // Where the terminal is gone, stderr is too, and there is nobody to tell.
            writeln!(
                io::stderr(),
                "corelane: the terminal can't be restored: {error}"
            )
            .ok();
        }
        if !thread::panicking() {
            // A later panic is none of the screen's.
            drop(panic::take_hook());
        }
    }
}

/// The keys that are typed. crossterm reads them on a thread of its own: once the terminal is gone,
/// it does not come back from that.
struct Keys {
    /// What crossterm reads them from.
    source: OwnedFd,
    typed: Receiver<io::Result<Event>>,
}

impl Keys {
    fn read() -> io::Result<Keys> {
        let stdin = io::stdin();
        let source = if stdin.is_terminal() {
            stdin.as_fd().try_clone_to_owned()?
        } else {
            File::open("/dev/tty")?.into()
        };
        let (sender, typed) = sync_channel(1);
        let read = move || while sender.send(event::read()).is_ok() {};
        thread::Builder::new().name("keys".to_owned()).spawn(read)?;
        Ok(Keys { source, typed })
    }

    /// Waits for a key, but no longer than this. It is an error if there will never be one.
    fn wait(&self, patience: Duration) -> io::Result<Option<Event>> {
        if self.is_gone()? {
            return Err(io::Error::other("it is gone"));
        }
        match self.typed.recv_timeout(patience) {
            Ok(event) => event.map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                Err(io::Error::other("the thread that reads keys has ended"))
            }
        }
    }

    /// Whether the terminal is gone.
    fn is_gone(&self) -> io::Result<bool> {
        let mut polled = [PollFd::new(&self.source, PollFlags::empty())];
        match poll(&mut polled, Some(&Timespec::default())) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(polled[0]
            .revents()
            .intersects(PollFlags::HUP | PollFlags::ERR))
    }
}

/// Shows answers and obeys keys until one of them or a signal asks for the end.
fn watch(
    mut screen: Screen,
    answers: &Receiver<Result<Status, String>>,
    stop: &AtomicBool,
) -> Result<(), Failure> {
    // As https://no-color.org has it: set, and not empty.
    let no_colours = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let palette = Palette::new(!no_colours);
    let mut terminal = Terminal::take().map_err(|error| unusable(&error))?;
    let keys = Keys::read().map_err(|error| unusable(&error))?;
    while !stop.load(Ordering::Relaxed) {
        terminal
            .0
            .draw(|frame| view::draw(frame, &mut screen, &palette))
            .map_err(|error| unusable(&error))?;
        if wait(&mut screen, answers, &keys, stop)? {
            break;
        }
    }
    Ok(())
}

fn unusable(error: &io::Error) -> Failure {
    Failure::Run(format!("the terminal can't be used: {error}"))
}

/// Waits until there is something new to draw, or an end; says whether a key asked for that.
fn wait(
    screen: &mut Screen,
    answers: &Receiver<Result<Status, String>>,
    keys: &Keys,
    stop: &AtomicBool,
) -> Result<bool, Failure> {
    while !stop.load(Ordering::Relaxed) {
        match answers.try_recv() {
            Ok(answer) => {
                screen.take(answer);
                return Ok(false);
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => {
                return Err(Failure::run("the thread that asks the server has ended"));
            }
        }
        match keys.wait(LOOK_EACH).map_err(|error| unusable(&error))? {
            Some(Event::Key(key)) => return Ok(screen.press(key)),
            // Of another size, say.
            Some(_) => return Ok(false),
            None => {}
        }
    }
    Ok(false)
}

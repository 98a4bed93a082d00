//! The control thread of a server: it carries out what operators order by signal, and masters by
//! mail. A companion may run beside that: the server for operators does.
//!
//! The thread is pinned to no core, and behind the shards where it competes with one.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixDatagram as StdUnixDatagram, UnixStream as StdUnixStream};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{getppid, setpriority_process};
use rustix::thread::gettid;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use signal_hook::low_level::emulate_default_handler;
use tokio::io::Interest;
use tokio::net::{UnixDatagram, UnixStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::{LocalSet, yield_now};
use tokio::time::timeout;

use super::handle::ServerHandle;
use super::logging::LogError;
use super::master::Order;
use super::notify::{self, Mailbox};
use super::{launch, logging, signals, watchdog};
use crate::config::Config;

/// Reads and checks the configuration anew; the error is a sentence.
pub type ReadConfig = Box<dyn Fn() -> Result<Config, String> + Send>;

/// How nice the thread is to the shards, as nice(1) has it.
const NICENESS: i32 = 5;

/// How long the companion is waited for at the end.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

/// Mails that are read before signals are looked after again: anybody can send some.
const MAIL_AT_ONCE: usize = 16;

/// How far the server's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It starts.
    Starting,
    /// It serves.
    Serving,
    /// It drains or stops.
    GoingDown,
    /// Likewise, and another process serves in its place.
    Replaced,
    /// It has ended; what is left to do is to be done.
    Ended,
}

/// What runs on the control thread besides: made there, and told how far the server's life is.
pub type Companion =
    Box<dyn FnOnce(watch::Receiver<Stage>) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

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
/// them while it drains. One more stops it at once. While the server starts, each ends the process.
///
/// # Errors
///
/// What the operating system says against a handler or a thread.
pub fn stop_on_signals(handle: ServerHandle) -> io::Result<()> {
    start(handle, None, None, |order| {
        matches!(order, Order::Stop | Order::Quit)
    })
    .map(drop)
}

/// As [`stop_on_signals`], USR1 reopens the log file, and the server reloads as its superior wants
/// it. USR2, and HUP where a master is the superior, are orders for a master: they are logged, and
/// change nothing. The companion runs on the same thread.
///
/// # Errors
///
/// What the operating system says against a handler or a thread.
pub fn obey(
    handle: ServerHandle,
    superior: Superior,
    companion: Option<Companion>,
) -> io::Result<ControlThread> {
    start(handle, Some(superior), companion, |_| true)
}

/// The control thread of a server; it goes on if this is dropped.
#[derive(Debug)]
pub struct ControlThread {
    stage: Arc<watch::Sender<Stage>>,
    thread: JoinHandle<()>,
}

impl ControlThread {
    /// Tells the companion that the server serves, if that was made while it started.
    pub fn serving(&self) {
        move_on(&self.stage, Stage::Serving);
    }

    /// Ends it, since the server has ended: the companion is told so, and has a second to finish
    /// what is under way. Signals are not obeyed any more.
    pub fn end(self) {
        move_on(&self.stage, Stage::Ended);
        if self.thread.join().is_err() {
            tracing::error!("the control thread has panicked");
        }
    }
}

fn start(
    handle: ServerHandle,
    superior: Option<Superior>,
    companion: Option<Companion>,
    takes: impl Fn(Order) -> bool,
) -> io::Result<ControlThread> {
    let taken = signals::TABLE.iter().filter(|(_, order)| takes(*order));
    let (read, write) = StdUnixStream::pair()?;
    let taken = taken.map(|(signal, _)| signal);
    // All that can't be had is told here, before the thread is on its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let sources = {
        let _context = runtime.enter();
        Sources::new(&read, superior.as_ref())?
    };
    let stage = Arc::new(watch::Sender::new(Stage::Starting));
    if handle.has_started() {
        move_on(&stage, Stage::Serving);
    }
    let control = Control {
        handle,
        signals: SignalDelivery::with_pipe(read, write, SignalOnly, taken)?,
        superior,
        descent: Descent::None,
        stage: Arc::clone(&stage),
    };
    let thread = std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || {
            // Where that is forbidden, it is as nice as the others.
            let _ = setpriority_process(Some(gettid()), NICENESS);
            if let Err(error) = run(control, &runtime, sources, companion) {
                tracing::error!("the server obeys no signals any more: {error}");
            }
        })?;
    Ok(ControlThread { stage, thread })
}

/// What the runtime waits on. What it brings is read from elsewhere: from the signals' own end, and
/// from the mailbox.
struct Sources {
    woken: UnixStream,
    mail: Option<UnixDatagram>,
}

impl Sources {
    fn new(signals: &StdUnixStream, superior: Option<&Superior>) -> io::Result<Sources> {
        let woken = signals.try_clone()?;
        woken.set_nonblocking(true)?;
        let mail = match superior {
            Some(Superior::Master(mailbox)) => {
                let socket = StdUnixDatagram::from(mailbox.as_fd().try_clone_to_owned()?);
                Some(UnixDatagram::from_std(socket)?)
            }
            _ => None,
        };
        Ok(Sources {
            woken: UnixStream::from_std(woken)?,
            mail,
        })
    }
}

fn run(
    control: Control,
    runtime: &Runtime,
    sources: Sources,
    companion: Option<Companion>,
) -> io::Result<()> {
    let tasks = LocalSet::new();
    tasks.spawn_local(watchdog::watch(control.handle.clone()));
    let mut stage = control.stage.subscribe();
    let companion = companion.map(|companion| {
        let companion = companion(stage.clone());
        // In a task of its own: its panic would be its end, and nobody else's.
        tasks.spawn_local(async move {
            if let Err(error) = tokio::task::spawn_local(companion).await {
                tracing::error!("what ran beside the server's control has failed: {error}");
            }
        })
    });
    tasks.block_on(runtime, async move {
        tokio::select! {
            outcome = control.run(sources) => return outcome,
            _ = stage.wait_for(|stage| *stage == Stage::Ended) => {}
        }
        if let Some(companion) = companion {
            // Its failure was told.
            let _ = timeout(LAST_WORDS_MAX, companion).await;
        }
        Ok(())
    })
}

/// Never back.
fn move_on(life: &watch::Sender<Stage>, stage: Stage) {
    life.send_if_modified(|now| {
        let moves = *now < stage;
        *now = stage.max(*now);
        moves
    });
}

struct Control {
    handle: ServerHandle,
    signals: SignalDelivery<StdUnixStream, SignalOnly>,
    superior: Option<Superior>,
    descent: Descent,
    stage: Arc<watch::Sender<Stage>>,
}

impl Control {
    /// Never returns but with an error.
    async fn run(mut self, sources: Sources) -> io::Result<()> {
        let Sources { woken, mail } = sources;
        loop {
            let signals = self.pending_signals(&woken);
            // Mail first: it may say what a signal after it is about.
            for _ in 0..MAIL_AT_ONCE {
                match self.next_mail(mail.as_ref(), !signals.is_empty())? {
                    Some((sender, words)) => self.read(sender, &words),
                    None => break,
                }
            }
            for signal in signals {
                match signals::order_of(signal) {
                    Some(Order::Stop | Order::Quit) if !self.handle.has_started() => {
                        break_off(signal)?;
                    }
                    Some(order) => self.carry_out(order, signals::name_of(signal)),
                    None => {}
                }
            }
            // However much there is to read, others have their turn.
            yield_now().await;
            poll_fn(|cx| {
                let mail = mail.as_ref().map(|mail| mail.poll_recv_ready(cx));
                match (woken.poll_read_ready(cx), mail) {
                    (Poll::Ready(ready), _) | (_, Some(Poll::Ready(ready))) => Poll::Ready(ready),
                    _ => Poll::Pending,
                }
            })
            .await?;
        }
    }

    /// All signals that have come. They are read inside of `try_io`, so that whatever comes later
    /// wakes the thread again.
    fn pending_signals(&mut self, woken: &UnixStream) -> Vec<i32> {
        let mut signals = Vec::new();
        let _none_is_left: io::Result<()> = woken.try_io(Interest::READABLE, || {
            signals.extend(self.signals.pending());
            Err(io::ErrorKind::WouldBlock.into())
        });
        signals
    }

    /// The next mail, if there is some; read inside of `try_io` as well. That knows only of what the
    /// runtime has seen; mail that was sent `just_now`, before a signal, is looked for in the mailbox
    /// itself.
    fn next_mail(
        &self,
        socket: Option<&UnixDatagram>,
        just_now: bool,
    ) -> io::Result<Option<(u32, String)>> {
        let (Some(Superior::Master(mailbox)), Some(socket)) = (&self.superior, socket) else {
            return Ok(None);
        };
        if just_now {
            return mailbox.receive();
        }
        let received = socket.try_io(Interest::READABLE, || {
            mailbox.receive()?.ok_or(io::ErrorKind::WouldBlock.into())
        });
        match received {
            Ok(mail) => Ok(Some(mail)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn carry_out(&mut self, order: Order, signal: &str) {
        match (order, &self.superior) {
            (Order::Stop | Order::Quit, _) => {
                self.descent = self.descent.after(order);
                // Before it is done: the process may be gone a moment later.
                tracing::info!(signal, "{}", self.descent.doing());
                move_on(&self.stage, Stage::GoingDown);
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

    fn read(&self, sender: u32, words: &str) {
        if getppid().is_none_or(|master| master.as_raw_pid().unsigned_abs() != sender) {
            tracing::warn!(
                sender,
                "words of a process that is not the master were thrown away"
            );
            return;
        }
        if words == notify::REPLACED {
            self.handle.set_replaced();
            return move_on(&self.stage, Stage::Replaced);
        }
        let Some(config) = launch::config_in_words(words) else {
            tracing::warn!("words of the master that make no sense were thrown away");
            return;
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
}

/// Has the server and the log go by this configuration. Gives back what has changed, for people.
fn take_over(handle: &ServerHandle, config: Config) -> Result<String, String> {
    let log = config.log.clone();
    let changes = handle.reload(config).map_err(|error| error.to_string())?;
    if logging::lacks_file()
        && let Err(error) = logging::reopen()
    {
        tracing::error!("the old log file stays in use: {error}");
    }
    let level = logging::set_level(&log.level)
        .and_then(|()| logging::set_repeats(log.repeats_per_second, log.repeats_burst));
    match level {
        // A program with a log of its own.
        Ok(()) | Err(LogError::None) => {}
        Err(error) => return Err(error.to_string()),
    }
    Ok(if changes.is_empty() {
        "the configuration is the same, nothing has changed".to_owned()
    } else {
        format!("{} changed in place", changes.keys())
    })
}

/// Ends this process as the signal does where nobody has taken it: a server that starts has nobody
/// to see out, and its shards may be long in coming.
fn break_off(signal: i32) -> io::Result<()> {
    let name = signals::name_of(signal);
    tracing::info!(signal = name, "ending while the server starts");
    logging::flush();
    emulate_default_handler(signal)
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
    use std::sync::mpsc;

    use super::*;
    use crate::metrics::latency::Codes;

    /// A control thread that takes no signals, of a server without shards.
    fn control_with(companion: Companion) -> ControlThread {
        let codes = Codes::new([]);
        let handle = ServerHandle::new(Vec::new(), codes, Config::default());
        start(handle, None, Some(companion), |_| false).unwrap()
    }

    #[test]
    fn a_companion_does_what_is_left_to_do_before_the_thread_ends() {
        let (done, is_done) = mpsc::channel();
        let control = control_with(Box::new(move |mut stage| {
            Box::pin(async move {
                stage
                    .wait_for(|stage| *stage == Stage::Ended)
                    .await
                    .unwrap();
                yield_now().await;
                done.send(()).unwrap();
            })
        }));
        control.end();
        is_done.try_recv().unwrap();
    }

    #[test]
    fn a_companion_that_does_not_finish_is_waited_for_no_longer_than_a_second() {
        let control = control_with(Box::new(|_stage| Box::pin(std::future::pending())));
        let began = std::time::Instant::now();
        control.end();
        let took = began.elapsed();
        assert!(
            took >= LAST_WORDS_MAX && took < LAST_WORDS_MAX * 10,
            "{took:?}"
        );
    }

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

//! The server as a library: build it, start it, stop it.
//!
//! Each shard gets a thread of its own, pinned where the configuration says so, with a glommio
//! executor on it. [`ServerBuilder::start`] returns when all of them accept connections.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use glommio::{LocalExecutorBuilder, Placement};

use super::handle::ServerHandle;
use super::listeners;
use super::placement::{PlacementError, place};
use crate::apps::accounts::{Accounts, Sessions};
use crate::apps::topics::{self, Topics};
use crate::config::{Config, ConfigError, Limits};
use crate::handler::{ConnectionId, Context, Local, Reply, Request, Router, panic};
use crate::metrics::latency::Codes;
use crate::metrics::own::{MetricError, Published};
use crate::metrics::{CloseCause, Counters};
use crate::protocol::Message;
use crate::shard::mesh::{Mesh, mesh};
use crate::shard::run::{self, Control, Order, Tuning};
use crate::shard::{Loads, Message as Mail};
use crate::sys::{Doorbell, cpus, host};

/// The server could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is wrong: the caller's mistake.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Two handlers were given for one code: the caller's mistake.
    #[error("message code {code} has two handlers: give each code one")]
    DuplicateHandler {
        /// The code.
        code: u16,
    },
    /// A metric is not as Prometheus wants it: the caller's mistake.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// The shards do not fit the CPUs.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// The host can't run the server.
    #[error("this host can't run corelane: {}", lacks.join("; "))]
    Host {
        /// What it lacks and how to mend it, a sentence each.
        lacks: Vec<String>,
    },
    /// An address can't be listened on.
    #[error("cannot listen on {address}: {}", listen_problem(error))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        error: io::Error,
    },
    /// The address for operators can't be listened on.
    #[error(
        "cannot listen on {address} for admin.listen: {}; give another address with --admin, or off",
        listen_problem(error)
    )]
    Admin {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        error: io::Error,
    },
    /// A socket that was passed on can't be used.
    #[error("a listening socket that was passed on can't be used: {0}")]
    Passed(io::Error),
    /// Somebody told a handle to stop or to drain before all shards had come up.
    #[error("the server was told to stop before all of its shards had come up")]
    Stopped,
    /// A shard did not come up.
    #[error("shard {shard} did not start: {reason}")]
    Shard {
        /// Which one.
        shard: usize,
        /// Why.
        reason: String,
    },
}

fn listen_problem(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there already".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this host has no such address".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "that takes more rights (ports below 1024 are privileged)".to_owned()
        }
        _ => error.to_string(),
    }
}

/// The server ended by itself: a shard failed.
#[derive(Debug, thiserror::Error)]
#[error("shard {shard} failed: {reason}")]
pub struct ServeError {
    shard: usize,
    reason: String,
}

type Factory<S> = dyn Fn(Local<S>) -> S + Send + Sync;

/// Puts a server together; see [`Server::builder`].
pub struct ServerBuilder<S> {
    config: Config,
    factory: Arc<Factory<S>>,
    router: Router<S>,
    duplicate: Option<u16>,
    listeners: Option<Vec<TcpListener>>,
}

impl<S: 'static> ServerBuilder<S> {
    /// Has the server accept from these sockets instead of opening those of `server.listen`, as
    /// [`passed_on`](super::listeners::passed_on) has them. Each is dealt to a shard, the first to
    /// shard 0; where an address has fewer than there are shards, shards share one.
    #[must_use]
    pub fn listeners(mut self, listeners: Vec<TcpListener>) -> Self {
        self.listeners = Some(listeners);
        self
    }

    /// Has a synchronous handler answer the requests with this code. It borrows the state of its
    /// shard and the request's body; what it returns is the reply.
    #[must_use]
    pub fn handler<F>(mut self, code: u16, handler: F) -> Self
    where
        F: Fn(&S, Context<'_>, &[u8]) -> Reply + Send + Sync + 'static,
    {
        if !self.router.handler(code, handler) {
            self.duplicate = Some(code);
        }
        self
    }

    /// Has an asynchronous handler answer the requests with this code. It may await whatever
    /// glommio offers, and what other threads answer; the next frames of its connection wait meanwhile.
    ///
    /// A task that it spawns with glommio may not await other threads: glommio's own wakers (0.12) are
    /// not safe to drop there.
    #[must_use]
    pub fn async_handler<F, Fut>(mut self, code: u16, handler: F) -> Self
    where
        F: Fn(Rc<S>, Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Reply> + 'static,
    {
        if !self.router.async_handler(code, handler) {
            self.duplicate = Some(code);
        }
        self
    }

    /// Has a synchronous handler answer the message `M`, under its code; see
    /// [`message!`](crate::message). A body that is not the message is answered by ERROR BAD_BODY
    /// with a sentence that says what is wrong.
    #[must_use]
    pub fn message_handler<M, F>(mut self, handler: F) -> Self
    where
        M: Message,
        F: Fn(&S, Context<'_>, M::In<'_>) -> Reply + Send + Sync + 'static,
    {
        if !self.router.message_handler::<M, F>(handler) {
            self.duplicate = Some(M::CODE);
        }
        self
    }

    /// The same with an asynchronous handler, an `async |state, request, message| ...`: the message
    /// borrows from the request.
    #[must_use]
    pub fn async_message_handler<M, F>(mut self, handler: F) -> Self
    where
        M: Message,
        F: AsyncFn(Rc<S>, &Request, M::In<'_>) -> Reply + Send + Sync + 'static,
    {
        if !self.router.async_message_handler::<M, F>(handler) {
            self.duplicate = Some(M::CODE);
        }
        self
    }

    /// Has a function called once for each connection that is opened, on its shard, before its first
    /// frame is handled. Several are called in the order in which they were given; a panic in one is
    /// logged and counted.
    #[must_use]
    pub fn on_open<F>(mut self, hook: F) -> Self
    where
        F: Fn(&S, ConnectionId) + Send + Sync + 'static,
    {
        self.router.on_open(hook);
        self
    }

    /// Has a function called once for each connection that was opened, on its shard, when it is over,
    /// with the cause of its end; as for [`ServerBuilder::on_open`]. Nothing that is pushed to it
    /// reaches it any more. If a shard fails, it is not called for the connections that go with it.
    #[must_use]
    pub fn on_close<F>(mut self, hook: F) -> Self
    where
        F: Fn(&S, ConnectionId, CloseCause) + Send + Sync + 'static,
    {
        self.router.on_close(hook);
        self
    }

    /// Has the requests with this code wiped from memory once they are handled or refused, whether
    /// it has a handler or not: they carry a password or the like.
    #[must_use]
    pub fn secret(mut self, code: u16) -> Self {
        self.router.secret(code);
        self
    }

    /// However long the asynchronous handler of this code takes, that is not counted or logged as
    /// slow: it waits by design.
    #[must_use]
    pub fn patient(mut self, code: u16) -> Self {
        self.router.patient(code);
        self
    }

    /// Has the admin server show a metric of the program's own; see [`own`](crate::metrics::own). What
    /// is wrong with it is told by the start.
    #[must_use]
    pub fn metric(mut self, metric: Published<S>) -> Self {
        self.router.metric(metric);
        self
    }

    /// Has REGISTER and LOGIN answered by these accounts.
    #[must_use]
    pub fn accounts(mut self, accounts: &Accounts) -> Self {
        let taken = accounts.serve(&mut self.router);
        self.duplicate = self.duplicate.or(taken);
        self
    }

    /// The same, and has it known who is logged in; see [`Accounts::serve_with_sessions`].
    #[must_use]
    pub fn accounts_with_sessions(
        mut self,
        accounts: &Accounts,
        sessions: impl Fn(&S) -> &Sessions + Clone + Send + Sync + 'static,
    ) -> Self {
        let taken = accounts.serve_with_sessions(&mut self.router, sessions);
        self.duplicate = self.duplicate.or(taken);
        self
    }

    /// Has SUBSCRIBE, UNSUBSCRIBE and PUBLISH answered by the topics that the state of each shard
    /// holds: see [`topics`].
    #[must_use]
    pub fn topics(mut self) -> Self
    where
        S: AsRef<Topics<S>>,
    {
        let taken = topics::serve(&mut self.router);
        self.duplicate = self.duplicate.or(taken);
        self
    }

    /// Starts the server; returns when all shards accept connections.
    ///
    /// # Errors
    ///
    /// [`StartError`] says whose mistake it is. Nothing is left running.
    pub fn start(self) -> Result<Server, StartError> {
        self.start_with(drop).map(|(server, ())| server)
    }

    /// As [`start`](Self::start), and calls this as soon as there is a handle, before the shards come
    /// up: an [admin server](crate::admin) that is begun there shows the server while it starts.
    /// Gives back what it returned, too. If the start fails after the call, the handle
    /// [goes down](ServerHandle::goes_down).
    ///
    /// No shard runs before it returns: what it asks of them is done later, and to wait there for an
    /// answer of [`ServerHandle::run_on`] is to wait for ever.
    ///
    /// # Errors
    ///
    /// [`StartError`] says whose mistake it is. No shard is left running.
    pub fn start_with<T>(
        self,
        starting: impl FnOnce(ServerHandle) -> T,
    ) -> Result<(Server, T), StartError> {
        self.config.validate()?;
        if let Some(code) = self.duplicate {
            return Err(StartError::DuplicateHandler { code });
        }
        if let Some(wrong) = self.router.metrics().wrong() {
            return Err(wrong.clone().into());
        }
        let placement = placement(&self.config)?;
        check_host(&self.config, placement.len())?;
        let listening = match self.listeners {
            Some(sockets) => listeners::by_address(sockets).map_err(StartError::Passed)?,
            None => listeners::open(&self.config, placement.len())?,
        };
        let addresses = listening.iter().map(|of_one| of_one.address).collect();
        let listeners = listeners::deal(listening, placement.len()).map_err(StartError::Passed)?;
        panic::keep_reports();

        let doorbells = doorbells(placement.len())?;
        let controls = doorbells.iter().cloned().map(Control::new);
        let (controls, orders): (Vec<_>, Vec<_>) = controls.unzip();
        let mut server = Server {
            addresses,
            shards: Vec::new(),
            handle: ServerHandle::new(
                controls,
                Codes::new(self.router.codes()),
                self.config.clone(),
            )
            .with_metrics(self.router.metrics().catalogue()),
        };
        let started_with = starting(server.handle());
        let shards = u16::try_from(placement.len()).unwrap_or(u16::MAX);
        let loads = Arc::new(Loads::new(shards));
        let (report, reports) = mpsc::channel();
        let ends = mesh(&doorbells).into_iter().zip(orders);
        let seats = placement.into_iter().zip(listeners).zip(ends);
        for (number, ((cpu, listeners), (mesh, orders))) in seats.enumerate() {
            let plan = Plan {
                number,
                loads: Arc::clone(&loads),
                mesh,
                orders,
                cpu,
                listeners,
                config: self.config.clone(),
                factory: Arc::clone(&self.factory),
                router: self.router.clone(),
                handle: server.handle.clone(),
                report: report.clone(),
            };
            let thread = std::thread::Builder::new()
                .name(format!("shard-{number}"))
                .spawn(move || plan.run())
                .map_err(|error| StartError::Shard {
                    shard: number,
                    reason: format!("no thread for it: {error}"),
                })?;
            server.shards.push(thread);
        }
        drop(report);
        for _ in 0..server.shards.len() {
            match reports.recv() {
                Ok(Ok(())) => {}
                // Dropping the server stops the shards that did come up.
                Ok(Err(error)) => return Err(error),
                // All that were to report have, but for one whose thread has panicked.
                Err(mpsc::RecvError) => return Err(server.failed_start()),
            }
        }
        server.handle.set_started();
        Ok((server, started_with))
    }
}

/// A running server. Dropping it stops it and waits until it has stopped.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    shards: Vec<JoinHandle<Result<Counters, ServeError>>>,
    handle: ServerHandle,
}

impl Server {
    /// A server whose handlers need no state.
    pub fn builder(config: Config) -> ServerBuilder<()> {
        Server::builder_with_state(config, |_shard| ())
    }

    /// A server whose handlers get the state of their shard. The factory makes one for each shard,
    /// on the shard's own thread: the state needs neither `Send` nor a lock. It is given the shard's
    /// [`Local`], which knows its number, and which handlers need to push to other connections or to
    /// have functions run on other shards: keep it in the state for that.
    pub fn builder_with_state<S, F>(config: Config, factory: F) -> ServerBuilder<S>
    where
        S: 'static,
        F: Fn(Local<S>) -> S + Send + Sync + 'static,
    {
        ServerBuilder {
            config,
            factory: Arc::new(factory),
            router: Router::new(),
            duplicate: None,
            listeners: None,
        }
    }

    /// The addresses that it listens on, in the order of `server.listen`, with the real port where
    /// that said 0.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// How many shards it runs.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// A handle to stop it from wherever.
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Waits until the server has stopped: somebody told a handle to, or a shard failed. Gives
    /// back what each shard has counted, in shard order.
    ///
    /// # Errors
    ///
    /// [`ServeError`] names the shard that failed; the others were stopped.
    pub fn wait(mut self) -> Result<Vec<Counters>, ServeError> {
        self.join().into_iter().collect()
    }

    /// Stops what did come up; gives back what did not, and why.
    fn failed_start(mut self) -> StartError {
        self.handle.stop();
        let failure = self.join().into_iter().find_map(Result::err);
        // A shard that comes up no further without having failed was told to.
        failure.map_or(StartError::Stopped, |failure| StartError::Shard {
            shard: failure.shard,
            reason: failure.reason,
        })
    }

    fn join(&mut self) -> Vec<Result<Counters, ServeError>> {
        self.shards
            .drain(..)
            .enumerate()
            .map(|(shard, thread)| {
                thread.join().unwrap_or_else(|payload| {
                    Err(ServeError {
                        shard,
                        reason: format!("it panicked: {}", panic::message_of(payload.as_ref())),
                    })
                })
            })
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.stop();
        self.join();
    }
}

/// What a shard's thread needs to know.
struct Plan<S> {
    number: usize,
    loads: Arc<Loads>,
    mesh: Mesh<Mail<OwnedFd>>,
    orders: mpsc::Receiver<Order>,
    cpu: Option<usize>,
    listeners: Vec<TcpListener>,
    config: Config,
    factory: Arc<Factory<S>>,
    router: Router<S>,
    handle: ServerHandle,
    report: mpsc::Sender<Result<(), StartError>>,
}

impl<S: 'static> Plan<S> {
    fn run(self) -> Result<Counters, ServeError> {
        let Plan { number, handle, .. } = &self;
        let (number, handle) = (*number, handle.clone());
        // A shard that fails ends the server: half a server would go unnoticed.
        let mut stop = StopOnDrop(Some(handle));
        let report = self.report.clone();
        let outcome = self.run_shard();
        if outcome.is_ok() {
            // It was told to end, and so were the others, which may still drain.
            stop.0 = None;
        }
        outcome.map_err(|reason| {
            // Nobody listens any more if the shard had come up.
            let _ = report.send(Err(StartError::Shard {
                shard: number,
                reason: reason.clone(),
            }));
            tracing::error!(shard = number, reason, "a shard failed");
            ServeError {
                shard: number,
                reason,
            }
        })
    }

    fn run_shard(self) -> Result<Counters, String> {
        let placement = self.cpu.map_or(Placement::Unbound, Placement::Fixed);
        let executor = LocalExecutorBuilder::new(placement)
            .name("shard")
            .ring_depth(EXECUTOR_RING_DEPTH)
            .io_memory(EXECUTOR_IO_BYTES)
            .make()
            .map_err(|error| format!("no executor for it: {error}"))?;
        executor.run(async move {
            let start = run::Start {
                number: u16::try_from(self.number).unwrap_or(u16::MAX),
                loads: self.loads,
                mesh: self.mesh,
                tuning: Tuning::from(&self.config),
                orders: self.orders,
                router: self.router,
                factory: move |local| (self.factory)(local),
                listeners: self.listeners,
                controls: Arc::clone(&self.handle.controls),
            };
            let report = self.report;
            let ready = move || {
                // Nobody listens any more if another shard did not come up.
                let _ = report.send(Ok(()));
            };
            run::run(start, ready)
                .await
                .map_err(|error| format!("its io_uring: {error}"))
        })
    }
}

/// Submission entries of the executor's own rings: they carry timers and wake-ups, not messages.
const EXECUTOR_RING_DEPTH: usize = 128;
/// Memory that the executor locks for file I/O, per ring; the least that it takes.
const EXECUTOR_IO_BYTES: usize = 64 * 1024;

struct StopOnDrop(Option<ServerHandle>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.stop();
        }
    }
}

fn check_host(config: &Config, shards: usize) -> Result<(), StartError> {
    let addresses = config.server.listen.len();
    let file_limit = host::raise_file_limit();
    let lacks = host::lacks(shards, addresses);
    if !lacks.is_empty() {
        return Err(StartError::Host {
            lacks: lacks.iter().map(ToString::to_string).collect(),
        });
    }
    note_files(config, file_limit, shards);
    Ok(())
}

/// Logs if the process may not open as many files as the connections would need.
pub(super) fn note_files(config: &Config, file_limit: u64, shards: usize) {
    let addresses = config.server.listen.len();
    let connections_wanted = config.limits.connections;
    let possible = host::connections_per_shard(file_limit, shards, addresses);
    if possible < u64::from(connections_wanted) {
        let text = format!(
            "the limit of open files ({file_limit}) leaves room for {possible} connections per \
             shard, less than limits.connections = {connections_wanted}; raise it with `ulimit -n` \
             or LimitNOFILE="
        );
        // Nobody asked for the default.
        if connections_wanted == Limits::default().connections {
            tracing::info!("{text}");
        } else {
            tracing::warn!("{text}");
        }
    }
}

/// The CPU of each shard on this host, in shard order; `None` where it is not pinned.
pub(crate) fn placement(config: &Config) -> Result<Vec<Option<usize>>, StartError> {
    Ok(place(
        &config.shards,
        &allowed_cpus()?,
        cpus::parallelism(),
    )?)
}

/// The CPUs of this process that no shard is pinned to, for what is to stay out of the shards' way;
/// empty where there are none, or where shards run anywhere.
///
/// # Errors
///
/// [`StartError`], as a start with this configuration would fail.
pub fn spare_cpus(config: &Config) -> Result<Vec<usize>, StartError> {
    let shards = placement(config)?;
    if shards.contains(&None) {
        return Ok(Vec::new());
    }
    let allowed = allowed_cpus()?;
    Ok(allowed
        .into_iter()
        .filter(|&cpu| !shards.contains(&Some(cpu)))
        .collect())
}

fn allowed_cpus() -> Result<Vec<usize>, StartError> {
    cpus::allowed().map_err(|error| StartError::Host {
        lacks: vec![format!("its CPUs can't be told: {error}")],
    })
}

/// What each shard is woken by.
fn doorbells(shards: usize) -> Result<Vec<Doorbell>, StartError> {
    (0..shards)
        .map(|shard| {
            Doorbell::new().map_err(|error| StartError::Shard {
                shard,
                reason: format!("no doorbell for it: {error}"),
            })
        })
        .collect()
}

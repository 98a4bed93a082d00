//! Servers as child processes: started, asked for what they cost, and gone with their handle.
//!
//! Invariant: a child does not outlive its [`Server`], also when the bench panics.

use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use corelane::load::Memory;
use rustix::process::{Signal, set_parent_process_death_signal};
use socket2::{Domain, Protocol, Socket, Type};
use tempfile::TempDir;

use super::flags::Flags;
use super::{Failure, OrFailed as _, epoll_server, glommio_server};

/// The hidden word with which a bench starts itself as a server: `--serve NAME --cpu N`.
pub(crate) const SERVE: &str = "--serve";
const CPU: &str = "--cpu";
const EPOLL: &str = "epoll";
const GLOMMIO: &str = "glommio";
const CORELANE: &str = "corelane";

const READY_WITHIN: Duration = Duration::from_secs(10);
const BACKLOG: i32 = 4096;

/// What can be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Corelane { binary: PathBuf, busy_poll_us: u32 },
    Epoll,
    Glommio,
}

impl Kind {
    /// Corelane, then its peers.
    pub(crate) fn all(binary: PathBuf, busy_poll_us: u32) -> Vec<Kind> {
        let corelane = Kind::Corelane {
            binary,
            busy_poll_us,
        };
        vec![corelane, Kind::Epoll, Kind::Glommio]
    }

    /// The name that `--only` takes.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Kind::Corelane { .. } => CORELANE,
            Kind::Epoll => EPOLL,
            Kind::Glommio => GLOMMIO,
        }
    }

    fn command(&self, cpu: usize) -> Result<Command, Failure> {
        if let Kind::Corelane {
            binary,
            busy_poll_us,
        } = self
        {
            let corelane = Corelane {
                binary,
                shards: 1,
                cpus: Some(&[cpu]),
                busy_poll_us: *busy_poll_us,
                settings: &[],
            };
            return Ok(corelane.command());
        }
        let this = std::env::current_exe().or_failed("the bench does not find its own program")?;
        let mut command = Command::new(this);
        command.args([SERVE, self.name(), CPU, &cpu.to_string()]);
        Ok(command)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A corelane of some shards.
pub(crate) struct Corelane<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) shards: usize,
    /// One for each shard; without, shards run wherever the scheduler puts them.
    pub(crate) cpus: Option<&'a [usize]>,
    pub(crate) busy_poll_us: u32,
    /// More of the configuration, each as `KEY=VALUE`.
    pub(crate) settings: &'a [String],
}

impl Corelane<'_> {
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(self.binary);
        command
            .args(["serve", "--admin", "off", "--listen", "127.0.0.1:0"])
            .args(["--shards", &self.shards.to_string()])
            .args(["--set", "log.level=warn"])
            .args([
                "--set",
                &format!("shards.busy_poll_us={}", self.busy_poll_us),
            ]);
        match self.cpus {
            Some(cpus) => {
                let ids: Vec<String> = cpus.iter().map(usize::to_string).collect();
                command.args(["--cpus", &ids.join(",")]);
            }
            None => {
                command.args(["--set", "shards.pin=false"]);
            }
        }
        for setting in self.settings {
            command.args(["--set", setting]);
        }
        command
    }
}

/// The corelane to measure: the one that cargo built along with this, or that of `--binary`.
pub(crate) fn corelane_binary(flags: &Flags) -> Result<PathBuf, Failure> {
    match flags.last::<PathBuf>("--binary", "a path")? {
        // It runs in a folder of its own, so a relative path must be made absolute.
        Some(path) => std::fs::canonicalize(&path)
            .or_failed(format_args!("--binary {} cannot be used", path.display())),
        None => Ok(PathBuf::from(env!("CARGO_BIN_EXE_corelane"))),
    }
}

/// Those of `kinds` that `--only` names; all of them if it names none.
pub(crate) fn selected<'a>(
    kinds: Vec<Kind>,
    only: impl Iterator<Item = &'a str>,
) -> Result<Vec<Kind>, Failure> {
    let names: Vec<&str> = only.flat_map(|names| names.split(',')).collect();
    if let Some(unknown) = names
        .iter()
        .find(|name| kinds.iter().all(|kind| kind.name() != **name))
    {
        return Err(Failure::Words(format!(
            "--only takes {CORELANE}, {EPOLL} or {GLOMMIO}, and `{unknown}` is none of them"
        )));
    }
    Ok(kinds
        .into_iter()
        .filter(|kind| names.is_empty() || names.contains(&kind.name()))
        .collect())
}

/// A server that runs and accepts.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    /// Where it runs and may leave files.
    _folder: TempDir,
}

impl Server {
    /// Starts it on this CPU and waits until it says that it listens.
    pub(crate) fn start(kind: &Kind, cpu: usize) -> Result<Server, Failure> {
        Server::spawn(kind.name(), kind.command(cpu)?).map_err(|failure| match failure {
            Failure::Running(sentence) => {
                Failure::Running(format!("{sentence}; `--only` measures the others alone"))
            }
            words @ Failure::Words(_) => words,
        })
    }

    /// Starts what `command` says and waits until it says that it listens.
    pub(crate) fn spawn(name: &str, mut command: Command) -> Result<Server, Failure> {
        let folder = tempfile::tempdir().or_failed("no temporary folder can be made")?;
        command
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command
            .spawn()
            .or_failed(format_args!("{name} does not start ({program})"))?;
        let mut server = Server {
            child,
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            _folder: folder,
        };
        server.address = server.wait_until_ready(name)?;
        Ok(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it keeps resident.
    pub(crate) fn memory(&self) -> Result<Memory, Failure> {
        Memory::of_process(self.child.id()).or_failed("the server is gone")
    }

    fn wait_until_ready(&mut self, name: &str) -> Result<SocketAddr, Failure> {
        let stdout = self.child.stdout.take();
        let (found, address) = mpsc::channel();
        // Reads on to the end, so that the child never writes into a full or closed pipe.
        std::thread::spawn(move || find_address(stdout, &found));
        match address.recv_timeout(READY_WITHIN) {
            Ok(address) => Ok(address),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(Failure::Running(format!(
                "{name} did not say within {} s that it listens",
                READY_WITHIN.as_secs()
            ))),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = self.child.wait().or_failed("wait")?;
                Err(Failure::Running(format!(
                    "{name} ended ({status}) before it said that it listens"
                )))
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn find_address(stdout: Option<ChildStdout>, found: &mpsc::Sender<SocketAddr>) {
    let Some(stdout) = stdout else { return };
    for line in BufReader::new(stdout).lines() {
        let Ok(line) = line else { return };
        if let Some(address) = listening_address(&line) {
            // Nobody waits any more after the deadline.
            let _ = found.send(address);
        }
    }
}

/// The address in `NAME: listening on ADDRESS (...)`.
fn listening_address(line: &str) -> Option<SocketAddr> {
    let (_, after) = line.split_once("listening on ")?;
    after.split_whitespace().next()?.parse().ok()
}

/// Runs as one of the peers: the words behind [`SERVE`].
pub(crate) fn serve(words: &[String]) -> Result<(), Failure> {
    // A bench that is killed cannot tidy up: its peers go with it.
    set_parent_process_death_signal(Some(Signal::KILL)).or_failed("prctl")?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let [name, CPU, cpu] = words[..] else {
        return Err(Failure::Words(format!("{SERVE} NAME {CPU} N")));
    };
    let cpu = cpu
        .parse()
        .map_err(|_| Failure::Words(format!("{CPU} takes a number, and `{cpu}` is not one")))?;
    match name {
        EPOLL => epoll_server::serve(cpu),
        GLOMMIO => glommio_server::serve(cpu),
        _ => Err(Failure::Words(format!("{SERVE} {EPOLL}|{GLOMMIO}"))),
    }
}

/// A non-blocking listener on a free port of 127.0.0.1, whose sockets have `TCP_NODELAY`.
pub(crate) fn listener() -> Result<TcpListener, Failure> {
    let bind = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    bind().map_err(|error: std::io::Error| Failure::Running(format!("listen: {error}")))
}

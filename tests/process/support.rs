//! A supervised server in a folder of its own. Dropping it kills master and workers.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use corelane::client::Client;
use corelane::protocol::codes;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub(crate) use crate::waiting::{DEADLINE, until};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_corelane");

/// What lets many servers live side by side on few CPUs.
const MODEST: &str = "server.listen = ['127.0.0.1:0']\n\
    admin.listen = ''\n\
    shards.pin = false\n\
    shards.busy_poll_us = 0\n\
    process.ready_ms = 30000\n";

/// What holds where a test does not say otherwise: log every line, too.
const DEFAULTS: [(&str, &str); 2] = [("shards.count", "1"), ("log.repeats_per_second", "0")];

/// A folder with a configuration, for a server that may be started there.
pub(crate) struct Site {
    pub(crate) folder: TempDir,
}

impl Site {
    /// With these lines of TOML besides the modest ones, for a master.
    pub(crate) fn supervised(lines: &[&str]) -> Site {
        let site = Site {
            folder: tempfile::tempdir().unwrap(),
        };
        site.configure(&[&["process.mode = 'supervised'"], lines].concat());
        site
    }

    /// Writes the configuration anew.
    pub(crate) fn configure(&self, lines: &[&str]) {
        let mut text = MODEST.to_owned();
        for (key, value) in DEFAULTS {
            if !lines.iter().any(|line| line.starts_with(key)) {
                writeln!(text, "{key} = {value}").unwrap();
            }
        }
        writeln!(text, "process.pid_file = '{}'", self.path("pid").display()).unwrap();
        writeln!(text, "log.file = '{}'", self.path("log").display()).unwrap();
        for line in lines {
            writeln!(text, "{line}").unwrap();
        }
        fs::write(self.path("corelane.toml"), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The binary with these words, at this folder.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(words).current_dir(self.folder.path());
        command.stdin(Stdio::null());
        command
    }

    /// Runs the binary with these words until it ends.
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Runs a command that must succeed; gives back what it said.
    #[track_caller]
    pub(crate) fn succeed(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(0), "{output:?}\n{}", self.log());
        assert_eq!(text(&output.stderr), "");
        text(&output.stdout)
    }

    /// Runs a command that must fail with this status; gives back its one sentence.
    #[track_caller]
    pub(crate) fn fail(&self, status: i32, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        assert_eq!(text(&output.stdout), "");
        let stderr = text(&output.stderr);
        let sentence = stderr
            .strip_prefix("corelane: ")
            .unwrap_or_else(|| panic!("{stderr}"));
        assert_eq!(sentence.lines().count(), 1, "{stderr}");
        sentence.trim_end().to_owned()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Where the admin server of the first worker listens.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        const LISTENS: &str = "the admin server listens";
        self.wait_for_log(LISTENS);
        let log = self.log();
        let line = log.lines().find(|line| line.contains(LISTENS)).unwrap();
        let (_, address) = line.split_once("address=").unwrap();
        address.trim().parse().unwrap()
    }

    #[track_caller]
    pub(crate) fn wait_for_log(&self, words: &str) {
        until(words, || self.log().contains(words).then_some(()));
    }

    /// Starts the server; ready when this returns.
    pub(crate) fn start(self) -> Running {
        let command = self.command(&["-c", "corelane.toml"]);
        Running::of(self, command)
    }
}

impl Running {
    /// Starts the server by this command; ready when this returns.
    pub(crate) fn of(site: Site, mut command: Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let announced = line.strip_prefix("corelane: listening on ");
        let Some((address, _)) = announced.and_then(|rest| rest.split_once(' ')) else {
            // Neither a master nor its worker is left behind.
            let _ = child.kill();
            panic!("not an announcement: {line:?}\n{}", site.log());
        };
        Running {
            address: address.parse().unwrap(),
            site,
            child,
            stdout,
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) struct Running {
    pub(crate) site: Site,
    pub(crate) address: SocketAddr,
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Running {
    /// The master, or the only process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The processes of its workers, oldest first.
    pub(crate) fn workers(&self) -> Vec<u32> {
        children(self.pid())
    }

    /// Its only worker; waits until it has but one.
    #[track_caller]
    pub(crate) fn worker(&self) -> u32 {
        until("there is one worker", || match self.workers()[..] {
            [only] => Some(only),
            _ => None,
        })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    /// A connection that has got a reply, from a worker that is not on its way out.
    pub(crate) fn connect(&self) -> Client {
        until("a connection that stays", || {
            let mut client = Client::connect(self.address, DEADLINE).unwrap();
            client.send(codes::PING, b"").unwrap();
            match client.receive().unwrap().code {
                codes::GOAWAY => None,
                code => {
                    assert_eq!(code, codes::PING);
                    Some(client)
                }
            }
        })
    }

    /// Waits until it has ended; gives back the exit status and what it said after it was ready.
    pub(crate) fn ended(mut self) -> (Option<i32>, String) {
        let status = until("the master has ended", || self.child.try_wait().unwrap());
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (status.code(), rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let workers = self.workers();
            // The master first, so that it starts no other.
            let _ = self.child.kill();
            for worker in workers {
                let _ = kill_process(pid(worker), Signal::KILL);
            }
        }
        let _ = self.child.wait();
    }
}

/// A PING and its reply, with nothing before it, and no GOAWAY either.
#[track_caller]
pub(crate) fn ping(client: &mut Client) {
    client.send(codes::PING, b"").unwrap();
    assert_eq!(client.receive().unwrap().code, codes::PING);
}

/// Read twice: a child that ends while the list is read may hide others.
pub(crate) fn children(of: u32) -> Vec<u32> {
    let path = format!("/proc/{of}/task/{of}/children");
    let read = || fs::read_to_string(&path).unwrap_or_default();
    let mut list = read();
    loop {
        let again = read();
        if again == list {
            return list
                .split_whitespace()
                .map(|id| id.parse().unwrap())
                .collect();
        }
        list = again;
    }
}

pub(crate) fn kill(process: u32, signal: Signal) {
    kill_process(pid(process), signal).unwrap();
}

/// Has a process stand still (SIGSTOP), each of its threads.
pub(crate) fn halt(process: u32) {
    kill(process, Signal::STOP);
    let stands = |task: std::io::Result<fs::DirEntry>| {
        let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        // The name may have anything in it, the state behind it is a letter.
        stat.rsplit(") ").next().unwrap().starts_with('T')
    };
    until("it stands still", || {
        let mut tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
        tasks.all(stands).then_some(())
    });
}

fn pid(process: u32) -> Pid {
    Pid::from_raw(process.cast_signed()).unwrap()
}

/// What `ps` shows of a process.
pub(crate) fn title(process: u32) -> String {
    let bytes = fs::read(format!("/proc/{process}/cmdline")).unwrap();
    text(&bytes).trim_end_matches('\0').to_owned()
}

/// The names of a process's threads, sorted.
pub(crate) fn threads(process: u32) -> Vec<String> {
    let folder = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| {
        let name = fs::read_to_string(entry.unwrap().path().join("comm")).unwrap();
        name.trim_end().to_owned()
    };
    let mut names: Vec<String> = folder.map(name).collect();
    names.sort_unstable();
    names
}

pub(crate) const CONNECTS_PER_SECOND: u64 = 200;

/// Connects at the rate until told to stop; gives back how many connections were made.
pub(crate) fn connect_at_rate(running: &Running, stop: &AtomicBool, made: &AtomicU64) {
    let start = Instant::now();
    for number in 0_u64.. {
        let due = start + Duration::from_micros(number * 1_000_000 / CONNECTS_PER_SECOND);
        sleep(due.saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Relaxed) {
            return;
        }
        // What becomes of it is the worker's affair; a dying one takes its connections along.
        TcpStream::connect_timeout(&running.address, DEADLINE)
            .unwrap_or_else(|error| panic!("connect {number}: {error}"));
        made.fetch_add(1, Ordering::Relaxed);
    }
}

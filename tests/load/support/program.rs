//! The real binary as a child process. Dropping it kills it.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::sched_getaffinity;

/// How long a test waits for anything: generous, since it is only reached by a failure.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

const BINARY: &str = env!("CARGO_BIN_EXE_corelane");

/// The binary at work.
pub(crate) struct Program {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

/// What a program that has ended leaves behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Starts the binary with these words.
pub(crate) fn start(words: &[&str]) -> Program {
    Program::of(spawn(Command::new(BINARY).args(words)))
}

/// Starts the binary with these words under limits that a shell sets, like `ulimit -n 40`.
pub(crate) fn start_limited(limits: &str, words: &[&str]) -> Program {
    let script = format!("{limits} && exec \"$0\" \"$@\"");
    let mut shell = Command::new("sh");
    Program::of(spawn(shell.args(["-c", &script, BINARY]).args(words)))
}

/// Starts the binary with these words, none with a blank in it, on a terminal: what it says to
/// stdout and stderr is all on stdout.
///
/// # Panics
///
/// If `script` of util-linux is missing, which stands between here and the terminal.
pub(crate) fn start_on_terminal(words: &[&str]) -> Program {
    let command = format!("{BINARY} {}", words.join(" "));
    let mut script = Command::new("script");
    script.args(["-qec", &command, "/dev/null"]);
    Program::of(spawn(script.env("TERM", "xterm")))
}

/// Starts a server of one shard on a port of the kernel's choice, which leaves the CPUs to others;
/// ready when this returns.
pub(crate) fn serve() -> (Program, SocketAddr) {
    let words = [
        "serve",
        "--admin",
        "off",
        "--listen",
        "127.0.0.1:0",
        "--shards",
        "1",
    ];
    let modest = [
        "--set",
        "shards.pin=false",
        "--set",
        "shards.busy_poll_us=0",
        "--set",
        "log.repeats_per_second=0",
    ];
    let mut child = spawn(Command::new(BINARY).args(words).args(modest));
    let (stdout, first_line) = lines(child.stdout.take().unwrap());
    let server = Program {
        stderr: text(child.stderr.take().unwrap()),
        child,
        stdout,
    };
    let line = first_line.recv_timeout(DEADLINE).unwrap();
    let address = line
        .strip_prefix("corelane: listening on ")
        .and_then(|rest| rest.split(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("not an announcement: {line:?}"));
    (server, address)
}

fn spawn(command: &mut Command) -> Child {
    command
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} is needed: {error}"))
}

/// Reads a pipe to its end on a thread of its own, which ends with the pipe.
fn text(mut pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = pipe.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        // Nobody waits for it any more where the test has failed.
        let _ = read.map(|_| sender.send(text));
    });
    receiver
}

/// The same, and gives out the first line as soon as it is there.
fn lines(pipe: ChildStdout) -> (Receiver<String>, Receiver<String>) {
    let (first_sender, first) = channel();
    let (sender, rest) = channel();
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = String::new();
        if pipe.read_line(&mut line).is_ok() {
            let _ = first_sender.send(line);
        }
        let mut text = String::new();
        let read = pipe.read_to_string(&mut text);
        let _ = read.map(|_| sender.send(text));
    });
    (rest, first)
}

impl Program {
    fn of(mut child: Child) -> Program {
        Program {
            stdout: text(child.stdout.take().unwrap()),
            stderr: text(child.stderr.take().unwrap()),
            child,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// How many sockets it has open.
    pub(crate) fn open_sockets(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.pid());
        std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .filter(|target| target.to_string_lossy().starts_with("socket:"))
            .count()
    }

    /// Waits until it has ended.
    #[track_caller]
    pub(crate) fn ended(mut self) -> Ended {
        let stdout = self.stdout.recv_timeout(DEADLINE);
        let stderr = self.stderr.recv_timeout(DEADLINE);
        Ended {
            stdout: stdout.expect("the program ends in time"),
            stderr: stderr.expect("the program ends in time"),
            status: self.child.wait().unwrap(),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Asserts the exit status and that stderr is one sentence of this program's; gives it back.
    #[track_caller]
    pub(crate) fn failed_with(&self, status: i32) -> &str {
        assert_eq!(self.status.code(), Some(status), "{self:?}");
        let sentence = self
            .stderr
            .strip_prefix("corelane: ")
            .and_then(|rest| rest.strip_suffix('\n'))
            .unwrap_or_else(|| panic!("one sentence is to say why: {self:?}"));
        assert!(!sentence.contains('\n'), "one sentence is enough: {self:?}");
        for alien in ["panicked", "Error {", "Err(", "Some(", "backtrace"] {
            assert!(!sentence.contains(alien), "{self:?}");
        }
        sentence
    }
}

/// A CPU that this process may run on.
pub(crate) fn allowed_cpu() -> usize {
    let allowed = sched_getaffinity(None).unwrap();
    (0..1024).find(|&cpu| allowed.is_set(cpu)).unwrap()
}

/// Waits for what nobody announces.
#[track_caller]
pub(crate) fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain");
        thread::sleep(Duration::from_millis(2));
    }
}

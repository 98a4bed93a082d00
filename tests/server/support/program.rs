//! The real binary as a child process. Dropping it kills it.

use std::io::Read;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use corelane::load::{CpuTime, Memory};
use rustix::process::{Pid, Signal, kill_process};

use super::waiting::DEADLINE;

const BINARY: &str = env!("CARGO_BIN_EXE_corelane");

/// The binary at work.
pub(crate) struct Program {
    child: Child,
    stdout: Arc<Captured>,
    stderr: Arc<Captured>,
}

/// What a program that has ended leaves behind.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit status; `None` if a signal ended it.
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Starts the binary with these words.
pub(crate) fn start(words: &[&str]) -> Program {
    Program::spawn(Command::new(BINARY).args(words))
}

/// Starts the binary with these words under limits that a shell sets, like `ulimit -n 40`.
pub(crate) fn start_limited(limits: &str, words: &[&str]) -> Program {
    let script = format!("{limits} && exec \"$0\" \"$@\"");
    Program::spawn(Command::new("sh").args(["-c", &script, BINARY]).args(words))
}

/// Runs the binary with these words until it ends.
pub(crate) fn run(words: &[&str]) -> Ended {
    start(words).ended()
}

/// Starts a server of one shard on a port of the kernel's choice, with these settings, like
/// `limits.connections=3`; ready when this returns.
pub(crate) fn serve(settings: &[&str]) -> Program {
    let mut words = vec!["--admin", "off", "--listen", "127.0.0.1:0"];
    for setting in MODEST.iter().chain(settings) {
        words.extend(["--set", setting]);
    }
    let server = start(&words);
    server.address();
    server
}

/// What lets many servers live side by side on few CPUs, and log every line.
pub(crate) const MODEST: [&str; 4] = [
    "shards.count=1",
    "shards.pin=false",
    "shards.busy_poll_us=0",
    "log.repeats_per_second=0",
];

impl Program {
    fn spawn(command: &mut Command) -> Program {
        let mut child = command
            .env_remove("NO_COLOR")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = Captured::start(child.stdout.take().unwrap());
        let stderr = Captured::start(child.stderr.take().unwrap());
        Program {
            child,
            stdout,
            stderr,
        }
    }

    /// The address that it listens on; waits until it does.
    pub(crate) fn address(&self) -> SocketAddr {
        self.announcement(0).0
    }

    /// The address and the remark of its n-th line on stdout, from 0.
    pub(crate) fn announcement(&self, index: usize) -> (SocketAddr, String) {
        let line = self.stdout.wait_for("that line of stdout", |text| {
            let (lines, _unfinished) = text.rsplit_once('\n')?;
            lines.lines().nth(index).map(str::to_owned)
        });
        let rest = line.strip_prefix("corelane: listening on ");
        let (address, remark) = rest
            .and_then(|rest| rest.split_once(' '))
            .unwrap_or_else(|| panic!("not an announcement: {line:?}"));
        (address.parse().unwrap(), remark.to_owned())
    }

    /// Waits until its log, on stderr, says `text`.
    pub(crate) fn wait_for_log(&self, text: &str) {
        self.stderr
            .wait_for(text, |log| log.contains(text).then_some(()));
    }

    /// Whether its log, on stderr, has said `text` already.
    pub(crate) fn has_logged(&self, text: &str) -> bool {
        self.count_logged(text) > 0
    }

    /// How often its log, on stderr, has said `text` so far.
    pub(crate) fn count_logged(&self, text: &str) -> usize {
        self.stderr.state.lock().unwrap().text.matches(text).count()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it has ended.
    pub(crate) fn ended(mut self) -> Ended {
        let stdout = self.stdout.wait_for_end();
        let stderr = self.stderr.wait_for_end();
        Ended {
            status: self.child.wait().unwrap().code(),
            stdout,
            stderr,
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How many descriptors it has open.
    pub(crate) fn open_files(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.pid());
        std::fs::read_dir(folder).unwrap().count()
    }

    /// How much CPU time it has used so far.
    pub(crate) fn cpu_time(&self) -> Duration {
        CpuTime::of_process(self.child.id()).unwrap().ran
    }

    /// How much memory it has resident, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        Memory::of_process(self.child.id()).unwrap().resident_bytes
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
    /// Asserts the exit status and that stderr is this program's one sentence; gives it back.
    #[track_caller]
    pub(crate) fn failed_with(&self, status: i32) -> &str {
        assert_eq!(self.status, Some(status), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        let ours: Vec<&str> = self
            .stderr
            .lines()
            .filter_map(|line| line.strip_prefix("corelane: "))
            .collect();
        assert_eq!(ours.len(), 1, "one sentence is to say why: {self:?}");
        assert!(self.stderr.ends_with(&format!("{}\n", ours[0])), "{self:?}");
        for alien in ["panicked", "Error {", "Err(", "Some(", "backtrace"] {
            assert!(!self.stderr.contains(alien), "{self:?}");
        }
        ours[0]
    }

    /// Asserts that it did what it was asked to and said nothing against it; gives back stdout.
    #[track_caller]
    pub(crate) fn succeeded(&self) -> &str {
        assert_eq!(
            (self.status, self.stderr.as_str()),
            (Some(0), ""),
            "{self:?}"
        );
        &self.stdout
    }
}

/// What comes out of a pipe, as it comes.
#[derive(Default)]
struct Captured {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    text: String,
    ended: bool,
}

impl Captured {
    /// The thread ends with the pipe.
    fn start(mut pipe: impl Read + Send + 'static) -> Arc<Captured> {
        let captured = Arc::new(Captured::default());
        let filled = Arc::clone(&captured);
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            loop {
                let length = pipe.read(&mut chunk).unwrap_or(0);
                let mut state = filled.state.lock().unwrap();
                // What the program writes is ASCII but for what it quotes; no test cuts that.
                state.text += &String::from_utf8_lossy(&chunk[..length]);
                state.ended = length == 0;
                filled.changed.notify_all();
                if state.ended {
                    return;
                }
            }
        });
        captured
    }

    fn wait_for<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let state = self.state.lock().unwrap();
        let (state, _) = self
            .changed
            .wait_timeout_while(state, DEADLINE, |state| {
                !state.ended && find(&state.text).is_none()
            })
            .unwrap();
        let text = state.text.clone();
        drop(state);
        find(&text).unwrap_or_else(|| panic!("{what:?} did not come; this did:\n{text}"))
    }

    fn wait_for_end(&self) -> String {
        let state = self.state.lock().unwrap();
        let (state, _) = self
            .changed
            .wait_timeout_while(state, DEADLINE, |state| !state.ended)
            .unwrap();
        let State { text, ended } = &*state;
        let (text, ended) = (text.clone(), *ended);
        drop(state);
        assert!(ended, "the program did not end; it said:\n{text}");
        text
    }
}

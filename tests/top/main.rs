//! `corelane top` as the real binary: as text against a made-up server, on a pseudo-terminal, and
//! where nobody answers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, also where its support does it"
)]

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{Winsize, tcsetwinsize};

const BINARY: &str = env!("CARGO_BIN_EXE_corelane");
const STATUS: &str = include_str!("status.json");

/// What a terminal is told to show another screen, and the one from before.
const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?1049l";

/// A server that answers everybody who asks for its status, until the tests end.
fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || answer_all(&listener));
    address
}

fn answer_all(listener: &TcpListener) {
    for stream in listener.incoming() {
        answer(&stream.unwrap());
    }
}

fn answer(mut stream: &TcpStream) {
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    let request: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    assert_eq!(request[0], "GET /status HTTP/1.1");
    let length = STATUS.len();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{STATUS}");
    stream.write_all(answer.as_bytes()).unwrap();
}

fn top(words: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(BINARY);
    let Output {
        status,
        stdout,
        stderr,
    } = command.arg("top").args(words).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn once_prints_a_snapshot() {
    let (status, stdout, stderr) = top(&[&serve().to_string(), "--once"]);
    assert_eq!((status, stderr.as_str()), (Some(0), ""), "{stdout}");
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[0], "corelane 0.1.0  process 4711  up 1d1h  serving");
    let echo = lines
        .iter()
        .find(|line| line.starts_with("1/ECHO"))
        .unwrap();
    let words: Vec<&str> = echo.split_whitespace().collect();
    let figures = [
        "6429678", "33800", "84us", "135us", "279us", "720us", "1.80ms", "109us", "0",
    ];
    assert_eq!(words[1..], figures);
    assert!(!stdout.contains('\u{1b}'), "{stdout}");
}

#[test]
fn what_goes_wrong_is_told_in_a_sentence() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = listener.local_addr().unwrap().to_string();
    drop(listener);
    let (status, stdout, stderr) = top(&[&nobody, "--once"]);
    assert_eq!((status, stdout.as_str()), (Some(1), ""));
    let sentence =
        format!("corelane: no answer from {nobody}: Connection refused (os error 111)\n");
    assert_eq!(stderr, sentence);

    for words in [&["nonsense", "--once"][..], &["nonsense"]] {
        let (status, _, stderr) = top(words);
        assert_eq!(status, Some(2));
        assert!(
            stderr.starts_with("corelane: nonsense is no address: "),
            "{stderr}"
        );
        assert!(
            stderr.ends_with("give host and port, like 127.0.0.1:8701\n"),
            "{stderr}"
        );
    }

    let (status, _, stderr) = top(&[&nobody]);
    assert_eq!(status, Some(2));
    assert!(stderr.contains("stdout is no terminal"), "{stderr}");
}

/// `corelane top` on a pseudo-terminal, whose settings are told before and after.
struct OnTerminal {
    script: Child,
    said: String,
}

impl OnTerminal {
    fn start(address: &str, variables: &[(&str, &str)]) -> OnTerminal {
        OnTerminal::start_after("", address, variables)
    }

    /// With this done in the shell that becomes `corelane top`.
    fn start_after(done: &str, address: &str, variables: &[(&str, &str)]) -> OnTerminal {
        let top = format!("sh -c '{done} echo pid=$$.; exec {BINARY} top {address}'");
        let command = format!("stty rows 24 cols 80; stty -g; {top}; echo status=$?.; stty -g");
        let script = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .env_remove("NO_COLOR")
            .env("TERM", "xterm-256color")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        OnTerminal {
            script,
            said: String::new(),
        }
    }

    /// Reads until it was said.
    fn wait_for(&mut self, words: &str) {
        let stdout = self.script.stdout.as_mut().unwrap();
        let mut bytes = self.said.clone().into_bytes();
        while !String::from_utf8_lossy(&bytes).contains(words) {
            let mut chunk = [0; 4096];
            let length = stdout.read(&mut chunk).unwrap();
            assert!(length > 0, "it ended without {words:?}: {:?}", self.said);
            bytes.extend_from_slice(&chunk[..length]);
            self.said = String::from_utf8_lossy(&bytes).into_owned();
        }
    }

    /// Tells the terminal that it is as large as this from now on.
    fn resize(&self, rows: u16, columns: u16) {
        let stdin = format!("/proc/{}/fd/0", self.between("pid=", "."));
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(File::open(stdin).unwrap(), size).unwrap();
    }

    fn type_in(&mut self, keys: &str) {
        let stdin = self.script.stdin.as_mut().unwrap();
        stdin.write_all(keys.as_bytes()).unwrap();
    }

    fn between(&self, before: &str, after: &str) -> &str {
        let (_, rest) = self.said.split_once(before).unwrap();
        rest.split_once(after).unwrap().0
    }

    /// Waits for the end, and asserts that it went well and left the terminal as it was.
    #[track_caller]
    fn assert_restored(mut self) -> String {
        let mut rest = String::new();
        let stdout = self.script.stdout.as_mut().unwrap();
        stdout.read_to_string(&mut rest).unwrap();
        self.said += &rest;
        self.script.wait().unwrap();
        assert_eq!(self.between("status=", "."), "0", "{}", self.said);
        let before = self.said.lines().next().unwrap();
        let after = self.said.lines().last().unwrap();
        assert_eq!(before, after, "{}", self.said);
        let (entered, left) = (self.said.find(ENTER), self.said.rfind(LEAVE));
        assert!(entered.unwrap() < left.unwrap(), "{}", self.said);
        assert!(
            self.said.rfind("\u{1b}[?25h") > entered,
            "the cursor is hidden"
        );
        self.said
    }
}

#[test]
fn keys_that_quit_leave_the_terminal_as_it_was() {
    let address = serve().to_string();
    for keys in ["q", "\u{1b}", "\u{3}"] {
        let mut terminal = OnTerminal::start(&address, &[]);
        terminal.wait_for("1/ECHO");
        terminal.type_in(keys);
        terminal.assert_restored();
    }
}

#[test]
fn a_signal_to_end_leaves_the_terminal_as_it_was() {
    let mut terminal = OnTerminal::start(&serve().to_string(), &[]);
    terminal.wait_for("1/ECHO");
    let pid: i32 = terminal.between("pid=", ".").parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    terminal.assert_restored();
}

/// Its size is read where keys are: on another thread than it is drawn by.
#[test]
fn a_terminal_of_another_size_is_filled() {
    let mut terminal = OnTerminal::start(&serve().to_string(), &[]);
    terminal.wait_for("1/ECHO");
    terminal.resize(30, 120);
    // Where the cursor goes for the last line.
    terminal.wait_for("\u{1b}[30;1H");
    terminal.type_in("q");
    terminal.assert_restored();
}

/// A terminal that went away left it turning round and round in reading keys.
#[test]
fn it_ends_with_its_terminal() {
    let terminal = OnTerminal::start_after("trap - HUP;", &serve().to_string(), &[]);
    ends_with_its_terminal(terminal);
}

/// And where the signal is ignored that says so.
#[test]
fn under_nohup_it_ends_with_its_terminal_too() {
    let ignored = "trap \"\" HUP;";
    let terminal = OnTerminal::start_after(ignored, &serve().to_string(), &[]);
    ends_with_its_terminal(terminal);
}

#[track_caller]
fn ends_with_its_terminal(mut terminal: OnTerminal) {
    terminal.wait_for("1/ECHO");
    let process = format!("/proc/{}/stat", terminal.between("pid=", "."));
    terminal.script.kill().unwrap();
    terminal.script.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    // Whoever is to bury it may take long.
    while std::fs::read_to_string(&process).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < deadline, "it goes on without a terminal");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_server_that_comes_later_is_shown_then() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut terminal = OnTerminal::start(&address.to_string(), &[]);
    terminal.wait_for("asked again each second");
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || answer_all(&listener));
    terminal.wait_for("1/ECHO");
    terminal.type_in("q");
    terminal.assert_restored();
}

#[test]
fn colours_are_for_those_who_want_them() {
    let address = serve().to_string();
    let coloured = |variables| {
        let mut terminal = OnTerminal::start(&address, variables);
        terminal.wait_for("1/ECHO");
        terminal.type_in("q");
        // Any colour of the text but the terminal's own, which is 39.
        let said = terminal.assert_restored();
        said.contains("\u{1b}[38;")
            || (0..8).any(|colour| said.contains(&format!("\u{1b}[3{colour}m")))
    };
    assert!(coloured(&[]));
    assert!(!coloured(&[("NO_COLOR", "1")]));
}

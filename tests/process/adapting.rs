//! Reloads that a running worker, or a server without a master, takes over in place.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;

use crate::support::{DEADLINE, Running, Site, ping, until};

use corelane::client::{Client, ClientError};
use corelane::protocol::{Reason, codes};

const SUPERVISED: &str = "process.mode = 'supervised'";

/// A server that reloads by the command, and says what came of it.
fn reload(running: &Running, lines: &[&str]) -> String {
    running.site.configure(&[&[SUPERVISED], lines].concat());
    running.site.succeed(&["reload", "--pid-file", "pid"])
}

#[test]
fn limits_change_under_open_connections() {
    let running = Site::supervised(&["limits.connections_per_ip = 3"]).start();
    let worker = running.worker();
    let mut first = running.connect();
    let mut second = running.connect();
    assert_eq!(
        reload(
            &running,
            &[
                "limits.connections_per_ip = 2",
                "limits.max_frame_bytes = 100"
            ]
        ),
        "reloaded: limits.connections_per_ip, limits.max_frame_bytes changed in place\n"
    );
    assert_eq!(running.worker(), worker);
    // Who is there stays, and nobody else comes in.
    ping(&mut first);
    let mut third = Client::connect(running.address, DEADLINE).unwrap();
    third.receive().unwrap_err();
    // The same connection goes by the new limit from its next frame on.
    expect_too_long(&mut second);
}

/// Asserts that a frame of 101 bytes is one too long for the limit of 100 that is set here.
#[track_caller]
fn expect_too_long(client: &mut Client) {
    let error = client.request(codes::ECHO, &[0; 93]).unwrap_err();
    assert_eq!(error.reason(), Some(Reason::BadLength), "{error}");
}

#[test]
fn a_shorter_time_out_finds_who_was_idle_before() {
    let running =
        Site::supervised(&["timeouts.idle_ms = 0", "timeouts.first_frame_ms = 0"]).start();
    let mut idle = running.connect();
    let said = reload(
        &running,
        &["timeouts.idle_ms = 50", "timeouts.first_frame_ms = 0"],
    );
    assert_eq!(said, "reloaded: timeouts.idle_ms changed in place\n");
    // The ERROR that says why comes first.
    assert_eq!(idle.push().unwrap().code, codes::ERROR);
    let end = idle.push().unwrap_err();
    let ClientError::Dismissed(refusal) = end else {
        panic!("{end}");
    };
    assert_eq!(refusal.reason(), Some(Reason::TimedOut));
}

#[test]
fn the_level_of_the_log_changes_and_a_worker_that_died_comes_back_with_all() {
    let running = Site::supervised(&[]).start();
    running.connect();
    assert!(!running.site.log().contains("DEBUG"));
    assert_eq!(
        reload(
            &running,
            &["log.level = 'debug'", "limits.max_frame_bytes = 100"]
        ),
        "reloaded: limits.max_frame_bytes, log.level changed in place\n"
    );
    running.connect();
    running.site.wait_for_log("DEBUG");
    let worker = running.worker();
    crate::support::kill(worker, Signal::KILL);
    until("another worker serves", || {
        (running.worker() != worker).then_some(())
    });
    let mut client = running.connect();
    expect_too_long(&mut client);
}

#[test]
fn the_log_of_master_and_worker_moves_to_another_file() {
    let running = Site::supervised(&[]).start();
    let (before, after) = (running.site.path("log"), running.site.path("other"));
    let config = running.site.path("corelane.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let [old, new] = [&before, &after].map(|path| format!("'{}'", path.display()));
    std::fs::write(&config, text.replace(&old, &new)).unwrap();
    let said = running.site.succeed(&["reload", "--pid-file", "pid"]);
    assert!(said.starts_with("reloaded: worker "), "{said}");
    until("master and worker log there", || {
        let moved = std::fs::read_to_string(&after).unwrap();
        let is_there = |words: &str| moved.contains(words);
        (is_there(said.trim_end()) && is_there("the worker starts")).then_some(())
    });
    assert!(!running.site.log().contains(said.trim_end()));
}

#[test]
fn what_is_the_same_or_wrong_changes_nothing() {
    let running = Site::supervised(&[]).start();
    let worker = running.worker();
    assert_eq!(
        reload(&running, &[]),
        "reloaded: the configuration is the same, nothing has changed\n"
    );
    running
        .site
        .configure(&[SUPERVISED, "outbound.low_bytes = 0"]);
    let said = running.site.fail(1, &["reload", "--pid-file", "pid"]);
    assert!(said.contains("outbound.low_bytes is 0"), "{said}");
    assert_eq!(running.worker(), worker);
    assert_eq!(
        reload(&running, &["process.respawn_max_ms = 777"]),
        "reloaded: process.respawn_max_ms changed in place\n"
    );
    assert_eq!(running.worker(), worker);
}

#[test]
fn a_worker_that_a_new_program_inherited_takes_reloads_over() {
    let running = Site::supervised(&[]).start();
    running.site.succeed(&["upgrade", "--pid-file", "pid"]);
    let worker = running.worker();
    assert_eq!(
        reload(&running, &["limits.connections = 9"]),
        "reloaded: limits.connections changed in place\n"
    );
    assert_eq!(running.worker(), worker);
}

#[test]
fn mail_of_anybody_but_the_master_changes_nothing() {
    let running = Site::supervised(&["log.level = 'debug'"]).start();
    let listing = std::fs::read_to_string("/proc/net/unix").unwrap();
    let inodes = sockets_of(running.worker());
    let mailbox = listing.lines().find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let is_its = inodes
            .iter()
            .any(|inode| columns.get(6) == Some(&inode.as_str()));
        columns
            .get(7)
            .filter(|path| is_its && path.starts_with('@'))
            .map(|path| (*path).to_owned())
    });
    let mailbox = mailbox.expect("the worker has a mailbox");
    let words = "X_CORELANE_CONFIG\nlimits.max_frame_bytes = 100\n";
    corelane::process::notify::send(mailbox.as_ref(), words).unwrap();
    running
        .site
        .wait_for_log("words of a process that is not the master were thrown away");
    let mut client = running.connect();
    let reply = client.request(codes::ECHO, &[0; 93]).unwrap();
    assert_eq!(reply.code, codes::ECHO);
}

/// The inodes of the sockets that a process has open.
fn sockets_of(process: u32) -> Vec<String> {
    let files = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    files
        .filter_map(|file| {
            let target = std::fs::read_link(file.ok()?.path()).ok()?;
            let inode = target
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect()
}

#[test]
fn a_server_without_a_master_reloads_what_can_change() {
    let site = Site {
        folder: tempfile::tempdir().unwrap(),
    };
    site.configure(&["limits.connections = 5"]);
    let running = site.start();
    let mut client = running.connect();
    let reloads = |lines: &[&str], words: &str| {
        running.site.configure(lines);
        running.signal(Signal::HUP);
        running.site.wait_for_log(words);
    };
    reloads(
        &["limits.connections = 6"],
        "reloaded: limits.connections changed in place",
    );
    reloads(
        &["limits.connections = 6", "server.backlog = 9"],
        "server.backlog can't change while the server runs: start it again, or set it back",
    );
    reloads(
        &["limits.connections = 0"],
        "limits.connections is 0, but must be between",
    );
    reloads(
        &["limits.connections = 6", "limits.max_frame_bytes = 100"],
        "reloaded: limits.max_frame_bytes changed in place",
    );
    ping(&mut client);
    expect_too_long(&mut client);
}

#[test]
fn operators_are_answered_across_reload_upgrade_and_quit() {
    let admin = "admin.listen = '127.0.0.1:0'";
    let site = Site::supervised(&[]);
    let config = site.path("corelane.toml");
    let configure = |shards: u32| {
        let text = std::fs::read_to_string(&config).unwrap();
        let text = text.replace("admin.listen = ''", admin);
        let lines = text
            .lines()
            .filter(|line| !line.starts_with("shards.count"));
        let lines: Vec<&str> = lines.collect();
        let text = format!("{}\nshards.count = {shards}\n", lines.join("\n"));
        std::fs::write(&config, text).unwrap();
    };
    configure(1);
    let running = site.start();
    let address = running.site.admin_address();
    // More than one each: what blocks does so after the first.
    let ask = |expected: &str| {
        for _ in 0..3 {
            let answer = get(address, "/readyz");
            assert!(answer.starts_with(expected), "{answer}");
        }
    };
    ask("HTTP/1.1 200");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = SetOnDrop(&is_over);
        // Whoever answers: neither a worker that starts nor one that goes says that it is not ready.
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                ask("HTTP/1.1 200");
            }
        });
        configure(2);
        let said = running.site.succeed(&["reload", "--pid-file", "pid"]);
        assert!(said.starts_with("reloaded: worker "), "{said}");
        running.site.succeed(&["upgrade", "--pid-file", "pid"]);
    });
    ask("HTTP/1.1 200");
    // It would keep another one's drain from its end otherwise.
    running.worker();
    let half = in_the_middle_of_a_request(running.address);
    running.signal(Signal::QUIT);
    until("readiness ends with the drain", || {
        get(address, "/readyz")
            .starts_with("HTTP/1.1 503")
            .then_some(())
    });
    drop(half);
    assert_eq!(running.ended().0, Some(0));
}

/// A connection that keeps a drain from its end.
fn in_the_middle_of_a_request(address: SocketAddr) -> TcpStream {
    const PING: [u8; 8] = [0, 8, 0, 0, 0, 0, 0, 0];
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(&PING).unwrap();
    let mut reply = [0; 8];
    // Until then it may not have been accepted.
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(reply, PING);
    stream.write_all(&[0, 18, 0]).unwrap();
    stream
}

/// Ends the thread beside it, also where the test fails.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a server answers to a GET.
fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

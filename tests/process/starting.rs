//! What a start shows, and why one fails.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

use corelane::client::Client;
use rustix::process::{Signal, getuid};

use crate::support::{DEADLINE, Running, Site, children, kill, ping, threads, title, until};

#[test]
fn processes_and_threads_show_what_they_are() {
    let running = Site::supervised(&["shards.count = 2"]).start();
    assert_eq!(title(running.pid()), "corelane: master corelane.toml");
    let worker = running.worker();
    assert_eq!(title(worker), "corelane: worker");
    until("the master's threads have their names", || {
        (threads(running.pid()) == ["corelane", "log"]).then_some(())
    });
    // A thread takes its name itself, a moment after it was made.
    for name in ["corelane", "log", "shard-0", "shard-1", "hash-0", "control"] {
        until(name, || {
            threads(worker)
                .iter()
                .any(|known| known == name)
                .then_some(())
        });
    }
}

#[test]
fn the_pid_file_is_the_masters_and_a_second_start_says_who_holds_it() {
    let running = Site::supervised(&[]).start();
    let pid = running.pid();
    assert_eq!(
        fs::read_to_string(running.site.path("pid")).unwrap(),
        format!("{pid}\n")
    );
    let said = running.site.fail(1, &["-c", "corelane.toml"]);
    assert!(
        said.contains(&format!("is held by process {pid}, which runs")),
        "{said}"
    );
    running.connect();
}

#[test]
fn a_worker_that_cannot_start_ends_the_master_with_its_reason() {
    let site = Site::supervised(&[]);
    let words = [
        "-c",
        "corelane.toml",
        "--set",
        "log.file=",
        "--set",
        "log.level=off",
    ];
    let user = [&words[..], &["--set", "process.user=nobody-at-all"]].concat();
    let said = site.fail(1, &user);
    assert!(said.contains("this host has no such user"), "{said}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = site.fail(1, &[&words[..], &["--listen", &address]].concat());
    assert!(
        said.contains("another program listens there already"),
        "{said}"
    );
    assert!(!site.path("pid").exists());
}

#[test]
fn whoever_wants_to_know_is_told_when_it_is_ready_and_when_it_goes_down() {
    let site = Site::supervised(&[]);
    let socket = UnixDatagram::bind(site.path("notify")).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut command = site.command(&["-c", "corelane.toml"]);
    command
        .env("NOTIFY_SOCKET", site.path("notify"))
        .stdout(Stdio::null());
    let running = Running::of(site, command);
    let mut bytes = [0; 64];
    let mut next = || {
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    assert_eq!(next(), "READY=1");
    running.connect();
    running.site.succeed(&["stop", "--pid-file", "pid"]);
    assert_eq!(next(), "STOPPING=1");
}

#[test]
fn the_worker_is_the_user_that_is_configured_and_the_master_is_not() {
    if !getuid().is_root() {
        println!("left out: only root can become another user");
        return;
    }
    let site = Site::supervised(&["process.user = 'nobody'"]);
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(site.folder.path(), open).unwrap();
    let running = site.start();
    let status = |process: u32| fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let uids = |process| {
        let status = status(process);
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:\t"));
        line.unwrap().to_owned()
    };
    assert_eq!(uids(running.pid()), "0\t0\t0\t0");
    assert!(
        !uids(running.worker()).contains('0'),
        "{}",
        uids(running.worker())
    );
    running.site.wait_for_log("a worker was started");
    until("it serves", || Some(running.connect()));
}

#[test]
fn a_daemon_is_ready_when_its_command_returns_and_has_left_its_terminal() {
    let site = Site::supervised(&["process.daemon = true"]);
    // Output ends with the pipes: nobody may hold them any more.
    let said = site.succeed(&["-c", "corelane.toml"]);
    let daemon = Daemon::of(&site);
    let rest = said.strip_prefix("corelane: listening on ").unwrap();
    let address = rest.split(' ').next().unwrap().parse().unwrap();
    let mut client = Client::connect(address, DEADLINE).unwrap();
    ping(&mut client);

    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.0)).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let (session, terminal) = (fields[3], fields[4]);
    assert_eq!(
        (session, terminal),
        (daemon.0.to_string().as_str(), "0"),
        "{stat}"
    );
    for process in [vec![daemon.0], children(daemon.0)].concat() {
        for stream in 0..3 {
            let target = fs::read_link(format!("/proc/{process}/fd/{stream}")).unwrap();
            // The worker's input was its configuration.
            assert_eq!(target.to_str().unwrap(), "/dev/null", "{process} {stream}");
        }
    }
    let said = site.fail(1, &["-c", "corelane.toml"]);
    assert!(
        said.contains(&format!("is held by process {}, which runs", daemon.0)),
        "{said}"
    );
    site.succeed(&["stop", "--pid-file", "pid"]);
}

/// Stops a daemon that a failed test has left.
struct Daemon(u32);

impl Daemon {
    fn of(site: &Site) -> Daemon {
        let pid = fs::read_to_string(site.path("pid")).unwrap();
        Daemon(pid.trim().parse().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Its worker follows.
            kill(self.0, Signal::KILL);
        }
    }
}

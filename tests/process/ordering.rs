//! Orders: by signal, and by the commands that find the master, wait for the effect and report it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use rustix::process::Signal;

use crate::support::{Site, ping, until};

const PID_FILE: [&str; 2] = ["--pid-file", "pid"];

#[test]
fn stop_and_quit_end_master_and_worker_and_leave_nothing_behind() {
    for word in ["stop", "quit"] {
        let running = Site::supervised(&[]).start();
        let mut client = running.connect();
        let pid = running.pid();
        let said = running.site.succeed(&[word, PID_FILE[0], PID_FILE[1]]);
        assert_eq!(said, format!("stopped: process {pid} has ended\n"));
        assert!(!running.site.path("pid").exists());
        // Drained, it may get GOAWAY first.
        while client.receive().is_ok() {}
        let address = running.address;
        assert_eq!(running.ended(), (Some(0), String::new()));
        assert!(TcpStream::connect(address).is_err());
    }
}

#[test]
fn the_signals_of_a_stop_end_it_with_status_0() {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let running = Site::supervised(&[]).start();
        running.signal(signal);
        assert_eq!(running.ended(), (Some(0), String::new()), "{signal:?}");
    }
}

#[test]
fn a_second_signal_hastens_a_drain() {
    let running = Site::supervised(&["timeouts.drain_ms = 3600000"]).start();
    let mut stream = TcpStream::connect(running.address).unwrap();
    // A PING and half of another: the drain waits for the rest.
    stream
        .write_all(&[0, 8, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0])
        .unwrap();
    stream.read_exact(&mut [0; 8]).unwrap();
    running.signal(Signal::QUIT);
    running.site.wait_for_log("draining signal=\"SIGQUIT\"");
    running.signal(Signal::TERM);
    assert_eq!(running.ended().0, Some(0));
}

#[test]
fn reopen_has_master_and_worker_write_to_the_new_log() {
    let running = Site::supervised(&[]).start();
    let site = &running.site;
    fs::rename(site.path("log"), site.path("log.1")).unwrap();
    assert_eq!(
        site.succeed(&["reopen", "--pid-file", "pid"]),
        "reopened the log\n"
    );
    site.wait_for_log("the log file was reopened");
    site.wait_for_log(" reopened the log");
}

#[test]
fn a_reload_replaces_the_worker_and_ends_no_connect() {
    let running = Site::supervised(&[]).start();
    let old = running.worker();
    running
        .site
        .configure(&["process.mode = 'supervised'", "server.backlog = 7"]);
    let said = running.site.succeed(&["reload", "-c", "corelane.toml"]);
    let new = running.worker();
    assert_eq!(said, format!("reloaded: worker {old} replaced by {new}\n"));
    running.connect();
}

#[test]
fn fewer_shards_leave_no_socket_without_one_who_accepts() {
    let running = Site::supervised(&["shards.count = 4"]).start();
    running
        .site
        .configure(&["process.mode = 'supervised'", "shards.count = 1"]);
    running.site.succeed(&["reload", "-c", "corelane.toml"]);
    running.worker();
    // The kernel spreads these over all four sockets.
    for _ in 0..64 {
        running.connect();
    }
}

/// Its sockets once listened from the beginning, and the kernel went on to put connections there.
#[test]
fn a_new_worker_that_fails_leaves_no_socket_without_one_who_accepts() {
    let running = Site::supervised(&[]).start();
    let worker = running.worker();
    let config = running.site.path("corelane.toml");
    let right = fs::read_to_string(&config).unwrap();
    let more = |text: &str| {
        let text = text.replace("shards.count = 1", "shards.count = 4");
        fs::write(&config, text).unwrap();
    };
    // Only who opens it can tell that it can't be.
    let log = running.site.path("log").display().to_string();
    more(&right.replace(&log, &format!("{log}/none")));
    for _ in 0..2 {
        let said = running.site.fail(1, &["reload", "--pid-file", "pid"]);
        assert!(said.contains("nothing has changed"), "{said}");
        for _ in 0..32 {
            running.connect();
        }
    }
    assert_eq!(running.worker(), worker);
    more(&right);
    running.site.succeed(&["reload", "--pid-file", "pid"]);
    for _ in 0..32 {
        running.connect();
    }
}

#[test]
fn a_wrong_configuration_changes_nothing_and_is_told_with_its_place() {
    let running = Site::supervised(&[]).start();
    let worker = running.worker();
    let mut client = running.connect();
    running
        .site
        .configure(&["process.mode = 'supervised'", "limits.connections = 0"]);
    let said = running.site.fail(1, &["reload", "--pid-file", "pid"]);
    let place = "not reloaded, nothing has changed: corelane.toml:";
    assert!(said.starts_with(place), "{said}");
    assert!(
        said.contains("limits.connections is 0, but must be"),
        "{said}"
    );
    running.site.wait_for_log(&said);
    ping(&mut client);
    assert_eq!(running.worker(), worker);
}

#[test]
fn what_takes_a_new_start_is_refused() {
    let running = Site::supervised(&[]).start();
    running.site.configure(&["process.mode = 'single'"]);
    let said = running.site.fail(1, &["reload", "--pid-file", "pid"]);
    assert!(
        said.contains("process.mode has changed, which takes a new start"),
        "{said}"
    );
}

#[test]
fn an_address_in_use_changes_nothing() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    let running = Site::supervised(&[]).start();
    let set = format!("server.listen = ['{taken}']");
    let text = fs::read_to_string(running.site.path("corelane.toml")).unwrap();
    let text = text.replace("server.listen = ['127.0.0.1:0']", &set);
    fs::write(running.site.path("corelane.toml"), text).unwrap();
    let said = running.site.fail(1, &["reload", "--pid-file", "pid"]);
    assert!(
        said.contains(&format!("cannot listen on {taken}")),
        "{said}"
    );
    running.connect();
}

#[test]
fn pid_files_that_lead_nowhere_are_told() {
    let site = Site::supervised(&[]);
    let said = site.fail(1, &["stop", "--pid-file", "pid"]);
    assert!(
        said.starts_with("cannot read the pid file pid: No such file"),
        "{said}"
    );
    fs::write(site.path("pid"), format!("{}\n", std::process::id())).unwrap();
    let said = site.fail(1, &["stop", "--pid-file", "pid"]);
    assert!(said.contains("is stale: it names process"), "{said}");
    fs::write(site.path("pid"), "hello\n").unwrap();
    let said = site.fail(1, &["reload", "--pid-file", "pid"]);
    assert!(said.contains("is not a pid file"), "{said}");
    let said = site.fail(2, &["stop"]);
    assert!(
        said.starts_with("which server? give --pid-file FILE"),
        "{said}"
    );
}

#[test]
fn what_only_a_master_can_do_is_told() {
    let site = Site::supervised(&[]);
    site.configure(&[]);
    let running = site.start();
    let said = running.site.fail(1, &["reload", "--pid-file", "pid"]);
    assert!(said.contains("is no master, so nobody answers"), "{said}");
    running.signal(Signal::USR2);
    running.site.wait_for_log("this takes a master");
    running.connect();
    running.site.succeed(&["stop", "--pid-file", "pid"]);
    until("the pid file is gone", || {
        (!running.site.path("pid").exists()).then_some(())
    });
}

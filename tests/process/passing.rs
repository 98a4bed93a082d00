//! Sockets that were passed on, as systemd passes those of a socket unit.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Command, Output, Stdio};

use corelane::client::Client;

use crate::support::{BINARY, DEADLINE, Running, Site, ping};

/// The binary with these variables and descriptor 3; `$$` is its process id.
fn command(site: &Site, variables: &str, passed: OwnedFd, words: &[&str]) -> Command {
    let script = format!("{variables} exec \"$0\" \"$@\" 3<&0 </dev/null");
    let mut command = Command::new("sh");
    command
        .args(["-c", &script, BINARY])
        .args(words)
        .current_dir(site.folder.path())
        .stdin(Stdio::from(passed));
    command
}

fn failed(site: &Site, variables: &str) -> String {
    let passed = TcpListener::bind("127.0.0.1:0").unwrap();
    let words = ["-c", "corelane.toml"];
    let Output { status, stderr, .. } = command(site, variables, passed.into(), &words)
        .output()
        .unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{stderr}");
    stderr
        .strip_prefix("corelane: ")
        .unwrap()
        .trim_end()
        .to_owned()
}

#[test]
fn a_server_and_a_master_serve_on_what_was_passed_on() {
    for lines in [
        &["shards.count = 3"][..],
        &["shards.count = 3", "process.mode = 'supervised'"],
    ] {
        let passed = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = passed.local_addr().unwrap();
        let site = Site::supervised(&[]);
        site.configure(lines);
        let variables = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=corelane.socket";
        let words = ["-c", "corelane.toml"];
        let command = command(&site, variables, passed.into(), &words);
        let running = Running::of(site, command);
        assert_eq!(running.address, address);
        let mut clients: Vec<Client> = (0..8)
            .map(|_| Client::connect(address, DEADLINE).unwrap())
            .collect();
        clients.iter_mut().for_each(ping);
        running.site.succeed(&["stop", "--pid-file", "pid"]);
        assert_eq!(running.ended().0, Some(0));
    }
}

#[test]
fn what_was_passed_on_to_another_process_is_not_taken() {
    let passed = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = passed.local_addr().unwrap();
    let site = Site::supervised(&[]);
    let command = command(
        &site,
        "LISTEN_PID=1 LISTEN_FDS=1",
        passed.into(),
        &["-c", "corelane.toml"],
    );
    assert_ne!(Running::of(site, command).address, address);
}

#[test]
fn half_a_set_and_what_is_no_listener_are_told() {
    for mode in ["single", "supervised"] {
        let site = Site::supervised(&[]);
        site.configure(&[&format!("process.mode = '{mode}'")]);
        let said = failed(&site, "LISTEN_FDS=1");
        assert!(
            said.starts_with("LISTEN_FDS is set, but LISTEN_PID is not"),
            "{said}"
        );
        let said = failed(&site, "LISTEN_PID=$$ LISTEN_FDS=60");
        let words = "was passed on as LISTEN_FDS=60 says, but it is not there: it must be a";
        assert!(said.contains(words), "{said}");
        let said = failed(&site, "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=a:b");
        assert!(said.contains("must be 1 names"), "{said}");
    }
}

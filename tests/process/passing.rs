//! Sockets that were passed on, as systemd passes those of a socket unit.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use corelane::client::Client;
use corelane::config::Override;
use corelane::protocol::codes;
use corelane::{Config, Local, Server, apps};
use socket2::{Domain, SockRef, Socket, Type};

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

/// A socket that has an address and does not listen.
fn silent() -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    socket.into()
}

fn two_shards() -> Config {
    let set = ["shards.count=2", "shards.pin=false"];
    Config::load(None, &set.map(|text| Override::parse(text).unwrap())).unwrap()
}

/// A reload to more shards once left connections waiting for ever in the socket of a shard that had
/// not come up: sockets listened before there was anybody to accept.
#[test]
fn a_socket_that_does_not_listen_does_when_all_shards_are_up_and_not_before() {
    let silent = silent();
    let keep = silent.try_clone().unwrap();
    let listens = move || SockRef::from(&keep).is_listener().unwrap();
    let probe = silent.try_clone().unwrap();
    let server = Server::builder_with_state(two_shards(), move |local: Local<()>| {
        if local.shard() == 1 {
            // The other has long come up.
            thread::sleep(Duration::from_millis(100));
            assert!(!SockRef::from(&probe).is_listener().unwrap());
        }
    });
    let server = server.listeners(vec![silent]);
    let server = server.handler(codes::PING, apps::ping).start().unwrap();
    assert!(listens());
    ping(&mut Client::connect(server.addresses()[0], DEADLINE).unwrap());
}

#[test]
fn a_socket_that_does_not_listen_never_does_for_a_server_that_does_not_come_up() {
    let silent = silent();
    let keep = silent.try_clone().unwrap();
    let server = Server::builder_with_state(two_shards(), |local: Local<()>| {
        assert_ne!(local.shard(), 1);
    });
    let error = server.listeners(vec![silent]).start().unwrap_err();
    assert!(error.to_string().starts_with("shard 1"), "{error}");
    assert!(!SockRef::from(&keep).is_listener().unwrap());
}

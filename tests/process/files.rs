//! What a server takes of open files besides its connections is what it says that it needs.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use crate::support::{BINARY, Running, Site, until};

/// Connections of the admin server, and the one that waits for a place.
const OPERATORS: usize = 64 + 1;

/// The part of a sum that does not grow with the shards.
fn of_process(with: impl Fn(u64) -> u64) -> u64 {
    3 * with(2) - 2 * with(3)
}

/// What a server of so many shards says that it needs, with a connection each.
fn needed(shards: u64) -> u64 {
    let serve = format!(
        "ulimit -n 40 && exec {BINARY} --listen 127.0.0.1:0 --shards {shards} --set shards.pin=false --admin 127.0.0.1:0"
    );
    let output = Command::new("sh").args(["-c", &serve]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let (_, rest) = said
        .split_once("at least ")
        .unwrap_or_else(|| panic!("{said}"));
    rest.split(' ').next().unwrap().parse().unwrap()
}

/// What the worker of a server of so many shards has open, with all operators that it lets in.
fn open(shards: u64) -> u64 {
    let site = Site::supervised(&[&format!("shards.count = {shards}")]);
    let config = site.path("corelane.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace("admin.listen = ''", "admin.listen = '127.0.0.1:0'");
    fs::write(&config, text).unwrap();
    let running = site.start();
    let admin = running.site.admin_address();
    let before = settled(&running);
    let _operators: Vec<TcpStream> = (0..OPERATORS).map(|_| half_a_request(admin)).collect();
    until("all operators are let in", || {
        let files = files_of(&running);
        (files >= before + OPERATORS).then_some(files as u64)
    })
}

/// Who is in the middle of one does not make room for others.
fn half_a_request(admin: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.write_all(b"GET /healthz HT").unwrap();
    stream
}

/// What is open at rest: what the worker has needed to say that it is ready is closed a moment later.
fn settled(running: &Running) -> usize {
    let (mut last, mut times) = (0, 0);
    until("the worker is at rest", || {
        let files = files_of(running);
        times = if files == last { times + 1 } else { 0 };
        last = files;
        (times == 5).then_some(files)
    })
}

fn files_of(running: &Running) -> usize {
    let files = fs::read_dir(format!("/proc/{}/fd", running.worker())).unwrap();
    files.count()
}

#[test]
fn a_process_has_no_more_files_open_than_it_says_that_it_needs() {
    let (open, needed) = (of_process(open), of_process(needed));
    assert!(open >= OPERATORS as u64, "{open}");
    assert!(open <= needed, "{open} are open, and {needed} counted");
}

//! A peer as a child process, which is gone with its handle.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity};

/// How long anything may take: only a peer that hangs gets so far.
const PATIENCE: Duration = Duration::from_secs(30);

/// A peer that listens.
pub(crate) struct Peer {
    child: Child,
    address: SocketAddr,
}

impl Peer {
    pub(crate) fn start(program: impl AsRef<OsStr>) -> Peer {
        let mut child = Command::new(program)
            .args(["--listen", "127.0.0.1:0", "--cpu", &first_cpu().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .trim_end()
            .split_once(": listening on ")
            .map(|(_, a)| a);
        let mut peer = Peer {
            child,
            address: ([127, 0, 0, 1], 0).into(),
        };
        let Some(address) = address else {
            panic!("it said {line:?}, and is {:?}", peer.child.try_wait());
        };
        peer.address = address.parse().unwrap();
        peer
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    pub(crate) fn resident_bytes(&self) -> usize {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: usize = resident
            .and_then(|value| value.split_whitespace().next()?.parse().ok())
            .unwrap();
        kib * 1024
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn first_cpu() -> usize {
    let allowed = sched_getaffinity(None).unwrap();
    (0..CpuSet::MAX_CPU)
        .find(|&cpu| allowed.is_set(cpu))
        .unwrap()
}

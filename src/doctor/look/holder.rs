//! Who listens on an address.

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::super::facts::Holder;
use super::overlap;
use super::tree::Tree;

/// LISTEN, as /proc/net/tcp writes it.
const LISTENING: &str = "0A";

/// A process that listens on the address, or one that holds it; `None` where none can be seen, as
/// another user's can't.
pub(super) fn of(tree: &Tree, address: SocketAddr) -> Option<Holder> {
    let sockets: HashSet<String> = ["proc/net/tcp", "proc/net/tcp6"]
        .into_iter()
        .filter_map(|file| tree.text(file))
        .flat_map(|table| listening(&table, address))
        .collect();
    if sockets.is_empty() {
        return None;
    }
    let holds = |pid: &u32| {
        let folder = format!("proc/{pid}/fd");
        tree.names(&folder).iter().any(|descriptor| {
            let link = fs::read_link(tree.path(&format!("{folder}/{descriptor}")));
            link.is_ok_and(|target| {
                target
                    .to_str()
                    .is_some_and(|target| sockets.contains(target))
            })
        })
    };
    let holders: Vec<Holder> = tree
        .processes()
        .filter(holds)
        .filter_map(|pid| process(tree, pid))
        .collect();
    // Who is not ours is what matters; of ours, the oldest is the master.
    let foreign = holders.iter().find(|holder| !holder.is_ours);
    foreign
        .or(holders.iter().min_by_key(|holder| holder.pid))
        .cloned()
}

/// A process by its id; whether it is ours is told by its name.
pub(super) fn process(tree: &Tree, pid: u32) -> Option<Holder> {
    let name = tree.word(&format!("proc/{pid}/comm"))?;
    let is_ours = tree.word("proc/self/comm").as_ref() == Some(&name);
    Some(Holder {
        pid,
        is_ours: is_ours || pid == 1 && name == "systemd",
        name,
    })
}

/// The sockets that listen on an address, as links to them read.
fn listening(table: &str, address: SocketAddr) -> Vec<String> {
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let local = parsed(fields.get(1)?)?;
        let is_it = overlap(local, address) && fields.get(3) == Some(&LISTENING);
        let inode = fields.get(9)?;
        is_it.then(|| format!("socket:[{inode}]"))
    };
    table.lines().skip(1).filter_map(socket).collect()
}

/// An address as in /proc/net/tcp: words of 32 bits as they are in memory, and the port.
fn parsed(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let mut bytes = Vec::new();
    for word in ip.as_bytes().chunks(8) {
        let word = u32::from_str_radix(str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ip = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(bytes) => IpAddr::from(Ipv4Addr::from(bytes)),
        Err(_) => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

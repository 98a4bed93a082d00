//! Who listens on a port.

use std::collections::HashSet;
use std::fs;

use super::super::facts::Holder;
use super::tree::Tree;

/// LISTEN, as /proc/net/tcp writes it.
const LISTENING: &str = "0A";

/// A process that listens on the port; `None` where none can be seen, as another user's can't.
pub(super) fn of_port(tree: &Tree, port: u16) -> Option<Holder> {
    let sockets: HashSet<String> = ["proc/net/tcp", "proc/net/tcp6"]
        .into_iter()
        .filter_map(|file| tree.text(file))
        .flat_map(|table| listening(&table, port))
        .collect();
    if sockets.is_empty() {
        return None;
    }
    let own_name = tree.word("proc/self/comm");
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
    let holder = |pid| {
        let name = tree.word(&format!("proc/{pid}/comm"))?;
        Some(Holder {
            pid,
            is_ours: Some(&name) == own_name.as_ref() || pid == 1 && name == "systemd",
            name,
        })
    };
    let holders: Vec<Holder> = tree.processes().filter(holds).filter_map(holder).collect();
    // Who is not ours is what matters; of ours, the oldest is the master.
    let foreign = holders.iter().find(|holder| !holder.is_ours);
    foreign
        .or(holders.iter().min_by_key(|holder| holder.pid))
        .cloned()
}

/// The sockets that listen on a port, as links to them read.
fn listening(table: &str, port: u16) -> Vec<String> {
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
        let is_it =
            u16::from_str_radix(local_port, 16) == Ok(port) && fields.get(3) == Some(&LISTENING);
        let inode = fields.get(9)?;
        is_it.then(|| format!("socket:[{inode}]"))
    };
    table.lines().skip(1).filter_map(socket).collect()
}

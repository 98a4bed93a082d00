//! Listening sockets: opened for a configuration, or passed on by whoever started this process.
//!
//! Passed on they are by the convention of sd_listen_fds(3): by the master, and by systemd for a
//! socket unit. Each listening socket is some shard's, however many there are of either: one that
//! is nobody's would keep the connections that the kernel puts there waiting for ever. A master passes
//! on some that do not listen yet; they do when all shards are up.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::{SocketAddr, TcpListener};

use super::worker::{StartError, placement};
use crate::config::Config;
use crate::sys::{passed, socket};

/// What was passed on is wrong: a mistake of whoever started this process.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PassedError {
    /// LISTEN_PID or LISTEN_FDS without the other.
    #[error(
        "{there} is set, but {missing} is not: whoever passes sockets on has to set both, as \
         sd_listen_fds(3) says; unset {there} to open sockets as configured"
    )]
    Half {
        /// Which is set.
        there: &'static str,
        /// Which is not.
        missing: &'static str,
    },
    /// One of the variables says nonsense.
    #[error("{name} is {value:?}, but must be {right}")]
    Variable {
        /// Which.
        name: &'static str,
        /// What it says.
        value: String,
        /// What would be right.
        right: String,
    },
    /// A descriptor is not what it should be.
    #[error(
        "descriptor {number} was passed on as LISTEN_FDS={count} says, but it is {problem}: it must \
         be a listening TCP socket"
    )]
    Descriptor {
        /// Which.
        number: i32,
        /// How many were to be passed on.
        count: usize,
        /// What is wrong about it.
        problem: String,
    },
}

/// Sockets that were passed on.
#[derive(Debug, Default)]
pub struct PassedOn {
    /// Those that clients connect to.
    pub serving: Vec<TcpListener>,
    /// The one that operators connect to: that with the name [`ADMIN`], if there is one.
    pub admin: Option<TcpListener>,
}

/// The name, in LISTEN_FDNAMES, of the socket for `admin.listen`.
pub const ADMIN: &str = "admin";

/// The listening sockets that were passed on to this process, if any were. They can be taken once.
///
/// # Errors
///
/// [`PassedError`], one sentence each.
pub fn passed_on() -> Result<Option<PassedOn>, PassedError> {
    let Some(count) = count(|name| std::env::var_os(name), std::process::id())? else {
        return Ok(None);
    };
    let problem = |number, problem: String| PassedError::Descriptor {
        number,
        count,
        problem,
    };
    let descriptors = passed::take(count).map_err(|(number, error)| {
        let what = match error.kind() {
            io::ErrorKind::AlreadyExists => "taken already",
            _ => "not there",
        };
        problem(number, what.to_owned())
    })?;
    let why = |number, error: &io::Error| match error.kind() {
        io::ErrorKind::InvalidInput => problem(number, "something else".to_owned()),
        _ => problem(number, format!("not usable ({error})")),
    };
    let names = std::env::var_os("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.to_string_lossy();
    let mut names = names.split(':');
    let mut passed_on = PassedOn::default();
    for (fd, number) in descriptors.into_iter().zip(3..) {
        if names.next() == Some(ADMIN) && passed_on.admin.is_none() {
            let admin = passed::shared_listener(fd).map_err(|error| why(number, &error))?;
            passed_on.admin = Some(admin);
        } else {
            let listener = passed::listener(fd).map_err(|error| why(number, &error))?;
            passed_on.serving.push(listener);
        }
    }
    Ok(Some(passed_on))
}

/// How many descriptors the environment says were passed on to this process; nothing if none were.
fn count(
    variable: impl Fn(&str) -> Option<OsString>,
    own_pid: u32,
) -> Result<Option<usize>, PassedError> {
    let (pid, count) = match (variable("LISTEN_PID"), variable("LISTEN_FDS")) {
        (None, None) => return Ok(None),
        (Some(pid), Some(count)) => (pid, count),
        (None, Some(_)) => {
            return Err(PassedError::Half {
                there: "LISTEN_FDS",
                missing: "LISTEN_PID",
            });
        }
        (Some(_), None) => {
            return Err(PassedError::Half {
                there: "LISTEN_PID",
                missing: "LISTEN_FDS",
            });
        }
    };
    let pid = number("LISTEN_PID", &pid, "the id of the process to pass them to")?;
    if pid != own_pid as usize {
        // They are another's, whose environment this process has inherited.
        return Ok(None);
    }
    let count = number("LISTEN_FDS", &count, "how many sockets are passed on")?;
    let wrong = |name, value: String, right| PassedError::Variable { name, value, right };
    if count == 0 {
        let right = "1 or more: a server needs a socket".to_owned();
        return Err(wrong("LISTEN_FDS", "0".to_owned(), right));
    }
    if let Some(names) = variable("LISTEN_FDNAMES") {
        let names = names.to_string_lossy().into_owned();
        let named = names.split(':').count();
        if named != count {
            let right = format!("{count} names with colons between them, as LISTEN_FDS says");
            return Err(wrong("LISTEN_FDNAMES", names, right));
        }
    }
    Ok(Some(count))
}

fn number(name: &'static str, value: &OsString, right: &str) -> Result<usize, PassedError> {
    let value = value.to_string_lossy();
    value.parse().map_err(|_| PassedError::Variable {
        name,
        value: value.clone().into_owned(),
        right: format!("a number, {right}"),
    })
}

/// Opens the listening sockets of a configuration, one for each address and shard.
///
/// # Errors
///
/// [`StartError::Listen`] and those about CPUs.
pub fn open_all(config: &Config) -> Result<Vec<TcpListener>, StartError> {
    let opened = open(config, placement(config)?.len())?;
    Ok(opened.into_iter().flat_map(|one| one.sockets).collect())
}

/// Opens the socket of `admin.listen`, if there is to be one. It does not block: processes that share
/// it share that, too.
///
/// # Errors
///
/// [`StartError::Admin`].
pub fn open_admin(config: &Config) -> Result<Option<TcpListener>, StartError> {
    let listen = |address| {
        TcpListener::bind(address)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|error| StartError::Admin { address, error })
    };
    config.admin.listen.map(listen).transpose()
}

/// The sockets of one address.
#[derive(Debug)]
pub(crate) struct Listening {
    /// The real one, where port 0 was asked for.
    pub(crate) address: SocketAddr,
    pub(crate) sockets: Vec<TcpListener>,
}

/// Opens a socket for each shard and address of a configuration; shards in order.
pub(crate) fn open(config: &Config, shards: usize) -> Result<Vec<Listening>, StartError> {
    let listen = |&address: &SocketAddr| {
        let (bound, sockets) = socket::listen(address, config.server.backlog, shards)
            .map_err(|error| StartError::Listen { address, error })?;
        Ok(Listening {
            address: bound,
            sockets,
        })
    };
    config.server.listen.iter().map(listen).collect()
}

/// Sorts sockets by their addresses, which come in the order of their first sockets.
pub(crate) fn by_address(sockets: Vec<TcpListener>) -> io::Result<Vec<Listening>> {
    let mut places = BTreeMap::new();
    let mut all: Vec<Listening> = Vec::new();
    for socket in sockets {
        let address = socket.local_addr()?;
        let place = *places.entry(address).or_insert(all.len());
        match all.get_mut(place) {
            Some(listening) => listening.sockets.push(socket),
            None => all.push(Listening {
                address,
                sockets: vec![socket],
            }),
        }
    }
    Ok(all)
}

/// Deals the sockets of every address out to the shards: in shard order, those beyond the last
/// shard again from the first on. Where there are fewer than shards, shards share one.
pub(crate) fn deal(all: Vec<Listening>, shards: usize) -> io::Result<Vec<Vec<TcpListener>>> {
    let mut dealt: Vec<Vec<TcpListener>> = (0..shards).map(|_| Vec::new()).collect();
    for Listening { sockets, .. } in all {
        for shard in sockets.len()..shards {
            let shared = &sockets[shard % sockets.len()];
            dealt[shard].push(shared.try_clone()?);
        }
        for (index, socket) in sockets.into_iter().enumerate() {
            dealt[index % shards].push(socket);
        }
    }
    Ok(dealt)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(variables: &[(&str, &str)]) -> Result<Option<usize>, String> {
        let find = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        count(find, 123).map_err(|error| error.to_string())
    }

    #[test]
    fn sockets_are_counted_when_they_are_for_this_process() {
        assert_eq!(counted(&[]), Ok(None));
        let both = |pid, count| [("LISTEN_PID", pid), ("LISTEN_FDS", count)];
        assert_eq!(counted(&both("123", "2")), Ok(Some(2)));
        assert_eq!(counted(&both("124", "2")), Ok(None));
        let named = |names| [&both("123", "2")[..], &[("LISTEN_FDNAMES", names)]].concat();
        assert_eq!(counted(&named("a:")), Ok(Some(2)));
        assert_eq!(
            counted(&named("a:b:c")).unwrap_err(),
            r#"LISTEN_FDNAMES is "a:b:c", but must be 2 names with colons between them, as LISTEN_FDS says"#
        );
    }

    #[test]
    fn half_a_set_and_nonsense_are_told() {
        let half = counted(&[("LISTEN_FDS", "1")]).unwrap_err();
        assert!(
            half.starts_with("LISTEN_FDS is set, but LISTEN_PID is not: "),
            "{half}"
        );
        let half = counted(&[("LISTEN_PID", "123")]).unwrap_err();
        assert!(
            half.starts_with("LISTEN_PID is set, but LISTEN_FDS is not: "),
            "{half}"
        );
        assert_eq!(
            counted(&[("LISTEN_PID", "123"), ("LISTEN_FDS", "0")]).unwrap_err(),
            r#"LISTEN_FDS is "0", but must be 1 or more: a server needs a socket"#
        );
        assert_eq!(
            counted(&[("LISTEN_PID", "123"), ("LISTEN_FDS", "-1")]).unwrap_err(),
            r#"LISTEN_FDS is "-1", but must be a number, how many sockets are passed on"#
        );
        assert_eq!(
            counted(&[("LISTEN_PID", "me"), ("LISTEN_FDS", "1")]).unwrap_err(),
            r#"LISTEN_PID is "me", but must be a number, the id of the process to pass them to"#
        );
    }

    /// So many sockets of one address, dealt to so many shards: how many each one got.
    fn dealt(sockets: usize, shards: usize) -> Vec<usize> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (bound, sockets) = socket::listen(any, 8, sockets).unwrap();
        let all = by_address(sockets).unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].address, bound);
        let dealt = deal(all, shards).unwrap();
        dealt.iter().map(Vec::len).collect()
    }

    #[test]
    fn every_socket_has_a_shard_and_every_shard_a_socket() {
        assert_eq!(dealt(3, 3), [1, 1, 1]);
        assert_eq!(dealt(5, 2), [3, 2]);
        assert_eq!(dealt(2, 5), [1, 1, 1, 1, 1]);
        assert_eq!(dealt(1, 1), [1]);
    }
}

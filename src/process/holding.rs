//! The listening sockets that a master holds for its workers.
//!
//! Invariants:
//!
//! - A socket that was opened for an address stays open as long as the address is listened on,
//!   however few shards there are. The kernel may have put connections into it that nobody has
//!   accepted yet, and closing it would reset them.
//! - A socket that is opened while a worker serves does not listen until the next worker, which is
//!   the first that knows of it, has it listen: should that one fail, nobody waits there in vain.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;

use super::handover::{self, SocketsOf};
use super::listeners::{self, Listening, PassedOn};
use super::worker::{StartError, placement};
use crate::config::Config;
use crate::sys::{passed, socket};

/// The sockets of one address, in shard order.
#[derive(Clone, Debug)]
struct Held {
    /// As it was configured; nothing if whoever started the master has passed the sockets on.
    asked: Option<SocketAddr>,
    address: SocketAddr,
    sockets: Vec<Rc<TcpListener>>,
}

/// All sockets. A clone holds the same ones: they are closed when the last clone that holds them
/// is gone.
#[derive(Clone, Debug)]
pub(crate) struct Holding {
    serving: Vec<Held>,
    /// For operators; of one socket.
    admin: Option<Held>,
}

impl Holding {
    /// Opens one for each shard and address.
    pub(crate) fn open(config: &Config, shards: usize) -> Result<Holding, StartError> {
        Ok(Holding {
            serving: Holding::open_serving(config, shards)?,
            admin: admin(config)?,
        })
    }

    fn open_serving(config: &Config, shards: usize) -> Result<Vec<Held>, StartError> {
        let opened = listeners::open(config, shards)?;
        let asked = config.server.listen.iter().copied().map(Some);
        let serving = opened.into_iter().zip(asked);
        Ok(serving.map(|(one, asked)| held(asked, one)).collect())
    }

    /// Holds what whoever started this process has passed on. The socket for operators is opened if
    /// it is not among that.
    pub(crate) fn passed_on(passed_on: PassedOn, config: &Config) -> Result<Holding, StartError> {
        if passed_on.serving.is_empty() {
            // Only the one for operators was.
            let shards = placement(config)?.len();
            let opened = Holding::open_serving(config, shards)?;
            return Ok(Holding {
                serving: opened,
                admin: passed_on
                    .admin
                    .map(|socket| held_admin(None, socket).map_err(StartError::Passed))
                    .transpose()?,
            });
        }
        let sorted = listeners::by_address(passed_on.serving).map_err(StartError::Passed)?;
        let admin = match passed_on.admin {
            Some(socket) => Some(held_admin(None, socket).map_err(StartError::Passed)?),
            None => admin(config)?,
        };
        Ok(Holding {
            serving: sorted.into_iter().map(|one| held(None, one)).collect(),
            admin,
        })
    }

    /// For the new program's master.
    pub(crate) fn bequeath(&self) -> (Vec<SocketsOf>, Option<SocketsOf>) {
        let of_one = |held: &Held| SocketsOf {
            asked: held.asked,
            address: held.address,
            sockets: held.sockets.iter().map(handover::number).collect(),
        };
        let serving = self.serving.iter().map(of_one).collect();
        (serving, self.admin.as_ref().map(of_one))
    }

    /// What an old program's master has left, with as many descriptors as it says.
    pub(crate) fn inherit(
        serving: &[SocketsOf],
        admin: Option<&SocketsOf>,
        descriptors: &mut impl Iterator<Item = OwnedFd>,
    ) -> io::Result<Holding> {
        type Take = fn(OwnedFd) -> io::Result<TcpListener>;
        let mut of_one = |of_one: &SocketsOf, take: Take| -> io::Result<Held> {
            let descriptors = descriptors.by_ref().take(of_one.sockets.len());
            let sockets = descriptors.map(|fd| take(fd).map(Rc::new));
            Ok(Held {
                asked: of_one.asked,
                address: of_one.address,
                sockets: sockets.collect::<io::Result<_>>()?,
            })
        };
        Ok(Holding {
            serving: serving
                .iter()
                .map(|serving| of_one(serving, passed::listener))
                .collect::<io::Result<_>>()?,
            admin: admin
                .map(|admin| of_one(admin, passed::shared_listener))
                .transpose()?,
        })
    }

    /// What this becomes with another configuration: sockets of addresses that stay are the same,
    /// with more where there are more shards; others are opened, or not in it. Those that are new do
    /// not listen yet.
    pub(crate) fn changed(&self, config: &Config, shards: usize) -> Result<Holding, StartError> {
        let admin = match &self.admin {
            Some(held) if held.asked.is_none() || held.asked == config.admin.listen => {
                self.admin.clone()
            }
            _ => admin(config)?,
        };
        if self.serving.iter().any(|held| held.asked.is_none()) {
            let serving = self.serving.clone();
            return Ok(Holding { serving, admin });
        }
        let mut before = self.serving.clone();
        let changed = config.server.listen.iter().map(|&asked| {
            match before.iter().position(|held| held.asked == Some(asked)) {
                // Each once: port 0 may be there several times.
                Some(at) => grown(before.remove(at), shards),
                None => opened(asked, shards),
            }
        });
        let serving = changed.collect::<Result<_, _>>()?;
        Ok(Holding { serving, admin })
    }

    /// The real addresses, in the order of `server.listen`.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.serving.iter().map(|held| held.address).collect()
    }

    /// All sockets: address by address, in shard order, and that for operators last.
    pub(crate) fn sockets(&self) -> Vec<BorrowedFd<'_>> {
        let all = self.serving.iter().chain(&self.admin);
        let sockets = all.flat_map(|held| &held.sockets);
        sockets.map(|socket| socket.as_fd()).collect()
    }

    /// The names of all sockets, for LISTEN_FDNAMES: `shard-0` and so on at each address, and
    /// [`listeners::ADMIN`].
    pub(crate) fn names(&self) -> String {
        let of_one = |held: &Held| (0..held.sockets.len()).map(|shard| format!("shard-{shard}"));
        let serving = self.serving.iter().flat_map(of_one);
        let admin = self.admin.as_ref().map(|_| listeners::ADMIN.to_owned());
        serving.chain(admin).collect::<Vec<_>>().join(":")
    }
}

/// The socket for operators, if there is to be one. It listens: nobody is lost who waits there.
fn admin(config: &Config) -> Result<Option<Held>, StartError> {
    let Some(asked) = config.admin.listen else {
        return Ok(None);
    };
    let socket = listeners::open_admin(config)?;
    let held = socket.map(|socket| held_admin(Some(asked), socket));
    held.transpose().map_err(|error| StartError::Admin {
        address: asked,
        error,
    })
}

fn held_admin(asked: Option<SocketAddr>, socket: TcpListener) -> io::Result<Held> {
    Ok(Held {
        asked,
        address: socket.local_addr()?,
        sockets: vec![Rc::new(socket)],
    })
}

fn held(asked: Option<SocketAddr>, listening: Listening) -> Held {
    Held {
        asked,
        address: listening.address,
        sockets: listening.sockets.into_iter().map(Rc::new).collect(),
    }
}

fn opened(asked: SocketAddr, shards: usize) -> Result<Held, StartError> {
    let (address, sockets) = socket::bind(asked, shards).map_err(|error| StartError::Listen {
        address: asked,
        error,
    })?;
    Ok(held(Some(asked), Listening { address, sockets }))
}

fn grown(mut held: Held, shards: usize) -> Result<Held, StartError> {
    let missing = shards.saturating_sub(held.sockets.len());
    let address = held.address;
    let more = socket::bind_more(address, missing)
        .map_err(|error| StartError::Listen { address, error })?;
    held.sockets.extend(more.into_iter().map(Rc::new));
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listen: &[&str]) -> Config {
        let mut config = Config::default();
        config.server.listen = listen.iter().map(|text| text.parse().unwrap()).collect();
        config.admin.listen = None;
        config
    }

    fn ports(holding: &Holding) -> Vec<u16> {
        let addresses = holding.addresses();
        addresses.iter().map(SocketAddr::port).collect()
    }

    #[test]
    fn sockets_stay_with_their_addresses_and_none_is_closed_for_fewer_shards() {
        let two = config(&["127.0.0.1:0", "127.0.0.1:0"]);
        let before = Holding::open(&two, 2).unwrap();
        assert_eq!(before.names(), "shard-0:shard-1:shard-0:shard-1");
        let fewer = before.changed(&two, 1).unwrap();
        assert_eq!(fewer.sockets().len(), 4);
        let more = fewer.changed(&two, 3).unwrap();
        assert_eq!(more.sockets().len(), 6);
        assert_eq!(ports(&more), ports(&before));

        let other = config(&["[::1]:0", "127.0.0.1:0"]);
        let changed = more.changed(&other, 3).unwrap();
        assert_eq!(changed.sockets().len(), 6);
        assert_eq!(ports(&changed)[1], ports(&before)[0]);
        assert!(!ports(&before).contains(&ports(&changed)[0]));
    }

    #[test]
    fn an_address_of_somebody_else_is_told() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let before = Holding::open(&config(&["127.0.0.1:0"]), 1).unwrap();
        let error = before.changed(&config(&[&address]), 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot listen on {address}: another program listens there already")
        );
    }

    #[test]
    fn what_was_passed_on_stays_whatever_is_configured() {
        let passed = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = passed.local_addr().unwrap();
        let passed_on = PassedOn {
            serving: vec![passed],
            admin: None,
        };
        let holding = Holding::passed_on(passed_on, &config(&[])).unwrap();
        let changed = holding.changed(&config(&["127.0.0.1:0"]), 4).unwrap();
        assert_eq!(changed.addresses(), [address]);
        assert_eq!(changed.sockets().len(), 1);
    }
}

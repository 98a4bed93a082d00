//! The server under test: connections that know one another, and handlers that push to them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use corelane::client::Client;
use corelane::metrics::Counters;
use corelane::protocol::{Reason, codes};
use corelane::{Config, ConnectionId, Context, Local, Reply, Server, ServerBuilder, apps};

use crate::support::library::{address_of, config};
use crate::support::user::User as _;
use crate::support::waiting::{DEADLINE, until};

/// Answers the shard's number, one byte.
pub(crate) const WHERE: u16 = 1000;
/// Pushes the rest of the body to the member whose number is the first byte, and answers nothing.
pub(crate) const PUSH: u16 = 1001;
/// Broadcasts the body.
pub(crate) const BROADCAST: u16 = 1002;
/// What is pushed or broadcast comes under this code.
pub(crate) const NEWS: u16 = 1003;

/// Everybody that was ever connected, in the order of their coming, over all shards.
pub(crate) type Members = Arc<Mutex<Vec<ConnectionId>>>;

/// The state of a shard.
pub(crate) struct State {
    pub(crate) local: Local<State>,
    pub(crate) members: Members,
}

impl State {
    pub(crate) fn member(&self, number: u8) -> ConnectionId {
        self.members.lock().unwrap()[usize::from(number)]
    }
}

/// A server of so many shards that is to get more handlers.
pub(crate) fn builder(config: Config) -> (ServerBuilder<State>, Members) {
    let members = Members::default();
    let known = Arc::clone(&members);
    let builder = Server::builder_with_state(config, move |local| State {
        local,
        members: Arc::clone(&known),
    })
    .handler(codes::PING, apps::ping)
    .handler(codes::ECHO, apps::echo)
    .handler(WHERE, |state: &State, context: Context<'_>, _body| {
        context.reply(&[u8::try_from(state.local.shard()).unwrap()])
    })
    .handler(PUSH, |state: &State, _context, body| {
        let [member, rest @ ..] = body else {
            return Reply::error(Reason::BadBody, "whom to push to is missing");
        };
        match state.local.push(state.member(*member), NEWS, rest) {
            Ok(()) => Reply::none(),
            Err(error) => error.into(),
        }
    })
    .handler(BROADCAST, |state: &State, _context, body| {
        match state.local.broadcast(NEWS, body) {
            Ok(()) => Reply::none(),
            Err(error) => error.into(),
        }
    })
    .on_open(|state, id| state.members.lock().unwrap().push(id));
    (builder, members)
}

/// A running server of two shards.
pub(crate) fn start() -> (Server, Members) {
    let (builder, members) = builder(config(2));
    (builder.start().unwrap(), members)
}

/// Somebody who is connected, and which number they have among the members.
pub(crate) struct Member {
    pub(crate) client: Client,
    pub(crate) number: u8,
    pub(crate) shard: usize,
}

impl Member {
    /// Connects, with nobody else doing so at the same time.
    pub(crate) fn join(address: SocketAddr, members: &Members) -> Member {
        let mut client = connect_for(NEWS, address);
        let shard = usize::from(client.ask(WHERE, b"")[0]);
        Member {
            client,
            number: latest(members),
            shard,
        }
    }

    /// One that is on this shard; others come and go until there is one.
    pub(crate) fn on(shard: usize, server: &Server, members: &Members) -> Member {
        until("somebody is on that shard", || {
            let member = Member::join(address_of(server), members);
            (member.shard == shard).then_some(member)
        })
    }

    pub(crate) fn push(&mut self, to: u8, text: &[u8]) {
        self.client.tell(PUSH, &[&[to], text].concat()).unwrap();
    }

    /// Asserts that a PING comes back, and that nothing was pushed that was not taken.
    #[track_caller]
    pub(crate) fn ping(&mut self) {
        self.client.ping();
        assert_eq!(self.client.try_push(), None);
    }
}

/// Connects a client to which frames of this code are pushes.
#[track_caller]
pub(crate) fn connect_for(code: u16, address: SocketAddr) -> Client {
    let options = Client::options().timeout(DEADLINE).push_code(code);
    options.connect(address).unwrap()
}

/// Which number the one has who was let in last.
pub(crate) fn latest(members: &Members) -> u8 {
    u8::try_from(members.lock().unwrap().len() - 1).unwrap()
}

/// Stops a server and gives back what its shards have counted together, by what `count` reads.
pub(crate) fn sum(counters: &[Counters], count: fn(&Counters) -> u64) -> u64 {
    counters.iter().map(count).sum()
}

/// Stops a server and gives back what its shards have counted.
pub(crate) fn stopped(server: Server) -> Vec<Counters> {
    server.handle().stop();
    server.wait().unwrap()
}

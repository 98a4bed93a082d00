//! Who is logged in on the connections of a shard.
//!
//! Invariant: it knows of no connection that is over. A LOGIN that is answered after its connection
//! has closed leaves nothing behind, since the place for its name was made before and is gone.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;

use crate::handler::{ConnectionId, Reply};
use crate::protocol::Reason;

/// The names that connections of a shard have logged in with. It belongs into the state of the
/// shard; [`Accounts::serve_with_sessions`](super::Accounts::serve_with_sessions) keeps it.
#[derive(Debug, Default)]
pub struct Sessions {
    /// Without a name where the first LOGIN is not answered yet.
    names: RefCell<HashMap<ConnectionId, Option<Rc<str>>>>,
}

impl Sessions {
    /// The name that a connection has logged in with last.
    pub fn name_of(&self, connection: ConnectionId) -> Option<Rc<str>> {
        self.names.borrow().get(&connection)?.clone()
    }

    /// The same, or what to answer a request that takes a LOGIN first: ERROR NOT_AUTHENTICATED.
    ///
    /// # Errors
    ///
    /// The reply.
    pub fn require(&self, connection: ConnectionId) -> Result<Rc<str>, Reply> {
        self.name_of(connection)
            .ok_or_else(|| Reply::error(Reason::NotAuthenticated, "this takes a LOGIN first"))
    }

    /// How many connections are logged in or about to be.
    pub fn len(&self) -> usize {
        self.names.borrow().len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A connection, which is open, logs in.
    pub(super) fn begin(&self, connection: ConnectionId) {
        self.names.borrow_mut().entry(connection).or_default();
    }

    /// Its LOGIN is answered; without a name it was turned away, and stays who it was.
    pub(super) fn settle(&self, connection: ConnectionId, name: Option<&str>) {
        if let Entry::Occupied(mut place) = self.names.borrow_mut().entry(connection) {
            match name {
                Some(name) => drop(place.insert(Some(name.into()))),
                None if place.get().is_none() => drop(place.remove()),
                None => {}
            }
        }
    }

    /// A connection is over.
    pub(super) fn end(&self, connection: ConnectionId) {
        self.names.borrow_mut().remove(&connection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(slot: u32) -> ConnectionId {
        ConnectionId {
            shard: 0,
            slot,
            generation: 0,
        }
    }

    #[test]
    fn a_name_stays_until_another_login_or_the_end() {
        let sessions = Sessions::default();
        let (one, other) = (connection(1), connection(2));
        sessions.begin(one);
        assert_eq!(sessions.name_of(one), None);
        assert!(sessions.require(one).is_err());
        sessions.settle(one, Some("alice"));
        assert_eq!(sessions.name_of(one).as_deref(), Some("alice"));
        assert_eq!(sessions.name_of(other), None);
        for (name, expected) in [(None, "alice"), (Some("bob"), "bob")] {
            sessions.begin(one);
            sessions.settle(one, name);
            assert_eq!(sessions.require(one).unwrap().as_ref(), expected);
        }
        sessions.end(one);
        assert!(sessions.is_empty());
    }

    #[test]
    fn a_login_that_is_turned_away_or_comes_too_late_leaves_nothing() {
        let sessions = Sessions::default();
        sessions.begin(connection(1));
        sessions.settle(connection(1), None);
        assert!(sessions.is_empty());
        sessions.begin(connection(1));
        sessions.end(connection(1));
        sessions.settle(connection(1), Some("alice"));
        assert!(sessions.is_empty());
    }
}

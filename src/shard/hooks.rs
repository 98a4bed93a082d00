//! What a program wants to know of connections: that one was opened, and that it is over. Each hook
//! is called once for each connection that was opened, and a panic in it hurts nobody else.

use super::Shard;
use super::io::Io;
use crate::handler::ConnectionId;
use crate::handler::panic::{Panicked, caught};
use crate::metrics::CloseCause;

impl<I: Io, S: 'static> Shard<I, S> {
    pub(super) fn tell_opened(&mut self, id: ConnectionId) {
        for hook in self.router.open_hooks() {
            if let Err(panicked) = caught(|| hook(&self.state, id)) {
                self.counters.hook_panics += 1;
                log_panic("on_open", id, &panicked);
            }
        }
    }

    pub(super) fn tell_closed(&mut self, id: ConnectionId, cause: CloseCause) {
        for hook in self.router.close_hooks() {
            if let Err(panicked) = caught(|| hook(&self.state, id, cause)) {
                self.counters.hook_panics += 1;
                log_panic("on_close", id, &panicked);
            }
        }
    }
}

fn log_panic(hook: &str, id: ConnectionId, panicked: &Panicked) {
    tracing::error!(
        connection = %id,
        hook,
        panic = panicked.message,
        backtrace = panicked.backtrace,
        "a hook panicked; its connection does not notice"
    );
}

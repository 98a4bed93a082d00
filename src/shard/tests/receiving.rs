//! How a connection receives: again and again, or once, or as suits large messages.

use super::*;

/// What was asked for in the way of receiving since this was called last.
fn receives(shard: &mut Shard<Still, ()>) -> Vec<&'static str> {
    let asked = std::mem::take(&mut shard.io.asked);
    let shorter = |asked: String| match asked {
        cancel if cancel.starts_with("CancelReceive") => Some("cancel"),
        receive if !receive.starts_with("Receive") => None,
        receive if receive.contains("how: Once") => Some("once"),
        receive if receive.contains("how: Large") => Some("large"),
        _ => Some("again and again"),
    };
    asked.into_iter().filter_map(shorter).collect()
}

/// A shard with one connection that sends ECHOes, and what it asks for in the way of receiving after
/// each of them.
struct Received {
    shard: Shard<Still, ()>,
    id: ConnectionId,
}

impl Received {
    fn new(large_bytes: usize, bulk_bytes: usize) -> Received {
        let settings = Settings {
            large_bytes,
            bulk_bytes,
            ..Settings::from(&Config::default())
        };
        let mut router = Router::new();
        router.handler(codes::ECHO, |(), _, _| Reply::none());
        let mut shard = with_one_connection(settings, router);
        let id = shard.connections.ids().next().unwrap();
        assert_eq!(receives(&mut shard), ["once"], "there may be much");
        Received { shard, id }
    }

    fn frame(&mut self, body_bytes: usize, more: bool) -> Vec<&'static str> {
        self.complete(Ok(echo(&vec![1; body_bytes])), more)
    }

    fn cancelled(&mut self) -> Vec<&'static str> {
        self.complete(Err(Failure::Cancelled), false)
    }

    fn complete(&mut self, result: Result<Vec<u8>, Failure>, more: bool) -> Vec<&'static str> {
        let id = self.id;
        let completion = Completion::Received { id, result, more };
        self.shard.io.completions.push(completion);
        self.shard.turn(2);
        receives(&mut self.shard)
    }
}

/// A multishot would go on receiving until a cancel gets there, and all of that has to be kept.
#[test]
fn who_sends_in_bulk_is_received_from_once_at_a_time() {
    let mut peer = Received::new(1000, 100);
    assert_eq!(peer.frame(1, false), ["again and again"]);
    assert!(peer.frame(1, true).is_empty());
    assert_eq!(peer.frame(100, true), ["cancel"]);
    assert_eq!(peer.cancelled(), ["once"]);
    assert_eq!(peer.frame(100, false), ["once"]);
    assert_eq!(peer.frame(1, false), ["again and again"]);
}

#[test]
fn who_sends_much_at_a_time_is_received_from_as_suits_that() {
    let mut peer = Received::new(100, 1000);
    assert_eq!(peer.frame(1, false), ["again and again"]);
    for _ in 0..3 {
        assert!(peer.frame(100, true).is_empty());
    }
    assert_eq!(peer.frame(100, true), ["cancel"]);
    // What comes meanwhile asks for nothing more.
    assert!(peer.frame(100, true).is_empty());
    assert_eq!(peer.cancelled(), ["large"]);
    assert!(peer.frame(100, true).is_empty());
    // However much it is.
    assert!(peer.frame(1000, true).is_empty());
    for _ in 0..3 {
        assert!(peer.frame(1, true).is_empty());
    }
    assert_eq!(peer.frame(1, true), ["cancel"]);
    assert_eq!(peer.cancelled(), ["again and again"]);
}

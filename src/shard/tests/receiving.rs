//! How a connection receives: again and again, or once.

use super::*;

/// What was asked for in the way of receiving since this was called last.
fn receives(shard: &mut Shard<Still, ()>) -> Vec<&'static str> {
    let asked = std::mem::take(&mut shard.io.asked);
    let shorter = |asked: String| match asked {
        cancel if cancel.starts_with("CancelReceive") => Some("cancel"),
        receive if !receive.starts_with("Receive") => None,
        receive if receive.contains("once: true") => Some("once"),
        _ => Some("again and again"),
    };
    asked.into_iter().filter_map(shorter).collect()
}

/// A multishot would go on receiving until a cancel gets there, and all of that has to be kept.
#[test]
fn who_sends_in_bulk_is_received_from_once_at_a_time() {
    const BULK_BYTES: usize = 100;
    let settings = Settings {
        bulk_bytes: BULK_BYTES,
        ..Settings::from(&Config::default())
    };
    let mut router = Router::new();
    router.handler(codes::ECHO, |(), _, _| Reply::none());
    let mut shard = with_one_connection(settings, router);
    let id = shard.connections.ids().next().unwrap();
    let receive = |shard: &mut Shard<Still, ()>, result, more| {
        let completion = Completion::Received { id, result, more };
        shard.io.completions.push(completion);
        shard.turn(2);
        receives(shard)
    };
    let small = || Ok(echo(b"small"));
    let bulk = || Ok(echo(&[1; BULK_BYTES]));

    assert_eq!(receives(&mut shard), ["once"], "there may be much");
    assert_eq!(receive(&mut shard, small(), false), ["again and again"]);
    assert!(receive(&mut shard, small(), true).is_empty());
    assert_eq!(receive(&mut shard, bulk(), true), ["cancel"]);
    let cancelled = Err(Failure::Cancelled);
    assert_eq!(receive(&mut shard, cancelled, false), ["once"]);
    assert_eq!(receive(&mut shard, bulk(), false), ["once"]);
    assert_eq!(receive(&mut shard, small(), false), ["again and again"]);
}

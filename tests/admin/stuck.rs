//! A handler that holds its shard can't hold the admin server, which says who it is.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use corelane::Reply;
use corelane::protocol::codes;

use crate::http::{get, json, metrics};
use crate::plane::Admin;
use crate::support::library::{address_of, builder_with, config};
use crate::support::user::{User as _, connect};
use crate::support::waiting::{DEADLINE, until};

const BLOCK: u16 = 1000;

#[test]
fn a_shard_that_an_asynchronous_handler_holds_is_shown_too() {
    let (arrive, arrived) = mpsc::channel();
    let (open, gate) = mpsc::channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    let server = builder_with(config(1))
        .async_handler(BLOCK, move |_state, request| {
            let (arrive, gate) = (arrive.clone(), Arc::clone(&gate));
            async move {
                arrive.send(()).unwrap();
                // As nobody should: it blocks.
                gate.lock().unwrap().recv_timeout(DEADLINE).unwrap();
                Reply::new(request.into_body())
            }
        })
        .start()
        .unwrap();
    let admin = Admin::of(&server);
    let mut client = connect(address_of(&server));
    client.send(BLOCK, b"hold on").unwrap();
    arrived.recv_timeout(DEADLINE).unwrap();
    let stuck = until("the shard is shown as stuck", || {
        let stuck = json(admin.address, "/status")["shards"][0]["stuck"].clone();
        (!stuck.is_null()).then_some(stuck)
    });
    assert_eq!(stuck["connection"], "0-0-0");
    assert_eq!(stuck["code"], BLOCK);
    open.send(()).unwrap();
    client.expect(BLOCK, b"hold on");
}

#[test]
fn a_stuck_shard_is_shown_with_its_code_and_the_rest_goes_on() {
    let (arrive, arrived) = mpsc::channel();
    let (open, gate) = mpsc::channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    let server = builder_with(config(2))
        .handler(BLOCK, move |(), context, body| {
            arrive.send(context.connection().to_string()).unwrap();
            gate.lock().unwrap().recv_timeout(DEADLINE).unwrap();
            context.reply(body)
        })
        .start()
        .unwrap();
    let admin = Admin::of(&server);
    let mut client = connect(address_of(&server));
    (0..10).for_each(|_| client.ping());
    client.send(BLOCK, b"hold on").unwrap();
    let id = arrived.recv_timeout(DEADLINE).unwrap();
    let shard: usize = id.split('-').next().unwrap().parse().unwrap();

    let stuck = until("the shard is shown as stuck", || {
        let status = json(admin.address, "/status");
        let stuck = status["shards"][shard]["stuck"].clone();
        assert!(status["shards"][1 - shard]["stuck"].is_null(), "{status}");
        (!stuck.is_null()).then_some(stuck)
    });
    assert_eq!(stuck["code"], BLOCK);
    assert_eq!(stuck["connection"], id);
    assert!(stuck["for_ms"].as_u64().unwrap() >= 1000, "{stuck}");

    // It is known now, and nobody waits for it: a second each would take ten.
    let begun = Instant::now();
    (0..10).for_each(|_| assert_eq!(get(admin.address, "/metrics").status, 200));
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    let samples = metrics(admin.address);
    let seconds = samples[&format!("corelane_shard_stuck_seconds{{shard=\"{shard}\"}}")];
    assert!(seconds > 1.0, "{seconds}");
    assert!(samples.contains_key(&format!("corelane_turns_total{{shard=\"{shard}\"}}")));

    open.send(()).unwrap();
    client.expect(BLOCK, b"hold on");
    until("the shard answers again", || {
        let status = json(admin.address, "/status");
        status["shards"][shard]["stuck"].is_null().then_some(())
    });
    // What came late was not lost.
    let count = |code: u16| {
        let samples = metrics(admin.address);
        let name = format!("corelane_request_queued_seconds_count{{code=\"{code}\"}}");
        samples.get(&name).copied().unwrap_or(0.0)
    };
    until("both codes are counted", || {
        ((count(codes::PING) - 10.0).abs() < 0.5 && (count(BLOCK) - 1.0).abs() < 0.5).then_some(())
    });
    let slow = &format!("corelane_slow_requests_total{{code=\"{BLOCK}\"}}");
    assert!((metrics(admin.address)[slow] - 1.0).abs() < 0.5);
}

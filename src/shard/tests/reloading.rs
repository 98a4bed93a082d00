//! Other settings while there are connections: nobody is closed for what was right before.

use super::*;

#[test]
fn a_shorter_time_out_holds_for_connections_that_there_are() {
    let settings = Settings {
        idle_us: Some(60_000_000),
        first_frame_us: None,
        ..Settings::from(&Config::default())
    };
    let mut shard = with_one_connection(settings.clone(), Router::new());
    shard.reload(Settings {
        idle_us: Some(1_000_000),
        ..settings
    });
    shard.turn(900_000);
    assert_eq!(shard.counters.closed(CloseCause::Idle), 0);
    assert_eq!(asked(&shard, "ShutdownSend"), 0);
    shard.turn(1_000_000 + timer::TICK_US);
    // TIMED_OUT goes out, and its end after it.
    assert_eq!(asked(&shard, "Send"), 1);
    shard.audit().unwrap();
}

#[test]
fn a_new_limit_for_an_address_knows_of_the_connections_before_it() {
    let settings = Settings::from(&Config::default());
    let mut shard = with_one_connection(settings.clone(), Router::new());
    accept(&mut shard, "127.0.0.1:10", 2);
    assert_eq!(shard.counted_connections(), 0);
    let max = NonZeroU32::new(3);
    shard.reload(Settings {
        connections_per_address_max: max,
        ..settings.clone()
    });
    shard.turn(3);
    assert_eq!(shard.counted_connections(), 2);
    accept(&mut shard, "127.0.0.1:11", 4);
    accept(&mut shard, "127.0.0.1:12", 5);
    assert_eq!(shard.counters.closed(CloseCause::Limit), 1);
    assert_eq!((shard.connections(), shard.counted_connections()), (3, 3));

    // Without a limit, those that are counted are forgotten one by one.
    shard.reload(settings);
    accept(&mut shard, "127.0.0.1:13", 6);
    assert_eq!((shard.connections(), shard.counted_connections()), (4, 3));
    shard.stop_at_once(7);
    shard.turn(7);
    let ids: Vec<_> = shard.connections.ids().collect();
    for id in ids {
        shard.io.completions.push(Completion::Received {
            id,
            result: Err(Failure::Cancelled),
            more: false,
        });
    }
    shard.turn(8);
    assert_eq!((shard.connections(), shard.counted_connections()), (0, 0));
}

#[test]
fn more_room_lets_in_who_waits_and_less_closes_nobody() {
    let settings = Settings {
        connections_max: 1,
        ..Settings::from(&Config::default())
    };
    let mut shard = with_one_connection(settings.clone(), Router::new());
    accept(&mut shard, "127.0.0.1:10", 2);
    assert_eq!((shard.connections(), shard.waiting.len()), (1, 1));
    shard.io.completions.push(Completion::Accepted {
        listener: 0,
        result: Err(Failure::Cancelled),
        more: false,
    });
    shard.turn(2);
    let room_for = |connections_max| Settings {
        connections_max,
        ..settings.clone()
    };
    shard.reload(room_for(3));
    shard.turn(3);
    assert_eq!((shard.connections(), shard.waiting.len()), (2, 0));
    assert_eq!(asked(&shard, "Accept"), 2);
    shard.reload(room_for(1));
    accept(&mut shard, "127.0.0.1:11", 4);
    assert_eq!((shard.connections(), shard.waiting.len()), (2, 1));
    assert_eq!(asked(&shard, "CancelAccept"), 2);
    shard.audit().unwrap();
}

/// A bucket is kept as the time at which it is full again, and that was once taken over from one
/// rate to another: a reload that allowed more cut off who had sent what was allowed before.
#[test]
fn another_rate_begins_anew_for_everybody() {
    let settings = Settings {
        flood: Flood::new(1, 10),
        ..Settings::from(&Config::default())
    };
    let mut router = Router::new();
    router.handler(codes::ECHO, |(), context, body| context.reply(body));
    let mut shard = with_one_connection(settings.clone(), router);
    for now_us in 2..7 {
        receive(&mut shard, echo(b"1"), now_us);
    }
    shard.reload(Settings {
        flood: Flood::new(1_000, 2),
        ..settings
    });
    receive(&mut shard, echo(b"2").repeat(2), 7);
    assert_eq!(shard.counters.frames_sent, 7);
    receive(&mut shard, echo(b"3"), 8);
    let connection = shard.connections.iter().next().unwrap().1;
    assert_eq!(connection.phase, Phase::Ending(CloseCause::Flood));
}

/// Whatever came next, be it half a frame or the end of a handler without a reply, once closed a
/// connection that more was queued for than a reload allowed.
#[test]
fn what_was_queued_before_a_lower_limit_closes_nobody() {
    const SILENT: u16 = 1000;
    let settings = Settings::from(&Config::default());
    let mut router = Router::new();
    router.handler(codes::ECHO, |(), context, body| context.reply(body));
    router.async_handler(SILENT, |_, _| async { Reply::none() });
    let mut shard = with_one_connection(settings.clone(), router);
    let mut requests = echo(&[1; 1000]);
    encode(&mut requests, SILENT, b"").unwrap();
    receive(&mut shard, requests, 2);
    assert_eq!((asked(&shard, "Send"), shard.handlers()), (1, 1));
    shard.reload(Settings {
        outbound_low_bytes: 1,
        outbound_high_bytes: 2,
        outbound_bytes_max: 100,
        ..settings
    });
    shard.io.completions.push(Completion::Handled {
        id: shard.connections.ids().next().unwrap(),
        outcome: HandlerOutcome {
            code: SILENT,
            result: Ok(Reply::none()),
        },
    });
    shard.turn(3);
    assert_eq!(asked(&shard, "CancelSend"), 0);
    receive(&mut shard, echo(b"2"), 4);
    assert_eq!(asked(&shard, "CancelReceive"), 1, "it is not read");
    assert_eq!(asked(&shard, "CancelSend"), 0);
    shard.audit().unwrap();
}

/// The ERROR of a handler that failed once closed a connection that more was queued for than a reload
/// allowed, so that its peer got a part of a frame, and for another cause than was counted.
#[test]
fn who_ends_gets_all_that_was_queued_before_a_lower_limit() {
    const FAILING: u16 = 1000;
    let settings = Settings::from(&Config::default());
    let mut router = Router::new();
    router.handler(codes::ECHO, |(), context, body| context.reply(body));
    router.async_handler(FAILING, |_, _| async { Reply::none() });
    let mut shard = with_one_connection(settings.clone(), router);
    let mut requests = echo(&[1; 1000]);
    encode(&mut requests, FAILING, b"").unwrap();
    receive(&mut shard, requests, 2);
    shard.reload(Settings {
        outbound_low_bytes: 1,
        outbound_high_bytes: 2,
        outbound_bytes_max: 100,
        ..settings
    });
    let id = shard.connections.ids().next().unwrap();
    shard.io.completions.push(Completion::Handled {
        id,
        outcome: HandlerOutcome::failed(FAILING, "on purpose".to_owned()),
    });
    shard.turn(3);
    assert_eq!(asked(&shard, "CancelSend"), 0);

    // The reply goes, then the ERROR, then the peer is told that this is all.
    for end in [0, 1] {
        let buffer = shard.io.sends.remove(0);
        let sent_bytes = buffer.remaining().len();
        shard.io.completions.push(Completion::Sent {
            id,
            buffer,
            result: Ok(sent_bytes),
        });
        shard.turn(4);
        assert_eq!(asked(&shard, "ShutdownSend"), end);
    }
    shard.audit().unwrap();
}

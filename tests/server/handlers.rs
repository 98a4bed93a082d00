//! Handlers of a program of one's own: order, waiting, state, replies of all kinds, overload.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Write;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use corelane::protocol::{HEADER_BYTES, Reason, codes};
use corelane::{Context, Local, Reply, Request, Server, apps};

use crate::support::gate::{self, Passing};
use crate::support::library::{address_of, builder, builder_with, config, stopped};
use crate::support::peer::{Peer, frame};
use crate::support::seed;
use crate::support::user::{User as _, connect};
use crate::support::waiting::until;

const WAIT: u16 = codes::APPLICATION;

/// Waits as long as the body's first four bytes say, in microseconds; answers with the body.
async fn wait_as_told(request: Request) -> Reply {
    let (delay_us, _) = request.body().split_first_chunk().unwrap();
    let delay = Duration::from_micros(u32::from_be_bytes(*delay_us).into());
    if delay > Duration::ZERO {
        glommio::timer::sleep(delay).await;
    }
    Reply::new(request.into_body())
}

#[test]
fn replies_keep_their_order_whatever_handlers_wait_for() {
    let mut rng = seed::rng();
    let requests: Vec<(u16, Vec<u8>)> = (0..10_000u32)
        .map(|number| {
            let code = if rng.u32(..10) == 0 {
                WAIT
            } else {
                codes::ECHO
            };
            let delay_us = rng.u32(..10).saturating_sub(5) * rng.u32(..400);
            let mut body = delay_us.to_be_bytes().to_vec();
            body.extend(number.to_be_bytes());
            body.resize(8 + rng.usize(..300), rng.u8(..));
            (code, body)
        })
        .collect();
    let mut stream = Vec::new();
    for (code, body) in &requests {
        stream.extend(frame(*code, body));
    }

    let server = builder()
        .async_handler(WAIT, |_state, request| wait_as_told(request))
        .start()
        .unwrap();
    // The second connection's handlers come in between those of the first. No clients: the frames
    // come as one stream, which is cut anywhere.
    let mut peers = [(); 2].map(|()| Peer::connect(address_of(&server)));
    thread::scope(|scope| {
        for peer in &mut peers {
            let mut sender = peer.sender();
            let stream = &stream;
            scope.spawn(move || sender.write_all(stream).unwrap());
            let requests = &requests;
            scope.spawn(move || {
                for (code, body) in requests {
                    peer.expect(*code, body);
                }
            });
        }
    });
    drop(peers);
    let counters = stopped(server);
    assert_eq!(counters.frames_received, 20_000);
    assert_eq!(counters.frames_sent, 20_000);
}

/// A server whose WAIT waits at a gate, which is closed.
fn serve_with_gate() -> (Server, gate::Gate, gate::Passings) {
    let (gate, passings) = gate::closed();
    let handler = gate.clone();
    let server = builder()
        .async_handler(WAIT, move |_state, request| handler.clone().handle(request))
        .start()
        .unwrap();
    (server, gate, passings)
}

#[test]
fn a_waiting_handler_holds_up_its_own_connection_only() {
    let (server, gate, passings) = serve_with_gate();
    let mut waiting = connect(address_of(&server));
    let mut other = connect(address_of(&server));

    waiting.send(codes::ECHO, b"before").unwrap();
    waiting.send(WAIT, b"at the gate").unwrap();
    waiting.send(codes::ECHO, b"after").unwrap();
    waiting.send(codes::PING, b"").unwrap();
    passings.expect(Passing::Arrived);
    waiting.expect(codes::ECHO, b"before");
    for _ in 0..100 {
        other.echo(b"meanwhile");
    }

    gate.open();
    waiting.expect(WAIT, b"at the gate");
    waiting.expect(codes::ECHO, b"after");
    waiting.expect(codes::PING, b"");
    passings.expect(Passing::Passed);
}

/// More than the server keeps for a connection whose handler is at work: it stops receiving, and
/// goes on afterwards. No client: it sends on when the server stops, and half closes.
#[test]
fn all_that_came_while_a_handler_waited_is_answered() {
    static BODY: [u8; 20_000] = [7; 20_000];
    let (server, gate, passings) = serve_with_gate();
    let mut peer = Peer::connect(address_of(&server));
    let mut sender = peer.sender();
    thread::scope(|scope| {
        scope.spawn(move || {
            sender.write_all(&frame(WAIT, b"gate")).unwrap();
            let behind = frame(codes::ECHO, &BODY);
            for _ in 0..300 {
                sender.write_all(&behind).unwrap();
            }
            sender.shutdown(std::net::Shutdown::Write).unwrap();
        });
        passings.expect(Passing::Arrived);
        gate.open();
        peer.expect(WAIT, b"gate");
        for _ in 0..300 {
            peer.expect(codes::ECHO, &BODY);
        }
        peer.expect_end();
    });
}

#[test]
fn a_half_closed_client_gets_the_reply_of_a_handler_that_waits() {
    let (server, gate, passings) = serve_with_gate();
    // A client that closes takes no replies any more.
    let mut peer = Peer::connect(address_of(&server));
    peer.send(WAIT, b"patience");
    peer.send(codes::ECHO, b"after");
    peer.shut();
    passings.expect(Passing::Arrived);
    gate.open();
    peer.expect(WAIT, b"patience");
    peer.expect(codes::ECHO, b"after");
    peer.expect_end();
}

#[test]
fn every_shard_has_a_state_of_its_own() {
    struct State {
        shard: usize,
        made_on: thread::ThreadId,
        requests: Rc<Cell<u64>>,
    }

    fn count(state: &State, connection: corelane::ConnectionId) -> Vec<u8> {
        assert_eq!(thread::current().id(), state.made_on);
        assert_eq!(connection.shard(), state.shard);
        state.requests.set(state.requests.get() + 1);
        let shard = u8::try_from(state.shard).unwrap();
        [&[shard][..], &state.requests.get().to_be_bytes()].concat()
    }

    let made = Arc::new(Mutex::new(Vec::new()));
    let makes = Arc::clone(&made);
    let server = Server::builder_with_state(config(2), move |local: Local<State>| {
        let shard = local.shard();
        let thread = thread::current();
        makes
            .lock()
            .unwrap()
            .push((shard, thread.name().unwrap().to_owned()));
        State {
            shard,
            made_on: thread.id(),
            requests: Rc::default(),
        }
    })
    .handler(WAIT, |state: &State, context, _body| {
        let body = count(state, context.connection());
        context.reply(&body)
    })
    .async_handler(WAIT + 1, |state: Rc<State>, request| async move {
        glommio::timer::sleep(Duration::from_micros(1)).await;
        Reply::new(count(&state, request.connection()))
    })
    .start()
    .unwrap();

    // Each request is answered with how many its shard has had by then, so a count that misses
    // one or has one too many would show. The kernel chooses a connection's shard.
    let mut requests: BTreeMap<u8, u64> = BTreeMap::new();
    let mut clients = Vec::new();
    until("both shards have served", || {
        clients.push(connect(address_of(&server)));
        for client in &mut clients {
            for code in [WAIT, WAIT + 1] {
                let body = client.ask(code, b"");
                let expected = requests.entry(body[0]).or_default();
                *expected += 1;
                assert_eq!(body[1..], expected.to_be_bytes());
            }
        }
        (requests.len() == 2).then_some(())
    });

    drop(clients);
    server.handle().stop();
    let counters = server.wait().unwrap();
    let received: Vec<u64> = counters.iter().map(|each| each.frames_received).collect();
    assert_eq!(received, [requests[&0], requests[&1]]);
    let mut made = made.lock().unwrap().clone();
    made.sort();
    assert_eq!(made, [(0, "shard-0".to_owned()), (1, "shard-1".to_owned())]);
}

#[test]
fn a_reply_may_be_none_an_error_or_of_another_code() {
    let server = builder()
        .handler(1000, |(), _context, _body| Reply::none())
        .async_handler(1001, |_state, _request| async { Reply::none() })
        .handler(1002, |(), _context, _body| {
            Reply::error(Reason::Rejected, "name taken")
        })
        .async_handler(1003, |_state, request| async move {
            Reply::error(Reason::NotAuthenticated, format!("not {}", request.code()))
        })
        .handler(1004, |(), _context, _body| {
            Reply::with_code(2004, &b"other"[..])
        })
        .async_handler(1005, |_state, request| async move {
            Reply::with_code(2005, request.into_body())
        })
        .handler(1006, |(), context, body| context.reply_as(2006, body))
        .handler(1007, |(), context: Context<'_>, body| {
            context.reply_with(2007, |out| {
                out.put(b"<");
                out.put(body);
                out.put(b">");
            })
        })
        .start()
        .unwrap();
    let mut client = connect(address_of(&server));
    for code in 1000..=1001 {
        client.tell(code, b"body").unwrap();
    }
    for code in 1002..=1007 {
        client.send(code, b"body").unwrap();
    }
    let text = client.expect_refusal(1002, Reason::Rejected);
    assert_eq!(text, "name taken");
    let text = client.expect_refusal(1003, Reason::NotAuthenticated);
    assert_eq!(text, "not 1003");
    client.expect(2004, b"other");
    client.expect(2005, b"body");
    client.expect(2006, b"body");
    client.expect(2007, b"<body>");
    // Neither a refusal nor silence counts as a bad frame.
    for _ in 0..10 {
        client.tell(1000, b"").unwrap();
        client.ask_in_vain(1002, b"", Reason::Rejected);
    }
    client.ping();
}

#[test]
fn a_handler_may_refuse_a_body_and_may_end_the_connection() {
    let server = builder()
        .async_handler(1000, |_state, _request| async {
            Reply::error(Reason::BadBody, "")
        })
        .handler(1001, |(), _context, _body| {
            Reply::error(Reason::Internal, "no database")
        })
        .start()
        .unwrap();
    let mut client = connect(address_of(&server));
    for _ in 0..3 {
        assert_eq!(client.ask_in_vain(1000, b"", Reason::BadBody), "");
    }
    client.expect_end();

    // A client may see the end before it has sent the last one.
    let mut peer = Peer::connect(address_of(&server));
    peer.send(1001, b"");
    peer.send(codes::ECHO, b"never handled");
    let text = peer.expect_error(1001, Reason::Internal);
    assert_eq!(text, "no database");
    peer.expect_end();
}

#[test]
fn a_reply_too_long_is_a_failure_of_the_handler() {
    const LONGEST: usize = 29_000 - HEADER_BYTES;
    static LONG: [u8; LONGEST] = [7; LONGEST];
    static TOO_LONG: [u8; LONGEST + 1] = [7; LONGEST + 1];
    let server = builder()
        .handler(1000, |(), context, _body| context.reply(&LONG))
        .handler(1001, |(), context, _body| context.reply(&TOO_LONG))
        .handler(1002, |(), context: Context<'_>, _body| {
            context.reply_with(1002, |out| out.put(&TOO_LONG))
        })
        .handler(1003, |(), _context, _body| Reply::new(vec![7; 1 << 20]))
        .async_handler(1004, |_state, _request| async { Reply::new(&TOO_LONG[..]) })
        .start()
        .unwrap();
    let mut other = connect(address_of(&server));
    for code in 1001..=1004 {
        // A client may see the end before it has sent the last one.
        let mut peer = Peer::connect(address_of(&server));
        peer.send(1000, b"");
        peer.expect(1000, &LONG);
        peer.send(codes::ECHO, b"before");
        peer.send(code, b"");
        peer.send(codes::ECHO, b"never handled");
        peer.expect(codes::ECHO, b"before");
        let text = peer.expect_error(code, Reason::Internal);
        assert_eq!(text, format!("the handler of message code {code} failed"));
        peer.expect_end();
        other.ping();
    }
    drop(other);
    let counters = stopped(server);
    let failed = counters.closed(corelane::metrics::CloseCause::HandlerFailed);
    assert_eq!((failed, counters.handler_panics), (4, 0));
}

#[test]
fn too_many_handlers_at_work_are_told_at_once() {
    let (gate, passings) = gate::closed();
    let handler = gate.clone();
    let mut config = config(1);
    config.handlers.async_per_shard = 1;
    let server = builder_with(config)
        .async_handler(WAIT, move |_state, request| handler.clone().handle(request))
        .start()
        .unwrap();
    let mut first = connect(address_of(&server));
    let mut second = connect(address_of(&server));
    first.send(WAIT, b"first").unwrap();
    passings.expect(Passing::Arrived);

    // More often than bad frames would be forgiven.
    for _ in 0..10 {
        second.ask_in_vain(WAIT, b"second", Reason::Overloaded);
        second.echo(b"goes on");
    }

    gate.open();
    first.expect(WAIT, b"first");
    assert_eq!(second.ask(WAIT, b"second"), b"second");
    drop((first, second));
    assert_eq!(stopped(server).overloaded, 10);
}

#[test]
fn a_late_reply_is_dropped_and_never_reaches_another_connection() {
    let (gate, passings) = gate::closed();
    let handler = gate.clone();
    // With room for one connection, the next one must get the same slot.
    let mut config = config(1);
    config.limits.connections = 1;
    let server = builder_with(config)
        .async_handler(WAIT, move |_state, request| handler.clone().handle(request))
        .handler(WAIT + 1, |(), context, _body| {
            let id = context.connection().to_string();
            context.reply(id.as_bytes())
        })
        .start()
        .unwrap();
    let id_in = |body| String::from_utf8(body).unwrap();

    // No client: none resets its connection.
    let mut gone = Peer::connect(address_of(&server));
    gone.send(WAIT + 1, b"");
    let gone_id = id_in(gone.next().unwrap().body);
    gone.send(WAIT, b"for nobody else");
    passings.expect(Passing::Arrived);
    gone.reset();

    let mut next = connect(address_of(&server));
    let next_id = id_in(next.ask(WAIT + 1, b""));
    let slot = |id: &str| id.rsplit_once('-').unwrap().0.to_owned();
    assert_eq!(slot(&next_id), slot(&gone_id));
    assert_ne!(next_id, gone_id);

    gate.open();
    passings.expect(Passing::Passed);
    for _ in 0..100 {
        next.echo(b"my own");
    }
    assert_eq!(next.ask(WAIT, b"my own, too"), b"my own, too");
    drop(next);
    let counters = stopped(server);
    assert_eq!(counters.late_replies, 1);
    assert_eq!(counters.accepted, 2);
}

#[test]
fn any_code_can_have_a_handler() {
    let server = Server::builder(config(1))
        .handler(u16::MAX, apps::echo)
        .handler(codes::PING, |(), context, _body| context.reply(b"my own"))
        .start()
        .unwrap();
    let mut client = connect(address_of(&server));
    assert_eq!(client.ask(u16::MAX, b"the last"), b"the last");
    assert_eq!(client.ask(codes::PING, b""), b"my own");
    client.ask_in_vain(u16::MAX - 1, b"", Reason::UnknownCode);
}

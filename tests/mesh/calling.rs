//! Functions that run on other shards, and their answers.

use std::cell::Cell;
use std::net::TcpStream;
use std::rc::Rc;

use corelane::client::Client;
use corelane::protocol::{Reason, codes};
use corelane::{Local, Reply, RunError, Server};

use crate::club::{stopped, sum};
use crate::support::library::{address_of, config};
use crate::support::peer::Peer;
use crate::support::user::{User as _, connect};
use crate::support::waiting::until;

const SUM: u16 = 1000;
const ADD_EVERYWHERE: u16 = 1001;
const PANIC_THERE: u16 = 1002;
const NOWHERE: u16 = 1003;
const ECHO_THERE: u16 = 1004;

struct State {
    local: Local<State>,
    sum: Cell<u64>,
}

fn server(shards: u16) -> Server {
    let mut config = config(shards);
    config.timeouts.drain_ms = 3_600_000;
    Server::builder_with_state(config, |local| State {
        local,
        sum: Cell::new(0),
    })
    .async_handler(SUM, |state: Rc<State>, _request| async move {
        let mut sums = Vec::new();
        for shard in 0..state.local.shards() {
            let sum = state.local.run_on(shard, |state| state.sum.get());
            match sum.await {
                Ok(sum) => sums.extend(sum.to_be_bytes()),
                Err(error) => return error.into(),
            }
        }
        Reply::new(sums)
    })
    .handler(ADD_EVERYWHERE, |state, context, body| {
        let number = u64::from(body[0]);
        for shard in 0..state.local.shards() {
            let add = move |state: &State| state.sum.set(state.sum.get() + number);
            if let Err(error) = state.local.tell(shard, add) {
                return error.into();
            }
        }
        context.reply(b"")
    })
    .async_handler(PANIC_THERE, |state: Rc<State>, request| async move {
        let shard = usize::from(request.body()[0]);
        let call = state
            .local
            .run_on(shard, |_state: &State| -> u8 { panic!("there") });
        match call.await {
            Err(RunError::Panicked) => Reply::new(&b"it panicked"[..]),
            other => Reply::error(Reason::Rejected, format!("{other:?}")),
        }
    })
    .async_handler(NOWHERE, |state: Rc<State>, _request| async move {
        let nowhere = state.local.shards();
        let told = state.local.tell(nowhere, |_| {});
        let run = state.local.run_on(nowhere, |_| 1).await;
        Reply::new(format!("{told:?} {run:?}").into_bytes())
    })
    .async_handler(ECHO_THERE, |state: Rc<State>, request| async move {
        let shard = usize::from(request.body()[0]);
        let body = request.into_body();
        match state.local.run_on(shard, move |_| body).await {
            Ok(body) => Reply::new(body),
            Err(error) => error.into(),
        }
    })
    .start()
    .unwrap()
}

#[test]
fn functions_run_on_every_shard_and_are_answered() {
    let server = server(3);
    let mut client = connect(address_of(&server));
    let mut total = 0_u64;
    for number in 1..=20_u8 {
        assert_eq!(client.ask(ADD_EVERYWHERE, &[number]), b"");
        total += u64::from(number);
        assert_eq!(client.ask(SUM, b""), total.to_be_bytes().repeat(3));
    }
    let counters = stopped(server);
    assert_eq!(sum(&counters, |c| c.runs), 20 * 6);
}

#[test]
fn a_panic_there_is_an_answer_here_and_hurts_nobody() {
    let server = server(2);
    let mut client = connect(address_of(&server));
    for shard in [0, 1] {
        assert_eq!(client.ask(PANIC_THERE, &[shard]), b"it panicked");
    }
    assert_eq!(client.ask(NOWHERE, b""), b"Err(Gone) Err(Gone)");
    let counters = stopped(server);
    assert!(counters.iter().all(|c| c.run_panics == 1));
    assert_eq!(sum(&counters, |c| c.handler_panics), 0);
}

/// Answers wake whoever awaits them, wherever its shard sleeps.
#[test]
fn many_wait_for_answers_at_once() {
    const CLIENTS: u8 = 50;
    let server = server(2);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| connect(address_of(&server))).collect();
    for round in 0..20 {
        for (number, client) in (0..CLIENTS).zip(&mut clients) {
            let body = [number % 2, number, round];
            client.send(ECHO_THERE, &body).unwrap();
        }
        for (number, client) in (0..CLIENTS).zip(&mut clients) {
            client.expect(ECHO_THERE, &[number % 2, number, round]);
        }
    }
}

/// Shards without connections once ended at once in a drain, and were gone for the others. A client
/// would move on at the GOAWAY, so this is a raw peer.
#[test]
fn shards_without_connections_answer_in_a_drain() {
    let server = server(3);
    let address = address_of(&server);
    let mut peer = Peer::connect(address);
    peer.send(ADD_EVERYWHERE, &[7]);
    peer.expect(ADD_EVERYWHERE, b"");
    server.handle().drain();
    assert_eq!(peer.next().unwrap().code, codes::GOAWAY);
    // Then all shards have closed their listeners, and two of the three have nothing left.
    until("connects are refused", || {
        TcpStream::connect(address).is_err().then_some(())
    });
    for _ in 0..20 {
        peer.send(SUM, b"");
        peer.expect(SUM, &7_u64.to_be_bytes().repeat(3));
    }
    // Quiet, it is let go, and then all end, long before the drain's time is over.
    peer.expect_end();
    drop(peer);
    let counters = server.wait().unwrap();
    assert_eq!(sum(&counters, |c| c.runs), 3 + 20 * 3);
}

//! A handler that panics ends its own connection, and nothing else.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use corelane::metrics::CloseCause;
use corelane::protocol::{Reason, codes};
use corelane::{Reply, Server, apps};

use crate::support::library::{address_of, config, stopped};
use crate::support::log_capture;
use crate::support::peer::{Peer, frame};
use crate::support::user::{User as _, connect};
use crate::support::waiting::until;

const SYNC: u16 = 1000;
const ASYNC_AT_ONCE: u16 = 1001;
const ASYNC_LATER: u16 = 1002;
const WITH_STATE: u16 = 1003;
const WITHIN_REPLY: u16 = 1004;
const COUNT: u16 = 1100;

#[derive(Default)]
struct State {
    requests: Cell<u64>,
    names: RefCell<Vec<String>>,
}

fn server() -> Server {
    Server::builder_with_state(config(1), |_shard| State::default())
        .handler(codes::ECHO, apps::echo)
        .handler(SYNC, |_state, _context, body| {
            panic!("spilled {}", String::from_utf8_lossy(body))
        })
        .async_handler(ASYNC_AT_ONCE, |_state, _request| async {
            panic!("before it waited")
        })
        .async_handler(ASYNC_LATER, |_state, _request| async {
            glommio::timer::sleep(Duration::from_millis(1)).await;
            panic!("after it waited")
        })
        .handler(WITH_STATE, |state: &State, _context, _body| {
            state.requests.set(state.requests.get() + 1);
            let mut names = state.names.borrow_mut();
            names.push("half done".to_owned());
            let index = names.len();
            Reply::new(names[index].clone().into_bytes())
        })
        .handler(WITHIN_REPLY, |_state, context, _body| {
            context.reply_with(WITHIN_REPLY, |out| {
                out.put(b"half a reply");
                panic!("while it wrote")
            })
        })
        .async_handler(COUNT, |state: Rc<State>, _request| async move {
            // Borrowing would panic if a panic had left it borrowed.
            let names = state.names.borrow().len();
            Reply::new(format!("{} {names}", state.requests.get()).into_bytes())
        })
        .start()
        .unwrap()
}

#[test]
fn a_panic_ends_one_connection_and_the_shard_goes_on() {
    log_capture::start();
    let server = server();
    // No clients: one sends half a frame, the others what comes too late.
    let mut other = Peer::connect(address_of(&server));
    let halves = frame(codes::ECHO, b"two halves");
    let (first_half, second_half) = halves.split_at(9);
    let codes_of_panics = [SYNC, ASYNC_AT_ONCE, ASYNC_LATER, WITH_STATE, WITHIN_REPLY];
    for code in codes_of_panics {
        other.send_bytes(first_half);
        let mut peer = Peer::connect(address_of(&server));
        for _ in 0..3 {
            peer.send(codes::ECHO, b"before");
        }
        peer.send(code, b"milk 4711");
        peer.send(codes::ECHO, b"never handled");
        for _ in 0..3 {
            peer.expect(codes::ECHO, b"before");
        }
        let text = peer.expect_error(code, Reason::Internal);
        assert_eq!(text, format!("the handler of message code {code} failed"));
        peer.expect_end();

        other.send_bytes(second_half);
        other.expect(codes::ECHO, b"two halves");
    }
    // What the handler had done to the state before it panicked stays done.
    other.send(COUNT, b"");
    other.expect(COUNT, b"1 1");
    drop(other);

    let line = until("the panic is logged", || {
        log_capture::line_with("spilled milk 4711")
    });
    let parts = [
        "\"code\":1000",
        "\"connection\":\"0-",
        "\"peer\":\"127.0.0.1:",
    ];
    for part in [&parts[..], &["ERROR", "a handler panicked", "panics.rs:"]].concat() {
        assert!(line.contains(part), "{line}");
    }
    let counters = stopped(server);
    assert_eq!(counters.handler_panics, 5);
    assert_eq!(counters.closed(CloseCause::HandlerPanic), 5);
    assert_eq!(counters.closed_total(), 6);
}

#[test]
fn panics_by_the_hundred_leave_nothing_behind() {
    let server = server();
    let mut other = connect(address_of(&server));
    for round in 0..100 {
        let mut client = connect(address_of(&server));
        let code = [SYNC, ASYNC_AT_ONCE, ASYNC_LATER][round % 3];
        client.ask_in_vain(code, b"", Reason::Internal);
        client.expect_end();
        other.echo(b"undisturbed");
    }
    drop(other);
    let counters = stopped(server);
    assert_eq!(counters.handler_panics, 100);
    assert_eq!(counters.closed_total(), 101);
    assert_eq!(counters.late_replies, 0);
}

//! More than may wait: refused with OVERLOADED and counted, and nobody else notices.

use std::rc::Rc;

use corelane::protocol::{Reason, codes};
use corelane::{Local, PushError, Reply, Server, apps};

use crate::club::{stopped, sum};
use crate::support::library::{address_of, config};
use crate::support::user::{User as _, connect};

/// Pushes to a connection until it is refused; the first byte says whether to one of another shard.
const PUSH_WITHOUT_END: u16 = 1000;
const CALL_WITHOUT_END: u16 = 1001;
const TOO_LONG: u16 = 1002;

struct State {
    local: Local<State>,
}

fn server() -> Server {
    Server::builder_with_state(config(2), |local| State { local })
        .handler(codes::ECHO, apps::echo)
        .handler(PUSH_WITHOUT_END, |state: &State, context, body| {
            let own = context.connection();
            let is_other = body[0] == 1;
            loop {
                let pushed = if is_other {
                    state
                        .local
                        .tell(1 - own.shard(), |_| {})
                        .map_err(Reply::from)
                } else {
                    state.local.push(own, 1003, &[1; 1000]).map_err(Reply::from)
                };
                if let Err(refused) = pushed {
                    return refused;
                }
            }
        })
        .async_handler(CALL_WITHOUT_END, |state: Rc<State>, request| async move {
            let other = 1 - request.connection().shard();
            let mut calls = Vec::new();
            for number in 0..100_000_u32 {
                calls.push((number, state.local.run_on(other, move |_| number)));
            }
            let (mut answered, mut refused) = (0_u32, 0_u32);
            for (number, call) in calls {
                match call.await {
                    Ok(answer) if answer == number => answered += 1,
                    Ok(_) => return Reply::error(Reason::Rejected, "another's answer"),
                    Err(_) => refused += 1,
                }
            }
            assert_eq!(answered + refused, 100_000);
            Reply::new(refused.to_be_bytes().to_vec())
        })
        .handler(TOO_LONG, |state: &State, context, _body| {
            let own = context.connection();
            match state.local.push(own, 1003, &vec![1; 60_000]) {
                Err(PushError::TooLong { body_bytes: 60_000 }) => context.reply(b"too long"),
                other => Reply::error(Reason::Rejected, format!("{other:?}")),
            }
        })
        .start()
        .unwrap()
}

#[test]
fn a_handler_that_pushes_without_end_is_refused() {
    let server = server();
    let mut other = connect(address_of(&server));
    for to_other in [0, 1] {
        let mut client = connect(address_of(&server));
        client.send(PUSH_WITHOUT_END, &[to_other]).unwrap();
        if to_other == 1 {
            client.expect_refusal(PUSH_WITHOUT_END, Reason::Overloaded);
            client.echo(b"I live");
        }
        other.echo(b"so do I");
    }
    let counters = stopped(server);
    assert!(sum(&counters, |c| c.errands_refused) >= 2);
}

#[test]
fn calls_without_end_are_refused_and_all_others_answered() {
    let server = server();
    let mut client = connect(address_of(&server));
    let refused = client.ask(CALL_WITHOUT_END, b"");
    let refused = u32::from_be_bytes(refused.try_into().unwrap());
    assert!(refused > 0);
    assert_eq!(client.ask(TOO_LONG, b""), b"too long");
    let counters = stopped(server);
    assert_eq!(sum(&counters, |c| c.errands_refused), u64::from(refused));
    assert_eq!(sum(&counters, |c| c.runs), u64::from(100_000 - refused));
}

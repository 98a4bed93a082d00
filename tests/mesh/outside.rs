//! The same from outside the shards: another thread, or another executor.

use std::thread;

use corelane::{PushError, RunError};

use crate::club::{Member, NEWS, State, start, stopped, sum};
use crate::support::library::address_of;
use crate::support::user::User as _;
use crate::support::waiting::until;

#[test]
fn threads_push_to_connections_in_their_order() {
    const THREADS: u8 = 4;
    let (server, members) = start();
    let mut receivers = [
        Member::on(0, &server, &members),
        Member::on(1, &server, &members),
    ];
    let ids = receivers
        .each_ref()
        .map(|member| members.lock().unwrap()[usize::from(member.number)]);
    let threads = (0..THREADS).map(|thread| {
        let handle = server.handle();
        thread::spawn(move || {
            for number in 0..500_u16 {
                let [high, low] = number.to_be_bytes();
                for id in ids {
                    until("there is room", || {
                        match handle.push(id, NEWS, &[thread, high, low]) {
                            Ok(()) => Some(()),
                            Err(PushError::Overloaded) => None,
                            Err(error) => panic!("{error}"),
                        }
                    });
                }
            }
        })
    });
    let threads: Vec<_> = threads.collect();
    for receiver in &mut receivers {
        let mut next = [0_u16; THREADS as usize];
        for _ in 0..500 * usize::from(THREADS) {
            let push = receiver.client.push().unwrap();
            let [thread, high, low] = push.body.try_into().unwrap();
            let next = &mut next[usize::from(thread)];
            assert_eq!(u16::from_be_bytes([high, low]), *next, "of thread {thread}");
            *next += 1;
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_broadcast_from_outside_reaches_everybody() {
    let (server, members) = start();
    let mut all: Vec<Member> = (0..20)
        .map(|_| Member::join(address_of(&server), &members))
        .collect();
    server.handle().broadcast(NEWS, b"from outside").unwrap();
    for member in &mut all {
        member.client.expect_push(NEWS, b"from outside");
        member.ping();
    }
    let too_long = server
        .handle()
        .broadcast(NEWS, &vec![0; 29_000])
        .unwrap_err();
    assert_eq!(too_long, PushError::TooLong { body_bytes: 29_000 });
}

#[test]
fn functions_run_for_who_blocks_and_for_who_awaits() {
    let (server, _members) = start();
    let handle = server.handle();
    for shard in 0..2 {
        let answered = handle.run_on(shard, |state: &State| state.local.shard());
        assert_eq!(answered.wait(), Ok(shard));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let answered = handle.run_on(1, |state: &State| state.local.shards());
    assert_eq!(runtime.block_on(answered), Ok(2));
    let of_another = handle.run_on(0, |state: &String| state.len());
    assert_eq!(of_another.wait(), Err(RunError::OtherState));
    let panics = handle.run_on(0, |_: &State| -> u8 { panic!("from outside") });
    assert_eq!(panics.wait(), Err(RunError::Panicked));
    let nowhere = handle.run_on(2, |_: &State| 1);
    assert_eq!(nowhere.wait(), Err(RunError::Gone));
    // It runs, whoever waits.
    drop(handle.run_on(1, |state: &State| state.members.lock().unwrap().clear()));
    let counters = stopped(server);
    assert_eq!(sum(&counters, |c| c.runs), 6);
    assert_eq!(sum(&counters, |c| c.run_panics), 1);
}

#[test]
fn who_comes_too_late_is_told() {
    let (server, members) = start();
    let member = Member::join(address_of(&server), &members);
    let id = members.lock().unwrap()[usize::from(member.number)];
    let handle = server.handle();
    stopped(server);
    assert_eq!(handle.push(id, NEWS, b"late"), Err(PushError::Gone));
    assert_eq!(handle.broadcast(NEWS, b"late"), Err(PushError::Gone));
    let run = handle.run_on(0, |state: &State| state.local.shard());
    assert_eq!(run.wait(), Err(RunError::Gone));
}

/// A shard that is kept takes nothing from its mailbox; what waits there is bounded.
#[test]
fn a_full_mailbox_refuses_and_is_emptied() {
    let (server, members) = start();
    let mut receiver = Member::on(0, &server, &members);
    let id = members.lock().unwrap()[usize::from(receiver.number)];
    let handle = server.handle();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (enters, entered) = std::sync::mpsc::channel::<()>();
    let kept = handle.run_on(0, move |_: &State| {
        enters.send(()).unwrap();
        released.recv().unwrap();
    });
    entered.recv().unwrap();
    let mut pushed = 0_u32;
    while handle.push(id, NEWS, &pushed.to_be_bytes()).is_ok() {
        pushed += 1;
    }
    assert!(pushed > 1_000, "{pushed}");
    let refused = handle.run_on(0, |_: &State| ()).wait();
    assert_eq!(refused, Err(RunError::Overloaded));
    assert_eq!(
        handle.broadcast(NEWS, b"to all or none"),
        Err(PushError::Overloaded)
    );
    release.send(()).unwrap();
    assert_eq!(kept.wait(), Ok(()));
    for number in 0..pushed {
        receiver.client.expect_push(NEWS, &number.to_be_bytes());
    }
    receiver.ping();
    let counters = stopped(server);
    assert!(counters[0].errands_refused >= 3);
}

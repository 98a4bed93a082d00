//! How the asynchronous client comes to its end: in time, and with what was handed over before.

use std::sync::mpsc;
use std::time::Duration;

use corelane::client::ClientError;
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::asynchronous::{connected, next};
use crate::scripted::{Peer, Scripted, script};
use crate::server::{DEADLINE, options, quickly};

#[tokio::test]
async fn a_close_lets_what_is_in_flight_be_answered() {
    let server = Scripted::start([script(|peer| {
        peer.expect(1000);
        peer.send(1000, b"a");
        peer.expect(1000);
        peer.send(1000, b"b");
        peer.expect_end();
    })]);
    let client = connected(options(), &server).await;
    let (a, b, closed) = tokio::join!(
        client.request(1000, b""),
        client.request(1000, b""),
        client.close(),
    );
    closed.unwrap();
    assert_eq!((a.unwrap().body, b.unwrap().body), (vec![b'a'], vec![b'b']));
    server.ended();
}

#[tokio::test]
async fn the_last_clone_that_goes_closes_the_connection() {
    let (end, ended) = tokio::sync::oneshot::channel();
    let server = Scripted::start([script(|peer| {
        peer.expect(1000);
        peer.expect_end();
        end.send(()).unwrap();
    })]);
    let client = connected(options(), &server).await;
    client.clone().tell(1000, b"").await.unwrap();
    drop(client);
    timeout(DEADLINE, ended).await.unwrap().unwrap();
    server.ended();
}

/// What waited for the next connection was refused when the client was closed meanwhile.
#[tokio::test]
async fn a_close_while_a_connection_is_left_carries_out_what_waits_for_the_next_one() {
    let (left, is_left) = tokio::sync::oneshot::channel();
    let (go, goes) = mpsc::channel::<()>();
    let server = Scripted::start([
        script(move |peer| {
            peer.expect(1000);
            peer.send_goaway();
            peer.send(1000, b"old");
            peer.expect_end();
            left.send(()).unwrap();
            goes.recv_timeout(DEADLINE).unwrap();
        }),
        script(|peer| {
            assert_eq!(peer.expect(1000), b"b");
            peer.send(1000, b"new");
            peer.expect_end();
        }),
    ]);
    let client = connected(options().reconnect(quickly()), &server).await;
    assert_eq!(client.request(1000, b"a").await.unwrap().body, b"old");
    is_left.await.unwrap();
    let (reply, closed, ()) = tokio::join!(client.request(1000, b"b"), client.close(), async {
        // Let the driver take both first.
        tokio::task::yield_now().await;
        go.send(()).unwrap();
    });
    assert_eq!(reply.unwrap().body, b"new");
    closed.unwrap();
    server.ended();
}

/// The driver goes with its runtime, and says nothing; whoever waited on another one, waited on.
#[test]
fn whoever_waits_for_a_push_is_told_when_the_runtime_of_the_connection_is_gone() {
    let server = Scripted::start([script(Peer::echo_to_the_end)]);
    let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
    let (driving, waiting) = (runtime(), runtime());
    let client = driving.block_on(connected(options(), &server));
    let over = waiting.block_on(async {
        let goes = async { std::thread::spawn(move || drop(driving)) };
        let (outcome, gone) = tokio::join!(next(&client), goes);
        gone.join().unwrap();
        outcome.unwrap_err()
    });
    assert!(matches!(over, ClientError::Over), "{over}");
}

/// Neither a close nor the end of the handles was seen while as much waited as may.
#[tokio::test]
async fn a_client_ends_in_time_even_where_nothing_more_can_be_sent() {
    for closes in [true, false] {
        let (end, ended) = tokio::sync::oneshot::channel();
        let server = Scripted::start([script(|peer| {
            peer.expect(1000);
            peer.expect_end();
            end.send(()).unwrap();
        })]);
        let options = options().timeout(Duration::from_millis(100));
        let client = connected(options.in_flight_max(1), &server).await;
        client.request(1000, b"").await.unwrap_err();
        // It waits for the answer to the one before.
        client.tell(1001, b"").await.unwrap();
        if closes {
            let closed = timeout(DEADLINE, client.close()).await.unwrap();
            let is_late = matches!(closed, Err(ClientError::TimedOut { .. }));
            assert!(is_late, "{closed:?}");
        } else {
            drop(client);
        }
        timeout(DEADLINE, ended).await.unwrap().unwrap();
        server.ended();
    }
}

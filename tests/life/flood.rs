//! More frames than may come. No clients: the frames come in one piece.

use std::thread::sleep;
use std::time::Duration;

use corelane::protocol::{Reason, codes};

use crate::support::peer::{Peer, frame};
use crate::support::program::serve;

fn burst(frames: usize) -> Vec<u8> {
    frame(codes::PING, b"").repeat(frames)
}

#[test]
fn a_burst_is_answered_whole_and_the_next_frame_ends_the_connection() {
    let server = serve(&[
        "flood.frames_per_second=1",
        "flood.burst=20",
        "log.level=debug",
    ]);
    let mut modest = Peer::connect(server.address());
    let mut flooding = Peer::connect(server.address());
    // All in one segment, which is handled at one time by the server's clock.
    flooding.send_bytes(&burst(25));
    for _ in 0..20 {
        flooding.expect(codes::PING, b"");
    }
    let text = flooding.expect_error(codes::PING, Reason::RateLimited);
    assert!(text.contains("flood.frames_per_second"), "{text}");
    flooding.expect_end();
    drop(flooding);
    server.wait_for_log("cause=flood");

    // The bucket of another connection is as full as ever.
    modest.send_bytes(&burst(20));
    for _ in 0..20 {
        modest.expect(codes::PING, b"");
    }
    assert_eq!(server.count_logged("cause=flood"), 1);
}

#[test]
fn the_bucket_fills_again_at_the_rate() {
    let server = serve(&["flood.frames_per_second=20", "flood.burst=5"]);
    let mut peer = Peer::connect(server.address());
    peer.send_bytes(&burst(5));
    for _ in 0..5 {
        peer.expect(codes::PING, b"");
    }
    // Never faster than the rate, and each is handled before the next pause begins.
    for _ in 0..20 {
        sleep(Duration::from_millis(50));
        peer.ping();
    }
    // No more has gathered than what the pauses were too long.
    peer.send_bytes(&burst(200));
    let answered = std::iter::from_fn(|| peer.next())
        .take_while(|frame| frame.code == codes::PING)
        .count();
    assert!(answered <= 10, "{answered} at once");
    peer.expect_end();
}

#[test]
fn bad_frames_count_too() {
    let server = serve(&[
        "flood.frames_per_second=1",
        "flood.burst=3",
        "limits.max_bad_frames=1000",
    ]);
    let mut peer = Peer::connect(server.address());
    peer.send_bytes(&frame(999, b"").repeat(5));
    for _ in 0..3 {
        peer.expect_error(999, Reason::UnknownCode);
    }
    peer.expect_error(999, Reason::RateLimited);
    peer.expect_end();
}

#[test]
fn a_silent_server_only_closes() {
    let server = serve(&[
        "protocol.errors=silent",
        "flood.frames_per_second=1",
        "flood.burst=2",
    ]);
    let mut peer = Peer::connect(server.address());
    peer.send_bytes(&burst(9));
    peer.expect(codes::PING, b"");
    peer.expect(codes::PING, b"");
    peer.expect_end();
}

//! A peer that has much more to come than fits anywhere on the way, and does not read it.

use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use corelane::protocol::codes;

use super::peer::{Peer, frame};
use super::waiting::until_still;

/// Dropping it does not end its thread; the end of the server does, or [`Backlogged::leave`].
pub(crate) struct Backlogged {
    peer: Peer,
    sender: thread::JoinHandle<()>,
}

impl Backlogged {
    /// Connects; returns when the server takes no more from it.
    pub(crate) fn connect(address: SocketAddr) -> Backlogged {
        let peer = Peer::connect_small(address);
        let mut sender = peer.sender();
        let sent = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&sent);
        let sender = thread::spawn(move || {
            for number in 0..u64::MAX {
                let body = number.to_be_bytes().repeat(128);
                // It fails once the server has had enough.
                if sender.write_all(&frame(codes::ECHO, &body)).is_err() {
                    return;
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        until_still("the server takes no more", &sent);
        Backlogged { peer, sender }
    }

    /// Asserts that what still comes is whole and in order, up to the end; gives back how much.
    pub(crate) fn read_to_end(&mut self) -> u64 {
        let mut frames = 0u64;
        while let Some(frame) = self.peer.next() {
            assert_eq!(frame.code, codes::ECHO);
            assert_eq!(frame.body, frames.to_be_bytes().repeat(128));
            frames += 1;
        }
        frames
    }

    /// Closes the connection.
    pub(crate) fn leave(self) {
        let stream = self.peer.sender();
        // It fails where the server has reset the connection.
        let _ = stream.shutdown(Shutdown::Both);
        self.sender.join().unwrap();
    }
}

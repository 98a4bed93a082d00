//! Many small messages of one code in one slice: each is handled as it would be by itself.

use super::*;
use crate::handler::panic::keep_reports;
use crate::protocol::{Decoded, Decoder, Frame, HEADER_BYTES, Reason};

const ADD: u16 = 1000;
const OTHER: u16 = 1001;

/// What a body begins with says what its handler does.
const ANSWERS: u8 = 0;
const REFUSES: u8 = 1;
const IS_SILENT: u8 = 2;
const PANICS: u8 = 3;

fn router() -> Router<()> {
    let mut router = Router::new();
    for code in [ADD, OTHER] {
        router.handler(code, |(), context, body| match body[0] {
            ANSWERS => context.reply(body),
            REFUSES => Reply::error(Reason::Rejected, "no"),
            IS_SILENT => Reply::none(),
            _ => panic!("on purpose"),
        });
    }
    router
}

/// The code and the body of a reply.
type Sent = (u16, Vec<u8>);

/// Frames with these codes, whose handlers do that; no two are the same.
fn slice(requests: &[(u16, u8)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, &(code, does)) in (0..).zip(requests) {
        encode(&mut bytes, code, &[does, number]).unwrap();
    }
    bytes
}

/// A shard to which these requests have come in one slice, and the codes and bodies of its replies.
fn handled(settings: Settings, requests: &[(u16, u8)]) -> (Shard<Still, ()>, Vec<Sent>) {
    let mut shard = with_one_connection(settings, router());
    receive(&mut shard, slice(requests), 2);
    shard.turn(2);
    let mut replies = Vec::new();
    for send in &shard.io.sends {
        let mut decoder = Decoder::new();
        let mut frames = decoder.frames(send.remaining(), 29_000);
        while let Some(decoded) = frames.next() {
            let Decoded::Whole(Frame { code, body }) = decoded else {
                panic!("{decoded:?} was sent");
            };
            replies.push((code, body.to_vec()));
        }
    }
    (shard, replies)
}

#[test]
fn every_reply_goes_out_in_order_whatever_the_codes() {
    let requests: Vec<(u16, u8)> = (0..200_u8)
        .map(|number| (if number % 7 < 4 { ADD } else { OTHER }, ANSWERS))
        .collect();
    let (shard, replies) = handled(Settings::from(&Config::default()), &requests);
    let expected: Vec<Sent> = (0..)
        .zip(&requests)
        .map(|(number, &(code, does))| (code, vec![does, number]))
        .collect();
    assert_eq!(replies, expected);
    assert_eq!(shard.counters().frames_received, 200);
    assert_eq!(shard.counters().frames_sent, 200);
}

#[test]
fn a_reply_that_is_not_written_has_its_place_among_the_others() {
    let does = [
        ANSWERS, ANSWERS, REFUSES, ANSWERS, IS_SILENT, IS_SILENT, ANSWERS,
    ];
    let requests = does.map(|does| (ADD, does));
    let (shard, replies) = handled(Settings::from(&Config::default()), &requests);
    let codes: Vec<u16> = replies.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [ADD, ADD, codes::ERROR, ADD, ADD]);
    assert_eq!(replies[4].1, [ANSWERS, 6]);
    assert_eq!(shard.counters().frames_received, 7);
    assert_eq!(shard.counters().frames_sent, 5);
}

#[test]
fn what_was_answered_before_a_panic_is_sent_and_counted() {
    keep_reports();
    let does = [ANSWERS, ANSWERS, ANSWERS, PANICS, ANSWERS];
    let (shard, replies) = handled(
        Settings::from(&Config::default()),
        &does.map(|does| (ADD, does)),
    );
    let codes: Vec<u16> = replies.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [ADD, ADD, ADD, codes::ERROR]);
    let counters = shard.counters();
    assert_eq!((counters.frames_received, counters.frames_sent), (4, 4));
    assert_eq!(counters.handler_panics, 1);
}

#[test]
fn it_ends_where_enough_is_queued() {
    let frame_bytes = HEADER_BYTES + 2;
    let settings = Settings {
        outbound_high_bytes: 3 * frame_bytes,
        ..Settings::from(&Config::default())
    };
    let (mut shard, replies) = handled(settings, &[(ADD, ANSWERS); 10]);
    assert_eq!(replies.len(), 3);
    assert_eq!(shard.counters().frames_received, 3);
    let id = shard.connections.ids().next().unwrap();
    let connection = shard.connections.get_mut(id).unwrap();
    assert_eq!(connection.decoder.held_bytes(), 7 * frame_bytes);
}

#[test]
fn it_ends_with_the_share_of_a_turn() {
    let settings = Settings {
        turn_frames_max: 4,
        ..Settings::from(&Config::default())
    };
    let mut shard = with_one_connection(settings, router());
    receive(&mut shard, slice(&[(ADD, ANSWERS); 10]), 2);
    assert_eq!(shard.counters().frames_received, 4);
    for frames in [8, 10] {
        shard.turn(3);
        assert_eq!(shard.counters().frames_received, frames);
    }
}

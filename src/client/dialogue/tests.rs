//! The state machine by itself: every frame goes where it belongs, whatever the order and the cuts.

use proptest::prelude::*;

use super::*;
use crate::protocol::messages::ErrorBody;
use crate::protocol::{FieldProblem, Reason, encode_error, encode_message};

mod pushes;

const NOW: Duration = Duration::from_secs(100);
const SECOND: Duration = Duration::from_secs(1);

fn options() -> Options {
    Options::new().timeout(5 * SECOND).push_code(2000)
}

fn begun(options: &Options) -> Dialogue {
    let mut dialogue = Dialogue::new(options);
    dialogue.begin(NOW);
    dialogue
}

fn frame(code: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, code, body).unwrap();
    bytes
}

fn error(answered: u16, reason: Reason) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_error(&mut bytes, answered, reason, "because");
    bytes
}

fn goaway() -> Vec<u8> {
    frame(codes::GOAWAY, &[0; 4])
}

#[track_caller]
fn answer(dialogue: &mut Dialogue) -> (Ticket, Result<Reply, ClientError>) {
    let answered = dialogue.poll_answer(None).expect("an answer");
    let outcome = answered.outcome.and_then(Reply::unless_refused);
    (answered.ticket, outcome)
}

#[track_caller]
fn comes(dialogue: &mut Dialogue, bytes: &[u8]) {
    dialogue.handle_bytes(bytes, NOW).unwrap();
}

#[test]
fn replies_answer_requests_in_their_order() {
    let mut dialogue = begun(&options());
    let first = dialogue.request(1000, b"a", NOW).unwrap();
    let second = dialogue.request(1001, b"b", NOW).unwrap();
    let both = [frame(1000, b"a"), frame(1001, b"b")].concat();
    assert_eq!(dialogue.unsent(), both);
    dialogue.sent(3);
    assert_eq!(dialogue.unsent(), &both[3..]);
    dialogue.sent(both.len() - 3);
    assert!(dialogue.unsent().is_empty());
    assert!(!dialogue.has_heard() && !dialogue.is_quiet());

    comes(&mut dialogue, &frame(1000, b"A"));
    // A handler may answer under another code.
    comes(&mut dialogue, &frame(7, b"B"));
    assert_eq!(dialogue.in_flight(), 2);
    assert_eq!(
        dialogue.poll_answer(Some(second)).unwrap().outcome.unwrap(),
        Reply {
            code: 7,
            body: b"B".to_vec()
        }
    );
    let (ticket, reply) = answer(&mut dialogue);
    assert_eq!((ticket, reply.unwrap().body), (first, b"A".to_vec()));
    assert_eq!(dialogue.in_flight(), 0);
    assert!(dialogue.has_heard() && dialogue.is_quiet());
}

#[test]
fn a_push_is_never_taken_for_a_reply() {
    let mut dialogue = begun(&options());
    let ticket = dialogue.request(2000, b"", NOW).unwrap();
    for code in [codes::EVENT, 2000] {
        comes(&mut dialogue, &frame(code, b"pushed"));
    }
    comes(&mut dialogue, &goaway());
    assert!(dialogue.poll_answer(None).is_none());
    comes(&mut dialogue, &frame(1000, b"reply"));
    assert_eq!(answer(&mut dialogue).0, ticket);
    let pushed = std::iter::from_fn(|| dialogue.poll_push()).map(|push| push.code);
    assert_eq!(
        pushed.collect::<Vec<_>>(),
        [codes::EVENT, 2000, codes::GOAWAY]
    );
    assert!(dialogue.is_going_away());
    dialogue.begin(NOW);
    assert!(!dialogue.is_going_away(), "the next connection is not");
}

#[test]
fn an_error_refuses_the_request_that_it_answers() {
    let mut dialogue = begun(&options());
    let ticket = dialogue.request(1000, b"", NOW).unwrap();
    comes(&mut dialogue, &error(1000, Reason::Rejected));
    let (answered, outcome) = answer(&mut dialogue);
    let Err(ClientError::Refused(refusal)) = outcome else {
        panic!("not refused: {outcome:?}");
    };
    assert_eq!(answered, ticket);
    assert_eq!(refusal.reason(), Some(Reason::Rejected));
    assert_eq!(
        refusal.to_string(),
        "the server answered ERROR REJECTED to code 1000: because"
    );
}

#[test]
fn an_error_about_the_connection_is_a_push_and_the_reason_of_its_end() {
    let mut dialogue = begun(&options());
    let ticket = dialogue.request(1000, b"", NOW).unwrap();
    comes(&mut dialogue, &error(codes::ERROR, Reason::TimedOut));
    assert!(dialogue.poll_answer(None).is_none());
    let push = dialogue.poll_push().unwrap();
    assert_eq!(push.message::<ErrorBody>().unwrap().text, "because");
    let end = dialogue.handle_end();
    let sentence = "the server closed the connection: \
                    the server answered ERROR TIMED_OUT to code 2: because";
    assert_eq!(end.to_string(), sentence);

    dialogue.lose(&end);
    let (lost, outcome) = answer(&mut dialogue);
    assert_eq!(lost, ticket);
    let expected = format!("{sentence}; whether the request was carried out is not known");
    assert_eq!(outcome.unwrap_err().to_string(), expected);
}

#[test]
fn what_is_lost_is_told_and_not_sent_again() {
    let mut dialogue = begun(&options());
    dialogue.request(1000, b"a", NOW).unwrap();
    dialogue.sent(dialogue.unsent().len());
    dialogue.request(1000, b"b", NOW).unwrap();
    comes(&mut dialogue, &frame(1000, b"whole")[..10]);
    let end = dialogue.handle_end();
    assert!(matches!(end, ClientError::NotTheProtocol(_)), "{end}");
    dialogue.lose(&end);
    dialogue.begin(NOW);
    assert!(dialogue.unsent().is_empty());
    for _ in 0..2 {
        let (_, outcome) = answer(&mut dialogue);
        assert!(matches!(outcome, Err(ClientError::Lost { .. })));
    }
    // The half of a frame is gone, too.
    dialogue.request(1000, b"c", NOW).unwrap();
    comes(&mut dialogue, &frame(1000, b"C"));
    assert_eq!(answer(&mut dialogue).1.unwrap().body, b"C");
}

#[test]
fn the_answer_to_an_abandoned_request_is_dropped() {
    let mut dialogue = begun(&options());
    let first = dialogue.request(1000, b"", NOW).unwrap();
    let second = dialogue.request(1000, b"", NOW).unwrap();
    dialogue.abandon(first);
    comes(
        &mut dialogue,
        &[frame(1000, b"late"), frame(1000, b"B")].concat(),
    );
    let (ticket, reply) = answer(&mut dialogue);
    assert_eq!((ticket, reply.unwrap().body), (second, b"B".to_vec()));

    let third = dialogue.request(1000, b"", NOW).unwrap();
    comes(&mut dialogue, &frame(1000, b"too late"));
    dialogue.abandon(third);
    assert_eq!(dialogue.in_flight(), 0);
}

#[test]
fn frames_that_belong_nowhere_are_not_the_protocol() {
    let flipped = {
        let mut bytes = frame(1000, b"body");
        bytes[9] ^= 1;
        bytes
    };
    let cases = [
        (frame(1000, b"unasked"), "a frame came that answers no"),
        (flipped, "a checksum is wrong"),
        (vec![0, 7, 0, 0], "a length is out of range"),
        (frame(codes::ERROR, b"x"), "the body of an ERROR"),
        (frame(codes::GOAWAY, b"x"), "the body of a GOAWAY"),
    ];
    for (bytes, expected) in cases {
        let mut dialogue = begun(&options());
        match dialogue.handle_bytes(&bytes, NOW) {
            Err(ClientError::NotTheProtocol(what)) => assert!(what.starts_with(expected), "{what}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn so_many_requests_are_in_flight_and_no_more() {
    let mut dialogue = begun(&options().in_flight_max(2));
    for _ in 0..2 {
        dialogue.request(1000, b"", NOW).unwrap();
    }
    let unsent = dialogue.unsent().len();
    let error = dialogue.request(1000, b"", NOW).unwrap_err();
    assert!(matches!(
        error,
        ClientError::TooManyInFlight { in_flight_max: 2 }
    ));
    assert_eq!(dialogue.unsent().len(), unsent);
    // A reply that nobody has taken is held still.
    comes(&mut dialogue, &frame(1000, b""));
    dialogue.request(1000, b"", NOW).unwrap_err();
    answer(&mut dialogue).1.unwrap();
    dialogue.request(1000, b"", NOW).unwrap();
}

#[test]
fn what_cannot_be_encoded_is_not_sent_and_not_waited_for() {
    use crate::protocol::messages::Subscribe;
    let mut dialogue = begun(&options());
    let empty = Subscribe { topic: "" };
    let outcome = dialogue.request_with(7, NOW, |out| encode_message(out, &empty));
    let Err(ClientError::Message(error)) = outcome else {
        panic!("{outcome:?}");
    };
    let problem = FieldProblem::Length {
        bytes: 0,
        bytes_min: 1,
        bytes_max: 64,
    };
    assert_eq!(
        error.to_string(),
        format!("the topic of Subscribe {problem}")
    );
    assert!(dialogue.is_quiet());
    assert_eq!(dialogue.in_flight(), 0);
}

#[test]
fn a_heartbeat_goes_out_when_nothing_else_has_and_its_reply_is_not_seen() {
    let mut dialogue = begun(&options().heartbeat(20 * SECOND));
    assert_eq!(dialogue.next_timeout(), Some(NOW + 20 * SECOND));
    dialogue.handle_timeout(NOW + 19 * SECOND).unwrap();
    assert!(dialogue.unsent().is_empty());
    // Pushes that come are no sign of life to the server.
    let event = frame(codes::EVENT, b"\x01ab");
    dialogue.handle_bytes(&event, NOW + 10 * SECOND).unwrap();
    let due = NOW + 20 * SECOND;
    dialogue.handle_timeout(due).unwrap();
    assert_eq!(dialogue.unsent(), frame(codes::PING, b""));
    dialogue.sent(8);

    // A request behind it gets its own reply.
    let ticket = dialogue.request(codes::PING, b"", due).unwrap();
    let reply = frame(codes::PING, b"");
    dialogue.handle_bytes(&reply, due).unwrap();
    assert!(dialogue.poll_answer(None).is_none());
    assert_eq!(dialogue.next_timeout(), None, "the server is at work");
    dialogue.handle_bytes(&reply, due + SECOND).unwrap();
    assert_eq!(answer(&mut dialogue).0, ticket);
    assert_eq!(dialogue.next_timeout(), Some(due + 20 * SECOND));
}

#[test]
fn a_heartbeat_without_an_answer_is_the_end_and_a_sign_of_life_puts_it_off() {
    let mut dialogue = begun(&options().heartbeat(20 * SECOND));
    let sent_at = NOW + 20 * SECOND;
    dialogue.handle_timeout(sent_at).unwrap();
    let event = frame(codes::EVENT, b"\x01ab");
    dialogue.handle_bytes(&event, sent_at + SECOND).unwrap();
    dialogue.handle_timeout(sent_at + 5 * SECOND).unwrap();
    assert_eq!(dialogue.next_timeout(), Some(sent_at + 6 * SECOND));
    let error = dialogue.handle_timeout(sent_at + 6 * SECOND).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the server left a heartbeat unanswered for 5000 ms"
    );
}

#[test]
fn a_server_that_is_silent_after_a_request_was_given_up_is_lost_in_the_end() {
    let mut dialogue = begun(&options().heartbeat(20 * SECOND));
    let ticket = dialogue.request(1000, b"", NOW).unwrap();
    dialogue.abandon(ticket);
    assert_eq!(dialogue.next_timeout(), Some(NOW + 25 * SECOND));
    dialogue.handle_timeout(NOW + 25 * SECOND).unwrap_err();
}

/// Every request put the deadline off, so that a connection in use was never found to be dead; it is
/// counted from the oldest one now.
#[test]
fn a_server_that_is_silent_is_lost_in_the_end_however_much_it_is_asked() {
    let mut dialogue = begun(&options().heartbeat(20 * SECOND));
    for seconds in 0..25 {
        let now = NOW + seconds * SECOND;
        dialogue.handle_timeout(now).unwrap();
        let ticket = dialogue.request(1000, b"", now).unwrap();
        dialogue.abandon(ticket);
    }
    let error = dialogue.handle_timeout(NOW + 25 * SECOND).unwrap_err();
    assert!(matches!(error, ClientError::Silent { .. }), "{error}");
}

#[test]
fn no_heartbeat_goes_out_behind_the_end() {
    let mut dialogue = begun(&options().heartbeat(SECOND));
    dialogue.end();
    assert_eq!(dialogue.next_timeout(), None);
    dialogue.handle_timeout(NOW + 9 * SECOND).unwrap();
    assert!(dialogue.unsent().is_empty());
    dialogue.begin(NOW);
    assert_eq!(dialogue.next_timeout(), Some(NOW + SECOND));
}

#[test]
fn a_server_without_ping_is_told_about() {
    let mut dialogue = begun(&options().heartbeat(SECOND));
    dialogue.handle_timeout(NOW + SECOND).unwrap();
    comes(&mut dialogue, &error(codes::PING, Reason::UnknownCode));
    assert_eq!(dialogue.poll_push().unwrap().code, codes::ERROR);
    assert_eq!(dialogue.in_flight(), 0);
}

#[test]
fn frames_of_all_kinds_can_be_taken_as_they_came() {
    let mut dialogue = begun(&options());
    dialogue.request(1000, b"", NOW).unwrap();
    dialogue.request(1001, b"", NOW).unwrap();
    let stream = [
        frame(1000, b""),
        goaway(),
        error(1001, Reason::Rejected),
        error(codes::ERROR, Reason::TimedOut),
    ];
    comes(&mut dialogue, &stream.concat());
    let came = std::iter::from_fn(|| dialogue.poll_frame()).map(|frame| frame.code);
    assert_eq!(
        came.collect::<Vec<_>>(),
        [1000, codes::GOAWAY, codes::ERROR, codes::ERROR]
    );
}

/// What a conversation is made of.
#[derive(Clone, Copy, Debug)]
enum Step {
    Request,
    Reply,
    Refuse,
    Push,
    Abandon,
    Lose,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Request),
        3 => Just(Step::Reply),
        1 => Just(Step::Refuse),
        2 => Just(Step::Push),
        1 => Just(Step::Abandon),
        1 => Just(Step::Lose),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    /// Each request carries its number, and the replies repeat it.
    #[test]
    fn every_answer_is_that_of_its_request(steps in steps(), cut in 1_usize..20) {
        let mut dialogue = begun(&options());
        let mut open: VecDeque<(Ticket, u32, bool)> = VecDeque::new();
        let mut expected: Vec<(Ticket, Option<u32>)> = Vec::new();
        let (mut stream, mut pushed, mut number) = (Vec::new(), 0, 0_u32);
        let mut taken = Vec::new();
        let drain = |dialogue: &mut Dialogue, stream: &mut Vec<u8>| {
            for piece in stream.chunks(cut) {
                dialogue.handle_bytes(piece, NOW).unwrap();
            }
            stream.clear();
        };
        for step in steps {
            match (step, open.front().copied()) {
                (Step::Request, _) => {
                    number += 1;
                    let ticket = dialogue.request(1000, &number.to_be_bytes(), NOW).unwrap();
                    open.push_back((ticket, number, true));
                }
                (Step::Reply, Some((ticket, number, wanted))) => {
                    open.pop_front();
                    stream.extend(frame(1000, &number.to_be_bytes()));
                    if wanted { expected.push((ticket, Some(number))); }
                }
                (Step::Refuse, Some((ticket, _, wanted))) => {
                    open.pop_front();
                    stream.extend(error(1000, Reason::Rejected));
                    if wanted { expected.push((ticket, None)); }
                }
                (Step::Abandon, Some((ticket, _, _))) => {
                    dialogue.abandon(ticket);
                    open[0].2 = false;
                }
                (Step::Push, _) => {
                    pushed += 1;
                    stream.extend(frame(codes::EVENT, b"\x01ab"));
                }
                (Step::Lose, _) => {
                    drain(&mut dialogue, &mut stream);
                    dialogue.lose(&ClientError::Closed);
                    dialogue.begin(NOW);
                    let lost = open.drain(..).filter(|(_, _, wanted)| *wanted);
                    expected.extend(lost.map(|(ticket, ..)| (ticket, None)));
                }
                (_, None) => {}
            }
        }
        drain(&mut dialogue, &mut stream);
        while let Some(answered) = dialogue.poll_answer(None) {
            let reply = answered.outcome.and_then(Reply::unless_refused).ok();
            let number = reply.map(|reply| u32::from_be_bytes(reply.body.try_into().unwrap()));
            taken.push((answered.ticket, number));
        }
        prop_assert_eq!(taken, expected);
        prop_assert_eq!(std::iter::from_fn(|| dialogue.poll_push()).count(), pushed);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, requests in 0_usize..5) {
        let mut dialogue = begun(&options());
        for _ in 0..requests {
            dialogue.request(1, b"", NOW).unwrap();
        }
        let _ = dialogue.handle_bytes(&bytes, NOW);
        let _ = dialogue.handle_end();
    }
}

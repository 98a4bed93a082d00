use super::*;
use crate::load::gauge::Window;
use crate::protocol::{Reason, encode, encode_error};

const TIMEOUT_NS: u64 = 1_000;

fn shape(code: u16, body_bytes: usize, pipeline: usize) -> Shape {
    Shape {
        code,
        body_bytes,
        pipeline,
        timeout_ns: TIMEOUT_NS,
    }
}

/// A session, what it measures, and the frames that it sent and nobody answered yet.
struct Bench {
    session: Session,
    gauge: Gauge,
    asked: VecDeque<Vec<u8>>,
    now_ns: u64,
}

impl Bench {
    fn new(shape: Shape) -> Bench {
        Bench {
            session: Session::new(7, shape).unwrap(),
            gauge: Gauge::new(Window {
                from_ns: 0,
                until_ns: u64::MAX,
                part_ns: u64::MAX,
            }),
            asked: VecDeque::new(),
            now_ns: 0,
        }
    }

    fn echo(pipeline: usize) -> Bench {
        Bench::new(shape(codes::ECHO, 32, pipeline))
    }

    /// Sends as much as there is room for.
    fn fill(&mut self) {
        let mut out = Vec::new();
        let (room, now_ns) = (self.session.room(), self.now_ns);
        self.session
            .send(room, &mut out, now_ns, |_| now_ns, &mut self.gauge);
        let frame_bytes = self.session.requests.frame_bytes();
        self.asked
            .extend(out.chunks(frame_bytes).map(<[u8]>::to_vec));
    }

    fn ask(&mut self) -> Vec<u8> {
        self.asked.pop_front().unwrap()
    }

    fn come(&mut self, bytes: &[u8]) {
        self.session.receive(bytes, self.now_ns, &mut self.gauge);
    }

    /// What has gone wrong, once no more will come: how often, of each kind that happened.
    fn errors(mut self) -> Vec<(ErrorKind, u64)> {
        self.session.finish(self.now_ns, &mut self.gauge);
        let count = |kind| (kind, self.gauge.tally.count(kind));
        let counts = ErrorKind::ALL.into_iter().map(count);
        counts.filter(|&(_, count)| count > 0).collect()
    }

    fn first_error(&self) -> &str {
        self.gauge.tally.first().unwrap()
    }

    fn messages(self) -> u64 {
        let (parts, _, _) = self.gauge.finish();
        parts.iter().map(|part| part.latencies.count()).sum()
    }
}

fn frame(code: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, code, body).unwrap();
    bytes
}

#[test]
fn right_replies_are_messages_wherever_they_are_cut() {
    for shape in [
        shape(codes::ECHO, 32, 5),
        shape(codes::ECHO, 0, 5),
        shape(codes::PING, 0, 1),
        shape(4242, 9, 5),
    ] {
        for cut in [1, 2, 7, 8, 39, 41, 1000] {
            let mut bench = Bench::new(shape);
            for _ in 0..30 {
                bench.fill();
                let replies: Vec<u8> = bench.asked.drain(..).flatten().collect();
                for bytes in replies.chunks(cut) {
                    bench.come(bytes);
                }
                assert!(bench.session.is_idle());
            }
            assert_eq!(bench.gauge.tally.total(), 0, "{shape:?} cut at {cut}");
            assert_eq!(bench.messages(), 30 * shape.pipeline as u64);
        }
    }
}

#[test]
fn a_swapped_pair_is_one_reply_out_of_order() {
    let mut bench = Bench::echo(4);
    bench.fill();
    let [first, second, third, fourth] = [(); 4].map(|()| bench.ask());
    bench.come(&[first, third, second, fourth].concat());
    assert_eq!(
        bench.first_error(),
        "connection 7: the reply to request 1 came after that to a later one"
    );
    bench.fill();
    let rest: Vec<u8> = bench.asked.drain(..).flatten().collect();
    bench.come(&rest);
    assert_eq!(bench.errors(), [(ErrorKind::OutOfOrder, 1)]);
}

#[test]
fn a_dropped_reply_is_missing_and_no_more() {
    let mut bench = Bench::echo(3);
    for round in 0..100 {
        bench.fill();
        let mut replies: Vec<Vec<u8>> = bench.asked.drain(..).collect();
        if round % 10 == 0 {
            replies.remove(0);
        }
        bench.come(&replies.concat());
    }
    assert_eq!(bench.errors(), [(ErrorKind::Missing, 10)]);
}

#[test]
fn a_request_that_times_out_makes_room_and_its_reply_is_late() {
    let mut bench = Bench::echo(1);
    bench.fill();
    let first = bench.ask();
    bench.now_ns = TIMEOUT_NS;
    bench.session.give_up_late(bench.now_ns);
    assert_eq!(bench.session.room(), 0, "it is still in time");
    bench.now_ns += 1;
    bench.session.give_up_late(bench.now_ns);
    assert_eq!(bench.session.room(), 1);
    bench.now_ns = 5_000_000;
    bench.fill();
    let second = bench.ask();
    bench.come(&[first, second].concat());
    assert_eq!(
        bench.first_error(),
        "connection 7: the reply to request 0 took 5 ms"
    );
    assert_eq!(bench.gauge.tally.count(ErrorKind::Late), 1);
    assert_eq!(bench.messages(), 2, "a late reply is a message, too");
}

#[test]
fn a_reply_that_began_to_come_before_it_timed_out_is_put_together() {
    let mut bench = Bench::echo(2);
    bench.fill();
    let (first, second) = (bench.ask(), bench.ask());
    bench.come(&first[..17]);
    bench.now_ns = 2 * TIMEOUT_NS;
    bench.session.give_up_late(bench.now_ns);
    bench.come(&first[17..]);
    bench.come(&second);
    assert_eq!(bench.errors(), [(ErrorKind::Late, 2)]);
}

#[test]
fn a_server_that_never_answers_is_asked_no_more_than_the_window_holds() {
    let mut bench = Bench::echo(4);
    for _ in 0..50 {
        bench.fill();
        bench.now_ns += 2 * TIMEOUT_NS;
        bench.session.give_up_late(bench.now_ns);
        assert!(bench.session.lost.len() as u64 <= bench.session.requests.window());
    }
    assert_eq!(bench.errors(), [(ErrorKind::Missing, 200)]);
}

#[test]
fn wrong_replies_are_told_apart() {
    let other_body = frame(codes::ECHO, &[9; 32]);
    let mut bad_checksum = other_body.clone();
    bad_checksum[4] ^= 1;
    let mut error = Vec::new();
    encode_error(&mut error, codes::ECHO, Reason::Overloaded, "try again");
    let cases = [
        (
            other_body,
            ErrorKind::WrongBody,
            "connection 7, request 1: the reply's body of 32 bytes is not the request's of 32 bytes",
        ),
        (
            frame(codes::ECHO, b"short"),
            ErrorKind::WrongBody,
            "connection 7, request 1: the reply's body of 5 bytes is not the request's of 32 bytes",
        ),
        (
            frame(99, &[9; 32]),
            ErrorKind::WrongCode,
            "connection 7, request 1: the reply has code 99, the request code 1",
        ),
        (
            bad_checksum,
            ErrorKind::BadChecksum,
            "connection 7, request 1: the reply's checksum is wrong",
        ),
        (
            error,
            ErrorKind::ErrorReply,
            "connection 7, request 1: the server answered ERROR OVERLOADED: try again",
        ),
    ];
    for (wrong, kind, sentence) in cases {
        for cut in [1, 13, 1000] {
            let mut bench = Bench::echo(3);
            bench.fill();
            let (first, _, third) = (bench.ask(), bench.ask(), bench.ask());
            for bytes in [first, wrong.clone(), third].concat().chunks(cut) {
                bench.come(bytes);
            }
            assert_eq!(bench.first_error(), sentence);
            assert!(bench.session.is_idle());
            assert_eq!(bench.errors(), [(kind, 1)], "{kind:?} cut at {cut}");
        }
    }
}

#[test]
fn a_frame_that_nobody_asked_for_is_told_and_changes_nothing() {
    let mut bench = Bench::echo(1);
    bench.come(&frame(codes::ECHO, b"hello"));
    bench.fill();
    let reply = bench.ask();
    bench.come(&reply);
    bench.come(&reply);
    assert_eq!(bench.errors(), [(ErrorKind::Unexpected, 2)]);
}

#[test]
fn a_goodbye_is_no_error() {
    let mut bench = Bench::echo(1);
    bench.fill();
    bench.come(&frame(codes::GOAWAY, &1000_u32.to_be_bytes()));
    let reply = bench.ask();
    bench.come(&reply);
    assert_eq!(bench.errors(), []);
}

#[test]
fn after_a_wrong_length_nothing_is_trusted() {
    let mut bench = Bench::echo(2);
    bench.fill();
    let first = bench.ask();
    bench.come(&[&first[..], &[0, 3, 0, 1]].concat());
    assert!(bench.session.is_closed());
    assert_eq!(bench.session.room(), 0);
    bench.come(&[0; 100]);
    let errors = bench.errors();
    assert_eq!(errors, [(ErrorKind::BadLength, 1), (ErrorKind::Missing, 1)]);
}

#[test]
fn a_closed_connection_is_told_with_what_it_still_owed() {
    for (reason, sentence) in [
        (None, "the server closed connection 7"),
        (Some("reset"), "connection 7 broke: reset"),
    ] {
        let mut bench = Bench::echo(3);
        bench.fill();
        let first = bench.ask();
        bench.come(&first);
        bench.session.end(reason, 5, &mut bench.gauge);
        bench.session.end(reason, 6, &mut bench.gauge);
        assert_eq!(bench.first_error(), sentence);
        let errors = bench.errors();
        assert_eq!(errors, [(ErrorKind::Missing, 2), (ErrorKind::Closed, 1)]);
    }
}

/// A server with chance in it, whose faults are counted: the session must find the same.
#[test]
fn faults_by_chance_are_all_found() {
    for seed in 0..100 {
        let mut random = fastrand::Rng::with_seed(seed);
        let pipeline = random.usize(1..9);
        let mut bench = Bench::new(shape(codes::ECHO, random.usize(8..60), pipeline));
        let mut expected = [0_u64; ErrorKind::ALL.len()];
        let mut stream = Vec::new();
        for _ in 0..200 {
            bench.fill();
            while let Some(mut reply) = bench.asked.pop_front() {
                match random.u32(0..40) {
                    0 => {
                        reply[4] ^= 0x55;
                        expected[ErrorKind::BadChecksum as usize] += 1;
                        stream.extend(reply);
                    }
                    1 => {
                        stream.extend(frame(77, &reply[HEADER_BYTES..]));
                        expected[ErrorKind::WrongCode as usize] += 1;
                    }
                    2 if !bench.asked.is_empty() => {
                        let next = bench.asked.pop_front();
                        stream.extend(next.into_iter().flatten().chain(reply));
                        expected[ErrorKind::OutOfOrder as usize] += 1;
                    }
                    // Only where a later reply shows that it is gone.
                    3 if !bench.asked.is_empty() => {
                        stream.extend(bench.asked.pop_front().into_iter().flatten());
                        expected[ErrorKind::Missing as usize] += 1;
                    }
                    _ => stream.extend(reply),
                }
            }
            while !stream.is_empty() {
                let rest = stream.split_off(random.usize(0..=stream.len()));
                bench.come(&stream);
                stream = rest;
            }
            assert!(bench.session.is_idle(), "seed {seed}");
        }
        let expected: Vec<(ErrorKind, u64)> = ErrorKind::ALL
            .into_iter()
            .zip(expected)
            .filter(|&(_, count)| count > 0)
            .collect();
        assert_eq!(bench.errors(), expected, "seed {seed}");
    }
}

#[test]
fn where_only_the_order_tells_a_late_reply_is_that_to_the_request_that_waited_longest() {
    for shape in [
        shape(codes::PING, 0, 1),
        shape(codes::ECHO, 0, 1),
        shape(4242, 9, 1),
    ] {
        let mut bench = Bench::new(shape);
        bench.fill();
        bench.now_ns = 2 * TIMEOUT_NS;
        bench.session.give_up_late(bench.now_ns);
        bench.fill();
        let (first, second) = (bench.ask(), bench.ask());
        bench.come(&first);
        assert_eq!(bench.gauge.tally.count(ErrorKind::Late), 1);
        assert!(
            !bench.session.is_idle(),
            "the second one's is still to come"
        );
        bench.come(&second);
        assert_eq!(bench.errors(), [(ErrorKind::Late, 1)]);
    }
}

#[test]
fn a_wrong_reply_that_is_late_is_one_error() {
    let mut bench = Bench::echo(1);
    bench.fill();
    bench.now_ns = 2 * TIMEOUT_NS;
    bench.session.give_up_late(bench.now_ns);
    bench.fill();
    let (_, second) = (bench.ask(), bench.ask());
    let mut error = Vec::new();
    encode_error(&mut error, codes::ECHO, Reason::Overloaded, "");
    bench.come(&[error, second].concat());
    assert_eq!(bench.errors(), [(ErrorKind::ErrorReply, 1)]);
}

#[test]
fn a_second_reply_is_told_as_one() {
    let mut bench = Bench::echo(2);
    bench.fill();
    let (first, second) = (bench.ask(), bench.ask());
    bench.come(&[&first[..], &first, &second, &second].concat());
    assert_eq!(
        bench.first_error(),
        "connection 7: a second reply came to request 0"
    );
    assert_eq!(bench.errors(), [(ErrorKind::Unexpected, 2)]);
}

#[test]
fn what_a_server_says_is_told_in_one_line_that_a_terminal_can_bear() {
    let mut bench = Bench::echo(1);
    bench.fill();
    let mut error = Vec::new();
    let words = format!("\x1b[2J\r\n{}", "x".repeat(10_000));
    encode_error(&mut error, codes::ECHO, Reason::Rejected, &words);
    bench.come(&error);
    let told = bench.first_error();
    assert!(told.contains("REJECTED:  [2J  xxx"), "{told}");
    assert!(!told.contains(char::is_control) && told.len() < 300);
}

//! The declared messages against the bytes of the protocol's page, and every way to be wrong.

use proptest::prelude::*;

use super::*;
use crate::protocol::{EncodeError, FieldProblem, HEADER_BYTES, encode_message};

fn frame_of<M: Message>(message: &M) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_message(&mut frame, message).unwrap();
    frame
}

fn body_of<M: Message>(message: &M) -> Vec<u8> {
    frame_of(message).split_off(HEADER_BYTES)
}

fn secret(text: &str) -> Secret<40> {
    Secret::new(text).unwrap()
}

/// What is wrong with this body, as a sentence.
#[track_caller]
fn wrong<M: Message>(body: &[u8]) -> String {
    match M::decode(body) {
        Ok(_) => panic!("{body:?} was taken for a {}", M::NAME),
        Err(error) => error.to_string(),
    }
}

/// A body of some message.
struct Sample {
    body: Vec<u8>,
    /// How few bytes of it are the message already.
    shortest_bytes: usize,
    /// Whether more bytes would still be the message.
    may_grow: bool,
    /// Decodes and encodes again.
    again: fn(&[u8]) -> Result<Vec<u8>, BodyError>,
}

fn fixed<M: Message>(message: &M, body_bytes: usize) -> Sample {
    Sample {
        may_grow: false,
        ..open(message, body_bytes)
    }
}

fn open<M: Message>(message: &M, shortest_bytes: usize) -> Sample {
    Sample {
        body: body_of(message),
        shortest_bytes,
        may_grow: true,
        again: |body| M::decode(body).map(|message| body_of(&message)),
    }
}

fn samples() -> [Sample; 13] {
    let (kind, username) = (-1, "alice");
    let (topic, payload) = ("news", &b"\0\xff!"[..]);
    let error = ErrorBody {
        answered: 99,
        reason: 3,
        text: "unknown",
    };
    let register = Register {
        kind,
        username,
        password: secret("correct horse"),
    };
    let registered = Registered {
        kind,
        username,
        password: (),
    };
    let login = Login {
        username,
        password: secret("correct horse"),
    };
    let logged_in = LoggedIn {
        username,
        password: (),
    };
    [
        fixed(&Ping {}, 0),
        open(&Echo { bytes: b"hello" }, 0),
        open(&error, 4),
        fixed(&GoAway { closes_in_ms: 30 }, 4),
        fixed(&register, 100),
        fixed(&registered, 100),
        fixed(&login, 96),
        fixed(&logged_in, 96),
        open(&Subscribe { topic }, 1),
        open(&Unsubscribe { topic }, 1),
        open(&Publish { topic, payload }, 5),
        fixed(&Published { receivers: 3 }, 4),
        open(&Event { topic, payload }, 5),
    ]
}

#[test]
fn messages_match_the_published_vectors() {
    assert_eq!(frame_of(&Ping {}), *b"\0\x08\0\0\0\0\0\0");
    assert_eq!(
        frame_of(&Echo { bytes: b"hello" }),
        *b"\0\x0d\0\x01\x36\x10\xa6\x86hello"
    );
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(
        frame_of(&Echo { bytes: &all })[..12],
        *b"\x01\x08\0\x01\x29\x05\x8c\x73\0\x01\x02\x03"
    );
    let error = ErrorBody {
        answered: 99,
        reason: Reason::UnknownCode.number(),
        text: "unknown message code 99",
    };
    assert_eq!(
        frame_of(&error),
        *b"\0\x23\0\x02\x24\x82\xd1\x9b\0\x63\0\x03unknown message code 99"
    );
    let register = Register {
        kind: 1,
        username: "alice",
        password: secret("correct horse"),
    };
    assert_eq!(
        frame_of(&register)[..17],
        *b"\0\x6c\0\x05\x76\x87\x6d\x70\0\0\0\x01alice"
    );
    let login = Login {
        username: "alice",
        password: secret("correct horse"),
    };
    assert_eq!(
        frame_of(&login)[..13],
        *b"\0\x68\0\x06\x20\x4e\x6b\x05alice"
    );
}

#[test]
fn every_message_decodes_from_its_own_body_and_no_beginning_of_it() {
    for sample in samples() {
        for bytes in 0..=sample.body.len() {
            let outcome = (sample.again)(&sample.body[..bytes]);
            assert_eq!(outcome.is_ok(), bytes >= sample.shortest_bytes, "{bytes}");
            if let Ok(body) = outcome {
                assert_eq!(body, sample.body[..bytes]);
            }
        }
    }
}

#[test]
fn one_byte_more_is_part_of_what_is_open_and_an_error_else() {
    for mut sample in samples() {
        let fixed_bytes = sample.body.len();
        sample.body.push(b'x');
        match (sample.again)(&sample.body) {
            Ok(body) => assert!(sample.may_grow && body == sample.body),
            Err(BodyError::Trailing {
                expected_bytes,
                bytes,
                ..
            }) => {
                assert!(!sample.may_grow);
                assert_eq!((expected_bytes, bytes), (fixed_bytes, fixed_bytes + 1));
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn an_error_says_which_field_and_what_would_be_right() {
    let mut body = body_of(&Login {
        username: "alice",
        password: secret("correct horse"),
    });
    assert_eq!(
        wrong::<Login>(&body[..95]),
        "the password of Login takes 40 bytes, but the body has only 39 left"
    );
    assert_eq!(
        wrong::<Ping>(b"x"),
        "Ping takes 0 bytes of body, but 1 came"
    );
    body[10] = b'x';
    let behind = "must have nothing but NUL bytes behind the first NUL";
    assert_eq!(
        wrong::<Login>(&body),
        format!("the username of Login {behind}")
    );
    body[..56].fill(b'x');
    assert_eq!(
        wrong::<Login>(&body),
        "the username of Login must be 0 to 55 bytes of text, not 56"
    );
    body[55] = 0;
    assert_eq!(Login::decode(&body).unwrap().username.len(), 55);
    body[95] = b'x';
    assert_eq!(
        wrong::<Login>(&body),
        format!("the password of Login {behind}")
    );
    body[95] = 0;
    body[56] = 0xff;
    assert_eq!(
        wrong::<Login>(&body),
        "the password of Login must be UTF-8 text"
    );
    assert_eq!(
        wrong::<LoggedIn>(&body),
        "the password of LoggedIn must be all NUL bytes"
    );
    assert_eq!(
        wrong::<Subscribe>(&[b'x'; 65]),
        "the topic of Subscribe must be 1 to 64 bytes of text, not 65"
    );
    assert_eq!(
        wrong::<Publish>(b"\0payload"),
        "the topic of Publish must be 1 to 64 bytes of text, not 0"
    );
}

#[test]
fn what_a_field_cannot_hold_is_not_encoded() {
    let mut out = Vec::from(*b"before");
    let long = "x".repeat(56);
    let mut problem = |username| {
        let registered = LoggedIn {
            username,
            password: (),
        };
        let error = encode_message(&mut out, &registered).unwrap_err();
        assert_eq!(out, b"before");
        match error {
            EncodeError::Body(BodyError::Field { field, problem, .. }) => (field, problem),
            other => panic!("{other}"),
        }
    };
    assert_eq!(problem("al\0ice"), ("username", FieldProblem::HasNul));
    let too_long = FieldProblem::Length {
        bytes: 56,
        bytes_min: 0,
        bytes_max: 55,
    };
    assert_eq!(problem(&long), ("username", too_long));

    let bytes = &vec![0; 65_528][..];
    let error = encode_message(&mut out, &Echo { bytes }).unwrap_err();
    assert!(matches!(error, EncodeError::TooLong(_)), "{error}");
    assert_eq!(out, b"before");
}

#[test]
fn a_password_is_known_to_be_secret_and_not_shown() {
    let secrets = [Register::SECRET, Login::SECRET];
    assert_eq!((secrets, LoggedIn::SECRET), ([true, true], false));
    let login = Login {
        username: "alice",
        password: secret("correct horse"),
    };
    assert_eq!(
        format!("{login:?}"),
        "Login { username: \"alice\", password: Secret(..) }"
    );
}

/// Text that a padded field of so many bytes can hold.
fn padded(bytes: usize) -> impl Strategy<Value = String> {
    ".*".prop_map(move |text| {
        let text = text.replace('\0', "0");
        text[..text.floor_char_boundary(bytes - 1)].to_owned()
    })
}

fn topics() -> impl Strategy<Value = String> {
    ".+".prop_map(|text| text[..text.floor_char_boundary(TOPIC_BYTES_MAX)].to_owned())
}

proptest! {
    #[test]
    fn accounts_survive_the_wire(kind: i32, username in padded(56), password in padded(40)) {
        let sent = Register { kind, username: &username, password: secret(&password) };
        let body = body_of(&sent);
        let came = Register::decode(&body).unwrap();
        prop_assert_eq!((came.kind, came.username), (kind, &username[..]));
        prop_assert_eq!(came.password.expose(), password);
        prop_assert_eq!(came.username.as_ptr(), body[4..].as_ptr(), "borrowed, not copied");
    }

    #[test]
    fn events_survive_the_wire(topic in topics(), payload: Vec<u8>) {
        let sent = Event { topic: &topic, payload: &payload };
        let body = body_of(&sent);
        prop_assert_eq!(Event::decode(&body), Ok(sent));
    }

    #[test]
    fn whatever_comes_either_is_the_message_or_is_refused(body: Vec<u8>) {
        for sample in samples() {
            if let Ok(again) = (sample.again)(&body) {
                prop_assert_eq!(&again, &body);
            }
        }
    }
}

//! Declared messages between the client and the handlers of this crate.

use corelane::client::{Client, ClientError};
use corelane::protocol::messages::{Login, Publish, Registered, Subscribe};
use corelane::protocol::{FieldProblem, Reason, Secret, codes};

use crate::server::{config, started};

corelane::message! {
    /// REGISTER as a client has it that forgot the password.
    struct HalfRegister(code = codes::PUBLISH, reply = Registered<'static>) {
        kind: i32,
    }
}

#[test]
fn messages_go_to_their_handlers_and_back() {
    let server = started(config());
    let mut client = Client::options().connect(server.addresses()[0]).unwrap();
    let publish = Publish {
        topic: "news",
        payload: b"12345",
    };
    assert_eq!(client.call(&publish).unwrap().message().receivers, 5);
    let subscribe = Subscribe { topic: "news" };
    assert_eq!(client.call(&subscribe).unwrap().message(), subscribe);
    let login = Login {
        username: "alice",
        password: Secret::new("correct horse").unwrap(),
    };
    let answer = client.call(&login).unwrap();
    assert_eq!(answer.message().username, "alice");
    assert_eq!(answer.into_reply().body[56..], [0; 40]);
    client.close().unwrap();
}

#[test]
fn what_is_not_the_message_is_refused_with_the_reason() {
    let server = started(config());
    let mut client = Client::options().connect(server.addresses()[0]).unwrap();
    let cases = [
        (
            codes::PUBLISH,
            &b"\x04new"[..],
            "the topic of Publish takes 4 bytes, but the body has only 3 left",
        ),
        (
            codes::SUBSCRIBE,
            b"",
            "the topic of Subscribe must be 1 to 64 bytes of text, not 0",
        ),
    ];
    for (code, body, sentence) in cases {
        match client.request(code, body) {
            Err(ClientError::Refused(refusal)) => {
                assert_eq!(refusal.reason(), Some(Reason::BadBody));
                assert_eq!((refusal.answered, &refusal.text[..]), (code, sentence));
            }
            other => panic!("{other:?}"),
        }
    }
    let wrong = Login {
        username: "alice",
        password: Secret::new("wrong horse").unwrap(),
    };
    let refused = client.call(&wrong).unwrap_err().to_string();
    let expected = "the server answered ERROR REJECTED to code 6: wrong name or password";
    assert_eq!(refused, expected);
}

#[test]
fn a_message_that_cannot_be_sent_is_not_sent() {
    let server = started(config());
    let mut client = Client::options().connect(server.addresses()[0]).unwrap();
    let long = "x".repeat(65);
    let error = client.call(&Subscribe { topic: &long }).unwrap_err();
    let ClientError::Message(error) = error else {
        panic!("{error:?}");
    };
    let problem = FieldProblem::Length {
        bytes: 65,
        bytes_min: 1,
        bytes_max: 64,
    };
    assert_eq!(
        error.to_string(),
        format!("the topic of Subscribe {problem}")
    );
    client.request(codes::PING, b"").unwrap();
}

#[test]
fn a_reply_of_another_kind_is_told_apart() {
    let server = started(config());
    let mut client = Client::options().connect(server.addresses()[0]).unwrap();
    // Four bytes that are a topic of three, and so a Publish without a payload.
    let error = client
        .call(&HalfRegister { kind: 0x0361_6263 })
        .unwrap_err();
    let ClientError::OtherCode { expected, code } = error else {
        panic!("{error:?}");
    };
    assert_eq!((expected, code), (codes::REGISTER, codes::PUBLISH));
    client.request(codes::PING, b"").unwrap();
}

//! Every endpoint answers what it is for, and says in one sentence what it is not for.

use crate::http::{Connection, get, json};
use crate::plane::Admin;
use crate::support::library::{address_of, builder, builder_with, config};
use crate::support::user::{User as _, connect};

#[test]
fn each_endpoint_answers() {
    let server = builder().start().unwrap();
    let admin = Admin::of(&server);
    let mut client = connect(address_of(&server));
    client.ping();
    for (path, content_type, part) in [
        ("/", "text/html; charset=utf-8", "<title>corelane</title>"),
        (
            "/metrics",
            "text/plain; version=0.0.4; charset=utf-8",
            "\ncorelane_turns_total{shard=\"0\"} ",
        ),
        ("/healthz", "text/plain; charset=utf-8", "alive\n"),
        ("/readyz", "text/plain; charset=utf-8", "ready\n"),
        ("/status", "application/json", "\"state\":\"serving\""),
        ("/latency", "application/json", "\"code\":0"),
        ("/latency.hgrm", "text/plain; charset=utf-8", "#[Max     ="),
        ("/connections", "application/json", "\"id\":\"0-0-"),
        (
            "/connections?limit=1000",
            "application/json",
            "\"id\":\"0-0-",
        ),
        ("/config", "application/json", "\"idle_ms\":60000"),
    ] {
        let answer = get(admin.address, path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(answer.headers["content-type"], content_type, "{path}");
        assert!(answer.body.contains(part), "{path}: {}", answer.body);
    }
}

#[test]
fn what_is_not_there_is_told_in_a_sentence() {
    let server = builder().start().unwrap();
    let admin = Admin::of(&server);
    for (method, path, status, sentence) in [
        ("GET", "/nothing", 404, "there is no /nothing here; "),
        (
            "POST",
            "/metrics",
            405,
            "nothing can be changed here: use GET or HEAD\n",
        ),
        (
            "DELETE",
            "/nothing",
            405,
            "nothing can be changed here: use GET or HEAD\n",
        ),
        (
            "GET",
            "/connections?limit=0",
            400,
            "limit must be a number from 1 to 1000, ",
        ),
        (
            "GET",
            "/connections?limit=1001",
            400,
            "limit must be a number from 1 to 1000, ",
        ),
        (
            "GET",
            "/connections?limit=all",
            400,
            "limit must be a number from 1 to 1000, ",
        ),
    ] {
        let answer = Connection::to(admin.address).ask(method, path);
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert!(
            answer.body.starts_with(sentence),
            "{method} {path}: {}",
            answer.body
        );
        assert_eq!(answer.body.lines().count(), 1, "{}", answer.body);
    }
    let refused = Connection::to(admin.address).ask("PUT", "/config");
    assert_eq!(refused.headers["allow"], "GET, HEAD");
}

#[test]
fn a_head_is_an_answer_without_its_body() {
    let server = builder().start().unwrap();
    let admin = Admin::of(&server);
    let mut connection = Connection::to(admin.address);
    for path in ["/healthz", "/metrics", "/status"] {
        let answer = connection.ask("HEAD", path);
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{path}");
        assert_ne!(answer.headers["content-length"], "0", "{path}");
    }
    // Nothing of a body has come in between.
    assert_eq!(connection.ask("GET", "/healthz").body, "alive\n");
}

#[test]
fn the_configuration_is_the_one_in_force() {
    let mut config = config(2);
    config.limits.connections = 1234;
    let server = builder_with(config.clone()).start().unwrap();
    let admin = Admin::of(&server);
    let shown = json(admin.address, "/config");
    assert_eq!(shown, serde_json::to_value(&config).unwrap());
    config.limits.connections = 4321;
    server.handle().reload(config).unwrap();
    let shown = json(admin.address, "/config");
    assert_eq!(shown["limits"]["connections"], 4321);
}

#[test]
fn percentiles_are_text_for_plotters() {
    let server = builder().start().unwrap();
    let admin = Admin::of(&server);
    let mut client = connect(address_of(&server));
    for _ in 0..500 {
        client.echo(b"x");
    }
    let text = get(admin.address, "/latency.hgrm").body;
    let total = text
        .lines()
        .find_map(|line| line.split_once("Total count    = "));
    let total = total.unwrap().1.trim_end_matches(']').trim();
    // The last reply may not have been seen as sent yet.
    assert!(["499", "500"].contains(&total), "{text}");
    let columns = text.lines().skip(2).filter(|line| !line.starts_with('#'));
    assert!(
        columns
            .map(|line| line.split_whitespace().count())
            .all(|count| count == 4)
    );
}

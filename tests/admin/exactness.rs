//! The figures are those of what clients did, to the last one.

use std::thread;
use std::time::Duration;

use corelane::client::Client;
use corelane::protocol::{HEADER_BYTES, Reason, codes};
use corelane::{Reply, Server};
use serde_json::Value;

use crate::http::{Connection, get, json, metrics};
use crate::plane::Admin;
use crate::support::library::{address_of, builder, builder_with, config, stopped};
use crate::support::user::{User as _, connect};
use crate::support::waiting::until;

/// Waits until the sample has this value: a shard counts at the end of a turn, clients hear before.
fn until_sample(admin: &Admin, sample: &str, value: f64) {
    until(&format!("{sample} is {value}"), || {
        let seen = metrics(admin.address).get(sample).copied();
        (seen == Some(value)).then_some(())
    });
}

#[test]
fn counts_are_exact_and_the_same_everywhere() {
    let server = builder().start().unwrap();
    let admin = Admin::of(&server);
    for _ in 0..3 {
        let mut client = connect(address_of(&server));
        (0..100).for_each(|_| client.echo(&[7; 100]));
        client.close().unwrap();
    }
    let mut stays = connect(address_of(&server));
    (0..5).for_each(|_| stays.ping());
    stays.ask_in_vain(99, b"", Reason::UnknownCode);

    until_sample(
        &admin,
        "corelane_request_duration_seconds_count{code=\"0\"}",
        5.0,
    );
    let samples = metrics(admin.address);
    for (sample, value) in [
        ("corelane_connections_open{shard=\"0\"}", 1.0),
        ("corelane_connections_accepted_total{shard=\"0\"}", 4.0),
        (
            "corelane_connections_closed_total{shard=\"0\",cause=\"peer_closed\"}",
            3.0,
        ),
        (
            "corelane_connections_closed_total{shard=\"0\",cause=\"idle\"}",
            0.0,
        ),
        ("corelane_frames_received_total{shard=\"0\"}", 306.0),
        ("corelane_frames_sent_total{shard=\"0\"}", 306.0),
        (
            "corelane_received_bytes_total{shard=\"0\"}",
            f64::from(300 * 108 + 6 * 8),
        ),
        (
            "corelane_bad_frames_total{shard=\"0\",reason=\"UNKNOWN_CODE\"}",
            1.0,
        ),
        ("corelane_request_duration_seconds_count{code=\"1\"}", 300.0),
        (
            "corelane_request_duration_seconds_bucket{code=\"1\",le=\"+Inf\"}",
            300.0,
        ),
        ("corelane_request_queued_seconds_count{code=\"0\"}", 5.0),
        ("corelane_ready", 1.0),
    ] {
        assert_eq!(
            samples.get(sample).map(|value| value.to_bits()),
            Some(value.to_bits()),
            "{sample}"
        );
    }

    let status = json(admin.address, "/status");
    assert_eq!(status["closes"]["peer_closed"], 3);
    assert_eq!(status["bad_frames"]["UNKNOWN_CODE"], 1);
    assert_eq!(status["shards"][0]["connections"], 1);
    let messages = |code: u16| {
        let codes = status["codes"].as_array().unwrap();
        let of_code = codes.iter().find(|of_code| of_code["code"] == code);
        of_code.unwrap()["messages"].as_u64().unwrap()
    };
    assert_eq!((messages(0), messages(1)), (5, 300));
    let latency = json(admin.address, "/latency");
    assert_eq!(latency["codes"][1]["sent_us"]["count"], 300);

    let seen = json(admin.address, "/connections")["connections"].clone();
    assert_eq!(seen.as_array().unwrap().len(), 1);
    assert_eq!(seen[0]["frames_received"], 6);
    assert_eq!(seen[0]["received_bytes"], 6 * HEADER_BYTES);
    assert_eq!(seen[0]["ending"], Value::Null);
    assert_eq!(status["connections"]["busy"][0]["id"], seen[0]["id"]);

    drop(stays);
    assert_eq!(stopped(server).frames_received, 306);
}

#[test]
fn who_hangs_up_loses_nothing_for_others() {
    let server = builder().start().unwrap();
    let admin = Admin::of(&server);
    let mut client = connect(address_of(&server));
    for _ in 0..50 {
        (0..20).for_each(|_| client.echo(b"x"));
        let mut hangs_up = Connection::to(admin.address);
        hangs_up.send(b"GET /status HTTP/1.1\r\nHost: here\r\n\r\n");
        drop(hangs_up);
    }
    let counted = "corelane_request_duration_seconds_count{code=\"1\"}";
    until_sample(&admin, counted, 1000.0);
}

#[test]
fn every_shard_has_its_figures() {
    let server = builder_with(config(2)).start().unwrap();
    let admin = Admin::of(&server);
    let mut clients: Vec<Client> = (0..10).map(|_| connect(address_of(&server))).collect();
    clients.iter_mut().for_each(Client::ping);
    let samples = metrics(admin.address);
    let of = |shard: u8| samples[&format!("corelane_connections_open{{shard=\"{shard}\"}}")];
    assert!((of(0) + of(1) - 10.0).abs() < 0.5, "{} {}", of(0), of(1));
    let status = json(admin.address, "/status");
    assert_eq!(status["shards"].as_array().unwrap().len(), 2);
    assert_eq!(status["connections"]["slow"].as_array().unwrap().len(), 10);
    let ten = json(admin.address, "/connections?limit=4");
    assert_eq!(ten["connections"].as_array().unwrap().len(), 4);
}

#[test]
fn codes_that_nobody_handles_make_no_series() {
    let mut config = config(1);
    config.limits.max_bad_frames = 10_000;
    let server = Server::builder(config)
        .handler(7000, |(), _context, _body| Reply::none())
        .handler(codes::PING, corelane::apps::ping)
        .start()
        .unwrap();
    let admin = Admin::of(&server);
    let mut client = connect(address_of(&server));
    client.ping();
    let before = get(admin.address, "/metrics").body.lines().count();
    for code in 1000..2000 {
        client.ask_in_vain(code, b"", Reason::UnknownCode);
    }
    client.tell(7000, b"").unwrap();
    client.ping();
    until_sample(
        &admin,
        "corelane_bad_frames_total{shard=\"0\",reason=\"UNKNOWN_CODE\"}",
        1000.0,
    );
    let text = get(admin.address, "/metrics").body;
    let labels = |label: &str| text.matches(label).count();
    assert_eq!(labels("code=\"1500\""), 0);
    // Two histograms of 20 buckets, sum and count each, and a counter: 45 lines a code.
    assert_eq!(labels("code=\"7000\""), 45);
    assert!(text.lines().count() <= before + 2 * 45, "{text}");
}

#[test]
fn rates_and_history_move_with_the_load() {
    let server = builder().start().unwrap();
    let admin = Admin::of(&server);
    let mut client = connect(address_of(&server));
    let point = until("an interval of the history has messages", || {
        (0..200).for_each(|_| client.echo(b"x"));
        let status = json(admin.address, "/status");
        let point = status["history"]["points"][0].clone();
        (point["codes"][0]["messages"].as_u64()? > 0).then_some((point, status))
    });
    let (point, status) = point;
    assert_eq!(point["codes"][0]["code"], 1);
    assert!(point["codes"][0]["p50_us"].as_u64().unwrap() > 0, "{point}");
    assert!(point["seconds_ago"].as_f64().unwrap() < 5.0, "{point}");
    let shard = &status["shards"][0];
    assert!(
        shard["messages_per_second"].as_f64().unwrap() > 0.0,
        "{shard}"
    );
    assert!(
        shard["received_bytes_per_second"].as_f64().unwrap() > 0.0,
        "{shard}"
    );
    let busy = shard["busy"].as_f64().unwrap();
    assert!(busy > 0.0 && busy <= 1.0, "{shard}");
    let code = &status["codes"][0];
    assert!(
        code["messages_per_second"].as_f64().unwrap() > 0.0,
        "{code}"
    );
    assert!(
        code["sent_us"]["max"].as_u64() >= code["sent_us"]["p50"].as_u64(),
        "{code}"
    );
}

/// A shard is asked while it sleeps; what it had slept so far must count as idle, or the counter of
/// its busy time goes up and down.
#[test]
fn a_shard_that_sleeps_is_not_busy() {
    let server = builder().start().unwrap();
    let admin = Admin::of(&server);
    let sample = |name: &str| metrics(admin.address)[&format!("corelane_{name}{{shard=\"0\"}}")];
    let mut busy_before = 0.0;
    until("the shard has been up for three seconds", || {
        let busy = sample("busy_seconds_total");
        assert!(busy >= busy_before, "{busy} after {busy_before}");
        busy_before = busy;
        thread::sleep(Duration::from_millis(100));
        (sample("up_seconds_total") > 3.0).then_some(())
    });
    assert!(busy_before < 1.0, "{busy_before}");
}

//! Logs: for people, for collectors, into a file.

use rustix::process::Signal;

use crate::support::program::{Program, run, serve};
use crate::support::user::{User as _, connect};
use crate::support::waiting::until;

/// Lets a server have something to log, and stops it.
fn exercise(server: Program) -> String {
    connect(server.address()).ping();
    server.signal(Signal::TERM);
    let ended = server.ended();
    assert_eq!(ended.status, Some(0), "{ended:?}");
    ended.stderr
}

fn assert_is_json(log: &str) {
    let messages: Vec<String> = log
        .lines()
        .map(|line| {
            let entry: serde_json::Value = serde_json::from_str(line).expect(line);
            for key in ["timestamp", "level", "target"] {
                assert!(entry[key].is_string(), "{line}");
            }
            entry["fields"]["message"].as_str().expect(line).to_owned()
        })
        .collect();
    for message in ["accepted", "stopping"] {
        assert!(messages.iter().any(|told| told == message), "{messages:?}");
    }
}

#[test]
fn json_is_an_object_a_line() {
    assert_is_json(&exercise(serve(&["log.format=json", "log.level=debug"])));
}

#[test]
fn text_has_no_colours_where_no_terminal_is() {
    let log = exercise(serve(&["log.level=debug"]));
    assert!(log.contains("accepted connection=0-0-"), "{log}");
    assert!(!log.contains('\x1b'), "{log}");
}

#[test]
fn a_log_file_takes_it_all_and_is_added_to() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("corelane.log");
    let setting = format!("log.file={}", file.display());
    for runs in 1..=2 {
        let server = serve(&[&setting, "log.format=json", "log.level=debug"]);
        assert_eq!(exercise(server), "");
        let log = std::fs::read_to_string(&file).unwrap();
        assert_is_json(&log);
        assert_eq!(log.matches(r#""message":"stopping""#).count(), runs);
    }
}

#[test]
fn a_log_file_that_cannot_be_written_is_told() {
    let ended = run(&[
        "--admin",
        "off",
        "--listen",
        "127.0.0.1:0",
        "--set",
        "log.file=/nonexistent/log",
    ]);
    let sentence = ended.failed_with(1);
    let expected = "cannot open the log file /nonexistent/log: No such file or directory";
    assert!(sentence.starts_with(expected), "{sentence}");
}

#[test]
fn a_log_file_that_could_not_be_opened_is_tried_again_by_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let (file, old) = (folder.path().join("log"), folder.path().join("log.1"));
    let server = serve(&[&format!("log.file={}", file.display())]);
    std::fs::rename(&file, &old).unwrap();
    std::fs::create_dir(&file).unwrap();
    server.signal(Signal::USR1);
    until("it is told", || {
        let log = std::fs::read_to_string(&old).unwrap();
        log.contains("the old log file stays in use").then_some(())
    });
    std::fs::remove_dir(&file).unwrap();
    server.signal(Signal::HUP);
    until("the reload has opened it", || {
        let log = std::fs::read_to_string(&file).ok()?;
        log.contains("reloaded: the configuration is the same")
            .then_some(())
    });
}

#[test]
fn figures_are_logged_when_something_happens() {
    let server = serve(&["log.stats_seconds=1"]);
    let mut client = connect(server.address());
    for _ in 0..3 {
        client.ping();
    }
    server.wait_for_log("figures connections=1 accepted=1");
    server.wait_for_log("frames_received=3 frames_sent=3");
}

#[test]
fn off_is_off() {
    assert_eq!(exercise(serve(&["log.level=off"])), "");
}

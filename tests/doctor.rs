//! `corelane doctor` as a program: what it prints, and that it and a server agree on what keeps a
//! server from starting.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also where its support does it"
)]

use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_corelane");

/// What a program that has ended leaves behind.
#[derive(Debug)]
struct Ended {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs the binary with these words under limits that a shell sets, like `ulimit -n 40`.
fn run_under(limits: &str, words: &[&str]) -> Ended {
    let script = format!("{limits} && exec \"$0\" \"$@\"");
    let output = Command::new("sh")
        .args(["-c", &script, BINARY])
        .args(words)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Ended {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The doctor's document and exit status with these settings.
fn document(limits: &str, settings: &[&str]) -> (Value, Ended) {
    let all = [NO_ADMIN].into_iter().chain(settings.iter().copied());
    let words = all.flat_map(|setting| ["--set", setting]);
    let words: Vec<&str> = ["doctor", "--json"].into_iter().chain(words).collect();
    let ended = run_under(limits, &words);
    (serde_json::from_str(&ended.stdout).unwrap(), ended)
}

/// What comes later stands above it.
const NO_ADMIN: &str = "admin.listen=";

/// A port of the kernel's choice, one shard that floats: what starts wherever tests can run.
const MODEST: [&str; 3] = [
    "server.listen=['127.0.0.1:0']",
    "shards.count=1",
    "shards.pin=false",
];

#[test]
fn a_host_on_which_servers_start_is_told_so() {
    let (document, ended) = document("true", &MODEST);
    assert_eq!(
        (ended.status, ended.stderr.as_str()),
        (Some(0), ""),
        "{ended:?}"
    );
    assert_eq!(document["starts"], true);
    assert_eq!(document["refusals"], Value::Array(Vec::new()));
    let checks = document["checks"].as_array().unwrap();
    for topic in [
        "kernel",
        "io_uring",
        "seccomp",
        "clock source",
        "locked memory",
        "open files",
        "CPUs",
        "CPU quota",
        "SMT",
        "frequency",
        "huge pages",
        "NUMA",
        "127.0.0.1:0",
        "backlog",
        "port range",
        "network card",
    ] {
        assert!(
            checks.iter().any(|check| check["topic"] == topic),
            "{topic}: {checks:#?}"
        );
    }
    for check in checks {
        let verdict = check["verdict"].as_str().unwrap();
        assert!(["good", "unseen", "advice"].contains(&verdict), "{check}");
        assert!(
            check["is"].is_string() && check["should"].is_string(),
            "{check}"
        );
        assert_eq!(check["mend"].is_string(), verdict == "advice", "{check}");
    }
}

#[test]
fn a_table_has_a_line_for_each_check_and_no_colours_in_a_pipe() {
    let words = MODEST.iter().flat_map(|setting| ["--set", setting]);
    let words: Vec<&str> = ["doctor"].into_iter().chain(words).collect();
    let ended = run_under("true", &words);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert!(!ended.stdout.contains('\u{1b}'), "{ended:?}");
    assert!(ended.stdout.contains("good    kernel "), "{ended:?}");
    assert!(
        ended
            .stdout
            .contains(" 0 fatal: a server would start here."),
        "{ended:?}"
    );
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let on_terminal = |variable: &str| {
        let command = format!("{BINARY} doctor --set shards.count=1 --set shards.pin=false");
        let mut script = Command::new("script");
        script
            .args(["-qec", &command, "/dev/null"])
            .env_remove("NO_COLOR");
        if !variable.is_empty() {
            script.env(variable, "1");
        }
        let output = script.stdin(Stdio::null()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let coloured = on_terminal("");
    assert!(
        coloured.contains("\u{1b}[32mgood  \u{1b}[0m"),
        "{coloured:?}"
    );
    let plain = on_terminal("NO_COLOR");
    assert!(
        plain.contains("good    kernel") && !plain.contains("\u{1b}[3"),
        "{plain:?}"
    );
}

/// Asserts that a server does not start with these settings, and that the doctor foretells it, in
/// the same words and at this topic.
#[track_caller]
fn assert_refused(limits: &str, settings: &[&str], topic: &str) {
    let (document, doctor) = document(limits, settings);
    assert_eq!(doctor.status, Some(1), "{doctor:?}");
    assert_eq!(document["starts"], false, "{document:#}");
    let fatal = |check: &&Value| check["verdict"] == "fatal";
    let fatal: Vec<&Value> = document["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(fatal)
        .collect();
    assert_eq!(fatal.len(), 1, "{document:#}");
    assert_eq!(fatal[0]["topic"], topic, "{document:#}");
    assert!(fatal[0]["mend"].is_string(), "{document:#}");

    let words = settings.iter().flat_map(|setting| ["--set", setting]);
    let words: Vec<&str> = ["--set", "log.level=off", "--set", NO_ADMIN]
        .into_iter()
        .chain(words)
        .collect();
    let server = run_under(limits, &words);
    assert_ne!(server.status, Some(0), "{server:?}");
    let reason = server.stderr.trim_end().strip_prefix("corelane: ").unwrap();
    assert_eq!(document["refusals"], serde_json::json!([reason]));
    let told = format!("corelane: a server would not start here: {reason}\n");
    assert_eq!(doctor.stderr, told);
}

#[test]
fn more_pinned_shards_than_cpus_are_refused_by_both() {
    let mask = rustix::thread::sched_getaffinity(None).unwrap();
    let cpu = (0..rustix::thread::CpuSet::MAX_CPU)
        .find(|&cpu| mask.is_set(cpu))
        .unwrap();
    let one_cpu = format!("taskset -p -c {cpu} $$ >/dev/null");
    assert_refused(&one_cpu, &[MODEST[0], "shards.count=2"], "CPUs");
}

#[test]
fn a_cpu_that_is_not_there_is_refused_by_both() {
    assert_refused("true", &[MODEST[0], "shards.cpus=4095"], "CPUs");
}

#[test]
fn limits_are_refused_by_both() {
    assert_refused("ulimit -l 64", &MODEST, "locked memory");
    assert_refused("ulimit -n 40", &MODEST, "open files");
}

#[test]
fn an_address_that_is_taken_or_foreign_is_refused_by_both() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let listen = format!("server.listen=['{address}']");
    assert_refused("true", &[&listen, MODEST[1], MODEST[2]], &address);
    // Of the addresses for documentation: nobody has it.
    let listen = "server.listen=['192.0.2.1:8700']";
    assert_refused("true", &[listen, MODEST[1], MODEST[2]], "192.0.2.1:8700");
}

#[test]
fn an_address_for_operators_that_is_taken_is_refused_by_both() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let listen = format!("admin.listen={address}");
    let topic = format!("{address} admin");
    assert_refused("true", &[MODEST[0], MODEST[1], MODEST[2], &listen], &topic);
}

#[test]
fn addresses_that_overlap_are_refused_by_both() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    drop(taken);
    let listen = format!("server.listen=['127.0.0.1:{port}', '0.0.0.0:{port}']");
    let topic = format!("0.0.0.0:{port}");
    assert_refused("true", &[&listen, MODEST[1], MODEST[2]], &topic);
}

#[test]
fn a_user_that_is_not_there_is_refused_by_both() {
    let nobody = "process.user=nobody-at-all";
    assert_refused("true", &[MODEST[0], MODEST[1], MODEST[2], nobody], "user");
}

#[test]
fn files_that_cannot_be_written_are_refused_by_both() {
    let log = "log.file=/no-such-folder/corelane.log";
    assert_refused("true", &[MODEST[0], MODEST[1], MODEST[2], log], "log file");
    let pid = "process.pid_file=/no-such-folder/pid";
    assert_refused("true", &[MODEST[0], MODEST[1], MODEST[2], pid], "pid file");
}

#[test]
fn wrong_words_and_configurations_are_the_callers() {
    for words in [
        &["doctor", "--set", "limits.connections=0"][..],
        &["doctor", "-c", "no-such-file.toml"],
        &["doctor", "--jason"],
        &["doctor", "somewhere"],
    ] {
        let ended = run_under("true", words);
        assert_eq!(
            (ended.status, ended.stdout.as_str()),
            (Some(2), ""),
            "{ended:?}"
        );
    }
}

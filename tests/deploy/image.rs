//! The container image: `Dockerfile`, what `.dockerignore` leaves of the repository, and the
//! configuration within.

use std::net::SocketAddr;

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::program::{MODEST, run, start};
use crate::{CONFIGURATION, PROGRAM, here, in_force, path, signals_of, text};

const DOCKERFILE: &str = "deploy/Dockerfile";
const SHIPPED: &str = "deploy/container.toml";

/// How long Docker and Podman wait from STOPSIGNAL to KILL.
const PATIENCE_MS: u64 = 10_000;
/// How much longer than `drain_ms` a drain takes at most, see `config/corelane.toml`.
const AFTER_DRAIN_MS: u64 = 500;

/// Instructions with their arguments, each on one line.
fn instructions() -> Vec<(String, String)> {
    let text = text(DOCKERFILE);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .collect();
    let joined = lines.join("\n").replace("\\\n", "");
    let split = |line: &str| {
        let (name, arguments) = line.split_once(' ').unwrap();
        let words: Vec<&str> = arguments.split_whitespace().collect();
        (name.to_owned(), words.join(" "))
    };
    joined.lines().map(split).collect()
}

/// The arguments of all instructions of a name, in order.
fn all(name: &str) -> Vec<String> {
    let instructions = instructions().into_iter();
    instructions
        .filter_map(|(known, arguments)| (known == name).then_some(arguments))
        .collect()
}

/// The arguments of the one instruction of a name.
fn one(name: &str) -> String {
    let all = all(name);
    assert_eq!(all.len(), 1, "{name}: {all:?}");
    all.concat()
}

/// The words of a command that needs no shell: a list, as JSON has it.
fn exec_form(arguments: &str) -> Vec<String> {
    let list = serde_json::from_str(arguments);
    list.unwrap_or_else(|error| panic!("{arguments} takes a shell: {error}"))
}

/// The words behind the program when a container is started.
fn start_words() -> Vec<String> {
    assert_eq!(exec_form(&one("ENTRYPOINT")), [PROGRAM]);
    exec_form(&one("CMD"))
}

/// Whether `.dockerignore` keeps a path from the builder: the last pattern that is for it, or for a
/// folder that it is in, decides.
fn ignored(file: &str) -> bool {
    let mut ignored = false;
    for line in text(".dockerignore").lines() {
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        let pattern = line.strip_prefix('!').unwrap_or(line);
        let known = pattern == "*" || !pattern.contains(['*', '?', '[', '!']);
        assert!(known, "{line} is a form that this test can't read");
        let within = file.strip_prefix(pattern);
        if pattern == "*" || within.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            ignored = !line.starts_with('!');
        }
    }
    ignored
}

#[test]
fn what_is_copied_is_there() {
    let mut copied = 0;
    for arguments in all("COPY") {
        if arguments.starts_with("--from=build ") {
            continue;
        }
        let words: Vec<&str> = arguments.split(' ').collect();
        let (_to, sources) = words.split_last().unwrap();
        for source in sources {
            assert!(path(source).exists(), "{source} is not there");
            assert!(!ignored(source), "{source} is not sent to the builder");
            copied += 1;
        }
    }
    assert!(copied >= 5);
}

/// Cargo reads no manifest whose targets are missing.
#[test]
fn what_cargo_needs_is_sent_and_nothing_big_is() {
    let manifest: toml::Table = text("Cargo.toml").parse().unwrap();
    for bench in manifest["bench"].as_array().unwrap() {
        let name = bench["name"].as_str().unwrap();
        let mut places = [
            format!("benches/{name}.rs"),
            format!("benches/{name}/main.rs"),
        ]
        .into_iter();
        assert!(
            places.any(|place| path(&place).exists() && !ignored(&place)),
            "{name}"
        );
    }
    for needed in ["Cargo.lock", "src/main.rs", "src/load/report/style.css"] {
        assert!(!ignored(needed), "{needed}");
    }
    for other in [
        "target/debug/corelane",
        ".git/config",
        "tests/deploy/main.rs",
        "benches/peers/target",
    ] {
        assert!(ignored(other), "{other}");
    }
}

#[test]
fn it_is_built_with_the_toolchain_and_the_lock_file_of_the_package() {
    let manifest: toml::Table = text("Cargo.toml").parse().unwrap();
    let version = manifest["package"]["rust-version"].as_str().unwrap();
    let stages = all("FROM");
    let debian = stages[0]
        .strip_prefix(&format!("rust:{version}-slim-"))
        .and_then(|rest| rest.strip_suffix(" AS build"))
        .unwrap_or_else(|| panic!("{stages:?}"));
    // One C library for both.
    assert_eq!(stages[1..], [format!("debian:{debian}-slim")]);
    let build = &all("RUN")[0];
    assert!(
        build.contains("--release") && build.contains("--locked"),
        "{build}"
    );
}

#[test]
fn it_is_not_root_and_says_so_by_number() {
    let user = one("USER");
    let (uid, gid) = user.split_once(':').unwrap();
    for id in [uid, gid] {
        assert!(id.parse::<u32>().unwrap() >= 1000, "{user}");
    }
    let made = &all("RUN")[1];
    assert!(
        made.contains(&format!("groupadd --gid {gid} corelane")),
        "{made}"
    );
    assert!(
        made.contains(&format!("--uid {uid} --gid {gid} ")),
        "{made}"
    );
}

#[test]
fn it_listens_for_others_and_drains_within_the_patience_of_engines() {
    let words = start_words();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let config = in_force(&words, SHIPPED);
    let expected = format!("0.0.0.0:{}", one("EXPOSE"));
    assert_eq!(config.server.listen, [expected.parse().unwrap()]);
    let going_ms = u64::from(config.timeouts.drain_ms) + AFTER_DRAIN_MS;
    assert!(going_ms + 1000 <= PATIENCE_MS, "{going_ms}");
    assert_eq!([one("STOPSIGNAL")], *signals_of("quit"));
    assert_eq!(config.log.file(), None, "logs are the engine's");
}

/// As an engine does it, but for the address and what lets servers live side by side.
#[test]
fn it_starts_answers_its_health_check_and_is_stopped_by_its_signal() {
    let file = path(SHIPPED);
    let words = start_words();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut words = here(&words, CONFIGURATION, file.to_str().unwrap());
    words.extend(["--admin", "off", "--listen", "127.0.0.1:0"]);
    for setting in MODEST {
        words.extend(["--set", setting]);
    }
    let server = start(&words);

    let health = one("HEALTHCHECK");
    let (_, check) = health.split_once(" CMD ").unwrap();
    let check = exec_form(check);
    let (first, check) = check.split_first().unwrap();
    assert_eq!(first, PROGRAM);
    let check: Vec<&str> = check.iter().map(String::as_str).collect();
    let address = server.address().to_string();
    let installed = format!("127.0.0.1:{}", one("EXPOSE"));
    let answer = run(&here(&check, &installed, &address));
    assert!(answer.succeeded().starts_with("PING "), "{answer:?}");

    assert_eq!(one("STOPSIGNAL"), "SIGQUIT");
    server.signal(Signal::QUIT);
    let ended = server.ended();
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("draining"), "{ended:?}");

    // Bound, so that nobody else is there, and not listening.
    let nobody = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    nobody.bind(&any.into()).unwrap();
    let address = nobody
        .local_addr()
        .unwrap()
        .as_socket()
        .unwrap()
        .to_string();
    run(&here(&check, &installed, &address)).failed_with(1);
}

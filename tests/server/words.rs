//! The words of the command line and of the configuration: right ones, wrong ones, and what is
//! said about them.

use std::net::TcpListener;

use crate::support::program::{Ended, run, serve, start};
use crate::support::user::{User as _, connect};

const PRODUCTION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/corelane.toml");

/// A folder with a file of this content in it, for as long as both are held.
fn file_of(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("corelane.toml");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn check_prints_what_check_accepts() {
    let settings = [
        "--set",
        "limits.connections=7",
        "--set",
        "log.level=info,corelane::shard=debug",
        "--set",
        "server.listen=[\"[::1]:1\", \"0.0.0.0:0\"]",
        "--set",
        "shards.cpus=0-3,8",
        "--set",
        "shards.accept=local",
        "--set",
        "flood={frames_per_second=50, burst=200}",
        "--set",
        "process={mode='supervised', daemon=true}",
    ];
    let printed = run(&[&["check"][..], &settings].concat());
    let printed = printed.succeeded();
    for line in [
        "connections = 7",
        "accept = \"local\"",
        "burst = 200",
        "daemon = true",
    ] {
        assert!(printed.contains(line), "{printed}");
    }

    let (_folder, path) = file_of(printed);
    let again = run(&["check", "-c", &path]);
    assert_eq!(again.succeeded(), printed);
}

#[test]
fn the_production_configuration_passes() {
    let ended = run(&["check", "--config", PRODUCTION]);
    assert!(ended.succeeded().contains("[limits]"), "{ended:?}");
}

#[test]
fn a_configuration_file_is_served() {
    let text = "[server]\nlisten = ['127.0.0.1:0', '127.0.0.2:0']\n\
                [shards]\ncount = 1\npin = false\n[log]\nlevel = 'error'\n";
    let (_folder, path) = file_of(text);
    let server = start(&["serve", "-c", &path, "--set", "shards.busy_poll_us=0"]);
    for (index, ip) in ["127.0.0.1", "127.0.0.2"].into_iter().enumerate() {
        let (address, remark) = server.announcement(index);
        assert_eq!(
            (address.ip().to_string().as_str(), remark.as_str()),
            (ip, "(1 shard)")
        );
        connect(address).ping();
    }
}

/// What is wrong with a file is said with its place, by every command that reads one.
#[test]
fn a_wrong_file_is_refused_with_file_line_and_column() {
    let cases = [
        (
            "[limits]\nconections = 5\n",
            ":2:1: unknown key limits.conections; did you mean limits.connections?",
        ),
        (
            "[limits]\nconnections = 0\n",
            ":2:15: limits.connections is 0, but must be between 1 and 16000000",
        ),
        (
            "[log]\n\nformat = 'xml'",
            ":3:10: log.format is 'xml', but must be \"text\" or \"json\"",
        ),
        (
            "[shard]\ncount = 1",
            ":1:2: unknown section shard; did you mean shards?",
        ),
        (
            "[flood]\nburst = 5",
            ":2:9: flood.burst is 5, but must be 0 unless flood.frames_per_second sets a rate",
        ),
        (
            "[timeouts]\nidle = 5",
            ":2:1: unknown key timeouts.idle; did you mean timeouts.idle_ms?",
        ),
        ("[limits\n", ":1:8: not valid TOML: "),
    ];
    for (text, expected) in cases {
        let (_folder, path) = file_of(text);
        for command in ["check", "serve"] {
            let ended = run(&[command, "-c", &path]);
            let sentence = ended.failed_with(2);
            assert!(
                sentence.starts_with(&format!("{path}{expected}")),
                "{sentence}"
            );
        }
    }
}

#[test]
fn a_missing_file_is_refused() {
    for command in ["check", "serve"] {
        let ended = run(&[command, "-c", "/nonexistent/corelane.toml"]);
        let expected = "cannot read /nonexistent/corelane.toml: No such file or directory";
        assert_eq!(ended.failed_with(2), expected);
    }
}

#[test]
fn a_wrong_setting_is_refused_with_its_words() {
    let cases: [(&[&str], &str); 8] = [
        (
            &["check", "--set", "nonsense"],
            "--set nonsense: must be KEY=VALUE, such as limits.connections=1000",
        ),
        (
            &["check", "--set", "limits.conections=5"],
            "--set limits.conections=5: unknown key limits.conections; \
             did you mean limits.connections?",
        ),
        (
            &["--set", "timeouts.stop_ms=soon"],
            "--set timeouts.stop_ms=soon: timeouts.stop_ms is \"soon\", but must be a whole number \
             between 0 and 3600000",
        ),
        (
            &["--listen", "localhost"],
            "--listen localhost: server.listen[0] is \"localhost\", but must be an IP address \
             with a port, such as \"127.0.0.1:8700\" or \"[::1]:8700\"",
        ),
        (
            &["--shards", "0"],
            "--shards 0: shards.count is 0, but must be \"auto\" or a number from 1 to 1024",
        ),
        (
            &["serve", "--cpus", "one"],
            "--cpus one: shards.cpus is \"one\", but must be \"auto\" or a list",
        ),
        (
            &["check", "--set", "log.level=a=b=c"],
            "--set log.level=a=b=c: log.level is \"a=b=c\", but must be a filter",
        ),
        (
            &["serve", "--set", "log.level=verbsoe"],
            "--set log.level=verbsoe: log.level is \"verbsoe\", but must be a filter",
        ),
    ];
    for (words, expected) in cases {
        let ended = run(words);
        let sentence = ended.failed_with(2);
        assert!(sentence.starts_with(expected), "{words:?}: {sentence}");
    }
}

#[test]
fn unknown_words_are_refused() {
    let cases: [&[&str]; 5] = [
        &["--bogus"],
        &["bogus"],
        &["serve", "--bogus"],
        &["check", "bogus"],
        &["send"],
    ];
    for words in cases {
        let ended = run(words);
        assert_eq!(ended.status, Some(2), "{words:?}: {ended:?}");
        assert_eq!(ended.stdout, "");
        assert!(ended.stderr.starts_with("error: "), "{words:?}: {ended:?}");
    }
}

#[test]
fn every_command_has_help_and_version() {
    let version = format!(" {}\n", env!("CARGO_PKG_VERSION"));
    for command in ["", "serve", "check", "send", "load", "report"] {
        let command = match command {
            "" => &[][..],
            command => &[command],
        };
        let help = run(&[command, &["--help"]].concat());
        assert!(help.succeeded().contains("Usage: corelane"), "{help:?}");
        let short = run(&[command, &["-h"]].concat());
        assert!(short.succeeded().contains("Usage: corelane"), "{short:?}");
        let told = run(&[command, &["--version"]].concat());
        let told = told.succeeded();
        assert!(
            told.starts_with("corelane") && told.ends_with(&version),
            "{told:?}"
        );
    }
}

#[test]
fn a_port_in_use_is_told() {
    let floating = |address: &str| -> Ended {
        run(&[
            "--admin",
            "off",
            "--listen",
            address,
            "--set",
            "shards.pin=false",
            "--set",
            "log.level=error",
        ])
    };
    let server = serve(&["shards.count=2"]);
    let address = server.address().to_string();
    let expected = format!("cannot listen on {address}: another program listens there already");
    assert_eq!(floating(&address).failed_with(1), expected);
    connect(server.address()).ping();

    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let expected = format!("cannot listen on {address}: another program listens there already");
    assert_eq!(floating(&address).failed_with(1), expected);

    // Reserved for documentation: nobody has it.
    let expected = "cannot listen on 192.0.2.1:8700: this host has no such address";
    assert_eq!(floating("192.0.2.1:8700").failed_with(1), expected);
}

#[test]
fn shards_that_do_not_fit_the_cpus_are_refused() {
    let here = ["--admin", "off", "--listen", "127.0.0.1:0"];
    let ended = run(&[&here[..], &["--cpus", "999"]].concat());
    let sentence = ended.failed_with(2);
    let expected = "shards.cpus names CPU 999, but this process may run on CPU";
    assert!(sentence.starts_with(expected), "{sentence}");

    let ended = run(&[&here[..], &["--shards", "1024"]].concat());
    let sentence = ended.failed_with(2);
    let expected = "shards.count is 1024, but this process may run on CPU";
    assert!(sentence.starts_with(expected), "{sentence}");
    assert!(sentence.contains("shards.pin = false"), "{sentence}");
}

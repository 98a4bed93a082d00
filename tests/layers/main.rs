//! The layers of `src/` hold: imports point down, pure files stay pure, unsafe code stays in `sys`.
//!
//! The tables say what the design says; whoever adds a file or folder places it here first. Each
//! rule is shown to fail on a planted violation before the real tree is judged by it.

mod rules;
mod scan;

/// The rooms of `src/`, top to bottom, as the design draws them: one file or one folder each, save
/// that `main` and `lib` are the roots of the two crates. A line says what a room may import
/// besides itself, and which of its files are pure: no socket, clock, thread, lock, executor or
/// unsafe code; bytes and time come in as arguments, actions go out as values.
#[rustfmt::skip] // a table, one line of code a room
const ROOMS: [Room; 15] = [
    // Arguments -> one function of cli.
    room("main", Imports::AllBelow, Pure::Nothing),
    // One file a subcommand.
    room("cli", Imports::AllBelow, Pure::Nothing),
    // The public API, nothing else.
    room("lib", Imports::AllBelow, Pure::Nothing),
    // What is wrong with this host: looked at in one place, judged apart from that.
    room("doctor", Imports::AllBelow, Pure::AllBut(&["mod", "look"])),
    // Admin HTTP, dashboard, metrics exposition.
    room("admin", Imports::AllBelow, Pure::AllBut(&[
        "mod", "collector", "figures", "http", "vitals",
    ])),
    // Master, worker, signals.
    room("process", Imports::AllBelow, Pure::Only(&["master"])),
    // Handlers that ship, on the public API; `sys` for threads that keep out of the shards' way.
    room("apps", Imports::Only(&["handler", "metrics", "protocol", "config", "sys"]), Pure::Only(&[
        "accounts::sessions", "accounts::store", "topics::directory", "topics::link",
        "topics::refusal", "topics::shard_set", "topics::tally",
    ])),
    // Load generator and latency reports.
    room("load", Imports::AllBelow, Pure::Only(&[
        "gauge", "lane", "latency", "record", "report", "requests", "schedule", "session", "tally",
        "timeline",
    ])),
    // Knows the wire alone.
    room("client", Imports::Only(&["protocol", "config"]), Pure::AllBut(&[
        "asynchronous", "blocking", "connect", "keeper", "link",
    ])),
    // One core.
    room("shard", Imports::AllBelow, Pure::AllBut(&["run", "mesh", "panic"])),
    // Handlers and the table of them.
    room("handler", Imports::Only(&["metrics", "protocol", "config"]), Pure::AllBut(&[])),
    // Plain counters of one shard.
    room("metrics", Imports::Only(&["protocol", "config"]), Pure::AllBut(&[])),
    // Frames.
    room("protocol", Imports::Only(&["config"]), Pure::AllBut(&[])),
    // Typed, validated, named limits.
    room("config", Imports::Only(&[]), Pure::AllBut(&[])),
    // The only unsafe code.
    room("sys", Imports::Only(&[]), Pure::Nothing),
];

/// Macros that a room exports, which the language puts at the crate's root, and that room.
const EXPORTED_MACROS: [(&str, &str); 1] = [("message", "protocol")];

/// What no pure file may import, even where the arrows would let it.
const IMPURE_MODULES: [&[&str]; 3] = [&["sys"], &["shard", "run"], &["doctor", "look"]];

/// Modules of `sys` that compute and ask nothing of the system: anybody above may import them, pure
/// files, too. They are there for what the compiler can't know, such as what this CPU is able to do.
const COMPUTING_MODULES: [&[&str]; 1] = [&["sys", "checksum"]];

/// Words that no pure file may name outside its tests: crates, sockets and a clock.
const IMPURE_WORDS: [&str; 12] = [
    "glommio",
    "io_uring",
    "libc",
    "rustix",
    "socket2",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "SystemTime",
];

/// Paths that no pure file may name outside its tests, and the one place that may: `config` parses
/// addresses, and one file there reads the configuration.
const IMPURE_PATHS: [(&str, Option<&str>); 7] = [
    ("std::net", Some("src/config")),
    ("std::fs", Some("src/config/load.rs")),
    ("std::thread", None),
    ("std::sync::Mutex", None),
    ("std::sync::RwLock", None),
    ("std::time::Instant", None),
    ("std::time::UNIX_EPOCH", None),
];

/// What is in such a path and plain data all the same.
const PURE_PATHS: [&str; 4] = [
    "std::net::IpAddr",
    "std::net::Ipv4Addr",
    "std::net::Ipv6Addr",
    "std::net::SocketAddr",
];

/// The call that reads a clock, whatever the path in front of it.
const CLOCK: [&str; 2] = ["Instant", "now"];

/// Names that say nothing about what a module is for.
const VAGUE_NAMES: [&str; 5] = ["util", "utils", "common", "helper", "helpers"];

/// What stands at the top of the repository, beside dot files and the build's `target`.
const TOP_LEVEL: [&str; 12] = [
    "Cargo.toml",
    "Cargo.lock",
    "src",
    "config",
    "benches",
    "tests",
    "deploy",
    "README.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "CHANGELOG.md",
    "target",
];

struct Room {
    name: &'static str,
    imports: Imports,
    pure: Pure,
}

enum Imports {
    AllBelow,
    Only(&'static [&'static str]),
}

/// Which modules inside a room are pure, each with all that is below it: those directly inside it, or
/// deeper ones by their way from there, as `topics::directory`.
enum Pure {
    Nothing,
    Only(&'static [&'static str]),
    AllBut(&'static [&'static str]),
}

const fn room(name: &'static str, imports: Imports, pure: Pure) -> Room {
    Room {
        name,
        imports,
        pure,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{IMPURE_PATHS, IMPURE_WORDS, Imports, PURE_PATHS, Pure, ROOMS};
    use crate::rules::{files, find_room, strays, violations};

    /// Judges one planted source a line: `path | source | violations`, these parted by `;`.
    #[track_caller]
    fn planted(cases: &str) {
        for case in cases.lines().filter(|case| !case.trim().is_empty()) {
            let columns: Vec<&str> = case.split(" | ").map(str::trim).collect();
            let [path, source, expected] = columns[..] else {
                panic!("three columns are needed: {case}");
            };
            let told = |what: &str| format!("{path}:1: {}", what.trim());
            let expected = expected.split(';').map(told).filter(|_| expected != "fine");
            let expected: Vec<String> = expected.collect();
            assert_eq!(violations(path, source), expected, "{case}");
        }
    }

    #[test]
    fn an_import_points_down() {
        planted(
            r"
            src/protocol/frame.rs | use crate::shard::Shard; | protocol may not import shard
            src/protocol/frame.rs | use crate::{config, shard::{self, x}}; | protocol may not import shard
            src/protocol/frame.rs | fn f() -> crate::shard::Shard { g() } | protocol may not import shard
            src/protocol/frame.rs | #[cfg(test)] mod tests { use crate::shard; } | protocol may not import shard
            src/shard/run.rs      | pub(crate) use crate::load::x; | shard may not import load
            src/shard/run.rs      | use crate as c; | shard may not import lib
            src/shard/run.rs      | use crate::*; | shard may not import lib
            src/process/worker.rs | use crate::Server; | process may not import lib
            src/process/worker.rs | use crate::doctor::x; | process may not import doctor
            src/cli/serve.rs      | use crate::Arguments; | cli may not import main
            src/lib.rs            | pub use corelane::cli::x; | lib may not import cli
            src/sys/ring.rs       | crate::message! {} | sys may not import protocol
            src/apps/topics.rs    | crate::message! {} | fine
            src/sys/ring.rs       | macro_rules! m { () => { $crate::protocol::X } } | sys may not import protocol
            src/shard/run.rs      | use crate::{handler, metrics, protocol, config, sys}; | fine
            src/cli/serve.rs      | use corelane::{Server, process::worker}; use super::x; | fine
            src/main.rs           | mod cli; fn main() { cli::run(corelane::config::load()) } | fine
            src/lib.rs            | mod sys; pub use process::{Server, worker::Worker}; | fine
            ",
        );
    }

    #[test]
    fn a_room_imports_only_what_its_line_says() {
        planted(
            r"
            src/protocol/mod.rs | use crate::metrics::X; | protocol may not import metrics
            src/protocol/mod.rs | use crate::sys::X; | protocol may not import sys; pure file imports sys
            src/config/mod.rs   | use crate::protocol::X; | config may not import protocol
            src/metrics/mod.rs  | use crate::handler::X; | metrics may not import handler
            src/sys/ring.rs     | use crate::config::X; | sys may not import config
            src/handler.rs      | use crate::shard::X; | handler may not import shard
            src/client/link.rs  | use crate::sys::X; | client may not import sys
            src/client/link.rs  | use crate::sys::checksum::X; | fine
            src/config/mod.rs   | use crate::sys::{checksum, clock}; | config may not import sys; pure file imports sys
            src/client/mod.rs   | use crate::handler::X; | client may not import handler
            src/apps/echo.rs    | use crate::shard::X; | apps may not import shard
            src/apps/echo.rs    | use crate::{handler::Reply, protocol, config}; | fine
            src/handler/mod.rs  | use crate::{metrics, protocol, config}; | fine
            src/client/link.rs  | use crate::{protocol, config}; use std::net::TcpStream; | fine
            ",
        );
    }

    #[test]
    fn super_stays_in_its_room() {
        planted(
            r"
            src/handler.rs    | use super::protocol::X; | super climbs out of handler
            src/shard/mod.rs  | use super::metrics; | super climbs out of shard
            src/shard/slab.rs | fn f() { super::super::metrics::x() } | super climbs out of shard
            src/shard/slab.rs | mod a { use super::super::super::x; } | super climbs out of shard
            src/shard/slab.rs | use super::timer; mod a { use super::super::timer; } | fine
            src/handler.rs    | mod tests { use super::*; } | fine
            src/lib.rs        | mod tests { use super::process::*; } | fine
            ",
        );
    }

    #[test]
    fn a_pure_file_imports_neither_sys_nor_run() {
        planted(
            r"
            src/shard/slab.rs       | use crate::sys::Ring; | pure file imports sys
            src/shard/a_new_file.rs | use crate::sys; | pure file imports sys
            src/shard/a_new_file.rs | use crate::sys::{checksum, Ring}; | pure file imports sys
            src/shard/a_new_file.rs | use crate::sys::checksum::X; | fine
            src/protocol/frame.rs   | use crate::sys::checksum; | fine
            src/protocol/frame.rs   | use crate::sys::checksums; | protocol may not import sys; pure file imports sys
            src/process/master.rs   | use crate::sys; | pure file imports sys
            src/shard/slab.rs       | use crate::shard::run::X; | pure file imports shard::run
            src/shard/slab.rs       | use super::{timer, run}; | pure file imports shard::run
            src/shard/slab.rs       | use super as s; fn f() { s::run::x() } | pure file imports shard::run
            src/shard/slab.rs       | use super::*; fn f() { run::x() } | pure file imports shard::run
            src/shard/slab.rs       | mod tests { use super::super::run::x; } | pure file imports shard::run
            src/shard/mod.rs        | mod run; pub use run::X; | pure file imports shard::run
            src/shard/mod.rs        | pub use self::run::X; | pure file imports shard::run
            src/shard/mod.rs        | mod run; fn f() { run::<u8>() } | fine
            src/shard/mesh.rs       | use crate::sys; use super::run; | fine
            src/shard/panic.rs      | use crate::sys; | fine
            src/doctor/limits.rs    | use crate::sys::host; | pure file imports sys
            src/doctor/cpus.rs      | use super::look::Asked; | pure file imports doctor::look
            src/doctor/mod.rs       | use crate::config; mod look; use look::look; | fine
            src/doctor/look.rs      | use crate::{config, process, sys}; use super::facts; | fine
            src/process/worker.rs   | use crate::{sys, shard::run}; | fine
            src/apps/topics/link.rs | use crate::sys; | pure file imports sys
            src/apps/topics/mod.rs  | use crate::sys; | fine
            src/apps/link.rs        | use crate::sys; | fine
            ",
        );
    }

    #[test]
    fn a_pure_file_names_nothing_impure() {
        for word in IMPURE_WORDS {
            planted(&format!(
                "src/shard/io.rs | use x::{{{word} as y}}; | pure file names {word}"
            ));
        }
        for name in PURE_PATHS {
            planted(&format!(
                "src/shard/slab.rs | use {name}; fn f(x: ::{name}) {{}} | fine"
            ));
        }
        for (name, _) in IMPURE_PATHS {
            let case = format!("use {name}; | pure file names {name}");
            planted(&format!(
                "src/handler.rs | {case}
src/metrics/text.rs | {case}"
            ));
            let case = format!("fn f() {{ return ::{name}::x() }} | pure file names {name}");
            planted(&format!(
                "src/process/master.rs | {case}
src/protocol/mod.rs | {case}"
            ));
        }
        planted(
            r#"
            src/shard/slab.rs | use std::{fmt, thread::{self}}; | pure file names std::thread
            src/shard/slab.rs | use std::sync; fn f() { sync::Mutex::new() } | pure file names std::sync::Mutex
            src/shard/slab.rs | use std::sync::*; | pure file names std::sync::*
            src/shard/slab.rs | use core::net::IpAddr; | fine
            src/shard/slab.rs | fn f() { Instant::now() } | pure file names Instant::now
            src/shard/slab.rs | use std::{sync::{Arc, atomic}, time::Duration, mem::*}; | fine
            src/shard/slab.rs | const A: &str = "libc::x"; struct Instant(u64); // std::thread | fine
            src/shard/slab.rs | #[cfg(test)] mod tests { use std::{thread, time::Instant}; use libc; } | fine
            src/shard/slab.rs | mod tests { use libc; } | pure file names libc
            src/shard/run.rs  | use glommio::x; use std::{thread, time::Instant}; | fine
            src/apps/topics/directory.rs   | use glommio::x; | pure file names glommio
            src/apps/topics/directory/x.rs | use std::thread; | pure file names std::thread
            src/apps/topics/mod.rs         | mod directory; use glommio::x; | fine
            src/apps/accounts/threads.rs   | use std::sync::Mutex; | fine
            "#,
        );
    }

    #[test]
    fn the_configuration_holds_addresses_and_one_file_reads() {
        planted(
            r"
            src/config/mod.rs  | use std::net::{IpAddr, SocketAddr}; | fine
            src/config/mod.rs  | use std::net::TcpListener; | pure file names TcpListener
            src/config/load.rs | use std::fs; | fine
            src/config/mod.rs  | use std::fs; | pure file names std::fs
            ",
        );
    }

    #[test]
    fn unsafe_code_stays_in_sys() {
        planted(
            r"
            src/shard/run.rs | fn f() { unsafe { g() } } | unsafe stands outside src/sys
            src/cli/mod.rs   | unsafe impl Send for X {} | unsafe stands outside src/sys
            src/handler.rs   | #[cfg(test)] mod tests { unsafe fn f() {} } | unsafe stands outside src/sys
            src/lib.rs       | #[allow(unsafe_code)] mod sys; | unsafe_code is allowed outside src/sys
            src/lib.rs       | #![cfg_attr(x, expect(y, unsafe_code))] | unsafe_code is allowed outside src/sys
            src/lib.rs       | #![forbid(unsafe_code)] mod sys; // unsafe | fine
            src/sys/mod.rs   | #![allow(unsafe_code)] unsafe fn f() {} | fine
            ",
        );
    }

    #[test]
    fn a_violation_is_told_with_its_line() {
        let source = "//! One

use std::thread;
fn f() { thread::spawn(g) }
";
        let expected =
            [3, 4].map(|at| format!("src/shard/slab.rs:{at}: pure file names std::thread"));
        assert_eq!(violations("src/shard/slab.rs", source), expected);
    }

    #[test]
    fn every_file_has_a_room_and_a_telling_name() {
        for path in [
            "src/server.rs",
            "src/net/mod.rs",
            "src/bin/x.rs",
            "src/lib/x.rs",
            "src/x.md",
        ] {
            let expected = format!("{path}: is in no known room; place it in ROOMS first");
            assert_eq!(violations(path, ""), [expected]);
        }
        let why = "says nothing, name the module for what it does";
        assert_eq!(
            violations("src/shard/util.rs", ""),
            [format!("src/shard/util.rs: util {why}")]
        );
        let path = "src/admin/common/mod.rs";
        assert_eq!(violations(path, ""), [format!("{path}: common {why}")]);
        planted(&format!(
            "src/shard/run.rs | mod helpers {{ }} | helpers {why}"
        ));
    }

    #[test]
    fn a_file_that_is_no_source_only_needs_a_room() {
        assert_eq!(
            violations("src/admin/page.html", "use crate::Server;"),
            [""; 0]
        );
    }

    #[test]
    fn a_stray_at_the_top_is_found() {
        let found = strays(["src", "docs", ".ci", "target", "LICENSE-MIT", "notes.txt"]);
        let told = |name| format!("{name}: does not belong at the top of the repository");
        assert_eq!(found, ["docs", "notes.txt"].map(told));
    }

    #[test]
    fn the_table_itself_points_down() {
        for (at, room) in ROOMS.iter().enumerate() {
            assert_eq!(find_room(room.name), Some(at), "{} stands twice", room.name);
            if let Imports::Only(names) = room.imports {
                let is_below = |name: &&str| find_room(name).is_some_and(|target| target > at);
                assert!(names.iter().all(is_below), "{} points up", room.name);
            }
        }
    }

    /// One that moves would not be judged any more, and nobody would notice.
    #[test]
    fn what_is_named_as_pure_is_there() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        for room in &ROOMS {
            if let Pure::Only(names) = room.pure {
                for name in names {
                    let way = src.join(room.name).join(name.replace("::", "/"));
                    let is_there = way.with_extension("rs").is_file() || way.is_dir();
                    assert!(is_there, "{} has no {name}", room.name);
                }
            }
        }
    }

    #[test]
    fn the_tree_keeps_its_layers() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut paths = Vec::new();
        files(root, &root.join("src"), &mut paths).unwrap();
        paths.sort();
        assert!(
            paths.contains(&"src/lib.rs".to_owned()),
            "not the tree: {paths:?}"
        );
        let mut found = Vec::new();
        for path in &paths {
            let bytes = fs::read(root.join(path)).unwrap();
            found.extend(violations(path, &String::from_utf8_lossy(&bytes)));
        }
        let top = fs::read_dir(root).unwrap();
        let names = top.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        found.extend(strays(names.collect::<Vec<_>>().iter().map(String::as_str)));
        assert!(
            found.is_empty(),
            "
{}",
            found.join(
                "
"
            )
        );
    }
}

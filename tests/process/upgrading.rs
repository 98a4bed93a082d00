//! Upgrades: the master becomes the program file now on disk, or nothing changes.
//!
//! The new program is another build in earnest where `CORELANE_TEST_OTHER_PROGRAM` says where one is:
//! `cargo build` with another version in Cargo.toml, into another folder, or a release of before. By
//! default it is a copy of the same build that calls itself by another version wherever it does.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{BINARY, Running, Site, children, ping};

/// As long as the real one.
const OTHER_VERSION: &str = "9.8.7";
const VERSION: &str = env!("CARGO_PKG_VERSION");
const _: () = assert!(OTHER_VERSION.len() == VERSION.len());

/// Runs a script with these words. It writes programs by a process of its own: a descriptor for
/// writing that another test's child inherits for a moment would keep them from being executed.
fn sh(script: &str, words: [&Path; 2]) {
    let mut command = Command::new("sh");
    let status = command.args(["-c", script]).args(words).status();
    assert!(status.unwrap().success(), "{script}");
}

/// Puts this program where another may be running from.
fn install(program: &Path, at: &Path) {
    sh(r#"cp "$0" "$1.new" && mv "$1.new" "$1""#, [program, at]);
}

/// The other build; a copy is made in this site's folder.
fn other_program(site: &Site) -> PathBuf {
    if let Some(program) = std::env::var_os("CORELANE_TEST_OTHER_PROGRAM") {
        return program.into();
    }
    let pattern = format!("s/{}/{OTHER_VERSION}/g", VERSION.replace('.', "[.]"));
    let script = format!(r#"LC_ALL=C sed '{pattern}' "$0" >"$1" && chmod 755 "$1""#);
    let copy = site.path("other");
    sh(&script, [Path::new(BINARY), &copy]);
    copy
}

/// What a program, or a process by its file, says for `--version`.
fn version_of(program: impl AsRef<Path>) -> String {
    let output = Command::new(program.as_ref()).arg("--version").output();
    let said = String::from_utf8(output.unwrap().stdout).unwrap();
    let version = said
        .strip_prefix("corelane ")
        .unwrap_or_else(|| panic!("{said}"));
    version.trim_end().to_owned()
}

/// A server that runs from a copy in its own folder.
fn start() -> Running {
    let site = Site::supervised(&[]);
    install(Path::new(BINARY), &site.path("corelane"));
    let mut command = Command::new(site.path("corelane"));
    command
        .args(["-c", "corelane.toml"])
        .current_dir(site.folder.path());
    Running::of(site, command)
}

/// The file that a process runs from.
fn file_of(process: u32) -> u64 {
    fs::metadata(format!("/proc/{process}/exe")).unwrap().ino()
}

#[test]
fn master_and_worker_become_the_new_program_and_keep_sockets_and_process_id() {
    let running = start();
    let site = &running.site;
    let (master, old) = (running.pid(), running.worker());
    // Wrong by now, which is a reload's affair.
    site.configure(&["limits.connections = 0"]);
    let other = other_program(site);
    assert_ne!(version_of(&other), VERSION);
    let of_log = |process, starts: &str| {
        let program = site.log().lines().rev().find_map(|line| {
            let line = line.split_once(starts)?.1;
            let line = line.strip_prefix(&format!(" pid={process} version=\""))?;
            Some(line.split_once('"')?.0.to_owned())
        });
        program.unwrap_or_else(|| panic!("{}", site.log()))
    };
    // There, and back again.
    for program in [other.as_path(), Path::new(BINARY)] {
        let before = running.worker();
        install(program, &site.path("corelane"));
        let new_file = fs::metadata(site.path("corelane")).unwrap().ino();
        assert_ne!(file_of(master), new_file);
        let said = site.succeed(&["upgrade", "--pid-file", "pid"]);
        let new = running.worker();
        assert_eq!(
            said,
            format!("upgraded: worker {before} replaced by {new}\n")
        );
        assert_eq!((file_of(master), file_of(new)), (new_file, new_file));
        let version = version_of(program);
        for (process, starts) in [(master, "the master starts"), (new, "the worker starts")] {
            assert_eq!(version_of(format!("/proc/{process}/exe")), version);
            assert_eq!(of_log(process, starts), version);
        }
        running.connect();
    }
    assert_ne!(running.worker(), old);

    // It knows what it has to: the pid file, the words that it was started with, its workers.
    let said = site.fail(1, &["reload", "--pid-file", "pid"]);
    assert!(said.contains("limits.connections is 0"), "{said}");
    site.configure(&["process.mode = 'supervised'", "limits.connections = 9"]);
    site.succeed(&["reload", "--pid-file", "pid"]);
    site.succeed(&["reopen", "--pid-file", "pid"]);
    let said = site.fail(1, &["-c", "corelane.toml"]);
    assert!(
        said.contains(&format!("is held by process {master}, which runs")),
        "{said}"
    );
    site.succeed(&["stop", "--pid-file", "pid"]);
    assert!(!site.path("pid").exists());
    assert_eq!(running.ended().0, Some(0));
}

/// Writes a script in the program's place.
fn script(at: &Path, text: &str) {
    let write = r#"printf '%s\n' "$1" >"$0.new" && chmod 755 "$0.new" && mv "$0.new" "$0""#;
    sh(write, [at, Path::new(text)]);
}

#[test]
fn a_program_that_is_missing_broken_or_fails_changes_nothing_and_is_logged() {
    let running = start();
    let site = &running.site;
    let program = site.path("corelane");
    let (master, worker) = (running.pid(), running.worker());
    let file = file_of(master);
    let mut client = running.connect();
    let mut fails = |reason: &str| {
        let said = site.fail(1, &["upgrade", "--pid-file", "pid"]);
        assert!(
            said.contains(reason) && said.contains("nothing has changed"),
            "{said}"
        );
        site.wait_for_log(&said);
        assert_eq!((running.worker(), file_of(master)), (worker, file));
        ping(&mut client);
        running.connect();
    };
    fs::remove_file(&program).unwrap();
    fails("the new worker ended before it was ready");
    script(&program, "this is no program");
    fails("the new worker ended before it was ready");
    script(&program, "#!/bin/sh\nexit 3");
    fails("the new worker ended before it was ready");
    // A server, but not one that could go on with what the master knows.
    let other = "--set shards.count=1 --set shards.pin=false";
    script(&program, &format!("#!/bin/sh\nexec {BINARY} {other}"));
    fails("the new program did not take the master's place");
    assert_eq!(children(master), [worker]);
}

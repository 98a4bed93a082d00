//! Upgrades: the master becomes the program file now on disk, or nothing changes.
//!
//! The new program is a copy of the same build with a few bytes behind its end, so another file.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::{BINARY, Running, Site, children, ping};

/// Copies the binary by a process of its own: a descriptor for writing that another test's child
/// inherits for a moment would keep the copy from being executed.
fn copy(to: &Path, tail: &str) {
    let script = r#"cp "$0" "$1.new" && printf %s "$2" >>"$1.new" && mv "$1.new" "$1""#;
    let status = Command::new("sh")
        .args(["-c", script, BINARY])
        .arg(to)
        .arg(tail)
        .status()
        .unwrap();
    assert!(status.success());
}

/// A server that runs from a copy in its own folder.
fn start() -> Running {
    let site = Site::supervised(&[]);
    copy(&site.path("corelane"), "");
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
    for round in 1..=2 {
        let before = running.worker();
        copy(&site.path("corelane"), &"new".repeat(round));
        let new_file = fs::metadata(site.path("corelane")).unwrap().ino();
        assert_ne!(file_of(master), new_file);
        let said = site.succeed(&["upgrade", "--pid-file", "pid"]);
        let new = running.worker();
        assert_eq!(
            said,
            format!("upgraded: worker {before} replaced by {new}\n")
        );
        assert_eq!((file_of(master), file_of(new)), (new_file, new_file));
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

/// Writes a script in the program's place; as above, by a process of its own.
fn script(at: &Path, text: &str) {
    let script = r#"printf '%s\n' "$1" >"$0.new" && chmod 755 "$0.new" && mv "$0.new" "$0""#;
    let mut command = Command::new("sh");
    let status = command.args(["-c", script]).arg(at).arg(text).status();
    assert!(status.unwrap().success());
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
        assert!(site.log().contains(&said));
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

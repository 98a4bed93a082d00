//! The log of a supervised server: master and worker each have a thread that writes it.

use std::fs;
use std::io::Write as _;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use crate::support::{Running, Site, ping, until};

const SUPERVISED: &str = "process.mode = 'supervised'";

/// The sum of what was left out of a module's kinds whose example is `like`.
fn left_out(log: &str, module: &str, like: &str) -> usize {
    let of_it = format!("module=\"{module}\" like=\"{like}\"");
    log.lines()
        .filter(|line| line.ends_with(&of_it))
        .map(|line| {
            let (_, rest) = line.split_once("left_out=").unwrap();
            let (count, _) = rest.split_once(' ').unwrap();
            count.parse::<usize>().unwrap()
        })
        .sum()
}

#[test]
fn a_master_leaves_repeats_out_and_counts_them_before_it_ends() {
    const RELOADS: usize = 5;
    let limit = ["log.repeats_per_second = 1", "log.repeats_burst = 1"];
    let running = Site::supervised(&limit).start();
    for _ in 0..RELOADS {
        running.site.succeed(&["reload", "--pid-file", "pid"]);
    }
    running.site.succeed(&["stop", "--pid-file", "pid"]);
    let log = running.site.log();
    let module = "corelane::process::supervisor";
    let logged: usize = ["reloading", "stopping"]
        .iter()
        .map(|order| log.matches(&format!("{module}: {order} signal=")).count())
        .sum();
    assert!(logged <= RELOADS, "{log}");
    assert_eq!(
        logged + left_out(&log, module, "reloading"),
        RELOADS + 1,
        "{log}"
    );
}

#[test]
fn a_reload_limits_repeats_in_place() {
    const CONNECTIONS: usize = 9;
    let running = Site::supervised(&["log.level = 'debug'"]).start();
    running.site.configure(&[
        SUPERVISED,
        "log.level = 'debug'",
        "log.repeats_per_second = 1",
        "log.repeats_burst = 1",
    ]);
    let said = running.site.succeed(&["reload", "--pid-file", "pid"]);
    assert_eq!(
        said,
        "reloaded: log.repeats_burst, log.repeats_per_second changed in place\n"
    );
    for _ in 0..CONNECTIONS {
        running.connect();
    }
    let module = "corelane::shard::admission";
    until("all is told that was left out", || {
        let log = running.site.log();
        let all = log.matches(" accepted connection=").count() + left_out(&log, module, "accepted");
        (all == CONNECTIONS).then_some(())
    });
    assert!(left_out(&running.site.log(), module, "accepted") > 0);
}

#[test]
fn a_master_whose_log_nobody_reads_obeys() {
    let log_to_stderr = |site: &Site, lines: &[&str]| {
        site.configure(&[&[SUPERVISED], lines].concat());
        let config = site.path("corelane.toml");
        let text = fs::read_to_string(&config).unwrap();
        let file = format!("log.file = '{}'", site.path("log").display());
        fs::write(&config, text.replace(&file, "")).unwrap();
    };
    let site = Site::supervised(&[]);
    log_to_stderr(&site, &[]);
    let (_reader, mut pipe) = std::io::pipe().unwrap();
    let mut command = site.command(&["-c", "corelane.toml"]);
    command.stderr(pipe.try_clone().unwrap());
    let running = Running::of(site, command);
    while has_room(&pipe) {
        pipe.write_all(&[b'x'; 4096]).unwrap();
    }

    log_to_stderr(&running.site, &["limits.connections = 9"]);
    let said = running.site.succeed(&["reload", "--pid-file", "pid"]);
    assert_eq!(said, "reloaded: limits.connections changed in place\n");
    running.signal(Signal::HUP);
    ping(&mut running.connect());
    running.site.succeed(&["upgrade", "--pid-file", "pid"]);
    running.signal(Signal::QUIT);
    assert_eq!(running.ended().0, Some(0));
}

#[test]
fn a_log_file_that_could_not_be_opened_is_tried_again_by_the_next_reload() {
    let running = Site::supervised(&[]).start();
    let site = &running.site;
    let (file, old) = (site.path("log"), site.path("log.1"));
    fs::rename(&file, &old).unwrap();
    fs::create_dir(&file).unwrap();
    site.succeed(&["reopen", "--pid-file", "pid"]);
    let told = "the old log file stays in use: cannot open the log file";
    until("master and worker tell that it can't be opened", || {
        let log = fs::read_to_string(&old).unwrap();
        (log.matches(told).count() == 2).then_some(())
    });

    fs::remove_dir(&file).unwrap();
    // Nothing else has changed.
    site.succeed(&["reload", "--pid-file", "pid"]);
    site.wait_for_log("corelane::process::supervisor");
    site.wait_for_log("the log file was reopened");
}

/// Whether a pipe takes a page without keeping whoever writes.
fn has_room(pipe: &std::io::PipeWriter) -> bool {
    let mut pipes = [PollFd::new(pipe, PollFlags::OUT)];
    poll(&mut pipes, Some(&Timespec::default())).unwrap() > 0
}

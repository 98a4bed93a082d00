//! The log of a process, driven from within. A process has but one, so this is one test in a
//! program of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use corelane::config::Log;
use corelane::process::logging::{self, LogError};

#[test]
fn level_limit_and_file_change_while_the_log_runs() {
    assert!(matches!(logging::set_level("info"), Err(LogError::None)));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    let log = Log {
        file: file.clone(),
        repeats_per_second: 0,
        ..Log::default()
    };
    logging::start(&log).unwrap();
    let say = |which: &str| {
        tracing::info!("{which} info");
        tracing::debug!("{which} debug");
    };
    say("first");
    logging::set_level("debug").unwrap();
    say("second");
    logging::set_level("warn,logging=info").unwrap();
    say("third");
    let wrong = logging::set_level("info=what").unwrap_err();
    assert!(matches!(wrong, LogError::Level { .. }), "{wrong}");
    logging::set_level("off").unwrap();
    say("fourth");
    logging::set_level("error,logging=info").unwrap();
    logging::set_repeats(1, 2).unwrap();
    // The bucket of this kind is full: nothing was taken while there was no limit.
    for which in ["fifth", "sixth", "seventh"] {
        say(which);
    }

    logging::flush();
    let text = fs::read_to_string(&file).unwrap();
    let said: Vec<&str> = text
        .lines()
        .filter_map(|line| Some(line.rsplit_once(" logging: ")?.1))
        .collect();
    assert_eq!(
        said,
        [
            "first info",
            "second info",
            "second debug",
            "third info",
            "fifth info",
            "sixth info"
        ]
    );
    assert!(
        text.contains("left_out=1 module=\"logging\" like=\"fifth info\""),
        "{text}"
    );
    a_file_that_could_not_be_opened_is_tried_again(folder.path(), &file);
}

fn a_file_that_could_not_be_opened_is_tried_again(folder: &Path, old: &Path) {
    let later = folder.join("later").join("log");
    logging::set_repeats(0, 0).unwrap();
    for outcome in [logging::set_file(Some(&later)), logging::reopen()] {
        assert!(matches!(outcome, Err(LogError::File { .. })), "{outcome:?}");
    }
    assert!(logging::lacks_file());
    tracing::info!("still in the old one");
    fs::create_dir(folder.join("later")).unwrap();
    logging::reopen().unwrap();
    assert!(!logging::lacks_file());
    tracing::info!("in the new one");
    logging::flush();
    let said = |file: &Path, words: &str| fs::read_to_string(file).unwrap().contains(words);
    assert!(said(old, "still in the old one"));
    assert!(said(&later, "in the new one"));
    assert!(!said(old, "in the new one"));
}

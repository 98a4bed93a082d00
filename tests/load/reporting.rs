//! Reports of runs: the files that `--report` leaves.

use std::fs;

use corelane::load::{Record, read};

use crate::support::measured::{Measured, start_load};
use crate::support::program::start;
use crate::support::server::Server;

#[test]
fn a_report_has_the_record_that_was_printed() {
    let server = Server::start_but(|_, _| Ok(false));
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("made/there");
    let words = format!(
        "--connections 3 --duration 200ms --report={}",
        report.display()
    );
    let measured = Measured::of(start_load(server.address(), &words).ended());
    measured.passed();
    let kept: Record = read(&report).unwrap();
    assert_eq!(kept, measured.record);
    for (file, words) in [
        ("report.html", "closed loop"),
        ("latency.hgrm", "#[Mean"),
        ("timeline.csv", "messages"),
    ] {
        let text = fs::read_to_string(report.join(file)).unwrap();
        assert!(text.contains(words), "{file}: {text}");
    }
    assert_eq!(fs::read_dir(&report).unwrap().count(), 4);
}

#[test]
fn a_folder_that_cannot_be_written_is_told_before_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let report = file.join("report").display().to_string();
    // Nobody listens at this address, which would be told next.
    let ended = start(&["load", "127.0.0.1:1", "--report", &report]).ended();
    let sentence = ended.failed_with(1);
    let start = format!("cannot make the report folder {report}: ");
    assert!(sentence.starts_with(&start), "{sentence}");
}

#[test]
fn wrong_words_leave_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let words = ["load", "--connections", "0", "--report"];
    let path = report.display().to_string();
    start(&[&words[..], &[&path]].concat())
        .ended()
        .failed_with(2);
    assert!(!report.exists());
}

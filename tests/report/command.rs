//! `corelane report` as the real binary.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use corelane::load::save;

use crate::sample::Sample;
use crate::well_formed::text_of;

/// Runs it with these words in a folder.
fn report(folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_corelane"))
        .arg("report")
        .args(words)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Asserts the exit status and that one sentence on stderr says why; gives it back.
#[track_caller]
fn refused(output: &Output, status: i32) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    assert_eq!(output.stdout, b"");
    let sentence = stderr.strip_prefix("corelane: ").unwrap().trim_end();
    assert_eq!(sentence.lines().count(), 1, "{stderr}");
    sentence.to_owned()
}

/// A folder with the runs `before` and `after`.
fn two_runs() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (seed, name) in [(1, "before"), (2, "after")] {
        let sample = Sample {
            seed,
            seconds: 1.0,
            ..Sample::default()
        };
        save(&folder.path().join(name), &sample.record()).unwrap();
    }
    folder
}

#[test]
fn runs_are_laid_over_one_another() {
    let folder = two_runs();
    let cases: [(&[&str], &str, &str); 3] = [
        (&["before", "after"], "report.html", "before, after"),
        (
            &["before", "after/latency.json", "--output", "page.html"],
            "page.html",
            "before, after",
        ),
        (
            &[
                "before",
                "after",
                "--name",
                "old",
                "--name",
                "new",
                "-o",
                "named.html",
            ],
            "named.html",
            "old, new",
        ),
    ];
    for (words, file, names) in cases {
        let output = report(folder.path(), words);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            format!("{file}\n")
        );
        let text = text_of(&fs::read_to_string(folder.path().join(file)).unwrap());
        assert!(text.contains("2 runs") && text.contains(names), "{text}");
    }
}

#[test]
fn one_run_is_a_report_too() {
    let folder = two_runs();
    let output = report(&folder.path().join("after"), &[".", "-o", "again.html"]);
    assert!(output.status.success(), "{output:?}");
    let page = |name: &str| fs::read_to_string(folder.path().join("after").join(name)).unwrap();
    assert_eq!(page("again.html"), page("report.html"));
}

#[test]
fn wrong_words_are_refused() {
    let folder = two_runs();
    let refused = |words: &[&str]| refused(&report(folder.path(), words), 2);
    let right = "name a report folder or a latency.json of `corelane load`";
    assert_eq!(
        refused(&["before", "nowhere"]),
        format!("cannot read nowhere: No such file or directory; {right}")
    );
    assert_eq!(
        refused(&["before/timeline.csv"]),
        "before/timeline.csv:1:1: not valid JSON: expected value"
    );
    assert_eq!(
        refused(&["before", "--name", "a", "--name", "b"]),
        "--name stands 2 times, but must stand at most once for each run, which is 1"
    );
    let output = report(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!folder.path().join("report.html").exists());
}

#[test]
fn a_page_that_can_not_be_written_is_told() {
    let folder = two_runs();
    let output = report(
        folder.path(),
        &["before", "after", "-o", "before/timeline.csv/x.html"],
    );
    assert_eq!(
        refused(&output, 1),
        "cannot write before/timeline.csv/x.html: Not a directory; name a place that may be \
         written to"
    );
}

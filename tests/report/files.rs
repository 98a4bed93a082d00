//! Report folders and records as files.

use std::fs;
use std::path::Path;

use corelane::load::{page, read, read_runs, save};

use crate::sample::{Sample, empty};

#[test]
fn a_record_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    for (name, record) in [("full", Sample::default().record()), ("empty", empty())] {
        let report = folder.path().join("of/today").join(name);
        save(&report, &record).unwrap();
        assert_eq!(read(&report).unwrap(), record);
        assert_eq!(read(&report.join("latency.json")).unwrap(), record);
    }
}

#[test]
fn a_report_folder_has_four_files() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("run");
    let record = Sample::default().record();
    save(&report, &Sample::default().record()).unwrap();
    save(&report, &record).unwrap(); // Again: an older report is replaced.
    let mut names: Vec<_> = fs::read_dir(&report)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "latency.hgrm",
            "latency.json",
            "report.html",
            "timeline.csv"
        ]
    );

    let text = |name: &str| fs::read_to_string(report.join(name)).unwrap();
    let runs = read_runs(std::slice::from_ref(&report), &[]).unwrap();
    assert_eq!(runs[0].name, "run");
    assert_eq!(text("report.html"), page(&runs));

    let csv = text("timeline.csv");
    let lines: Vec<&str> = csv.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 1 + record.timeline.len());
    assert!(lines.iter().all(|line| line.split(',').count() == 7));

    let hgrm = text("latency.hgrm");
    let rows = hgrm.lines().skip(2).filter(|line| !line.starts_with('#'));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), record.distribution.len());
    let last = rows.last().unwrap();
    let max_ms: f64 = last[0].parse().unwrap();
    assert!((max_ms * 1000.0 / record.summary.latency_us.max - 1.0).abs() < 1e-6);
    assert_eq!(
        last[1..],
        [
            "1.000000000000",
            &record.summary.messages.to_string(),
            "inf"
        ]
    );
}

#[test]
fn a_folder_that_can_not_be_made_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let cases = [
        (file.join("report"), "Not a directory"),
        (file, "File exists"),
    ];
    for (report, reason) in cases {
        let error = save(&report, &empty()).unwrap_err();
        let expected = format!(
            "cannot make the report folder {}: {reason}; name a folder that may be written to",
            report.display()
        );
        assert_eq!(error.to_string(), expected);
    }
    let report = folder.path().join("taken");
    fs::create_dir_all(report.join("timeline.csv")).unwrap();
    let error = save(&report, &empty()).unwrap_err().to_string();
    let expected = format!(
        "cannot write {}/timeline.csv: Is a directory; ",
        report.display()
    );
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn what_is_no_record_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("latency.json");
    let whole = serde_json::to_string_pretty(&Sample::default().record()).unwrap();
    let cases = [
        (
            "{\n  \"format\": }".to_owned(),
            ":2:13: not valid JSON: expected value",
        ),
        (
            String::new(),
            ":1:0: not valid JSON: EOF while parsing a value",
        ),
        (
            "{\"messages\": 1}".to_owned(),
            ": its format is missing, but must be \"corelane-load/1\", as `corelane load` writes it",
        ),
        (
            whole.replace("corelane-load/1", "corelane-load/9"),
            ": its format is \"corelane-load/9\", but must be \"corelane-load/1\", ",
        ),
        (
            whole.replace("\"connections\": 64", "\"connections\": \"many\""),
            ":8:25: not a record of a run: invalid type: string \"many\", expected usize",
        ),
        (
            "{\"format\": \"corelane-load/1\"}".to_owned(),
            ":1:29: not a record of a run: missing field `version`",
        ),
    ];
    for (text, expected) in cases {
        fs::write(&file, text).unwrap();
        let error = read(&file).unwrap_err().to_string();
        let expected = format!("{}{expected}", file.display());
        assert!(error.starts_with(&expected), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn what_is_not_there_is_told() {
    let right = "; name a report folder or a latency.json of `corelane load`";
    let error = read(Path::new("/nonexistent/run")).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("cannot read /nonexistent/run: No such file or directory{right}")
    );
    let folder = tempfile::tempdir().unwrap();
    let error = read(folder.path()).unwrap_err().to_string();
    let file = folder.path().join("latency.json");
    let told = format!(
        "cannot read {}: No such file or directory{right}",
        file.display()
    );
    assert_eq!(error, told);
}

#[test]
fn runs_are_called_by_their_folders_and_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["monday/echo", "tuesday/echo", "other"] {
        save(&path(name), &empty()).unwrap();
    }
    fs::copy(path("other/latency.json"), path("kept.json")).unwrap();
    let named = |paths: &[&str], names: &[&str]| -> Vec<String> {
        let paths: Vec<_> = paths.iter().map(|name| path(name)).collect();
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let runs = read_runs(&paths, &names).unwrap();
        let full = folder.path().display().to_string() + "/";
        runs.iter().map(|run| run.name.replace(&full, "")).collect()
    };
    assert_eq!(
        named(
            &["other/latency.json", "kept.json", "other/../monday/echo/."],
            &[]
        ),
        ["other", "kept", "echo"]
    );
    assert_eq!(
        named(&["monday/echo", "tuesday/echo", "other"], &[]),
        ["monday/echo", "tuesday/echo", "other"]
    );
    assert_eq!(named(&["other", "other"], &[]), ["other", "other (2)"]);
    assert_eq!(named(&["other", "kept.json"], &["A"]), ["A", "kept"]);
}

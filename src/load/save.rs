//! Records and reports as files: the only place where this module touches a disk.
//!
//! A report folder has `latency.json` (the whole record, from which all else can be made again),
//! `timeline.csv`, `latency.hgrm` and `report.html`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::record::{FORMAT, Record};
use super::report::{self, Run};

/// The file of a report folder that has the record.
const RECORD_FILE: &str = "latency.json";

/// Why a report was not written. Displays as one sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// The folder is not there and could not be made.
    #[error(
        "cannot make the report folder {}: {}; name a folder that may be written to",
        folder.display(), reason(cause)
    )]
    Folder {
        /// The folder asked for.
        folder: PathBuf,
        /// What the operating system said. Not a `source`: the sentence already has it.
        cause: io::Error,
    },
    /// A file could not be written.
    #[error(
        "cannot write {}: {}; name a place that may be written to",
        file.display(), reason(cause)
    )]
    File {
        /// The file.
        file: PathBuf,
        /// What the operating system said. Not a `source`: the sentence already has it.
        cause: io::Error,
    },
}

/// Why there is no record. Displays as one sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The operating system did not give us the file.
    #[error(
        "cannot read {}: {}; name a report folder or a latency.json of `corelane load`",
        file.display(), reason(cause)
    )]
    Unreadable {
        /// The file, or the folder if it is not there.
        file: PathBuf,
        /// What the operating system said. Not a `source`: the sentence already has it.
        cause: io::Error,
    },
    /// The text is not JSON.
    #[error("{}:{line}:{column}: not valid JSON: {problem}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What the JSON parser said.
        problem: String,
    },
    /// It is JSON of another kind, or of another version.
    #[error("{}: its format is {found}, but must be {FORMAT:?}, as `corelane load` writes it", file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// What it says it is.
        found: String,
    },
    /// It says that it is a record, but it is not a whole one.
    #[error("{}:{line}:{column}: not a record of a run: {problem}", file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is missing or wrong.
        problem: String,
    },
}

/// Makes a report folder and tries whether it may be written to: before a run, so that none is in
/// vain.
///
/// # Errors
///
/// As those of [`save`].
pub fn prepare(folder: &Path) -> Result<(), SaveError> {
    make(folder)?;
    let probe = folder.join(".corelane-load");
    write(&probe, "")?;
    fs::remove_file(&probe).map_err(|cause| SaveError::File { file: probe, cause })
}

/// Writes a report folder, which is made if it is not there; files of an older report in it are
/// replaced.
pub fn save(folder: &Path, record: &Record) -> Result<(), SaveError> {
    make(folder)?;
    let json = serde_json::to_string_pretty(record).map_err(|error| SaveError::File {
        file: folder.join(RECORD_FILE),
        cause: error.into(),
    })?;
    let run = Run {
        name: name(folder),
        record: record.clone(),
    };
    write(&folder.join(RECORD_FILE), &(json + "\n"))?;
    write(
        &folder.join("timeline.csv"),
        &report::timeline(&record.timeline),
    )?;
    write(&folder.join("latency.hgrm"), &report::percentiles(record))?;
    save_page(&folder.join("report.html"), &[run])
}

fn make(folder: &Path) -> Result<(), SaveError> {
    fs::create_dir_all(folder).map_err(|cause| SaveError::Folder {
        folder: folder.to_owned(),
        cause,
    })
}

/// Writes the report of these runs to a file.
pub fn save_page(file: &Path, runs: &[Run]) -> Result<(), SaveError> {
    write(file, &report::page(runs))
}

/// Reads the record of a run: `path` is a report folder, or its `latency.json` under any name.
pub fn read(path: &Path) -> Result<Record, ReadError> {
    let file = if path.is_dir() {
        path.join(RECORD_FILE)
    } else {
        path.to_owned()
    };
    let text = fs::read_to_string(&file).map_err(|cause| ReadError::Unreadable {
        file: file.clone(),
        cause,
    })?;
    parse(&text, &file)
}

/// Reads the records of runs and gives each a name of its own: the one from `names` in its place,
/// or that of its folder or file.
pub fn read_runs(paths: &[PathBuf], names: &[String]) -> Result<Vec<Run>, ReadError> {
    let mut runs = Vec::with_capacity(paths.len());
    for (index, path) in paths.iter().enumerate() {
        let record = read(path)?;
        let name = names.get(index).cloned().unwrap_or_else(|| name(path));
        runs.push(Run { name, record });
    }
    let given = names.len().min(runs.len());
    tell_apart(&mut runs[given..], &paths[given..]);
    Ok(runs)
}

/// What a report folder or a record is called: by its own name; a `latency.json` by its folder's.
fn name(path: &Path) -> String {
    // What ends in dots has a name only in full.
    let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let named = match full.parent() {
        Some(folder) if full.file_name() == Some(OsStr::new(RECORD_FILE)) => folder.file_name(),
        _ if full.is_dir() => full.file_name(),
        _ => full.file_stem(),
    };
    named.map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// Names that are the same become the paths as they were given, and with a number if these are the
/// same, too.
fn tell_apart(runs: &mut [Run], paths: &[PathBuf]) {
    let mut times = BTreeMap::<String, usize>::new();
    for run in &*runs {
        *times.entry(run.name.clone()).or_default() += 1;
    }
    let mut seen = BTreeMap::<String, usize>::new();
    for (run, path) in runs.iter_mut().zip(paths) {
        if times.get(&run.name).is_some_and(|&times| times > 1) {
            run.name = path.display().to_string();
        }
        let seen = seen.entry(run.name.clone()).or_default();
        *seen += 1;
        if *seen > 1 {
            run.name = format!("{} ({seen})", run.name);
        }
    }
}

fn parse(text: &str, file: &Path) -> Result<Record, ReadError> {
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|error| ReadError::Syntax {
            file: file.to_owned(),
            line: error.line(),
            column: error.column(),
            problem: problem(&error),
        })?;
    let format = value.get("format");
    if format.and_then(serde_json::Value::as_str) != Some(FORMAT) {
        return Err(ReadError::Format {
            file: file.to_owned(),
            found: format.map_or_else(|| "missing".to_owned(), ToString::to_string),
        });
    }
    serde_json::from_str(text).map_err(|error| ReadError::Content {
        file: file.to_owned(),
        line: error.line(),
        column: error.column(),
        problem: problem(&error),
    })
}

fn write(file: &Path, text: &str) -> Result<(), SaveError> {
    fs::write(file, text).map_err(|cause| SaveError::File {
        file: file.to_owned(),
        cause,
    })
}

/// What the parser says, without the place that is told in front.
fn problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}

/// The operating system's reason in words alone, without its number.
fn reason(cause: &io::Error) -> String {
    let text = cause.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

//! A run of `load`, and what it gave out.

use std::fmt::{self, Debug, Formatter};
use std::net::SocketAddr;

use corelane::load::Record;

use super::program::{Ended, Program, start};

/// A host may take as long for anything, rarely.
const HASTY_SECONDS: f64 = 3.0;

/// What a run with `--json` gave out.
pub(crate) struct Measured {
    pub(crate) record: Record,
    ended: Ended,
}

/// Starts a run, which is to print JSON, without a warm-up unless the words ask for one.
pub(crate) fn start_load(address: SocketAddr, words: &str) -> Program {
    let address = address.to_string();
    let mut all = vec!["load", &address, "--json"];
    all.extend(words.split_whitespace());
    if !all.contains(&"--warmup") {
        all.extend(["--warmup", "0s"]);
    }
    start(&all)
}

/// Runs `load` the same way until it ends.
#[track_caller]
pub(crate) fn load(address: SocketAddr, words: &str) -> Measured {
    Measured::of(start_load(address, words).ended())
}

/// Without the timeline and the distribution, which nobody wants to read.
impl Debug for Measured {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Ended { status, stderr, .. } = &self.ended;
        write!(f, "{status}, {stderr:?}, {:?}", self.record.summary)
    }
}

impl Measured {
    /// Asserts that stdout is one JSON document.
    #[track_caller]
    pub(crate) fn of(ended: Ended) -> Measured {
        let record = serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|error| panic!("no record: {error}: {ended:?}"));
        Measured { record, ended }
    }

    /// Right replies that came in the measured time.
    pub(crate) fn messages(&self) -> u64 {
        self.record.summary.messages
    }

    /// Requests that began in the measured time and were answered rightly, then or after it.
    pub(crate) fn answered(&self) -> u64 {
        let last = self.record.distribution.last();
        last.map_or(0, |point| point.count)
    }

    /// How many errors there were of one kind.
    #[track_caller]
    pub(crate) fn count(&self, kind: &str) -> u64 {
        self.record.summary.errors[kind]
    }

    /// Asserts that nothing went wrong, and nothing was said to stderr.
    #[track_caller]
    pub(crate) fn passed(&self) {
        let status = self.ended.status.code();
        let said = (status, self.ended.stderr.as_str());
        assert_eq!(said, (Some(0), ""), "{self:?}");
        self.found_nothing_wrong();
    }

    /// Asserts that nothing went wrong with any reply.
    #[track_caller]
    pub(crate) fn found_nothing_wrong(&self) {
        self.counted(&[]);
        assert_eq!(self.record.summary.first_error, None);
    }

    /// Asserts that exactly these errors were counted. With a short timeout, a busy host may make
    /// any reply late besides.
    #[track_caller]
    fn counted(&self, errors: &[(&str, u64)]) {
        let is_hasty = self.record.settings.timeout_seconds < HASTY_SECONDS;
        for (kind, &count) in &self.record.summary.errors {
            if kind == "late" && is_hasty {
                continue;
            }
            let expected = errors.iter().find(|(name, _)| name == kind);
            let expected = expected.map_or(0, |&(_, count)| count);
            assert_eq!(count, expected, "{kind}: {self:?}");
        }
    }

    /// Asserts that exactly these errors were counted and made it fail; gives back the first one's
    /// sentence.
    #[track_caller]
    pub(crate) fn failed_by(&self, errors: &[(&str, u64)]) -> &str {
        self.counted(errors);
        self.first_error()
    }

    /// Asserts that errors made it fail, with a sentence on stderr that ends with the first one's;
    /// gives that back.
    #[track_caller]
    pub(crate) fn first_error(&self) -> &str {
        let first = self.record.summary.first_error.as_deref();
        let first = first.unwrap_or_else(|| panic!("there was no error: {self:?}"));
        let sentence = self.ended.failed_with(1);
        assert!(
            sentence.ends_with(&format!("; the first: {first}")),
            "{sentence}"
        );
        first
    }

    /// Asserts that it failed without an error of the server's; gives back the sentence.
    #[track_caller]
    pub(crate) fn failed_otherwise(&self) -> &str {
        self.counted(&[]);
        self.ended.failed_with(1)
    }
}

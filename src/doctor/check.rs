//! One thing that was looked at, and what came of it.

use serde::Serialize;

/// What is, what should be, and how to get there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Check {
    /// What was looked at, in a word or three.
    pub topic: String,
    /// How bad it is.
    pub verdict: Verdict,
    /// What was found.
    pub is: String,
    /// What would be right.
    pub should: String,
    /// What mends it, to be copied into root's shell or, where it begins with `--set`, behind
    /// `corelane`; `None` where there is nothing to mend.
    pub mend: Option<String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// The host does not show it to this process, or not enough to judge.
    Unseen,
    /// A server starts, but could do better.
    Advice,
    /// It keeps a server from starting.
    Fatal,
}

impl Verdict {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Good => "good",
            Verdict::Unseen => "unseen",
            Verdict::Advice => "advice",
            Verdict::Fatal => "fatal",
        }
    }
}

/// What there is to say of a topic whatever the verdict: its name and what would be right.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    name: String,
    should: String,
}

impl Topic {
    pub(super) fn new(name: impl Into<String>, should: impl Into<String>) -> Topic {
        Topic {
            name: name.into(),
            should: should.into(),
        }
    }

    pub(super) fn good(self, is: impl Into<String>) -> Check {
        self.check(Verdict::Good, is.into(), None)
    }

    pub(super) fn advice(self, is: impl Into<String>, mend: impl Into<String>) -> Check {
        self.check(Verdict::Advice, is.into(), Some(mend.into()))
    }

    pub(super) fn fatal(self, is: impl Into<String>, mend: impl Into<String>) -> Check {
        self.check(Verdict::Fatal, is.into(), Some(mend.into()))
    }

    /// Of what can be seen, nothing follows.
    pub(super) fn open(self, is: impl Into<String>) -> Check {
        self.check(Verdict::Unseen, is.into(), None)
    }

    /// `why` ends a sentence: "can't be seen here: no cpufreq".
    pub(super) fn unseen(self, why: &str) -> Check {
        self.open(format!("can't be seen here: {why}"))
    }

    fn check(self, verdict: Verdict, is: String, mend: Option<String>) -> Check {
        Check {
            topic: self.name,
            verdict,
            is,
            should: self.should,
            mend,
        }
    }
}

//! What goes wrong in a run, counted by kind.

use std::collections::BTreeMap;

/// A way for a reply to be wrong, or for a connection to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// An ERROR frame came instead of the reply.
    ErrorReply,
    /// A frame's checksum was wrong.
    BadChecksum,
    /// A frame's length was out of range, after which nothing can be trusted: the connection was
    /// given up.
    BadLength,
    /// A frame had another message code than its request.
    WrongCode,
    /// A body was not the one that the request asks for.
    WrongBody,
    /// A reply came after the reply to a later request.
    OutOfOrder,
    /// A frame came that nobody had asked for.
    Unexpected,
    /// A reply took longer than the timeout. It counts as a message as well, with its latency.
    Late,
    /// A reply never came.
    Missing,
    /// A connection was closed by the server, or broke.
    Closed,
}

impl ErrorKind {
    /// Every kind, in the order of reports.
    pub const ALL: [ErrorKind; 10] = [
        ErrorKind::ErrorReply,
        ErrorKind::BadChecksum,
        ErrorKind::BadLength,
        ErrorKind::WrongCode,
        ErrorKind::WrongBody,
        ErrorKind::OutOfOrder,
        ErrorKind::Unexpected,
        ErrorKind::Late,
        ErrorKind::Missing,
        ErrorKind::Closed,
    ];

    /// Its name in records.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::ErrorReply => "error_reply",
            ErrorKind::BadChecksum => "bad_checksum",
            ErrorKind::BadLength => "bad_length",
            ErrorKind::WrongCode => "wrong_code",
            ErrorKind::WrongBody => "wrong_body",
            ErrorKind::OutOfOrder => "out_of_order",
            ErrorKind::Unexpected => "unexpected",
            ErrorKind::Late => "late",
            ErrorKind::Missing => "missing",
            ErrorKind::Closed => "closed",
        }
    }
}

/// How often each kind happened, and the first of all as a sentence.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    counts: [u64; ErrorKind::ALL.len()],
    first: Option<First>,
}

#[derive(Clone, Debug)]
struct First {
    at_ns: u64,
    sentence: String,
}

impl Tally {
    /// Counts so many of one kind. The sentence is made only for the first error of all.
    pub(crate) fn add(
        &mut self,
        kind: ErrorKind,
        count: u64,
        at_ns: u64,
        sentence: impl FnOnce() -> String,
    ) {
        if count == 0 {
            return;
        }
        self.counts[kind as usize] += count;
        self.first.get_or_insert_with(|| First {
            at_ns,
            sentence: sentence(),
        });
    }

    /// Takes in what another counted; the earlier of the two first errors stays.
    pub(crate) fn merge(&mut self, other: Tally) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        let firsts = [self.first.take(), other.first].into_iter().flatten();
        self.first = firsts.min_by_key(|first| first.at_ns);
    }

    /// All of them together.
    pub(crate) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    #[cfg(test)]
    pub(crate) fn count(&self, kind: ErrorKind) -> u64 {
        self.counts[kind as usize]
    }

    pub(crate) fn first(&self) -> Option<&str> {
        self.first.as_ref().map(|first| first.sentence.as_str())
    }

    /// Every kind by its name.
    pub(crate) fn by_name(&self) -> BTreeMap<String, u64> {
        ErrorKind::ALL
            .into_iter()
            .zip(self.counts)
            .map(|(kind, count)| (kind.name().to_owned(), count))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_the_earliest_error_is_told() {
        let mut tally = Tally::default();
        tally.add(ErrorKind::Late, 0, 1, || unreachable!("none happened"));
        tally.add(ErrorKind::Missing, 2, 20, || "at 20".to_owned());
        tally.add(ErrorKind::Missing, 1, 30, || unreachable!("not the first"));
        let mut other = Tally::default();
        other.add(ErrorKind::Closed, 1, 10, || "at 10".to_owned());
        tally.merge(other);
        tally.merge(Tally::default());
        assert_eq!(tally.first(), Some("at 10"));
        assert_eq!(tally.total(), 4);
        let names = tally.by_name();
        assert_eq!(names.len(), ErrorKind::ALL.len());
        assert_eq!(
            (names["missing"], names["closed"], names["late"]),
            (3, 1, 0)
        );
    }

    #[test]
    fn kinds_are_counted_at_their_place() {
        for (index, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
    }
}

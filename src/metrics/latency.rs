//! Latencies by message code, as a shard records them.
//!
//! Two of each request: until its reply was queued, and until the kernel had taken the reply. Both
//! begin when the request's bytes came to user space. Times are those of the shard's turns: the
//! clock is read when a turn begins and when it has ended, not for each message.
//!
//! A shard never copies its histograms. Whoever wants them hands in an empty set, and gets the one
//! that was recorded into in exchange: an interval, to be added to a sum of one's own.

use hdrhistogram::Histogram;

/// The longest time that is told apart, in microseconds; what took longer counts as this.
pub const LATENCY_US_MAX: u64 = 60_000_000;

/// Significant digits of what is recorded.
const DIGITS: u8 = 3;

/// The message codes that have latencies of their own: those with a handler. All others share
/// [`Codes::OTHER`], so that peers can't make up any number of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codes {
    /// Those with a handler, ascending.
    codes: Vec<u16>,
    /// The series of each code up to the highest.
    series: Vec<u16>,
}

impl Codes {
    /// The series of all codes that no handler has.
    pub const OTHER: usize = 0;

    /// Of these codes.
    pub fn new(codes: impl IntoIterator<Item = u16>) -> Codes {
        let mut codes: Vec<u16> = codes.into_iter().collect();
        codes.sort_unstable();
        codes.dedup();
        let mut series = vec![0; codes.last().map_or(0, |&last| usize::from(last) + 1)];
        for (number, &code) in (1..).zip(&codes) {
            series[usize::from(code)] = number;
        }
        Codes { codes, series }
    }

    /// How many series there are, the shared one included.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.codes.len() + 1
    }

    /// The series of a code.
    #[inline]
    pub fn series_of(&self, code: u16) -> usize {
        self.series
            .get(usize::from(code))
            .map_or(Codes::OTHER, |&series| usize::from(series))
    }

    /// The code of a series; `None` for that of all others.
    pub fn code_of(&self, series: usize) -> Option<u16> {
        self.codes.get(series.checked_sub(1)?).copied()
    }
}

/// The latencies of one code's requests, in microseconds.
#[derive(Clone, Debug)]
pub struct Latency {
    /// Until the reply was queued, or the request was done with without one.
    pub queued: Histogram<u64>,
    /// Until the kernel had taken all of the reply.
    pub sent: Histogram<u64>,
    /// Requests whose handler took longer than `handlers.slow_ms`.
    pub slow: u64,
}

impl Latency {
    /// Nothing so far.
    pub fn new() -> Latency {
        Latency {
            queued: histogram(),
            sent: histogram(),
            slow: 0,
        }
    }

    fn clear(&mut self) {
        self.queued.reset();
        self.sent.reset();
        self.slow = 0;
    }

    fn add(&mut self, other: &Latency) {
        for (sum, part) in [
            (&mut self.queued, &other.queued),
            (&mut self.sent, &other.sent),
        ] {
            // They have the same bounds, so it can't fail.
            let _ = sum.add(part);
        }
        self.slow += other.slow;
    }
}

impl Default for Latency {
    fn default() -> Self {
        Latency::new()
    }
}

/// Once for each series, so not where they are recorded.
#[cold]
fn new_boxed() -> Box<Latency> {
    Box::default()
}

#[expect(clippy::expect_used, reason = "the bounds are constants, and right")]
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS).expect("these bounds are right")
}

/// The latencies of all codes, by series. Those of a code take memory, 280 KiB, from its first
/// request on.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<Option<Box<Latency>>>);

impl Latencies {
    /// Room for so many series.
    pub fn new(series: usize) -> Latencies {
        Latencies((0..series).map(|_| None).collect())
    }

    /// How many series there is room for.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// So many requests of a series were queued a reply after so long.
    #[inline]
    pub(crate) fn record_queued(&mut self, series: usize, us: u64, count: u32) {
        if let Some(latency) = self.of(series) {
            latency.queued.saturating_record_n(us, count.into());
        }
    }

    /// So many replies to requests of a series were taken after so long.
    #[inline]
    pub(crate) fn record_sent(&mut self, series: usize, us: u64, count: u32) {
        if let Some(latency) = self.of(series) {
            latency.sent.saturating_record_n(us, count.into());
        }
    }

    /// A handler of this series was slow.
    pub(crate) fn count_slow(&mut self, series: usize) {
        if let Some(latency) = self.of(series) {
            latency.slow += 1;
        }
    }

    #[inline]
    fn of(&mut self, series: usize) -> Option<&mut Latency> {
        let latency = self.0.get_mut(series)?;
        if latency.is_none() {
            *latency = Some(new_boxed());
        }
        latency.as_deref_mut()
    }

    /// The latencies of a series, if there are any.
    pub fn get(&self, series: usize) -> Option<&Latency> {
        self.0.get(series)?.as_deref()
    }

    /// Adds what was recorded in another set of the same codes.
    pub fn add(&mut self, other: &Latencies) {
        if self.0.len() < other.0.len() {
            self.0.resize_with(other.0.len(), || None);
        }
        for (sum, part) in self.0.iter_mut().zip(&other.0) {
            if let Some(part) = part {
                sum.get_or_insert_with(Box::default).add(part);
            }
        }
    }

    /// Forgets what was recorded, and keeps the memory.
    pub fn clear(&mut self) {
        self.0
            .iter_mut()
            .flatten()
            .for_each(|latency| latency.clear());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_without_a_handler_share_a_series() {
        let codes = Codes::new([7, 0, 7, 300]);
        assert_eq!(codes.len(), 4);
        for (code, series) in [(0, 1), (7, 2), (300, 3), (1, 0), (301, 0), (u16::MAX, 0)] {
            assert_eq!(codes.series_of(code), series, "{code}");
        }
        let known: Vec<_> = (0..5).map(|series| codes.code_of(series)).collect();
        assert_eq!(known, [None, Some(0), Some(7), Some(300), None]);
        assert_eq!(Codes::new([]).len(), 1);
    }

    #[test]
    fn intervals_add_up() {
        let mut sum = Latencies::default();
        let mut interval = Latencies::new(3);
        for _ in 0..2 {
            interval.record_queued(1, 100, 5);
            interval.record_sent(1, 200, 4);
            interval.count_slow(2);
            sum.add(&interval);
            interval.clear();
        }
        let one = sum.get(1).unwrap();
        assert_eq!((one.queued.len(), one.sent.len(), one.slow), (10, 8, 0));
        assert_eq!(one.queued.max(), 100);
        assert_eq!(sum.get(2).unwrap().slow, 2);
        assert!(sum.get(0).is_none());
    }

    #[test]
    fn what_takes_for_ever_counts_as_the_longest() {
        let mut latencies = Latencies::new(1);
        latencies.record_sent(0, u64::MAX, 1);
        latencies.record_sent(0, 0, 1);
        let sent = &latencies.get(0).unwrap().sent;
        assert_eq!(sent.len(), 2);
        assert!(sent.max() >= LATENCY_US_MAX);
        // A series that there is not is nobody's.
        latencies.record_sent(9, 1, 1);
    }
}

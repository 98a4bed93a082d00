//! Lists of CPUs as taskset writes them: `0-3,8` or `0-10:2`.
//!
//! Invariant: a [`CpuList`] is never empty, names no CPU twice and keeps the
//! order in which it was written, because shard i runs on the i-th CPU.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use super::bounds::CPU_IDS;

/// CPUs to run on, in order.
///
/// Written as ids and ranges between commas; a range may have a stride after a
/// colon. Printing joins neighbours to ranges again.
///
/// ```
/// # use corelane::config::CpuList;
/// let cpus: CpuList = "8,0-3,10-14:2".parse()?;
/// assert_eq!(cpus.ids(), [8, 0, 1, 2, 3, 10, 12, 14]);
/// assert_eq!(cpus.to_string(), "8,0-3,10,12,14");
/// # Ok::<(), corelane::config::CpuListError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(Vec<u16>);

/// Why a text is not a [`CpuList`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuListError {
    /// A part between commas is neither an id nor a range.
    #[error("\"{0}\" is not a CPU, a range such as 0-3 or a range with a stride such as 0-10:2")]
    NotARange(String),
    /// An id is beyond [`CPU_IDS`].
    #[error("CPU {0} is beyond the last possible one, {last}", last = CPU_IDS.end())]
    TooHigh(String),
    /// A range ends below its start.
    #[error("the range {0} runs backwards; write its lower end first")]
    Backwards(String),
    /// A CPU comes more than once.
    #[error("CPU {0} is listed twice; list each one once")]
    Twice(u16),
}

impl CpuList {
    /// The ids, in the order in which they were written.
    pub fn ids(&self) -> &[u16] {
        &self.0
    }

    /// The list of one CPU, or `None` if there can be no such CPU.
    pub(super) fn one(id: u64) -> Option<Self> {
        let known = CPU_IDS.contains(&id);
        u16::try_from(id)
            .ok()
            .filter(|_| known)
            .map(|id| Self(vec![id]))
    }
}

impl FromStr for CpuList {
    type Err = CpuListError;

    fn from_str(text: &str) -> Result<Self, CpuListError> {
        let mut ids = Vec::new();
        let mut seen = HashSet::new();
        for part in text.split(',') {
            for id in range(part)? {
                if !seen.insert(id) {
                    return Err(CpuListError::Twice(id));
                }
                ids.push(id);
            }
        }
        Ok(Self(ids))
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.0.chunk_by(|a, b| a + 1 == *b);
        for (i, run) in runs.enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            match run {
                [first, .., last] => write!(f, "{first}-{last}")?,
                alone => alone.iter().try_for_each(|id| write!(f, "{id}"))?,
            }
        }
        Ok(())
    }
}

/// The ids of one part: `8`, `0-3` or `0-10:2`.
fn range(part: &str) -> Result<impl Iterator<Item = u16>, CpuListError> {
    let not_a_range = || CpuListError::NotARange(part.to_owned());
    let (ends, stride) = match part.split_once(':') {
        Some((ends, stride)) if ends.contains('-') => (ends, number(stride)),
        Some(_) => return Err(not_a_range()),
        None => (part, Some(1)),
    };
    let (first, last) = ends.split_once('-').unwrap_or((ends, ends));
    let stride = stride
        .filter(|&stride| stride > 0)
        .ok_or_else(not_a_range)?;
    let first_id = id(first, not_a_range)?;
    let last_id = id(last, not_a_range)?;
    if last_id < first_id {
        return Err(CpuListError::Backwards(part.to_owned()));
    }
    Ok((first_id..=last_id).step_by(stride))
}

/// A CPU's id.
fn id(text: &str, not_a_range: impl Fn() -> CpuListError) -> Result<u16, CpuListError> {
    let id = number(text).ok_or_else(not_a_range)?;
    u16::try_from(id)
        .ok()
        .filter(|&id| CPU_IDS.contains(&id.into()))
        .ok_or_else(|| CpuListError::TooHigh(text.to_owned()))
}

/// Digits and nothing else: `parse` alone would let a sign through. A number
/// that is too large becomes the largest one, which is too high as well.
fn number(text: &str) -> Option<usize> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Vec<u16>, String> {
        let list = text.parse::<CpuList>().map_err(|error| error.to_string())?;
        Ok(list.ids().to_vec())
    }

    #[test]
    fn parses_what_taskset_does() {
        assert_eq!(parse("0"), Ok(vec![0]));
        assert_eq!(parse("0-3,8"), Ok(vec![0, 1, 2, 3, 8]));
        assert_eq!(parse("0-10:2"), Ok(vec![0, 2, 4, 6, 8, 10]));
        assert_eq!(parse("0-10:20"), Ok(vec![0]));
        assert_eq!(parse("5-5"), Ok(vec![5]));
        assert_eq!(parse("4095"), Ok(vec![4095]));
    }

    #[test]
    fn keeps_the_order() {
        assert_eq!(parse("8,2-3,0"), Ok(vec![8, 2, 3, 0]));
    }

    #[test]
    fn refuses_what_is_no_range() {
        for part in [
            "", "x", "+1", "-1", "1-", "1--2", "1-2-3", "0-4:0", "0-4:", "4:2", " 1",
        ] {
            let words = "is not a CPU, a range such as 0-3 or a range with a stride such as 0-10:2";
            assert_eq!(
                parse(&format!("0,{part}")),
                Err(format!("\"{part}\" {words}"))
            );
        }
    }

    #[test]
    fn refuses_ids_out_of_bounds_backward_ranges_and_repetitions() {
        for id in ["4096", "65536", "99999999999999999999999"] {
            let words = format!("CPU {id} is beyond the last possible one, 4095");
            assert_eq!(parse(&format!("0-{id}")), Err(words));
        }
        let words = "the range 3-0 runs backwards; write its lower end first";
        assert_eq!(parse("3-0"), Err(words.to_owned()));
        let words = "CPU 2 is listed twice; list each one once";
        assert_eq!(parse("0-3,2"), Err(words.to_owned()));
    }

    #[test]
    fn prints_neighbours_as_ranges() {
        let print = |text: &str| text.parse::<CpuList>().unwrap().to_string();
        assert_eq!(print("0,1,2,3,8"), "0-3,8");
        assert_eq!(print("3,2,1"), "3,2,1");
        assert_eq!(print("0-10:5"), "0,5,10");
    }

    proptest! {
        #[test]
        fn parses_what_it_prints(ids in prop::collection::hash_set(0_u16..=4095, 1..200)) {
            // A hash set's order is any order, which is what is wanted here.
            let list = CpuList(ids.into_iter().collect());
            prop_assert_eq!(list.to_string().parse(), Ok(list));
        }

        #[test]
        fn parses_ranges_with_strides(first in 0_u16..2000, span in 0_u16..2000, stride in 1_u16..50) {
            let last = first + span;
            let list: CpuList = format!("{first}-{last}:{stride}").parse().unwrap();
            let expected: Vec<u16> = (first..=last).filter(|id| (id - first) % stride == 0).collect();
            prop_assert_eq!(list.ids(), expected);
        }

        #[test]
        fn never_panics(text in "[0-9,:x-]{0,20}") {
            let _ = text.parse::<CpuList>();
        }
    }
}

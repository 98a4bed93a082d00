//! Reports: what is read off the records of runs, as text. Pure: records in, strings out; `save`
//! puts them into files.
//!
//! [`page()`] promises one self-contained HTML document: no script, no other file, no other host. All
//! that comes from a record is escaped, since a record may come from somebody else.

mod axis;
mod comparison;
mod csv;
mod figures;
mod hgrm;
mod markup;
mod notices;
mod numbers;
mod page;
mod plot;
mod plots;
#[cfg(test)]
mod sample;
mod settings;
mod tables;

pub use self::page::page;

pub(super) use self::csv::timeline;
pub(super) use self::hgrm::percentiles;

use super::record::{Interval, Record};

/// A run and what it is called in a report.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Its name: tells the runs of one report apart.
    pub name: String,
    /// What is kept of it.
    pub record: Record,
}

/// Replies a second in a part of the measured time; `None` if it has no length.
fn throughput(interval: &Interval) -> Option<f64> {
    let rate = numbers::float(interval.messages) / interval.seconds;
    rate.is_finite().then_some(rate)
}

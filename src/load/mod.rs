//! The load generator, and reports on what it measured.
//!
//! [`run()`] carries a [`Plan`] out and gives back a [`Record`].
//!
//! # How latency is measured
//!
//! Without a rate (a closed loop), from when a request is sent to when its reply has been received:
//! both at the times when the thread looks, so that its own delay counts in and not out. A server
//! that stalls then delays the next requests, too, and hides most of its stall: that is how a closed
//! loop is. With a rate (an open loop), from when a request should have been sent by a schedule that
//! depends on nothing, so every request that was due while the server stalled tells of it.

mod gauge;
mod host;
mod lane;
mod latency;
mod plan;
mod record;
mod report;
mod requests;
mod run;
mod save;
mod schedule;
mod session;
mod tally;
mod timeline;
mod usage;
mod waiting;

pub use self::latency::{Latency, QuantilePoint, SIGNIFICANT_DIGITS};
pub use self::plan::{Plan, PlanError};
pub use self::record::{FORMAT, Host, Interval, Record, ServerUsage, Settings, Summary};
pub use self::report::{Run, page};
pub use self::run::{LoadError, Progress, run};
pub use self::save::{ReadError, SaveError, prepare, read, read_runs, save, save_page};
pub use self::tally::ErrorKind;
pub use self::usage::{CpuTime, Memory};

//! The load generator, and reports on what it measured.

mod latency;
mod record;

pub use self::latency::{Latency, QuantilePoint, SIGNIFICANT_DIGITS};
pub use self::record::{FORMAT, Host, Interval, Record, ServerUsage, Settings, Summary};

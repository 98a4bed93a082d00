//! The server's figures in Prometheus' text format.
//!
//! Names, units, HELP and TYPE are by its conventions. What a shard counts has the label `shard`.
//! Requests are told by `code`; all codes that no handler has share `code="other"`, so that peers
//! can't make up any number of series, and a code shows up with its first request.

mod families;
mod histogram;
mod own;

use prometheus::TextEncoder;
use prometheus::proto::MetricFamily;

use super::totals::Totals;
use crate::metrics::own::Catalogue;

/// What is known of the process around the shards.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Vitals {
    /// When the server started, in seconds since 1970.
    pub(super) started_unix_seconds: f64,
    /// Whether it accepts connections.
    pub(super) is_ready: bool,
    /// Memory that is in RAM; `None` where the kernel does not say, as below.
    pub(super) resident_bytes: Option<u64>,
    /// Descriptors in use.
    pub(super) open_fds: Option<u64>,
    /// Descriptors that there may be; `None` for no limit.
    pub(super) max_fds: Option<u64>,
    /// CPU time used, of all threads.
    pub(super) cpu_seconds: f64,
}

/// What the text is, for the answer's head.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The whole text.
///
/// # Errors
///
/// What the encoder says against a metric.
pub(super) fn text(
    totals: &Totals,
    own: &Catalogue,
    vitals: &Vitals,
) -> Result<String, prometheus::Error> {
    let mut families = families::of_process(vitals);
    families.extend(families::of_shards(totals));
    families.extend(families::of_codes(totals));
    families.extend(own::of_shards(own, totals));
    families.extend(own::of_server(own));
    // The encoder takes none without a sample.
    families.retain(|family: &MetricFamily| !family.get_metric().is_empty());
    TextEncoder::new().encode_to_string(&families)
}

#[cfg(test)]
mod tests;

//! The JSON of the endpoints: totals in, documents out. Times are in the unit that a name says.

mod connections;
mod secrets;
mod status;

pub(super) use connections::queued;
pub(super) use secrets::without_secrets;
pub(super) use status::{About, Life, Status};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::totals::Totals;

/// The latencies since the start, by message code.
#[derive(Debug, Serialize)]
pub(super) struct Latencies {
    codes: Vec<OfCode>,
}

#[derive(Debug, Serialize)]
struct OfCode {
    /// `null` for all codes that no handler has.
    code: Option<u16>,
    /// Until replies were queued.
    queued_us: Distribution,
    /// Until the kernel had taken the replies.
    sent_us: Distribution,
}

#[derive(Debug, Serialize)]
struct Distribution {
    count: u64,
    p50: u64,
    p90: u64,
    p99: u64,
    #[serde(rename = "p99.9")]
    p99_9: u64,
    #[serde(rename = "p99.99")]
    p99_99: u64,
    max: u64,
}

impl From<&Histogram<u64>> for Distribution {
    fn from(times: &Histogram<u64>) -> Distribution {
        Distribution {
            count: times.len(),
            p50: times.value_at_quantile(0.5),
            p90: times.value_at_quantile(0.9),
            p99: times.value_at_quantile(0.99),
            p99_9: times.value_at_quantile(0.999),
            p99_99: times.value_at_quantile(0.9999),
            max: times.max(),
        }
    }
}

impl From<&Totals> for Latencies {
    fn from(totals: &Totals) -> Latencies {
        let codes = totals.series().filter_map(|(series, code)| {
            let latency = totals.latency(series)?;
            Some(OfCode {
                code,
                queued_us: (&latency.queued).into(),
                sent_us: (&latency.sent).into(),
            })
        });
        Latencies {
            codes: codes.collect(),
        }
    }
}

#[cfg(test)]
mod tests;

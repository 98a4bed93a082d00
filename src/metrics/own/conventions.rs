//! What Prometheus, and its `promtool check metrics`, want of a metric, told before any is shown.

use super::{Kind, SERIES_MAX, Series};

/// A metric is not as Prometheus wants it: a mistake of the program, told at the server's start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricError {
    /// A metric's name has other characters.
    #[error(
        "the metric \"{name}\" has no proper name: use words of a to z and 0 to 9 with one _ between \
         them, the first of which begins with a letter"
    )]
    Name {
        /// The name.
        name: &'static str,
    },
    /// The name is, or may become, one of corelane's, of Prometheus' libraries or of Prometheus'.
    #[error(
        "the metric {name} begins with {prefix}, as those of others do: begin its name with that of \
         your program"
    )]
    Reserved {
        /// The name.
        name: &'static str,
        /// What is kept for others.
        prefix: &'static str,
    },
    /// The name does not end as it should.
    #[error("the metric {name} is a {kind}: {right}")]
    Ending {
        /// The name.
        name: &'static str,
        /// What it is.
        kind: &'static str,
        /// How its name should end.
        right: &'static str,
    },
    /// A word of the name is none for it.
    #[error("the metric {name} has the word {word} in its name: {right}")]
    Word {
        /// The name.
        name: &'static str,
        /// The word.
        word: &'static str,
        /// What would be right.
        right: &'static str,
    },
    /// It says nothing of itself.
    #[error("the metric {name} needs a help text of one line that says what it counts")]
    Help {
        /// The name.
        name: &'static str,
    },
    /// The label has no proper name.
    #[error(
        "the metric {name} has the label \"{label}\": use words of a to z and 0 to 9 with one _ \
         between them, but none of {}", RESERVED_LABELS.join(", ")
    )]
    Label {
        /// The metric's name.
        name: &'static str,
        /// The label's.
        label: &'static str,
    },
    /// The label's values do not tell its figures apart.
    #[error(
        "the metric {name} has the label {label} with {} values, of which some are empty or the same: \
         give it one or more, each another text", values.len()
    )]
    Values {
        /// The metric's name.
        name: &'static str,
        /// The label's.
        label: &'static str,
        /// Its values.
        values: Vec<&'static str>,
    },
    /// Two have one name.
    #[error("there are two metrics with the name {name}: register it once")]
    Twice {
        /// The name.
        name: &'static str,
    },
    /// There are more than may be.
    #[error(
        "with the metric {name} there are {series} series, and {SERIES_MAX} may be: use labels with \
         fewer values"
    )]
    TooMany {
        /// The name of the first that has no room.
        name: &'static str,
        /// Series with it.
        series: usize,
    },
}

/// Beginnings of names that others have.
const RESERVED: [&str; 3] = ["corelane_", "process_", "scrape_"];

/// Labels that are set by others: corelane, the format, Prometheus.
const RESERVED_LABELS: [&str; 6] = ["shard", "code", "le", "quantile", "job", "instance"];

/// Units that are not the base of their kind, in full or abbreviated, with that base.
const UNITS: [(&str, &[&str]); 3] = [
    (
        "use seconds, as 0.001 for a thousandth",
        &[
            "s",
            "ms",
            "us",
            "ns",
            "sec",
            "min",
            "h",
            "d",
            "milliseconds",
            "microseconds",
            "nanoseconds",
            "minutes",
            "hours",
            "days",
            "weeks",
        ],
    ),
    (
        "use bytes",
        &[
            "b",
            "kb",
            "mb",
            "gb",
            "tb",
            "pb",
            "bits",
            "kilobytes",
            "megabytes",
            "gigabytes",
            "terabytes",
            "kibibytes",
            "mebibytes",
            "gibibytes",
        ],
    ),
    (
        "leave the type out, which is told beside the name",
        &["counter", "gauge", "histogram", "summary"],
    ),
];

/// Whether a metric may stand beside the others.
pub(super) fn check<'a>(
    metric: &Series,
    others: impl Iterator<Item = &'a Series>,
) -> Result<(), MetricError> {
    let name = metric.description.name;
    if !is_in_words(name) {
        return Err(MetricError::Name { name });
    }
    check_prefix(metric)?;
    check_ending(metric)?;
    check_words(name)?;
    let help = metric.description.help;
    if help.trim().is_empty() || help.contains('\n') {
        return Err(MetricError::Help { name });
    }
    check_label(metric)?;
    check_beside(metric, others)
}

/// Words of lower case letters and digits, with one underscore between them.
fn is_in_words(name: &str) -> bool {
    let is_of_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(is_of_word);
    name.split('_').all(is_word) && name.starts_with(|first: char| first.is_ascii_lowercase())
}

fn check_prefix(metric: &Series) -> Result<(), MetricError> {
    let name = metric.description.name;
    let reserved = RESERVED.iter().find(|prefix| name.starts_with(**prefix));
    match reserved {
        Some(prefix) if !metric.description.is_shipped => {
            Err(MetricError::Reserved { name, prefix })
        }
        _ => Ok(()),
    }
}

fn check_ending(metric: &Series) -> Result<(), MetricError> {
    let name = metric.description.name;
    let is_total = name.ends_with("_total");
    let is_of_histogram = ["_bucket", "_count", "_sum"]
        .iter()
        .any(|ending| name.ends_with(ending));
    let (kind, right) = match metric.description.kind {
        Kind::Counter if !is_total => ("counter", "its name has to end in _total"),
        Kind::Gauge if is_total => (
            "gauge",
            "its name must not end in _total, as those of counters do",
        ),
        Kind::Gauge if is_of_histogram => (
            "gauge",
            "its name must not end in _bucket, _count or _sum, as parts of histograms do",
        ),
        Kind::Histogram if !name.ends_with("_seconds") => {
            ("histogram of times", "its name has to end in _seconds")
        }
        _ => return Ok(()),
    };
    Err(MetricError::Ending { name, kind, right })
}

fn check_words(name: &'static str) -> Result<(), MetricError> {
    for word in name.split('_') {
        let is_wrong = |(_, words): &&(&str, &[&str])| words.contains(&word);
        if let Some((right, _)) = UNITS.iter().find(is_wrong) {
            return Err(MetricError::Word { name, word, right });
        }
    }
    Ok(())
}

fn check_label(metric: &Series) -> Result<(), MetricError> {
    let name = metric.description.name;
    let Some(label) = &metric.label else {
        return Ok(());
    };
    if !is_in_words(label.name) || RESERVED_LABELS.contains(&label.name) {
        return Err(MetricError::Label {
            name,
            label: label.name,
        });
    }
    let mut different = label.values.clone();
    different.sort_unstable();
    different.dedup();
    if different.is_empty() || different[0].is_empty() || different.len() < label.values.len() {
        return Err(MetricError::Values {
            name,
            label: label.name,
            values: label.values.clone(),
        });
    }
    Ok(())
}

fn check_beside<'a>(
    metric: &Series,
    others: impl Iterator<Item = &'a Series>,
) -> Result<(), MetricError> {
    let name = metric.description.name;
    let mut series = metric.samples();
    for other in others {
        if other.description.name == name {
            return Err(MetricError::Twice { name });
        }
        series += other.samples();
    }
    if series > SERIES_MAX {
        return Err(MetricError::TooMany { name, series });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Durations, Metric, Metrics, Published};

    /// What is wrong with the last of these.
    fn wrong(metrics: impl IntoIterator<Item = Published<()>>) -> String {
        let mut all = Metrics::default();
        for metric in metrics {
            assert_eq!(all.wrong(), None);
            all.add(metric);
        }
        all.wrong().map_or_else(String::new, ToString::to_string)
    }

    fn counter(name: &'static str) -> Published<()> {
        Metric::counter(name, "Things.").of_server(|| 0_u64)
    }

    fn gauge(name: &'static str) -> Published<()> {
        Metric::gauge(name, "Things.").of_shard(|()| 0_u64)
    }

    fn durations(name: &'static str) -> Published<()> {
        Metric::durations(name, "Things.", &Arc::new(Durations::new()))
    }

    #[test]
    fn what_is_by_the_conventions_is_taken() {
        let by = Metric::counter("shop_refusals_total", "Orders refused, by reason.");
        let metrics = [
            counter("shop_orders_total"),
            gauge("shop_baskets"),
            gauge("shop_basket_size_bytes"),
            durations("shop_payment_seconds"),
            by.by("reason", ["sold_out", "closed"])
                .of_shard(|()| [0_u64; 2]),
        ];
        assert_eq!(wrong(metrics), "");
    }

    #[test]
    fn names_by_other_conventions_are_told() {
        for (metric, told) in [
            (counter(""), "has no proper name"),
            (counter("shopOrders_total"), "has no proper name"),
            (counter("shop:orders_total"), "has no proper name"),
            (counter("shop__orders_total"), "has no proper name"),
            (counter("9_orders_total"), "has no proper name"),
            (counter("corelane_orders_total"), "begins with corelane_"),
            (gauge("process_orders"), "begins with process_"),
            (
                counter("shop_orders"),
                "is a counter: its name has to end in _total",
            ),
            (
                gauge("shop_orders_total"),
                "is a gauge: its name must not end in _total",
            ),
            (
                gauge("shop_orders_count"),
                "must not end in _bucket, _count or _sum",
            ),
            (durations("shop_payment"), "has to end in _seconds"),
            (
                gauge("shop_delay_ms"),
                "has the word ms in its name: use seconds",
            ),
            (gauge("shop_size_kilobytes"), "use bytes"),
            (gauge("shop_orders_gauge"), "leave the type out"),
        ] {
            let wrong = wrong([metric]);
            assert!(wrong.contains(told), "{wrong}");
        }
    }

    #[test]
    fn help_and_labels_are_told() {
        let orders = |help| Metric::gauge("shop_orders", help);
        for (metric, told) in [
            (orders(" ").of_server(|| 0_u64), "needs a help text"),
            (
                orders("Two\nlines.").of_server(|| 0_u64),
                "needs a help text",
            ),
            (
                orders("x").by("Kind", ["a"]).of_server(|| [0_u64]),
                "has the label \"Kind\"",
            ),
            (
                orders("x").by("shard", ["a"]).of_server(|| [0_u64]),
                "but none of shard, code, le",
            ),
            (
                orders("x")
                    .by("kind", ["a", "b", "a"])
                    .of_server(|| [0_u64; 3]),
                "with 3 values",
            ),
            (
                orders("x").by("kind", [""]).of_server(|| [0_u64]),
                "with 1 values",
            ),
            (
                orders("x").by("kind", []).of_server(|| [0_u64; 0]),
                "with 0 values",
            ),
        ] {
            let wrong = wrong([metric]);
            assert!(wrong.contains(told), "{wrong}");
        }
    }

    #[test]
    fn names_are_given_once_and_series_are_bounded() {
        let twice = [counter("shop_orders_total"), counter("shop_orders_total")];
        assert_eq!(
            wrong(twice),
            "there are two metrics with the name shop_orders_total: register it once"
        );
        let values: [&'static str; 979] =
            std::array::from_fn(|number| &*Box::leak(number.to_string().into_boxed_str()));
        let wide = || {
            let wide = Metric::gauge("shop_orders", "Orders.").by("kind", values);
            wide.of_shard(|()| [0_u64; 979])
        };
        assert_eq!(wrong([wide(), gauge("shop_baskets")]), "");
        assert_eq!(
            wrong([wide(), durations("shop_payment_seconds")]),
            "with the metric shop_payment_seconds there are 1001 series, and 1000 may be: use labels \
             with fewer values"
        );
    }
}

//! The tables of one run.

use super::figures::{OUTCOMES, PERCENTILES, lacks_messages};
use super::markup::{Row, Table, escape, section};
use super::notices::error_count;
use super::numbers;
use super::settings::{Fact, MACHINE, OCCASION, SETTINGS};
use crate::load::record::Record;

/// Said where a percentile is missing.
pub(super) const TOO_FEW: &str =
    "<p class=\"note\">\u{2013}: too few messages for that percentile.</p>\n";

/// The figures that most readers came for, large.
pub(super) fn headline(record: &Record) -> String {
    let rate = numbers::rate(record.summary.messages_per_second);
    let told = ["p50", "p99", "p99.9", "max"];
    let percentiles = PERCENTILES.iter().filter(|p| told.contains(&p.label));
    let errors = error_count(record);
    let mut html = String::from("<dl class=\"headline\">\n");
    html += &large("messages/s", &rate, "");
    for percentile in percentiles {
        html += &large(percentile.label, &percentile.told(record), "");
    }
    let class = if errors > 0 { "bad" } else { "" };
    html += &large("errors", &numbers::count(errors), class);
    html + "</dl>\n"
}

/// Everything that is known of one run, in tables beside one another.
pub(super) fn sections(record: &Record) -> String {
    let note = if lacks_messages(record) { TOO_FEW } else { "" };
    let tables = [
        section("Percentiles", &(percentiles(record) + note)),
        section("Outcome", &outcome(record)),
        section("Settings", &facts(record, &SETTINGS)),
        section(
            "Machine",
            &facts(record, &[&MACHINE[..], &OCCASION[..]].concat()),
        ),
    ];
    format!("<div class=\"columns\">\n{}</div>\n", tables.concat())
}

fn large(label: &str, figure: &str, class: &str) -> String {
    format!(
        "<div class=\"{class}\"><dt>{}</dt><dd>{}</dd></div>\n",
        escape(label),
        escape(figure)
    )
}

fn percentiles(record: &Record) -> String {
    let rows = PERCENTILES.iter().map(|percentile| Row {
        label: escape(percentile.label),
        cells: vec![escape(&percentile.told(record))],
    });
    table("numbers", rows.collect())
}

fn outcome(record: &Record) -> String {
    let rows = OUTCOMES.iter().filter_map(|(label, of)| {
        Some(Row {
            label: escape(label),
            cells: vec![escape(&of(record)?)],
        })
    });
    table("numbers", rows.collect())
}

fn facts(record: &Record, facts: &[Fact]) -> String {
    let rows = facts.iter().map(|(label, of)| Row {
        label: escape(label),
        cells: vec![escape(&of(record))],
    });
    table("words", rows.collect())
}

fn table(class: &str, rows: Vec<Row>) -> String {
    let table = Table {
        class,
        headings: Vec::new(),
        rows,
    };
    table.markup()
}

//! The tables of several runs: their figures with the ratio to the first, and what about them is
//! the same and what is not.

use super::figures::{OUTCOMES, PERCENTILES, lacks_messages};
use super::markup::{Row, Table, escape, section};
use super::notices::error_count;
use super::plots::{colour, swatch};
use super::settings::{Fact, MACHINE, OCCASION, SETTINGS};
use super::tables::TOO_FEW;
use super::{Run, numbers};

/// One line a run: throughput, latencies, errors.
pub(super) fn figures(runs: &[Run]) -> String {
    let Some(first) = runs.first() else {
        return String::new();
    };
    let mut headings = vec!["Run".to_owned(), "messages/s".to_owned()];
    headings.extend(
        PERCENTILES
            .iter()
            .map(|percentile| escape(percentile.label)),
    );
    headings.push("errors".to_owned());
    let rows = runs.iter().enumerate().map(|(index, run)| Row {
        label: named(index, run),
        cells: cells(run, first),
    });
    let table = Table {
        class: "numbers comparison",
        headings,
        rows: rows.collect(),
    };
    let lacking = runs.iter().any(|run| lacks_messages(&run.record));
    let note = format!(
        "<p class=\"note\">Ratios are to {}.</p>\n{}",
        escape(&first.name),
        if lacking { TOO_FEW } else { "" }
    );
    section("Figures", &(table.markup() + &note))
}

/// What differs between the runs, with a column for each, and what does not, told once.
pub(super) fn facts(runs: &[Run]) -> String {
    let all = [&SETTINGS[..], &MACHINE[..], &OCCASION[..]].concat();
    let (same, different): (Vec<Fact>, Vec<Fact>) = all.into_iter().partition(|(_, of)| {
        let mut told = runs.iter().map(|run| of(&run.record));
        let first = told.next();
        told.all(|other| Some(other) == first)
    });
    let mut html = section("What came of each", &outcomes(runs));
    if !different.is_empty() {
        html += &section("What differs", &columns(runs, &different));
    }
    if !same.is_empty() {
        html += &section(
            "What is the same",
            &columns(runs.get(..1).unwrap_or_default(), &same),
        );
    }
    html
}

/// The name of a run with its colour.
fn named(index: usize, run: &Run) -> String {
    format!("{}{}", swatch(colour(index)), escape(&run.name))
}

fn cells(run: &Run, first: &Run) -> Vec<String> {
    let (record, reference) = (&run.record, &first.record);
    let is_first = std::ptr::eq(run, first);
    let compared = |told: String, ratio: Option<String>| {
        let ratio = ratio.filter(|_| !is_first).unwrap_or_default();
        format!("{}<small>{}</small>", escape(&told), escape(&ratio))
    };
    let rate = record.summary.messages_per_second;
    let mut cells = vec![compared(
        numbers::rate(rate),
        numbers::ratio(rate, reference.summary.messages_per_second),
    )];
    cells.extend(PERCENTILES.iter().map(|percentile| {
        let pair = percentile.us(record).zip(percentile.us(reference));
        let ratio = pair.and_then(|(us, reference)| numbers::ratio(us, reference));
        compared(percentile.told(record), ratio)
    }));
    let errors = error_count(record);
    let class = if errors > 0 { "bad" } else { "" };
    let errors = numbers::count(errors);
    cells.push(format!(
        "<span class=\"{class}\">{errors}</span><small></small>"
    ));
    cells
}

fn outcomes(runs: &[Run]) -> String {
    let rows = OUTCOMES.iter().filter_map(|(label, of)| {
        let told: Vec<Option<String>> = runs.iter().map(|run| of(&run.record)).collect();
        let is_known = told.iter().any(Option::is_some);
        let cell = |told: Option<String>| escape(told.as_deref().unwrap_or(numbers::NONE));
        is_known.then(|| Row {
            label: escape(label),
            cells: told.into_iter().map(cell).collect(),
        })
    });
    let table = Table {
        class: "numbers",
        headings: headings(runs),
        rows: rows.collect(),
    };
    table.markup()
}

/// A column for each run; without headings if it is one for all.
fn columns(runs: &[Run], facts: &[Fact]) -> String {
    let rows = facts.iter().map(|(label, of)| Row {
        label: escape(label),
        cells: runs.iter().map(|run| escape(&of(&run.record))).collect(),
    });
    let table = Table {
        class: "words",
        headings: if runs.len() > 1 {
            headings(runs)
        } else {
            Vec::new()
        },
        rows: rows.collect(),
    };
    table.markup()
}

fn headings(runs: &[Run]) -> Vec<String> {
    let names = runs
        .iter()
        .enumerate()
        .map(|(index, run)| named(index, run));
    std::iter::once(String::new()).chain(names).collect()
}

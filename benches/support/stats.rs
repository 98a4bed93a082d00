//! Figures for people: median and spread, counts in three digits, tables.

use std::fmt;

/// The median of several repeats, and how far they lay apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of at least one value.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (middle, odd) = (values.len() / 2, values.len() % 2 == 1);
        let median = if odd {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Spread {
            median,
            min: values[0],
            max: values[values.len() - 1],
        }
    }

    /// `median [min..max]`, each in three digits.
    pub(crate) fn text(&self) -> String {
        format!(
            "{} [{}..{}]",
            digits(self.median),
            digits(self.min),
            digits(self.max)
        )
    }

    /// The median as a share of one.
    pub(crate) fn percent(&self) -> String {
        format!("{:.0}%", self.median * 100.0)
    }
}

/// Three digits and a unit: `8.51M`, `302k`, `0.117`.
pub(crate) fn digits(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        size if size >= 999.5e3 => (value / 1e6, "M"),
        size if size >= 9.995e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let decimals = match scaled.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.9995 => 2,
        _ => 3,
    };
    format!("{scaled:.decimals$}{unit}")
}

/// A table that reads well on a terminal and in Markdown.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Table {
        Table {
            rows: vec![head.iter().map(|&title| title.to_owned()).collect()],
        }
    }

    /// As many cells as the head has.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    fn widths(&self) -> Vec<usize> {
        let columns = 0..self.rows[0].len();
        columns
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for (index, row) in self.rows.iter().enumerate() {
            for (cell, &width) in row.iter().zip(&widths) {
                write!(f, "| {cell:<width$} ")?;
            }
            writeln!(f, "|")?;
            if index == 0 {
                for &width in &widths {
                    write!(f, "|{:-<1$}", "", width + 2)?;
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}

//! Tables, the same for a terminal and for Markdown.

use crate::results::{Answer, Case, Spread};
use std::fmt::Write as _;

/// Metrics beyond this many are shown without their spread, for want of room.
const SPREADS: usize = 2;

/// Lines of cells, under a head.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    /// Columns of text, which stand to the left; figures stand to the right.
    texts: usize,
}

impl Table {
    /// A table whose first columns are text.
    pub(crate) fn new(head: Vec<String>, texts: usize) -> Self {
        Table {
            rows: vec![head],
            texts,
        }
    }

    pub(crate) fn row(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// As Markdown, with its columns in line.
    pub(crate) fn markdown(&self) -> String {
        let columns = self.rows[0].len();
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().map(|row| row[column].chars().count());
                cells.max().unwrap_or(0).max(3)
            })
            .collect();
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let _ = if column < self.texts {
                    write!(text, "| {cell:<width$} ")
                } else {
                    write!(text, "| {cell:>width$} ")
                };
            }
            text.push_str("|\n");
            if number == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let rule = "-".repeat(width + 1);
                    let _ = if column < self.texts {
                        write!(text, "|-{rule}")
                    } else {
                        write!(text, "|{rule}:")
                    };
                }
                text.push_str("|\n");
            }
        }
        text
    }
}

/// An answer: its notes, and a table for each case.
pub(crate) fn answer(answer: &Answer) -> String {
    let mut text = format!("## {}: {}\n\n", answer.question, answer.title);
    for note in answer.notes {
        let _ = writeln!(text, "* {note}");
    }
    for case in &answer.cases {
        let _ = write!(text, "\n### {}\n\n{}", case.name, self::case(case));
    }
    text
}

/// The table of a case.
pub(crate) fn case(case: &Case) -> String {
    let mut head = vec!["contender".to_owned()];
    head.extend(
        case.metrics
            .iter()
            .map(|m| format!("{}, {}", m.name, m.unit)),
    );
    let reference = case.row(case.reference);
    if reference.is_some() {
        head.push(format!("vs {}", case.reference));
    }
    let mut table = Table::new(head, 1);
    for row in &case.rows {
        let mut cells = vec![row.contender.to_owned()];
        cells.extend(
            (0..case.metrics.len()).map(|metric| match row.spread(metric) {
                Some(spread) if case.metrics.len() <= SPREADS || metric == 0 => with_spread(spread),
                Some(spread) => figure(spread.median),
                None => String::new(),
            }),
        );
        if let Some(reference) = reference {
            let ratio = case.times_better(0, row, reference);
            cells.push(ratio.map_or(String::new(), |ratio| times(ratio.median)));
        }
        table.row(cells);
    }
    let mut text = table.markdown();
    for failure in &case.failures {
        let _ = writeln!(text, "\nCHECK FAILED: {failure}");
    }
    text
}

/// A median with its spread.
pub(crate) fn with_spread(spread: Spread) -> String {
    let Spread { median, min, max } = spread;
    format!("{} [{}–{}]", figure(median), figure(min), figure(max))
}

/// A ratio.
pub(crate) fn times(ratio: f64) -> String {
    format!("{}×", figure(ratio))
}

/// Three digits, or as many as there are before the point.
pub(crate) fn figure(figure: f64) -> String {
    match figure.abs() {
        0.0 => "0".to_owned(),
        ..9.995 => format!("{figure:.2}"),
        ..99.95 => format!("{figure:.1}"),
        _ => grouped(figure),
    }
}

/// How many there are.
pub(crate) fn count(number: u64) -> String {
    grouped(number as f64)
}

/// A whole number, its digits in groups of three.
fn grouped(figure: f64) -> String {
    let digits = format!("{:.0}", figure.abs());
    let mut text = if figure < 0.0 { "-" } else { "" }.to_owned();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

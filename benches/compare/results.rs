//! What was measured: every sample, and what is made of them.

use serde::Serialize;

/// The answer to a question.
#[derive(Serialize)]
pub(crate) struct Answer {
    pub(crate) question: &'static str,
    pub(crate) title: &'static str,
    /// What to know before reading the figures.
    pub(crate) notes: &'static [&'static str],
    pub(crate) cases: Vec<Case>,
}

/// One setting, in which contenders were measured in turns.
#[derive(Serialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) metrics: &'static [Metric],
    /// The contender that the others are compared with, by the first metric.
    pub(crate) reference: &'static str,
    pub(crate) rows: Vec<Row>,
    /// Checks that failed.
    pub(crate) failures: Vec<String>,
}

/// What is measured, and in what.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
}

/// Which way is good.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Less,
    More,
}

/// A contender, with a sample of all metrics for each repeat.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) contender: &'static str,
    pub(crate) samples: Vec<Vec<f64>>,
}

/// A median and its spread.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of some figures; `None` of none.
    pub(crate) fn of(figures: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Spread { median, min, max })
    }
}

impl Case {
    pub(crate) fn row(&self, contender: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.contender == contender)
    }

    pub(crate) fn metric(&self, name: &str) -> Option<usize> {
        self.metrics.iter().position(|metric| metric.name == name)
    }

    pub(crate) fn fail(&mut self, contender: &str, failure: &str) {
        let name = &self.name;
        self.failures
            .push(format!("{name}, {contender}: {failure}"));
    }

    /// How many times better `row` is than `rival`, by a ratio for each repeat.
    pub(crate) fn times_better(&self, metric: usize, row: &Row, rival: &Row) -> Option<Spread> {
        let pairs = row.samples.iter().zip(&rival.samples);
        Spread::of(pairs.map(|(own, other)| match self.metrics[metric].better {
            Better::More => own[metric] / other[metric],
            Better::Less => other[metric] / own[metric],
        }))
    }
}

impl Row {
    pub(crate) fn spread(&self, metric: usize) -> Option<Spread> {
        Spread::of(self.samples.iter().map(|sample| sample[metric]))
    }
}

//! What can be asked for.

use crate::results::Answer;
use crate::runner::Plan;
use crate::{
    commit, contention, engine, entities, fairness, garbage, memory, reads, store, transactions,
    trees, waiting,
};
use clap::{Parser, ValueEnum};
use std::time::Duration;

/// Compares snapcell with what one would use instead.
///
/// Contenders are checked before they are timed, and take turns within each repeat. Ratios are medians of
/// the ratios of the repeats. A target that is missed is shown and is no failure; a check that fails is
/// one.
///
/// A full run takes about 35 minutes, and a quick one about four. Only with --save
/// something is written.
///
/// Exit codes: 0 measured; 1 a check failed, or the results can't be written; 2 bad arguments.
#[derive(Parser)]
#[command(name = "compare", verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// What to measure; everything if nothing is named
    #[arg(value_enum, value_name = "QUESTION")]
    pub(crate) questions: Vec<Question>,

    /// Measure shortly: the figures are for a first look, and can't be saved
    #[arg(long)]
    pub(crate) quick: bool,

    /// How often each contender is measured; of the figures the median counts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) repeats: Option<u16>,

    /// For how long, each time, in milliseconds
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) slice: Option<u16>,

    /// Save the results as JSON, Markdown and SVG in benches/results
    #[arg(long, conflicts_with_all = ["quick", "test"])]
    pub(crate) save: bool,

    /// Check the contenders, and measure nothing
    #[arg(long, conflicts_with_all = ["repeats", "slice"])]
    pub(crate) test: bool,

    /// What `cargo bench` says. Without it this is a test.
    #[arg(long, hide = true)]
    pub(crate) bench: bool,

    /// What a process of its own is started for.
    #[arg(long, hide = true, num_args = 1.., value_name = "CASE")]
    pub(crate) child: Vec<String>,
}

/// A question.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Question {
    /// What does a read cost?
    Reads,
    /// What does an update cost, alone?
    Commit,
    /// What do several writers of one value get done?
    Contention,
    /// What do two threads get done on many values?
    Entities,
    /// How much memory is held back under a writer at full speed?
    Garbage,
    /// How much memory does a u64 take?
    Memory,
    /// How soon does a waiter run, and what does it cost the writer?
    Waiting,
    /// What do transactions over several values get done, and what do they cost?
    Transactions,
    /// What does a store get done beside maps, by id?
    Store,
    /// What do trees cost: to build, to compare, to version?
    Tree,
    /// What does a scheduler cost, and what does it get done beside actors, pools and tasks?
    Scheduler,
    /// Who waits how long when there is more to do than can be done?
    Fairness,
}

impl Arguments {
    /// The questions, each once, in their order.
    pub(crate) fn questions(&self) -> Vec<Question> {
        let mut questions = self.questions.clone();
        if questions.is_empty() {
            questions = Question::value_variants().to_vec();
        }
        questions.sort();
        questions.dedup();
        questions
    }

    /// The names of the questions, if they are not all.
    pub(crate) fn part(&self) -> Option<String> {
        let questions = self.questions();
        let names = questions.iter().filter_map(Question::to_possible_value);
        let names: Vec<String> = names.map(|name| name.get_name().to_owned()).collect();
        (names.len() < Question::value_variants().len()).then(|| names.join("-"))
    }

    /// Whether contenders are only checked: as with other benches, that is what `cargo test` is for.
    pub(crate) fn is_test(&self) -> bool {
        self.test || !self.bench
    }

    pub(crate) fn plan(&self) -> Plan {
        let (repeats, slice, long_slice, many) = match self.quick {
            true => (3, 15, 300, 200_000),
            false => (9, 120, 2_000, 1_000_000),
        };
        if self.is_test() {
            return Plan {
                repeats: 0,
                slice: Duration::ZERO,
                long_slice: Duration::ZERO,
                many: 0,
            };
        }
        Plan {
            repeats: self.repeats.map_or(repeats, usize::from),
            slice: Duration::from_millis(self.slice.map_or(slice, u64::from)),
            long_slice: Duration::from_millis(long_slice),
            many,
        }
    }
}

impl Question {
    /// Measures.
    pub(crate) fn answer(self, plan: &Plan) -> Answer {
        match self {
            Question::Reads => reads::answer(plan),
            Question::Commit => commit::answer(plan),
            Question::Contention => contention::answer(plan),
            Question::Entities => entities::answer(plan),
            Question::Garbage => garbage::answer(plan),
            Question::Memory => memory::answer(plan),
            Question::Waiting => waiting::answer(plan),
            Question::Transactions => transactions::answer(plan),
            Question::Store => store::answer(plan),
            Question::Tree => trees::answer(plan),
            Question::Scheduler => engine::answer(plan),
            Question::Fairness => fairness::answer(plan),
        }
    }
}

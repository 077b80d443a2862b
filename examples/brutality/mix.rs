//! What all workloads have in common.

pub(crate) mod bank;
pub(crate) mod brutality;
pub(crate) mod decorators;
pub(crate) mod hierarchy;
pub(crate) mod hot;
pub(crate) mod occ;
pub(crate) mod past;
pub(crate) mod trees;

use crate::args::{self, Arguments};
use crate::books::{Answer, Books, Drawn, Meter};
use crate::door::Door;
use crate::laws::Law;
use serde::Serialize;
use snapcell::{Class, Engine, Priority};
use std::sync::Arc;

/// A workload: which operations there are, what they do, and what must be true of the targets when all are done.
pub(crate) trait Mix: Sync {
    /// The names of the kinds of operation.
    fn kinds(&self) -> &'static [&'static str];

    /// The operation of this number: the same for a seed, whoever asks and when.
    fn draw(&self, id: u32) -> Drawn;

    /// Submits an operation.
    fn submit(&self, drawn: &Drawn, user: u32, meter: &Arc<Meter>, door: &mut Door<'_>);

    /// Does an operation on this thread, beside the lane of its target or past it.
    fn at_once(&self, drawn: &Drawn, user: u32, meter: &Arc<Meter>, engine: &Engine) -> Answer;

    /// What is checked before, with engines of its own.
    fn scenarios(&self) -> Vec<Check> {
        Vec::new()
    }

    /// How many operations wait for a target.
    fn waiting(&self, engine: &Engine) -> usize;

    /// What has become of the targets, and what must be true of them.
    fn judge(&self, books: &Books) -> Outcome;
}

/// The one that was asked for.
pub(crate) fn of(arguments: &Arguments) -> Box<dyn Mix> {
    match arguments.mix {
        args::Mix::Brutality => Box::new(brutality::new(arguments)),
        args::Mix::Occ => Box::new(occ::new(arguments)),
        args::Mix::Hierarchy => Box::new(hierarchy::Hierarchy::new(arguments)),
        args::Mix::Decorators => Box::new(decorators::Decorators::new(arguments)),
        args::Mix::Bank => Box::new(bank::Bank::new(arguments)),
        args::Mix::Trees => Box::new(trees::Trees::new(arguments)),
    }
}

/// Something that a scenario has found to be so, or not.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) scenario: &'static str,
    pub(crate) what: &'static str,
    pub(crate) holds: bool,
}

/// The checks of one scenario.
pub(crate) struct Scenario {
    name: &'static str,
    checks: Vec<Check>,
}

impl Scenario {
    pub(crate) fn new(name: &'static str) -> Self {
        Scenario {
            name,
            checks: Vec::new(),
        }
    }

    pub(crate) fn check(&mut self, what: &'static str, holds: bool) {
        self.checks.push(Check {
            scenario: self.name,
            what,
            holds,
        });
    }

    pub(crate) fn done(self) -> Vec<Check> {
        self.checks
    }
}

/// What has become of the targets.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) targets: Vec<Target>,
    pub(crate) laws: Vec<Law>,
    /// How many values there must have been in all, if that is known.
    pub(crate) values: Option<u64>,
    /// How often others were faster than what a closure does by itself, which no engine knows of.
    pub(crate) conflicts: u64,
    /// What was wrong, in the first few cases.
    pub(crate) complaints: Vec<String>,
}

/// One target in the end.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Target {
    pub(crate) version: u64,
    /// What its value says of itself.
    pub(crate) state: String,
}

/// The class that operations of a priority have.
pub(crate) fn class_of(priority: Priority) -> Class {
    match priority.get() {
        8.. => Class::STRUCTURAL,
        5.. => Class::NORMAL,
        _ => Class::LOW,
    }
}

/// Where the stamps of a target's commits are to be looked at: those that got one, in their order.
///
/// Commits of one target have versions from 1 on, without a gap; several have the same one only where they were folded.
pub(crate) fn line(books: &Books, target: usize) -> Vec<&crate::books::Entry> {
    let committed = |entry: &&crate::books::Entry| {
        entry.is_committed() && entry.drawn.target == target && entry.stamp.is_some()
    };
    let mut line: Vec<_> = books.entries.iter().filter(committed).collect();
    line.sort_unstable_by_key(|entry| {
        let version = entry.stamp.map_or(0, |stamp| stamp.version());
        (version, entry.modification)
    });
    line
}

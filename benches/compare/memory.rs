//! How much memory a value takes.

use crate::process;
use crate::results::{Answer, Better, Case, Metric};
use crate::runner::{self, Contender, Plan, Sample};
use crate::table;
use arc_swap::ArcSwap;
use snapcell::Entity;
use std::sync::{Arc, Mutex};

pub(crate) const QUESTION: &str = "memory";

pub(crate) const METRICS: &[Metric] = &[Metric {
    name: "memory",
    unit: "bytes",
    better: Better::Less,
}];

/// Cells that are made to check a contender.
const CHECKED: u64 = 10_000;

/// Weighs so many.
type Weigh = fn(u64) -> Result<Sample, String>;

/// Who takes part.
const CONTENDERS: &[(&str, Weigh)] = &[
    ("snapcell Entity", |n| {
        weigh(n, Entity::new, |entity| entity.read(|value| *value))
    }),
    ("ArcSwap", |n| {
        weigh(n, ArcSwap::from_pointee, |swap| **swap.load())
    }),
    ("Arc<Mutex>", |n| {
        weigh(n, |i| Arc::new(Mutex::new(i)), |lock| locked(lock))
    }),
    ("Mutex", |n| weigh(n, Mutex::new, locked)),
];

pub(crate) fn answer(plan: &Plan) -> Answer {
    let mut cases = Vec::new();
    if process::can_measure() {
        cases.push(case(plan));
    }
    Answer {
        question: QUESTION,
        title: "How much memory does a u64 take?",
        notes: &[
            "What many of them add to the resident memory of a process, the place in a vector included, divided \
             by their number. Only Linux is asked; elsewhere there is no table.",
        ],
        cases,
    }
}

fn case(plan: &Plan) -> Case {
    let contenders = CONTENDERS.iter().map(|&(name, _)| {
        let many = plan.many as u64;
        Contender {
            name,
            check: Box::new(|| process::measure(QUESTION, name, CHECKED).map(drop)),
            measure: Box::new(move |_| process::measure(QUESTION, name, many)),
        }
    });
    let name = format!("u64, {} of them", table::count(plan.many as u64));
    runner::measure(plan, name, METRICS, "ArcSwap", contenders.collect())
}

/// Measures one of them.
pub(crate) fn child(contender: &str, many: u64) -> Result<Sample, String> {
    let found = CONTENDERS.iter().find(|(name, _)| *name == contender);
    let (_, weigh) = found.ok_or_else(|| format!("there is no {contender:?}"))?;
    weigh(many)
}

fn weigh<C>(many: u64, new: impl Fn(u64) -> C, read: impl Fn(&C) -> u64) -> Result<Sample, String> {
    // What the first one brings along for all.
    drop(new(0));
    let (sample, all) = grown(many, || {
        let mut all = Vec::with_capacity(many as usize);
        all.extend((0..many).map(new));
        all
    })?;
    if !all.iter().map(read).eq(0..many) {
        return Err("a value is not what was put there".to_owned());
    }
    Ok(sample)
}

/// What so many add to the resident memory of this process, for each, and what was made of them.
pub(crate) fn grown<A>(many: u64, make: impl FnOnce() -> A) -> Result<(Sample, A), String> {
    let resident = || process::resident().ok_or("no resident memory is told");
    let before = resident()?;
    let all = make();
    let after = resident()?;
    let each = after.saturating_sub(before) as f64 / many as f64;
    Ok((vec![each], all))
}

fn locked(lock: &Mutex<u64>) -> u64 {
    *lock
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

//! Streams of tiny operations, from being submitted to being known to be done.

use super::rivals::{Actor, Batches, Jobs, Ours, Rival, Short, Tasks};
use super::{ACTOR, metric};
use crate::results::{Better, Case, Metric};
use crate::runner::{self, Contender, Gate, Plan, Sample, now, together};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

const METRICS: &[Metric] = &[metric("operations", "M/s", Better::More)];

/// How many operations a submitter has under way.
const WINDOW: usize = 4_096;

/// Operations between two looks at the gate; also the size of a batch.
const BATCH: u64 = 64;

/// At least so many by each submitter, to check a contender.
const CHECKED: u64 = 10_000;

/// How operations are submitted.
#[derive(Clone, Copy)]
enum Way {
    Singly,
    InBatches,
}

pub(super) fn cases(plan: &Plan) -> Vec<Case> {
    let mut cases = Vec::new();
    for targets in [1, 3] {
        for submitters in [1, 2] {
            let contenders = contenders(targets, submitters);
            cases.push(case(plan, "in order", (targets, submitters), contenders));
        }
    }
    for targets in [1, 3] {
        for submitters in [1, 2] {
            let contenders = folding(targets, submitters);
            cases.push(case(plan, "fold", (targets, submitters), contenders));
        }
    }
    for submitters in [1, 2] {
        let contenders = batching(3, submitters);
        cases.push(case(plan, "batches", (3, submitters), contenders));
    }
    cases
}

fn case(
    plan: &Plan,
    what: &str,
    (targets, submitters): (usize, u64),
    contenders: Vec<Contender>,
) -> Case {
    let plural = |number| if number == 1 { "" } else { "s" };
    let (more, many) = (plural(targets as u64), plural(submitters));
    let name = format!("{what}, {targets} target{more}, {submitters} submitter{many}");
    runner::measure(plan, name, METRICS, ACTOR, contenders)
}

fn contenders(targets: usize, submitters: u64) -> Vec<Contender> {
    vec![
        contender::<Ours<false, true>>(targets, submitters, Way::Singly),
        contender::<Ours<false, false>>(targets, submitters, Way::Singly),
        contender::<Short<false>>(targets, submitters, Way::Singly),
        contender::<Actor<false>>(targets, submitters, Way::Singly),
        contender::<Jobs>(targets, submitters, Way::Singly),
        contender::<Tasks>(targets, submitters, Way::Singly),
    ]
}

fn folding(targets: usize, submitters: u64) -> Vec<Contender> {
    vec![
        contender::<Ours<true, true>>(targets, submitters, Way::Singly),
        contender::<Ours<true, false>>(targets, submitters, Way::Singly),
        contender::<Short<true>>(targets, submitters, Way::InBatches),
        contender::<Actor<false>>(targets, submitters, Way::Singly),
        contender::<Actor<true>>(targets, submitters, Way::Singly),
    ]
}

fn batching(targets: usize, submitters: u64) -> Vec<Contender> {
    vec![
        contender::<Ours<false, true>>(targets, submitters, Way::InBatches),
        contender::<Ours<false, false>>(targets, submitters, Way::InBatches),
        contender::<Ours<true, true>>(targets, submitters, Way::InBatches),
        contender::<Short<false>>(targets, submitters, Way::InBatches),
        contender::<Short<true>>(targets, submitters, Way::InBatches),
        contender::<Actor<false>>(targets, submitters, Way::InBatches),
        contender::<Batches>(targets, submitters, Way::InBatches),
    ]
}

fn contender<R: Rival>(targets: usize, submitters: u64, way: Way) -> Contender {
    Contender {
        name: R::NAME,
        check: Box::new(move || {
            stream::<R>(targets, submitters, way, Duration::ZERO, CHECKED).map(drop)
        }),
        measure: Box::new(move |slice| stream::<R>(targets, submitters, way, slice, 0)),
    }
}

/// What a submitter has done, and from when to when.
struct Done {
    operations: u64,
    begun: Instant,
    ended: Instant,
}

/// Until the slice of time is over, and at least so many operations by each submitter.
fn stream<R: Rival>(
    targets: usize,
    submitters: u64,
    way: Way,
    slice: Duration,
    least: u64,
) -> Result<Sample, String> {
    let rival = R::new(targets);
    // Threads that start when they are needed are there now.
    R::wait(rival.submit(0));
    let submitter = |_: u64| |gate: &Gate| submit(&rival, way, gate, least);
    let (done, _) = together(slice, (0..submitters).map(submitter).collect());
    let operations: u64 = done.iter().map(|done| done.operations).sum();
    let begun = done.iter().map(|done| done.begun).min();
    let ended = done.iter().map(|done| done.ended).max();
    let elapsed = ended
        .zip(begun)
        .map_or(Duration::ZERO, |(ended, begun)| ended - begun);
    let ends = rival.end()?;
    let counted: u64 = ends.iter().sum();
    if counted != operations + 1 || ends.contains(&0) {
        return Err(format!("{operations} operations left counts of {ends:?}"));
    }
    Ok(vec![operations as f64 / elapsed.as_secs_f64() / 1e6])
}

fn submit<R: Rival>(rival: &R, way: Way, gate: &Gate, least: u64) -> Done {
    let mut tickets = VecDeque::with_capacity(WINDOW + BATCH as usize);
    gate.pass();
    let begun = now();
    let mut next = 0;
    while next < least || gate.is_open() {
        let numbers = next..next + BATCH;
        next = numbers.end;
        match way {
            Way::Singly => tickets.extend(numbers.map(|number| rival.submit(number))),
            Way::InBatches => rival.submit_all(numbers, &mut tickets),
        }
        if tickets.len() >= WINDOW {
            tickets.drain(..WINDOW / 2).for_each(answered::<R>);
        }
    }
    tickets.drain(..).for_each(answered::<R>);
    Done {
        operations: next,
        begun,
        ended: now(),
    }
}

fn answered<R: Rival>(ticket: R::Ticket) {
    let answer = R::wait(ticket);
    assert!(answer > 0, "an operation counts one further");
}

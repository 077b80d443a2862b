//! Operations that wait, as for a disk or another machine.

use super::metric;
use crate::results::{Better, Case, Metric};
use crate::runner::{self, Contender, Plan, Sample, now};
use snapcell::{Engine, Entity, Merge, Operation, Policy, Snapshot, Ticket};
use std::convert::Infallible;
use std::thread;
use std::time::Duration;

const METRICS: &[Metric] = &[
    metric("operations", "1/s", Better::More),
    metric("of the bound", "%", Better::More),
    metric("wasted", "% of attempts", Better::Less),
];

/// How long an operation waits.
const WAIT: Duration = Duration::from_millis(5);
const TARGETS: usize = 3;

/// Operations in a second, if those of a target wait one after the other.
const BOUND: f64 = 600.0;

/// How many can wait at once, if they need not wait in turn.
const MANY: usize = 64;

/// For so many times a slice of time there is something to do.
const SLICES: u32 = 4;

const IN_TURN: &str = "snapcell in order, 3 threads";

/// Submits an operation that waits, and makes v + 1 of v.
type Submit = fn(&Engine, &Entity<u64>) -> Waiting;
type Waiting = Option<Ticket<Snapshot<u64>, Infallible>>;

const ROWS: &[(&str, Submit, Policy, usize)] = &[
    (IN_TURN, whole, Policy::InOrder, TARGETS),
    (
        "snapcell prepared, in order, 64 threads",
        prepared,
        Policy::InOrder,
        MANY,
    ),
    (
        "snapcell prepared, fold, 64 threads",
        prepared,
        Policy::Fold,
        MANY,
    ),
    (
        "snapcell merging, merge, 64 threads",
        merging,
        Policy::Merge,
        MANY,
    ),
];

pub(super) fn case(plan: &Plan) -> Case {
    let contenders = ROWS
        .iter()
        .map(|&(name, submit, policy, workers)| Contender {
            name,
            check: Box::new(move || run(submit, policy, workers, Duration::ZERO).map(drop)),
            measure: Box::new(move |slice| run(submit, policy, workers, slice * SLICES)),
        });
    let name = "5 ms of waiting in each operation, 3 targets";
    runner::measure(plan, name, METRICS, IN_TURN, contenders.collect())
}

/// As many operations as can be done in about so long.
fn run(submit: Submit, policy: Policy, workers: usize, long: Duration) -> Result<Sample, String> {
    let engine = Engine::builder().workers(workers).policy(policy).build();
    let entities: Vec<_> = (0..TARGETS).map(|_| Entity::new(0)).collect();
    let waits = long.as_nanos() / WAIT.as_nanos() + 1;
    let operations = waits as usize * workers;
    let all = |operations: usize| {
        let submit = |number| submit(&engine, &entities[number % TARGETS]);
        (0..operations).map(submit).collect::<Vec<Waiting>>()
    };
    // Threads that start when they are needed are there after this.
    all(workers).into_iter().try_for_each(done)?;
    let start = now();
    all(operations).into_iter().try_for_each(done)?;
    let elapsed = start.elapsed();
    let sum: u64 = entities.iter().map(|entity| *entity.snapshot()).sum();
    let (counts, wanted) = (super::settled(&engine)?, (operations + workers) as u64);
    if sum != wanted || counts.committed != wanted {
        return Err(format!("{wanted} operations left a sum of {sum}; {counts}"));
    }
    let rate = operations as f64 / elapsed.as_secs_f64();
    let conflicts = counts.conflicts as f64;
    Ok(vec![
        rate,
        100.0 * rate / BOUND,
        100.0 * conflicts / (conflicts + counts.committed as f64),
    ])
}

fn done(waiting: Waiting) -> Result<(), String> {
    let ticket = waiting.ok_or("an operation was refused")?;
    ticket.wait().map(drop).map_err(|error| error.to_string())
}

#[allow(
    clippy::disallowed_methods,
    reason = "it stands for waiting for something else"
)]
fn wait() {
    thread::sleep(WAIT);
}

fn whole(engine: &Engine, entity: &Entity<u64>) -> Waiting {
    let change = |value: &u64| {
        wait();
        value + 1
    };
    engine.submit(Operation::update(entity, change)).ok()
}

fn prepared(engine: &Engine, entity: &Entity<u64>) -> Waiting {
    let prepare = |_: &Snapshot<u64>| {
        wait();
        Ok(1)
    };
    let apply = |value: &u64, more: &u64| Ok(Some(value + more));
    engine
        .submit(Operation::prepared(entity, prepare, apply))
        .ok()
}

fn merging(engine: &Engine, entity: &Entity<u64>) -> Waiting {
    let change = |value: &u64| {
        wait();
        Ok(Some(value + 1))
    };
    let merge = |merge: Merge<'_, u64>| Some(merge.theirs + merge.mine - merge.base);
    engine
        .submit(Operation::merging(entity, change, merge))
        .ok()
}

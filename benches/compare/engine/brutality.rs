//! The workload of the example `brutality`, without any work but that of the operations themselves.

use super::{WORKERS, metric};
use crate::results::{Better, Case, Metric};
use crate::runner::{self, Contender, Gate, Plan, Sample, now, together};
use crate::table;
use snapcell::{Engine, Entity, EventKinds, Operation, Priority, Snapshot, Ticket};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use workload::{Operation as Drawn, Priority as Rank, Target, User};

#[path = "../../../examples/brutality/workload.rs"]
#[allow(dead_code, reason = "the example counts more than is looked at here")]
mod workload;

const METRICS: &[Metric] = &[
    metric("commits", "M/s", Better::More),
    metric("wasted", "% of attempts", Better::Less),
];

const TARGETS: u32 = 3;
const SEED: u64 = 1;

/// A plan that says to measure less says fewer than so many.
const WHOLE: u32 = 1_000_000;

/// A run takes long, so there are no more repeats of it.
const REPEATS: usize = 3;

/// How many operations a submitter has under way, but for a batch, and how many are staged together. Each holds a snapshot
/// of 1.6 KB from when it is done until its ticket is asked: with thousands of them all contenders would wait for memory.
const WINDOW: usize = 512;
const BATCH: u32 = 100;

/// So many to check a contender.
const CHECKED: u32 = 10_000;

/// How operations get to their targets.
#[derive(Clone, Copy)]
enum Way {
    Submitted,
    /// By whoever submits them, unless something waits for their targets.
    Short,
    /// And each end is told to a handler.
    Told,
    Staged,
    Updates,
}

const BARE: &str = "snapcell update, 2 threads";

/// The last are how many threads submit, or update, and how many the engine has.
const ROWS: &[(&str, Way, u32, usize)] = &[
    ("snapcell submit, 1 thread", Way::Submitted, 1, WORKERS),
    ("snapcell submit, 2 threads", Way::Submitted, 2, WORKERS),
    (
        "snapcell submit, 2 threads, served by them",
        Way::Submitted,
        2,
        0,
    ),
    (
        "snapcell submit, short ones, 1 thread",
        Way::Short,
        1,
        WORKERS,
    ),
    (
        "snapcell submit, short ones, 2 threads",
        Way::Short,
        2,
        WORKERS,
    ),
    (
        "snapcell submit, 1 thread, a handler",
        Way::Told,
        1,
        WORKERS,
    ),
    ("snapcell stage of 100, 1 thread", Way::Staged, 1, WORKERS),
    (BARE, Way::Updates, 2, 0),
];

pub(super) fn case(plan: &Plan) -> Case {
    let all = match plan.many as u32 {
        many @ ..WHOLE => many / 2,
        many => 3 * many,
    };
    let whole = plan.slice;
    let contenders = ROWS.iter().map(|&(name, way, threads, workers)| Contender {
        name,
        check: Box::new(move || run(way, threads, workers, CHECKED).map(drop)),
        measure: Box::new(move |slice| {
            // What isn't a whole slice is to warm up.
            let operations = if slice < whole { all / 10 } else { all };
            run(way, threads, workers, operations)
        }),
    });
    let plan = Plan {
        repeats: plan.repeats.min(REPEATS),
        ..*plan
    };
    let name = match all {
        0 => "brutality".to_owned(),
        all => format!("brutality, {} operations", table::count(u64::from(all))),
    };
    runner::measure(&plan, name, METRICS, BARE, contenders.collect())
}

fn run(way: Way, threads: u32, workers: usize, operations: u32) -> Result<Sample, String> {
    let engine = Engine::builder().workers(workers).build();
    let told = Arc::new(AtomicU64::new(0));
    let handler = matches!(way, Way::Told).then(|| {
        let told = told.clone();
        engine.on(EventKinds::ENDS, move |_| _ = told.fetch_add(1, Relaxed))
    });
    let targets: Vec<_> = (0..TARGETS).map(|_| Entity::new(Target::new())).collect();
    let worker = |thread: u32| {
        let (engine, targets) = (&engine, &targets);
        move |gate: &Gate| {
            let drawn = (thread..operations).step_by(threads as usize);
            let drawn = drawn.map(|id| Drawn::draw(SEED, id, TARGETS));
            gate.pass();
            let begun = now();
            let hits = match way {
                Way::Updates => update(targets, thread, drawn),
                Way::Submitted | Way::Told => submit(engine, targets, thread, drawn, false),
                Way::Short => submit(engine, targets, thread, drawn, true),
                Way::Staged => stage(engine, targets, thread, drawn),
            };
            (hits, begun, now())
        }
    };
    let (done, _) = together(Duration::ZERO, (0..threads).map(worker).collect());
    let counts = super::settled(&engine)?;
    let hits: u64 = done.iter().map(|(hits, ..)| hits).sum();
    add_up(&targets, operations, hits)?;
    let metrics = engine.metrics();
    if !matches!(way, Way::Updates) && !metrics.adds_up() {
        return Err(metrics.to_string());
    }
    drop(handler);
    let begun = done.iter().map(|(_, begun, _)| *begun).min();
    let ended = done.iter().map(|(.., ended)| *ended).max();
    let elapsed = Option::zip(ended, begun).map(|(ended, begun): (Instant, _)| ended - begun);
    let seconds = elapsed.unwrap_or_default().as_secs_f64();
    let conflicts = counts.conflicts as f64;
    Ok(vec![
        f64::from(operations) / seconds / 1e6,
        100.0 * conflicts / (conflicts + f64::from(operations)),
    ])
}

/// Whether each operation was committed, once.
fn add_up(targets: &[Entity<Target>], operations: u32, hits: u64) -> Result<(), String> {
    let (mut modified, mut hit) = (0, 0);
    for target in targets {
        let target = target.snapshot();
        let state = &target.state;
        if target.stamp().version() != state.modifications {
            return Err("a version is not the number of modifications".to_owned());
        }
        modified += state.modifications;
        hit += state.hits;
    }
    if modified != u64::from(operations) || hit != hits {
        return Err(format!(
            "{operations} operations and {hits} hits left {modified} modifications and {hit} hits"
        ));
    }
    Ok(())
}

/// The operation, as an engine takes it.
fn built(
    targets: &[Entity<Target>],
    thread: u32,
    drawn: Drawn,
) -> Operation<impl snapcell::Body<Output = Snapshot<Target>, Error = Infallible> + use<>> {
    let user = user(thread, &drawn);
    let priority = match drawn.priority {
        Rank::Normal => Priority::NORMAL,
        Rank::High => Priority::HIGH,
        Rank::Critical => Priority::CRITICAL,
    };
    let retries = drawn.priority.retries();
    let change = move |target: &Target| target.after(&drawn, user);
    let operation = Operation::update(&targets[drawn.target], change);
    operation.priority(priority).retries(retries)
}

fn user(thread: u32, drawn: &Drawn) -> User {
    User {
        thread,
        operation: drawn.id,
    }
}

fn update(targets: &[Entity<Target>], thread: u32, all: impl Iterator<Item = Drawn>) -> u64 {
    let mut hits = 0;
    for drawn in all {
        hits += u64::from(drawn.kind.hits());
        let user = user(thread, &drawn);
        _ = targets[drawn.target].update(|target| target.after(&drawn, user));
    }
    hits
}

/// What was submitted, and isn't known to be done.
type Tickets = VecDeque<Ticket<Snapshot<Target>, Infallible>>;

fn wait(tickets: &mut Tickets, left: usize) {
    for ticket in tickets.drain(..tickets.len() - left) {
        ticket.wait().expect("nothing stops it");
    }
}

fn submit(
    engine: &Engine,
    targets: &[Entity<Target>],
    thread: u32,
    all: impl Iterator<Item = Drawn>,
    are_short: bool,
) -> u64 {
    let (mut tickets, mut hits) = (Tickets::new(), 0);
    for drawn in all {
        hits += u64::from(drawn.kind.hits());
        let operation = built(targets, thread, drawn);
        let ticket = engine.submit(if are_short {
            operation.short()
        } else {
            operation
        });
        tickets.push_back(ticket.expect("there is room for it"));
        if tickets.len() >= WINDOW {
            wait(&mut tickets, WINDOW / 2);
        }
    }
    wait(&mut tickets, 0);
    hits
}

fn stage(
    engine: &Engine,
    targets: &[Entity<Target>],
    thread: u32,
    all: impl Iterator<Item = Drawn>,
) -> u64 {
    let (mut tickets, mut hits) = (Tickets::new(), 0);
    let mut stage = engine.stage();
    for drawn in all {
        hits += u64::from(drawn.kind.hits());
        let ticket = stage.add(built(targets, thread, drawn));
        tickets.push_back(ticket.expect("there is room for it"));
        if stage.len() >= BATCH as usize {
            std::mem::replace(&mut stage, engine.stage()).resolve();
            if tickets.len() >= WINDOW {
                wait(&mut tickets, WINDOW / 2);
            }
        }
    }
    stage.resolve();
    wait(&mut tickets, 0);
    hits
}

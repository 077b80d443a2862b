//! What each layer adds to an update, for one thread that waits for what it has asked for.

use super::{WORKERS, metric};
use crate::results::{Better, Case, Metric};
use crate::runner::{self, Contender, Plan, Sample, now};
use snapcell::{Engine, Entity, EventKinds, Operation};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const METRICS: &[Metric] = &[metric("operation", "ns", Better::Less)];

/// The others are compared with it.
const BARE: &str = "snapcell update";

/// Operations between two looks at the clock; also the length of a stream.
const STREAM: usize = 1_024;

/// What a contender does so often.
type Work = fn(&Engine, &Entity<u64>);

/// What the engine notes and tells besides.
#[derive(Clone, Copy)]
enum Account {
    Totals,
    Metrics,
    /// To a ring that is emptied now and then.
    Ring,
    Handler,
}
use Account::*;

/// The last is how many threads the engine has.
const ROWS: &[(&str, Work, Account, usize)] = &[
    (BARE, bare, Metrics, 0),
    ("snapcell run, one operation", run, Metrics, WORKERS),
    (
        "snapcell run, built each time",
        build_and_run,
        Metrics,
        WORKERS,
    ),
    ("snapcell run, without metrics", run, Totals, WORKERS),
    ("snapcell run, each end into a ring", run, Ring, WORKERS),
    ("snapcell run, each end to a handler", run, Handler, WORKERS),
    (
        "snapcell submit and wait, served here",
        submit_and_wait,
        Metrics,
        0,
    ),
    ("snapcell stream, served here", stream, Metrics, 0),
    (
        "snapcell stream, served here, without metrics",
        stream,
        Totals,
        0,
    ),
    (
        "snapcell stream, served here, each end into a ring",
        stream,
        Ring,
        0,
    ),
    (
        "snapcell submit and wait, elsewhere",
        submit_and_wait,
        Metrics,
        WORKERS,
    ),
    ("snapcell stream, elsewhere", stream, Metrics, WORKERS),
];

pub(super) fn case(plan: &Plan) -> Case {
    let contenders = ROWS
        .iter()
        .map(|&(name, work, account, workers)| Contender {
            name,
            check: Box::new(move || measure(work, account, workers, Duration::ZERO).map(drop)),
            measure: Box::new(move |slice| measure(work, account, workers, slice)),
        });
    runner::measure(plan, "alone", METRICS, BARE, contenders.collect())
}

fn measure(
    work: Work,
    account: Account,
    workers: usize,
    slice: Duration,
) -> Result<Sample, String> {
    let has_metrics = !matches!(account, Totals);
    let engine = Engine::builder()
        .workers(workers)
        .metrics(has_metrics)
        .build();
    let events = matches!(account, Ring).then(|| engine.events(EventKinds::ENDS, 4 * STREAM));
    let handled = Arc::new(AtomicU64::new(0));
    let _handler = matches!(account, Handler).then(|| {
        let handled = handled.clone();
        engine.on(EventKinds::ENDS, move |_| _ = handled.fetch_add(1, Relaxed))
    });
    let mut told = 0;
    let entity = Entity::new(0_u64);
    // Threads that start when they are needed are there after this.
    work(&engine, &entity);
    let (start, mut rounds) = (now(), 0);
    let elapsed = loop {
        work(&engine, &entity);
        rounds += 1;
        if let Some(events) = &events {
            told += std::iter::from_fn(|| events.try_next()).count() as u64;
        }
        let elapsed = start.elapsed();
        if elapsed >= slice {
            break elapsed;
        }
    };
    let (counted, counts) = (*entity.snapshot(), super::settled(&engine)?);
    let all = (rounds + 1) * STREAM as u64;
    if counted != all || (counts.committed != all && counts.submitted != 0) {
        return Err(format!(
            "{all} operations left a count of {counted}; {counts}"
        ));
    }
    if events.is_some_and(|events| told + events.dropped() != all) {
        return Err(format!("{told} of {all} ends were told"));
    }
    Ok(vec![
        elapsed.as_nanos() as f64 / (rounds * STREAM as u64) as f64,
    ])
}

fn bare(_: &Engine, entity: &Entity<u64>) {
    for _ in 0..STREAM {
        black_box(entity.update(|value| value + 1));
    }
}

fn run(engine: &Engine, entity: &Entity<u64>) {
    let operation = Operation::update(entity, |value| value + 1);
    for _ in 0..STREAM {
        black_box(engine.run(black_box(&operation)).expect("nothing stops it"));
    }
}

fn build_and_run(engine: &Engine, entity: &Entity<u64>) {
    for _ in 0..STREAM {
        let operation = Operation::update(entity, |value| value + 1);
        black_box(engine.run(&operation).expect("nothing stops it"));
    }
}

fn submit_and_wait(engine: &Engine, entity: &Entity<u64>) {
    for _ in 0..STREAM {
        let ticket = engine.submit(Operation::update(entity, |value| value + 1));
        black_box(
            ticket
                .expect("there is room for it")
                .wait()
                .expect("nothing stops it"),
        );
    }
}

fn stream(engine: &Engine, entity: &Entity<u64>) {
    let submit = |_| {
        let ticket = engine.submit(Operation::update(entity, |value| value + 1));
        ticket.expect("there is room for it")
    };
    let tickets: Vec<_> = (0..STREAM).map(submit).collect();
    for ticket in tickets {
        black_box(ticket.wait().expect("nothing stops it"));
    }
}

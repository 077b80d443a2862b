//! What each layer adds to an update, for one thread that waits for what it has asked for.

use super::{WORKERS, metric};
use crate::results::{Better, Case, Metric};
use crate::runner::{self, Contender, Plan, Sample, now};
use snapcell::{Engine, Entity, Operation};
use std::hint::black_box;
use std::time::Duration;

const METRICS: &[Metric] = &[metric("operation", "ns", Better::Less)];

/// The others are compared with it.
const BARE: &str = "snapcell update";

/// Operations between two looks at the clock; also the length of a stream.
const STREAM: usize = 1_024;

/// What a contender does so often.
type Work = fn(&Engine, &Entity<u64>);

/// The last is how many threads the engine has.
const ROWS: &[(&str, Work, usize)] = &[
    (BARE, bare, 0),
    ("snapcell run, one operation", run, WORKERS),
    ("snapcell run, built each time", build_and_run, WORKERS),
    ("snapcell submit and wait, served here", submit_and_wait, 0),
    ("snapcell stream, served here", stream, 0),
    (
        "snapcell submit and wait, elsewhere",
        submit_and_wait,
        WORKERS,
    ),
    ("snapcell stream, elsewhere", stream, WORKERS),
];

pub(super) fn case(plan: &Plan) -> Case {
    let contenders = ROWS.iter().map(|&(name, work, workers)| Contender {
        name,
        check: Box::new(move || measure(work, workers, Duration::ZERO).map(drop)),
        measure: Box::new(move |slice| measure(work, workers, slice)),
    });
    runner::measure(plan, "alone", METRICS, BARE, contenders.collect())
}

fn measure(work: Work, workers: usize, slice: Duration) -> Result<Sample, String> {
    let engine = Engine::builder().workers(workers).build();
    let entity = Entity::new(0_u64);
    // Threads that start when they are needed are there after this.
    work(&engine, &entity);
    let (start, mut rounds) = (now(), 0);
    let elapsed = loop {
        work(&engine, &entity);
        rounds += 1;
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

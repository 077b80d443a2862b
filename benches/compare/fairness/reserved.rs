//! Long operations of high priority beside short ones of low priority, with reservations and without.

use super::{metric, work};
use crate::results::{Better, Case, Metric};
use crate::runner::{self, Contender, Gate, Plan, Sample, now, together};
use snapcell::{Class, ClassPolicy, Engine, Entity, Operation, Policies, RetryPolicy};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const METRICS: &[Metric] = &[
    metric("long", "1/s", Better::More),
    metric("attempts", "per long one", Better::Less),
    metric("worst long", "ms", Better::Less),
    metric("short", "M/s", Better::More),
    metric("short, rejected", "%", Better::Less),
];

/// How long a long one works.
const LONG: Duration = Duration::from_micros(20);

/// Short ones between two looks at the gate.
const BURST: u64 = 64;

/// For so many times a slice of time both run: without reservations few long ones get done.
const SLICES: u32 = 4;

/// So many long ones at least.
const CHECKED: u64 = 3;

pub(super) const WITHOUT: &str = "without reservations";

pub(super) fn case(plan: &Plan) -> Case {
    let retry = RetryPolicy::default();
    let rows = [
        ("with reservations", retry.reserving_after(0)),
        (WITHOUT, retry.never_reserving()),
    ];
    let contenders = rows.map(|(name, retry)| Contender {
        name,
        check: Box::new(move || run(retry, Duration::ZERO).map(drop)),
        measure: Box::new(move |slice| run(retry, slice * SLICES)),
    });
    runner::measure(
        plan,
        "long beside short",
        METRICS,
        WITHOUT,
        contenders.into(),
    )
}

/// What a thread has done.
#[derive(Default)]
struct Done {
    long: u64,
    worst: Duration,
    short: u64,
    rejected: u64,
}

type Worker<'a> = Box<dyn FnOnce(&Gate) -> Done + Send + 'a>;

fn run(retry: RetryPolicy, slice: Duration) -> Result<Sample, String> {
    let mut policies = Policies::default();
    let long = ClassPolicy::structural()
        .with_retry(retry)
        .with_retries(u32::MAX);
    let former = policies.set(Class::STRUCTURAL, long);
    _ = former.map_err(|error| error.to_string())?;
    let engine = Engine::builder().workers(0).policies(policies).build();
    let entity = Entity::new(0_u64);
    let attempts = std::sync::Arc::new(AtomicU64::new(0));

    let counted = attempts.clone();
    let long = Operation::update(&entity, move |value| {
        counted.fetch_add(1, Ordering::Relaxed);
        work(LONG);
        value + 1
    });
    let long = long.class(Class::STRUCTURAL);
    let short = Operation::update(&entity, |value| value + 1).class(Class::LOW);
    let run_long = |gate: &Gate| {
        let mut done = Done::default();
        gate.pass();
        while done.long < CHECKED || gate.is_open() {
            let start = now();
            engine
                .run(&long)
                .expect("it has as many retries as it takes");
            done.worst = done.worst.max(start.elapsed());
            done.long += 1;
        }
        done
    };
    let run_short = |gate: &Gate| {
        let mut done = Done::default();
        gate.pass();
        while gate.is_open() {
            for _ in 0..BURST {
                match engine.run(&short) {
                    Ok(_) => done.short += 1,
                    Err(_) => done.rejected += 1,
                }
            }
        }
        done
    };
    let workers: Vec<Worker<'_>> = vec![Box::new(run_long), Box::new(run_short)];
    let (done, elapsed) = together(slice, workers);
    let (long, short) = (&done[0], &done[1]);
    let (sum, counts) = (*entity.snapshot(), engine.counts());
    if sum != long.long + short.short
        || counts.committed != sum
        || counts.rejected != short.rejected
    {
        let all = long.long + short.short;
        return Err(format!("{all} operations left a count of {sum}; {counts}"));
    }
    let seconds = elapsed.as_secs_f64();
    Ok(vec![
        long.long as f64 / seconds,
        attempts.load(Ordering::Relaxed) as f64 / long.long as f64,
        long.worst.as_secs_f64() * 1e3,
        short.short as f64 / seconds / 1e6,
        100.0 * short.rejected as f64 / (short.short + short.rejected).max(1) as f64,
    ])
}

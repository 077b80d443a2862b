//! How one hot value fares under many writers.

use crate::cells::arcs::{HazUpdate, SwapRcu};
use crate::cells::locks::{ByCopy, InPlace, LockedArc};
use crate::cells::ours::{Logical, Updating};
use crate::cells::{self, Shared, Update};
use crate::latency::histogram;
use crate::payload::Payload;
use crate::results::{Answer, Better, Case, Metric};
use crate::runner::{self, Contender, Gate, Plan, Sample, now, together};
use arc_swap::ArcSwap;
use hazarc::AtomicArc;
use hdrhistogram::Histogram;
use snapcell::Entity;
use std::hint::black_box;
use std::sync::Mutex;
use std::time::Duration;

const METRICS: &[Metric] = &[
    metric("commits", "M/s", Better::More),
    metric("attempts", "per commit", Better::Less),
    metric("p50", "ns", Better::Less),
    metric("p99", "ns", Better::Less),
    metric("p99.9", "ns", Better::Less),
    metric("max", "ns", Better::Less),
    metric("fairness", "slowest/fastest thread", Better::More),
];

const fn metric(name: &'static str, unit: &'static str, better: Better) -> Metric {
    Metric { name, unit, better }
}

/// Of so many updates one is timed, and then the gate is looked at. More would slow the fast ones down.
const TIMED: u64 = 64;

pub(crate) fn answer(plan: &Plan) -> Answer {
    let mut cases: Vec<Case> = [1, 2, 4, 8].map(|n| case::<u64>(plan, n)).into();
    cases.extend([2, 8].map(|n| case::<[u64; 16]>(plan, n)));
    Answer {
        question: "contention",
        title: "What do several writers of one value get done?",
        notes: &[
            "Each update is v + 1, and all count. Latencies are those of one update in 64, with a reading of the clock \
             in each.",
            "With more threads than cores the longest latency is the scheduler's, and in a slice of 15 ms (`--quick`) not \
             each of 8 threads gets a turn: fairness needs a full run.",
        ],
        cases,
    }
}

fn case<P: Payload>(plan: &Plan, threads: usize) -> Case {
    let name = format!(
        "{}, {threads} thread{}",
        P::NAME,
        if threads == 1 { "" } else { "s" }
    );
    let contenders = vec![
        contender::<Entity<P>, Updating>(threads),
        contender::<Logical<P>, Updating>(threads),
        contender::<ArcSwap<P>, SwapRcu>(threads),
        contender::<AtomicArc<P>, HazUpdate>(threads),
        contender::<LockedArc<P>, ByCopy>(threads),
        contender::<Mutex<P>, InPlace>(threads),
        contender::<parking_lot::Mutex<P>, InPlace>(threads),
    ];
    runner::measure(plan, name, METRICS, "arc_swap rcu", contenders)
}

fn contender<S: Shared, U: Update<S>>(threads: usize) -> Contender {
    Contender {
        name: U::NAME,
        check: Box::new(move || cells::check_updates::<S, U>(threads)),
        measure: Box::new(move |slice| measure::<S, U>(threads, slice)),
    }
}

/// What a thread did.
struct Done {
    updates: u64,
    attempts: u64,
    latencies: Histogram<u64>,
}

fn measure<S: Shared, U: Update<S>>(threads: usize, slice: Duration) -> Result<Sample, String> {
    let shared = S::new(S::Payload::zero());
    let worker = |_: usize| |gate: &Gate| write::<S, U>(&shared, gate);
    let (done, elapsed) = together(slice, (0..threads).map(worker).collect());
    let updates: u64 = done.iter().map(|done| done.updates).sum();
    cells::adds_up(&shared, updates)?;
    let attempts: u64 = done.iter().map(|done| done.attempts).sum();
    let fewest = done.iter().map(|done| done.updates).min().unwrap_or(0);
    let most = done.iter().map(|done| done.updates).max().unwrap_or(0);
    let mut latencies = histogram();
    for done in &done {
        latencies.add(&done.latencies).map_err(|e| e.to_string())?;
    }
    Ok(vec![
        updates as f64 * 1e3 / elapsed.as_nanos() as f64,
        attempts as f64 / updates as f64,
        latencies.value_at_quantile(0.5) as f64,
        latencies.value_at_quantile(0.99) as f64,
        latencies.value_at_quantile(0.999) as f64,
        latencies.max() as f64,
        fewest as f64 / most as f64,
    ])
}

fn write<S: Shared, U: Update<S>>(shared: &S, gate: &Gate) -> Done {
    let mut writer = U::writer(shared);
    let mut done = Done {
        updates: 0,
        attempts: 0,
        latencies: histogram(),
    };
    gate.pass();
    loop {
        let start = now();
        done.attempts += black_box(U::update(&mut writer));
        let elapsed = start.elapsed();
        done.latencies.saturating_record(elapsed.as_nanos() as u64);
        for _ in 1..TIMED {
            done.attempts += black_box(U::update(&mut writer));
        }
        done.updates += TIMED;
        if !gate.is_open() {
            return done;
        }
    }
}

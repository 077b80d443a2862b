//! How many values fare, of which each operation takes one.

use crate::results::{Answer, Better, Case, Metric};
use crate::runner::{self, Contender, Gate, Plan, together};
use crate::stores::{BURST, Hashing, Mapped, Store};
use crate::table;
use dashmap::DashMap;
use snapcell::Entity;
use std::collections::HashMap;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::{Mutex, RwLock};
use std::time::Duration;

const METRICS: &[Metric] = &[Metric {
    name: "operations",
    unit: "M/s",
    better: Better::More,
}];

const THREADS: usize = 2;
/// Operations of a thread, which it goes through again and again.
const OPERATIONS: usize = 1 << 16;
/// A few keys, which stay in a cache, and many, which don't.
const FEW: u32 = 64;
const MANY: u32 = 100_000;
/// What Zipf's law has for its exponent in most benchmarks.
const EXPONENT: f64 = 0.99;

pub(crate) fn answer(plan: &Plan) -> Answer {
    let mut cases = Vec::new();
    for keys in [FEW, MANY] {
        for keys in [Keys::uniform(keys), Keys::zipf(keys)] {
            cases.extend([0, 50, 90].map(|reads| case(plan, &keys, reads)));
        }
    }
    Answer {
        question: "entities",
        title: "What do two threads get done on many values?",
        notes: &[
            "An operation takes a key, and reads its u64 or makes it v + 1. The keys are drawn beforehand; \
             by Zipf's law with the exponent 0.99, a few of them are hot.",
            "A mutex for each counter, as a vector of entities, knows its keys from the start. The maps could take new ones.",
        ],
        cases,
    }
}

fn case(plan: &Plan, keys: &Keys, reads: u8) -> Case {
    let number = table::count(keys.number().into());
    let name = format!("{number} keys, {}, {reads} % reads", keys.law);
    let operations: Rc<[_]> = (0..THREADS as u64)
        .map(|seed| keys.operations(seed, reads))
        .collect();
    let number = keys.number();
    let contenders = vec![
        contender::<Vec<Entity<u64>>>(number, &operations),
        contender::<Mapped>(number, &operations),
        contender::<Vec<Mutex<u64>>>(number, &operations),
        contender::<Vec<parking_lot::Mutex<u64>>>(number, &operations),
        contender::<RwLock<HashMap<u32, u64, Hashing>>>(number, &operations),
        contender::<DashMap<u32, u64, Hashing>>(number, &operations),
        contender::<scc::HashMap<u32, u64, Hashing>>(number, &operations),
        contender::<papaya::HashMap<u32, u64, Hashing>>(number, &operations),
    ];
    runner::measure(plan, name, METRICS, "DashMap", contenders)
}

/// Which keys there are, and how often each is drawn.
struct Keys {
    law: &'static str,
    /// The share of all draws that falls to keys up to this one.
    cumulative: Vec<f64>,
    /// Which key is the first by that order, which the second: the hot ones shouldn't be neighbours.
    order: Vec<u32>,
}

impl Keys {
    fn uniform(number: u32) -> Self {
        Keys::weighted("uniform", number, |_| 1.0)
    }

    fn zipf(number: u32) -> Self {
        Keys::weighted("zipf", number, |rank| f64::from(rank).powf(-EXPONENT))
    }

    /// Weights are by rank, which counts from one.
    fn weighted(law: &'static str, number: u32, weight: impl Fn(u32) -> f64) -> Self {
        let total: f64 = (1..=number).map(&weight).sum();
        let cumulative = (1..=number).scan(0.0, |sum, rank| {
            *sum += weight(rank) / total;
            Some(*sum)
        });
        let mut order: Vec<u32> = (0..number).collect();
        fastrand::Rng::with_seed(1).shuffle(&mut order);
        Keys {
            law,
            cumulative: cumulative.collect(),
            order,
        }
    }

    fn number(&self) -> u32 {
        self.order.len() as u32
    }

    fn draw(&self, random: &mut fastrand::Rng) -> u32 {
        let share = random.f64();
        let rank = self.cumulative.partition_point(|sum| *sum <= share);
        // The sum of all may fall short of one by a rounding.
        self.order[rank.min(self.order.len() - 1)]
    }

    /// What a thread is to do, by a seed.
    fn operations(&self, seed: u64, reads: u8) -> Vec<Operation> {
        let mut random = fastrand::Rng::with_seed(seed + 2);
        (0..OPERATIONS)
            .map(|_| Operation {
                key: self.draw(&mut random),
                is_read: random.u8(..100) < reads,
            })
            .collect()
    }
}

/// What is done once.
#[derive(Clone, Copy)]
struct Operation {
    key: u32,
    is_read: bool,
}

fn contender<S: Store>(keys: u32, operations: &Rc<[Vec<Operation>]>) -> Contender {
    let (checked, measured) = (Rc::clone(operations), Rc::clone(operations));
    let mut store = None;
    let mut updates = 0;
    Contender {
        name: S::NAME,
        check: Box::new(move || {
            let store = S::new(keys);
            let (done, _) = run(&store, &checked, Duration::ZERO);
            adds_up(&store, keys, done.updates)
        }),
        measure: Box::new(move |slice| {
            // Each key that is drawn is touched before the first slice of time.
            let store = store.get_or_insert_with(|| {
                let store = S::new(keys);
                for operation in measured.iter().flatten() {
                    S::update(&store.burst(), operation.key);
                    updates += 1;
                }
                store
            });
            let (done, elapsed) = run(store, &measured, slice);
            updates += done.updates;
            adds_up(store, keys, updates)?;
            Ok(vec![
                done.operations as f64 * 1e3 / elapsed.as_nanos() as f64,
            ])
        }),
    }
}

/// What was done.
#[derive(Default)]
struct Done {
    operations: u64,
    updates: u64,
}

/// Has each thread go through its operations until the slice of time is over, and a burst of them in any
/// case.
fn run<S: Store>(store: &S, operations: &[Vec<Operation>], slice: Duration) -> (Done, Duration) {
    let workers = operations
        .iter()
        .map(|operations| move |gate: &Gate| work(store, operations, gate));
    let (done, elapsed) = together(slice, workers.collect());
    let sum = |sum: Done, done: Done| Done {
        operations: sum.operations + done.operations,
        updates: sum.updates + done.updates,
    };
    (done.into_iter().fold(Done::default(), sum), elapsed)
}

fn work<S: Store>(store: &S, operations: &[Operation], gate: &Gate) -> Done {
    let mut done = Done::default();
    gate.pass();
    for burst in operations.chunks(BURST).cycle() {
        let shared = store.burst();
        for operation in burst {
            if operation.is_read {
                black_box(S::read(&shared, operation.key));
            } else {
                S::update(&shared, operation.key);
                done.updates += 1;
            }
        }
        done.operations += burst.len() as u64;
        if !gate.is_open() {
            break;
        }
    }
    done
}

fn adds_up<S: Store>(store: &S, keys: u32, updates: u64) -> Result<(), String> {
    let burst = store.burst();
    let total: u64 = (0..keys).map(|key| S::read(&burst, key)).sum();
    if total != updates {
        return Err(format!("{updates} updates left counts of {total}"));
    }
    Ok(())
}

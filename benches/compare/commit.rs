//! What an update costs that nobody is in the way of.

use crate::cells::arcs::{HazUpdate, SwapRcu, SwapStore};
use crate::cells::locks::{ByCopy, InPlace, LockedArc};
use crate::cells::others::{LeftRight, Publishing, Watching};
use crate::cells::ours::{Logical, Modifying, Updating};
use crate::cells::{self, Shared, Update};
use crate::payload::Payload;
use crate::results::{Answer, Better, Case, Metric};
use crate::runner::{self, Contender, Gate, Plan, Sample, together};
use arc_swap::ArcSwap;
use hazarc::AtomicArc;
use snapcell::Entity;
use std::hint::black_box;
use std::sync::{Mutex, RwLock};
use std::time::Duration;
use tokio::sync::watch;

const METRICS: &[Metric] = &[Metric {
    name: "update",
    unit: "ns",
    better: Better::Less,
}];

/// Updates between two looks at the gate.
const BATCH: u64 = 32;

pub(crate) fn answer(plan: &Plan) -> Answer {
    Answer {
        question: "commit",
        title: "What does an update cost, alone?",
        notes: &[
            "An update makes v + 1 of v: a whole copy, except in place under a lock, where two words are written, \
             and with left-right, which writes them in both of its copies.",
            "arc_swap load + store loses updates as soon as there is a second writer.",
        ],
        cases: vec![
            case::<u64>(plan),
            case::<[u64; 16]>(plan),
            case::<[u64; 128]>(plan),
        ],
    }
}

fn case<P: Payload>(plan: &Plan) -> Case {
    let contenders = vec![
        contender::<Entity<P>, Updating>(),
        contender::<Logical<P>, Updating>(),
        contender::<Entity<P>, Modifying>(),
        contender::<ArcSwap<P>, SwapRcu>(),
        contender::<ArcSwap<P>, SwapStore>(),
        contender::<AtomicArc<P>, HazUpdate>(),
        contender::<LeftRight<P>, Publishing>(),
        contender::<watch::Sender<P>, Watching>(),
        contender::<LockedArc<P>, ByCopy>(),
        contender::<RwLock<P>, InPlace>(),
        contender::<parking_lot::RwLock<P>, InPlace>(),
        contender::<Mutex<P>, InPlace>(),
        contender::<parking_lot::Mutex<P>, InPlace>(),
    ];
    runner::measure(plan, P::NAME, METRICS, "arc_swap rcu", contenders)
}

fn contender<S: Shared, U: Update<S>>() -> Contender {
    Contender {
        name: U::NAME,
        check: Box::new(|| cells::check_updates::<S, U>(1)),
        measure: Box::new(measure::<S, U>),
    }
}

fn measure<S: Shared, U: Update<S>>(slice: Duration) -> Result<Sample, String> {
    let shared = S::new(S::Payload::zero());
    let worker = |gate: &Gate| {
        let mut writer = U::writer(&shared);
        gate.pass();
        let mut updates = 0;
        loop {
            for _ in 0..BATCH {
                black_box(U::update(black_box(&mut writer)));
            }
            updates += BATCH;
            if !gate.is_open() {
                return updates;
            }
        }
    };
    let (updates, elapsed) = together(slice, vec![worker]);
    cells::adds_up(&shared, updates[0])?;
    Ok(vec![elapsed.as_nanos() as f64 / updates[0] as f64])
}

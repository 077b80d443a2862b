//! What a read costs: alone, beside another reader, and beside a writer at full speed.

use crate::cells::arcs::{
    HazCache, HazLoad, HazUpdate, SwapCache, SwapLoad, SwapLoadFull, SwapRcu,
};
use crate::cells::locks::InPlace;
use crate::cells::others::{LeftRight, Publishing, Watching};
use crate::cells::ours::{Cached, Loading, Reading, Snapping, Updating};
use crate::cells::{self, MANY, Read, Shared, Update};
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

const READ: Metric = Metric {
    name: "read",
    unit: "ns",
    better: Better::Less,
};
const WRITER: Metric = Metric {
    name: "writer",
    unit: "M/s",
    better: Better::More,
};

/// Updates between two looks at the gate.
const BATCH: u64 = 32;

pub(crate) fn answer(plan: &Plan) -> Answer {
    let mut cases = Vec::new();
    for readers in [1, 2] {
        cases.push(case::<u64>(plan, readers, false));
        cases.push(case::<u64>(plan, readers, true));
    }
    for readers in [1, 2] {
        cases.push(case::<[u64; 16]>(plan, readers, false));
        cases.push(case::<[u64; 16]>(plan, readers, true));
    }
    Answer {
        question: "reads",
        title: "What does a read cost?",
        notes: &[
            "ns per read and reader, on the wall: where there are more threads than cores, waiting for one counts.",
            "A slow writer flatters the readers beside it: look at both columns.",
            "Below 1 ns, differences are the code of the loop.",
            "A look is at the whole value. arc-swap's writer is `rcu`, hazarc's `fetch_update`, left-right publishes each update.",
        ],
        cases,
    }
}

fn case<P: Payload>(plan: &Plan, readers: usize, has_writer: bool) -> Case {
    let name = format!(
        "{}, {readers} reader{}{}",
        P::NAME,
        if readers == 1 { "" } else { "s" },
        if has_writer { " + writer" } else { "" }
    );
    let metrics: &[Metric] = if has_writer { &[READ, WRITER] } else { &[READ] };
    let by = |contender: fn(usize, bool) -> Contender| contender(readers, has_writer);
    let contenders = vec![
        by(contender::<Entity<P>, Cached, Updating>),
        by(contender::<Entity<P>, Loading, Updating>),
        by(contender::<Entity<P>, Reading, Updating>),
        by(contender::<Entity<P>, Snapping, Updating>),
        by(contender::<ArcSwap<P>, SwapCache, SwapRcu>),
        by(contender::<ArcSwap<P>, SwapLoad, SwapRcu>),
        by(contender::<ArcSwap<P>, SwapLoadFull, SwapRcu>),
        by(contender::<AtomicArc<P>, HazCache, HazUpdate>),
        by(contender::<AtomicArc<P>, HazLoad, HazUpdate>),
        by(contender::<LeftRight<P>, Publishing, Publishing>),
        by(contender::<watch::Sender<P>, Watching, Watching>),
        by(contender::<RwLock<P>, InPlace, InPlace>),
        by(contender::<parking_lot::RwLock<P>, InPlace, InPlace>),
        by(contender::<Mutex<P>, InPlace, InPlace>),
        by(contender::<parking_lot::Mutex<P>, InPlace, InPlace>),
    ];
    runner::measure(plan, name, metrics, "arc_swap load", contenders)
}

fn contender<S, R, U>(readers: usize, has_writer: bool) -> Contender
where
    S: Shared,
    R: Read<S>,
    U: Update<S>,
{
    Contender {
        name: R::NAME,
        check: Box::new(cells::check_reads::<S, R, U>),
        measure: Box::new(move |slice| measure::<S, R, U>(readers, has_writer, slice)),
    }
}

/// What a thread of the measurement did.
enum Did {
    Reads(u64),
    Updates(u64),
}

fn measure<S, R, U>(readers: usize, has_writer: bool, slice: Duration) -> Result<Sample, String>
where
    S: Shared,
    R: Read<S>,
    U: Update<S>,
{
    let shared = S::new(S::Payload::zero());
    let worker = |index: usize| {
        let shared = &shared;
        move |gate: &Gate| {
            if index < readers {
                Did::Reads(read::<S, R>(shared, gate))
            } else {
                Did::Updates(write::<S, U>(shared, gate))
            }
        }
    };
    let threads = readers + usize::from(has_writer);
    let (did, elapsed) = together(slice, (0..threads).map(worker).collect());
    let (mut reads, mut updates) = (0, 0);
    for did in did {
        match did {
            Did::Reads(n) => reads += n,
            Did::Updates(n) => updates += n,
        }
    }
    cells::adds_up(&shared, updates)?;
    let ns = elapsed.as_nanos() as f64;
    let mut sample = vec![ns * readers as f64 / reads as f64];
    if has_writer {
        sample.push(updates as f64 * 1e3 / ns);
    }
    Ok(sample)
}

fn read<S: Shared, R: Read<S>>(shared: &S, gate: &Gate) -> u64 {
    let mut reader = R::reader(shared);
    let look = |value: &S::Payload| {
        black_box(value.look());
    };
    R::read_many(&mut reader, look);
    gate.pass();
    // At least once, whenever the slice is over.
    let mut reads = 0;
    loop {
        R::read_many(&mut reader, look);
        reads += MANY;
        if !gate.is_open() {
            return reads;
        }
    }
}

fn write<S: Shared, U: Update<S>>(shared: &S, gate: &Gate) -> u64 {
    let mut writer = U::writer(shared);
    gate.pass();
    let mut updates = 0;
    while gate.is_open() {
        for _ in 0..BATCH {
            U::update(&mut writer);
        }
        updates += BATCH;
    }
    updates
}

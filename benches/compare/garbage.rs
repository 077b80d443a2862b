//! How much memory is held back, and by whom, while a writer replaces values at full speed.

use crate::cells::arcs::SwapRcu;
use crate::cells::ours::{Cached, Reading, Updating};
use crate::cells::{self, Read, Shared, Update};
use crate::process;
use crate::results::{Answer, Better, Case, Metric};
use crate::runner::{self, Contender, Plan, Sample, now};
use arc_swap::ArcSwap;
use snapcell::Entity;
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

pub(crate) const QUESTION: &str = "garbage";

const METRICS: &[Metric] = &[
    Metric {
        name: "growth",
        unit: "MB",
        better: Better::Less,
    },
    Metric {
        name: "writer",
        unit: "M/s",
        better: Better::More,
    },
];

/// Readers, where they are busy.
const READERS: usize = 2;
/// Updates before memory is looked at for the first time, and between two looks at whether it is over.
const WARM_UP: u64 = 100_000;
const BATCH: u64 = 256;
/// How long a contender runs to be checked.
const CHECKED: Duration = Duration::from_millis(50);
/// Between two looks at memory.
const LOOK: Duration = Duration::from_millis(2);
/// A run ends early that has taken so many bytes: by then it has shown what it does.
const ENOUGH: u64 = 1_000_000_000;

/// Measures for a slice of time.
type Measure = fn(Duration) -> Result<Sample, String>;

/// Who is there beside the writer.
const CONTENDERS: &[(&str, Measure)] = &[
    ("snapcell, nobody", |slice| {
        ours(slice, |_, meanwhile| meanwhile())
    }),
    ("snapcell, a snapshot is held", |slice| {
        ours(slice, |entity, meanwhile| {
            let snapshot = entity.snapshot();
            let peak = meanwhile();
            drop(snapshot);
            peak
        })
    }),
    ("snapcell, an idle Reader is held", |slice| {
        ours(slice, |entity, meanwhile| {
            let reader = entity.reader();
            let peak = meanwhile();
            drop(reader);
            peak
        })
    }),
    ("snapcell, busy Readers", |slice| {
        ours(slice, busy::<Cached>)
    }),
    ("snapcell, busy with read", |slice| {
        ours(slice, busy::<Reading>)
    }),
    ("snapcell, a guard is held", |slice| {
        ours(slice, |_, meanwhile| {
            let guard = snapcell::pin();
            let peak = meanwhile();
            drop(guard);
            peak
        })
    }),
    ("arc_swap, nobody", |slice| {
        theirs(slice, |_, meanwhile| meanwhile())
    }),
    ("arc_swap, a guard is held", |slice| {
        theirs(slice, |swap, meanwhile| {
            let guard = swap.load();
            let peak = meanwhile();
            drop(guard);
            peak
        })
    }),
    ("arc_swap, load_full is held", |slice| {
        theirs(slice, |swap, meanwhile| {
            let full = swap.load_full();
            let peak = meanwhile();
            drop(full);
            peak
        })
    }),
];

pub(crate) fn answer(plan: &Plan) -> Answer {
    let mut cases = Vec::new();
    if process::can_measure() {
        cases.push(case(plan));
    }
    Answer {
        question: QUESTION,
        title: "How much memory is held back under a writer at full speed?",
        notes: &[
            "Peak of the resident memory less that after a warm-up, each in a process of its own. A guard is not meant \
             to be held: what it holds back is everything, and is shown, not judged. A run ends at 1 GB.",
            "Only Linux is asked; elsewhere there is no table.",
        ],
        cases,
    }
}

fn case(plan: &Plan) -> Case {
    let run = |name, slice: Duration| process::measure(QUESTION, name, slice.as_millis() as u64);
    let contenders = CONTENDERS.iter().map(|&(name, _)| Contender {
        name,
        check: Box::new(move || run(name, CHECKED).map(drop)),
        measure: Box::new(move |slice| run(name, slice)),
    });
    // Each takes long, and what is looked for shows at once.
    let plan = Plan {
        repeats: plan.repeats.div_ceil(3),
        slice: plan.long_slice,
        ..*plan
    };
    let name = format!("u64, {} ms", plan.slice.as_millis());
    runner::measure(&plan, name, METRICS, "", contenders.collect())
}

/// Measures one of them.
pub(crate) fn child(contender: &str, slice_ms: u64) -> Result<Sample, String> {
    let found = CONTENDERS.iter().find(|(name, _)| *name == contender);
    let (_, measure) = found.ok_or_else(|| format!("there is no {contender:?}"))?;
    measure(Duration::from_millis(slice_ms))
}

/// The measurement, which returns the peak in bytes: whoever is there has to be there while it runs.
type Meanwhile<'a> = &'a mut dyn FnMut() -> u64;

fn ours(
    slice: Duration,
    with: impl FnOnce(&Entity<u64>, Meanwhile<'_>) -> u64,
) -> Result<Sample, String> {
    beside::<Entity<u64>, Updating>(slice, with)
}

fn theirs(
    slice: Duration,
    with: impl FnOnce(&ArcSwap<u64>, Meanwhile<'_>) -> u64,
) -> Result<Sample, String> {
    beside::<ArcSwap<u64>, SwapRcu>(slice, with)
}

/// Runs a writer beside whoever is there.
fn beside<S: Shared<Payload = u64>, U: Update<S>>(
    slice: Duration,
    with: impl FnOnce(&S, Meanwhile<'_>) -> u64,
) -> Result<Sample, String> {
    let shared = S::new(0);
    let (is_warm, starts) = (Barrier::new(2), Barrier::new(2));
    let is_over = AtomicBool::new(false);
    let (growth, updates, elapsed) = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut writer = U::writer(&shared);
            (0..WARM_UP).for_each(|_| _ = black_box(U::update(&mut writer)));
            is_warm.wait();
            starts.wait();
            let start = now();
            let mut updates = 0;
            while !is_over.load(Ordering::Relaxed) {
                (0..BATCH).for_each(|_| _ = black_box(U::update(&mut writer)));
                updates += BATCH;
            }
            (updates, start.elapsed())
        });
        is_warm.wait();
        let before = process::resident().unwrap_or(0);
        let peak = with(&shared, &mut || {
            starts.wait();
            let peak = peak(slice, before + ENOUGH);
            is_over.store(true, Ordering::Relaxed);
            peak
        });
        let (updates, elapsed) = writer.join().expect("the writer doesn't panic");
        (peak.saturating_sub(before), updates, elapsed)
    });
    cells::adds_up(&shared, WARM_UP + updates)?;
    Ok(vec![
        growth as f64 / 1e6,
        updates as f64 * 1e3 / elapsed.as_nanos() as f64,
    ])
}

/// The most that is in memory during a slice of time, or more than enough.
fn peak(slice: Duration, enough: u64) -> u64 {
    let start = now();
    let mut peak = 0;
    while start.elapsed() < slice && peak < enough {
        peak = peak.max(process::resident().unwrap_or(0));
        thread::sleep(LOOK);
    }
    peak.max(process::resident().unwrap_or(0))
}

/// Readers at full speed.
fn busy<R: Read<Entity<u64>>>(entity: &Entity<u64>, meanwhile: Meanwhile<'_>) -> u64 {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                let mut reader = R::reader(entity);
                while !is_over.load(Ordering::Relaxed) {
                    R::read_many(&mut reader, |value| {
                        black_box(*value);
                    });
                }
            });
        }
        let peak = meanwhile();
        is_over.store(true, Ordering::Relaxed);
        peak
    })
}

//! What a transaction leaves behind for those who load after it.

use crate::cells::ours::{Loading, Reading};
use crate::cells::{MANY, Read};
use crate::results::{Better, Case, Metric};
use crate::runner::{self, Contender, Gate, Plan, Sample, together};
use snapcell::{Entity, transaction};
use std::hint::black_box;
use std::time::Duration;

const METRICS: &[Metric] = &[Metric {
    name: "read",
    unit: "ns",
    better: Better::Less,
}];

const AFTER_COMMIT: &str = "read, after a commit";

/// What was done to an entity last.
#[derive(Clone, Copy)]
enum Last {
    /// It was written by a commit of its own.
    Commit,
    /// A transaction wrote it, and another one.
    Written,
    /// A transaction read it, and wrote another one.
    Required,
}

pub(super) fn case(plan: &Plan) -> Case {
    let contenders = vec![
        contender::<Reading>(AFTER_COMMIT, Last::Commit),
        contender::<Reading>("read, after a transaction", Last::Written),
        contender::<Reading>("read, after being required", Last::Required),
        contender::<Loading>("load, after a commit", Last::Commit),
        contender::<Loading>("load, after a transaction", Last::Written),
        contender::<Loading>("load, after being required", Last::Required),
    ];
    runner::measure(
        plan,
        "a read after a write",
        METRICS,
        AFTER_COMMIT,
        contenders,
    )
}

fn contender<R: Read<Entity<u64>>>(name: &'static str, last: Last) -> Contender {
    Contender {
        name,
        check: Box::new(move || {
            let (entity, _other) = written(last);
            let mut seen = Vec::new();
            R::read_many(&mut R::reader(&entity), |value| seen.push(*value));
            match seen.iter().all(|value| *value == 1) {
                true => Ok(()),
                false => Err(format!("{seen:?} were read, not 1")),
            }
        }),
        measure: Box::new(move |slice| Ok(measure::<R>(last, slice))),
    }
}

/// An entity that holds 1, and another one that a transaction may have written.
fn written(last: Last) -> (Entity<u64>, Entity<u64>) {
    let (entity, other) = (Entity::new(0), Entity::new(0));
    match last {
        Last::Commit => _ = entity.update(|value| value + 1),
        Last::Written => transaction(|tx| {
            tx.write(&entity, 1);
            tx.write(&other, 1);
            Ok(())
        }),
        Last::Required => {
            _ = entity.update(|value| value + 1);
            transaction(|tx| {
                _ = tx.require(&entity)?;
                tx.write(&other, 1);
                Ok(())
            });
        }
    }
    (entity, other)
}

fn measure<R: Read<Entity<u64>>>(last: Last, slice: Duration) -> Sample {
    let (entity, _other) = written(last);
    let worker = |gate: &Gate| {
        let mut reader = R::reader(&entity);
        let mut reads = 0;
        gate.pass();
        loop {
            R::read_many(&mut reader, |value| {
                black_box(*value);
            });
            reads += MANY;
            if !gate.is_open() {
                return reads;
            }
        }
    };
    let (reads, elapsed) = together(slice, vec![worker]);
    vec![elapsed.as_nanos() as f64 / reads[0] as f64]
}

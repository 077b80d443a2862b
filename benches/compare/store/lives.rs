//! Insertions and removals.

use super::maps::Map;
use super::{Books, CHECKED, REFERENCE, Stock, Stocks, fresh, name};
use crate::results::{Better, Case, Metric};
use crate::runner::{self, Contender, Gate, Plan, Sample, now, together};
use crate::stores::BURST;
use snapcell::EntityId;
use std::collections::VecDeque;
use std::time::Duration;

const METRICS: &[Metric] = &[
    Metric {
        name: "insert",
        unit: "M/s",
        better: Better::More,
    },
    Metric {
        name: "remove",
        unit: "M/s",
        better: Better::More,
    },
];

/// Bursts of a thread's that are there before the first of them is removed.
const LIFE: usize = 16;

pub(super) fn case(plan: &Plan, stocks: &Stocks, threads: usize) -> Case {
    let size = stocks.size;
    let contenders = vec![
        contender(&stocks.store, size, threads),
        contender(&stocks.foreign, size, threads),
        contender(&stocks.dash, size, threads),
        contender(&stocks.scc, size, threads),
        contender(&stocks.papaya, size, threads),
        contender(&stocks.locked, size, threads),
    ];
    let name = name(size, "insert and remove", threads);
    runner::measure(plan, name, METRICS, REFERENCE, contenders)
}

fn contender<M: Map>(stock: &Stock<M>, size: usize, threads: usize) -> Contender {
    let stock = stock.clone();
    // Each slice has ids of its own.
    let mut slices = 0;
    Contender {
        name: M::NAME,
        check: Box::new(move || {
            let size = size.min(CHECKED);
            let books = Books::<M>::new(size);
            run(&books.map, threads, 0, Duration::ZERO)?;
            books.add_up()
        }),
        measure: Box::new(move |slice| {
            let mut stock = stock.0.borrow_mut();
            let books = stock.get_or_insert_with(|| Books::new(size));
            slices += 1;
            let sample = run(&books.map, threads, slices, slice)?;
            let mut some = books.ids.iter().take(CHECKED);
            match some.all(|id| M::read(&books.map.burst(), *id).is_some()) {
                true => Ok(sample),
                false => Err("an entity that was not removed is gone".to_owned()),
            }
        }),
    }
}

/// Has each thread insert and remove until the slice of time is over.
fn run<M: Map>(map: &M, threads: usize, slices: u64, slice: Duration) -> Result<Sample, String> {
    let worker = |thread: usize| {
        let seed = slices << 8 | thread as u64;
        // Not the seed of what is there already.
        let random = fastrand::Rng::with_seed(!seed);
        move |gate: &Gate| go(map, random, gate)
    };
    let (rates, _) = together(slice, (0..threads).map(worker).collect());
    let mut sum = vec![0.0, 0.0];
    for rate in rates {
        let [inserted, removed] = rate.ok_or("an id was taken, or an entity was not there")?;
        sum[0] += inserted;
        sum[1] += removed;
    }
    Ok(sum)
}

/// Insertions and removals of this thread, in millions for each second that it took for them.
fn go<M: Map>(map: &M, mut random: fastrand::Rng, gate: &Gate) -> Option<[f64; 2]> {
    let mut living: VecDeque<[EntityId; BURST]> = VecDeque::with_capacity(LIFE + 1);
    let (mut spent, mut number) = ([Duration::ZERO; 2], [0_u64; 2]);
    let mut is_right = true;
    gate.pass();
    loop {
        let mut ids = [(); BURST].map(|()| fresh(&mut random));
        let start = now();
        let burst = map.burst();
        for id in &mut ids {
            let begun = M::begin(&burst, *id);
            is_right &= begun.is_some();
            *id = begun.unwrap_or(*id);
        }
        drop(burst);
        spent[0] += start.elapsed();
        number[0] += BURST as u64;
        living.push_back(ids);
        let is_over = !gate.is_open();
        while living.len() > LIFE || is_over {
            let Some(ids) = living.pop_front() else {
                break;
            };
            let start = now();
            let burst = map.burst();
            for id in ids {
                is_right &= M::remove(&burst, id);
            }
            drop(burst);
            spent[1] += start.elapsed();
            number[1] += BURST as u64;
        }
        if is_over {
            break;
        }
    }
    let rate = |of: usize| number[of] as f64 / 1e6 / spent[of].as_secs_f64();
    is_right.then(|| [rate(0), rate(1)])
}

//! A thread stops for good in the middle of a transfer. What do the others get done?

use super::{FEW, REFERENCE};
use crate::banks::{self, Bank, Books, Pair, Part, RICH};
use crate::results::{Better, Case, Metric};
use crate::runner::{self, Contender, Gate, Plan, Sample, together};
use crate::table;
use std::cell::Cell;
use std::thread;
use std::time::Duration;

const METRICS: &[Metric] = &[Metric {
    name: "transfers",
    unit: "M/s",
    better: Better::More,
}];

/// Threads that go on, as far as they can.
const OTHERS: usize = 2;
/// Transfers of each, which it goes through again and again.
const DRAWN: usize = 1 << 12;
/// Between two looks of the one that has stopped at whether all is over.
const LOOK: Duration = Duration::from_millis(1);

pub(super) fn case(plan: &Plan) -> Case {
    let few = table::count(FEW.into());
    let name = format!("transfers, {few} accounts, {OTHERS} threads, another has stopped");
    let contenders = banks::contenders::<Vec<u64>>(&Stopped);
    runner::measure(plan, name, METRICS, REFERENCE, contenders)
}

struct Stopped;

impl Part for Stopped {
    fn contender<B: Bank>(&self) -> Contender {
        Contender {
            name: B::NAME,
            check: Box::new(|| banks::check_transfers::<B>(OTHERS)),
            measure: Box::new(measure::<B>),
        }
    }
}

fn measure<B: Bank>(slice: Duration) -> Result<Sample, String> {
    let mut books = Books::<B>::new(FEW, RICH);
    let bank = &books.bank;
    let drawn: Vec<_> = (0..OTHERS)
        .map(|thread| banks::draw(FEW, DRAWN, thread as u64))
        .collect();
    let worker = |index: usize| {
        let drawn = &drawn;
        move |gate: &Gate| match drawn.get(index) {
            Some(pairs) => go_on(bank, pairs, gate),
            None => stop(bank, gate),
        }
    };
    let (done, elapsed) = together(slice, (0..=OTHERS).map(worker).collect());
    let mut in_time = 0;
    for (done, pairs) in done.iter().zip(&drawn) {
        books.record_rounds(pairs, done.transfers);
        in_time += done.in_time;
    }
    books.record(HALF, 1);
    books.add_up()?;
    Ok(vec![in_time as f64 * 1e3 / elapsed.as_nanos() as f64])
}

/// What one of the others did.
struct Done {
    transfers: u64,
    /// Those that ended while the one that has stopped was in its transfer.
    in_time: u64,
}

/// The transfer that one stops in.
const HALF: Pair = Pair::new(0, 1);

/// Stops in the middle of a transfer, until all is over. The others start when it has stopped.
fn stop<B: Bank>(bank: &B, gate: &Gate) -> Done {
    let has_stopped = Cell::new(false);
    bank.transfer(HALF, || {
        if !has_stopped.replace(true) {
            gate.pass();
        }
        while gate.is_open() {
            thread::sleep(LOOK);
        }
    });
    Done {
        transfers: 1,
        in_time: 0,
    }
}

/// Who comes to a lock that is held waits for it, as its users would.
fn go_on<B: Bank>(bank: &B, pairs: &[Pair], gate: &Gate) -> Done {
    gate.pass();
    let mut done = Done {
        transfers: 0,
        in_time: 0,
    };
    for pair in pairs.iter().cycle() {
        bank.transfer(*pair, || {});
        done.transfers += 1;
        if !gate.is_open() {
            break;
        }
        done.in_time += 1;
    }
    done
}

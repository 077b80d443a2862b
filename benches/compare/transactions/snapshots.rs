//! Several values at one instant, to be looked at only: alone, and beside a writer at full speed.

use super::REFERENCE;
use crate::banks::ours::Reading;
use crate::banks::{self, Bank, Books, Part, RICH};
use crate::cells::{CHECKED, MANY};
use crate::results::{Better, Case, Metric};
use crate::runner::{self, Contender, Gate, Plan, Sample, together};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const SNAPSHOT: Metric = Metric {
    name: "snapshot",
    unit: "ns",
    better: Better::Less,
};
const WRITER: Metric = Metric {
    name: "writer",
    unit: "M/s",
    better: Better::More,
};

/// Transfers between two looks at the gate.
const BATCH: usize = 32;
/// Transfers of the writer, which it goes through again and again.
const DRAWN: usize = 1 << 12;

/// Who is there too.
#[derive(Clone, Copy)]
pub(super) enum Beside {
    Nobody,
    /// One who makes transfers between so many accounts.
    Writer {
        accounts: u32,
    },
}

impl Beside {
    fn writer(self) -> Option<u32> {
        match self {
            Beside::Nobody => None,
            Beside::Writer { accounts } => Some(accounts),
        }
    }
}

pub(super) fn case<const K: usize>(plan: &Plan, beside: Beside) -> Case {
    let (name, metrics): (_, &[Metric]) = match beside {
        Beside::Nobody => (format!("snapshot of {K}"), &[SNAPSHOT]),
        Beside::Writer { accounts } => (
            format!("snapshot of {K}, transfers among {accounts}"),
            &[SNAPSHOT, WRITER],
        ),
    };
    let looks = Looks::<K>(beside);
    let mut contenders = banks::contenders::<Vec<u64>>(&looks);
    // Beside the other way that the crate has.
    contenders.insert(1, looks.contender::<Reading>());
    runner::measure(plan, name, metrics, REFERENCE, contenders)
}

/// Snapshots of so many.
struct Looks<const K: usize>(Beside);

impl<const K: usize> Part for Looks<K> {
    fn contender<B: Bank>(&self) -> Contender {
        let beside = self.0;
        Contender {
            name: B::LOOK,
            check: Box::new(check::<B, K>),
            measure: Box::new(move |slice| measure::<B, K>(beside, slice)),
        }
    }
}

/// Beside transfers that change nothing of the sum, the sum is always the same.
fn check<B: Bank, const K: usize>() -> Result<(), String> {
    let mut books = Books::<B>::new(K as u32, RICH);
    let bank = &books.bank;
    let pairs = banks::draw(K as u32, CHECKED as usize, 1);
    let is_over = AtomicBool::new(false);
    let write = |gate: &Gate| {
        gate.pass();
        for pair in &pairs {
            bank.transfer(*pair, || {});
        }
        is_over.store(true, Ordering::Relaxed);
        0
    };
    let look = |gate: &Gate| {
        gate.pass();
        let mut wrong = 0;
        // At least once, whoever is faster.
        loop {
            let is_last = is_over.load(Ordering::Relaxed);
            let seen = bank.look(banks::first::<K>());
            wrong += u64::from(seen.iter().sum::<u64>() != K as u64 * RICH);
            if is_last {
                return wrong;
            }
        }
    };
    let workers: Vec<Worker<'_>> = vec![Box::new(write), Box::new(look)];
    let (wrong, _) = together(Duration::ZERO, workers);
    match wrong.iter().sum() {
        0_u64 => {
            books.record_rounds(&pairs, CHECKED);
            books.add_up()
        }
        wrong => Err(format!("{wrong} sums were never there")),
    }
}

type Worker<'a> = Box<dyn FnOnce(&Gate) -> u64 + Send + 'a>;

/// What a thread of the measurement did.
enum Did {
    Looks(u64),
    Transfers(u64),
}

fn measure<B: Bank, const K: usize>(beside: Beside, slice: Duration) -> Result<Sample, String> {
    let accounts = beside.writer().unwrap_or(super::FEW);
    let mut books = Books::<B>::new(accounts, RICH);
    let bank = &books.bank;
    let pairs = banks::draw(accounts, DRAWN, 1);
    let worker = |index: usize| {
        let pairs = &pairs;
        move |gate: &Gate| {
            if index == 0 {
                Did::Looks(look::<B, K>(bank, gate))
            } else {
                Did::Transfers(write(bank, pairs, gate))
            }
        }
    };
    let threads = 1 + usize::from(beside.writer().is_some());
    let (did, elapsed) = together(slice, (0..threads).map(worker).collect());
    let (mut looks, mut transfers) = (0, 0);
    for did in did {
        match did {
            Did::Looks(n) => looks += n,
            Did::Transfers(n) => transfers += n,
        }
    }
    books.record_rounds(&pairs, transfers);
    books.add_up()?;
    let ns = elapsed.as_nanos() as f64;
    let mut sample = vec![ns / looks as f64];
    if beside.writer().is_some() {
        sample.push(transfers as f64 * 1e3 / ns);
    }
    Ok(sample)
}

fn look<B: Bank, const K: usize>(bank: &B, gate: &Gate) -> u64 {
    let accounts = banks::first::<K>();
    gate.pass();
    let mut looks = 0;
    loop {
        for _ in 0..MANY {
            black_box(bank.look(black_box(accounts)));
        }
        looks += MANY;
        if !gate.is_open() {
            return looks;
        }
    }
}

fn write<B: Bank>(bank: &B, pairs: &[banks::Pair], gate: &Gate) -> u64 {
    gate.pass();
    let mut transfers = 0;
    for burst in pairs.chunks_exact(BATCH).cycle() {
        if !gate.is_open() {
            break;
        }
        for pair in burst {
            bank.transfer(*pair, || {});
        }
        transfers += BATCH as u64;
    }
    transfers
}

//! Transfers between accounts that are drawn at random.

use super::REFERENCE;
use crate::banks::{self, Bank, Books, Pair, Part, RICH};
use crate::latency::histogram;
use crate::results::{Better, Case, Metric};
use crate::runner::{self, Contender, Gate, Plan, Sample, now, together};
use crate::table;
use banks::whole::Ledger;
use hdrhistogram::Histogram;
use std::rc::Rc;
use std::time::Duration;

const METRICS: &[Metric] = &[
    metric("transfers", "M/s", Better::More),
    metric("runs", "per transfer", Better::Less),
    metric("p50", "ns", Better::Less),
    metric("p99", "ns", Better::Less),
    metric("p99.9", "ns", Better::Less),
];

const fn metric(name: &'static str, unit: &'static str, better: Better) -> Metric {
    Metric { name, unit, better }
}

/// Transfers of a thread, which it goes through again and again.
const DRAWN: usize = 1 << 16;
/// Of so many transfers one is timed, and then the gate is looked at.
const TIMED: usize = 64;

pub(super) fn case<L: Ledger>(plan: &Plan, accounts: u32, threads: usize) -> Case {
    let name = format!(
        "transfers, {} accounts, {threads} thread{}",
        table::count(accounts.into()),
        if threads == 1 { "" } else { "s" }
    );
    let pairs = (0..threads).map(|thread| banks::draw(accounts, DRAWN, thread as u64));
    let transfers = Transfers {
        accounts,
        pairs: pairs.collect(),
    };
    let contenders = banks::contenders::<L>(&transfers);
    runner::measure(plan, name, METRICS, REFERENCE, contenders)
}

/// What each thread does.
struct Transfers {
    accounts: u32,
    pairs: Rc<[Vec<Pair>]>,
}

impl Part for Transfers {
    fn contender<B: Bank>(&self) -> Contender {
        let (accounts, pairs) = (self.accounts, Rc::clone(&self.pairs));
        let threads = pairs.len();
        // Opened once: many accounts take a while.
        let mut books = None;
        Contender {
            name: B::NAME,
            check: Box::new(move || banks::check_transfers::<B>(threads)),
            measure: Box::new(move |slice| {
                let books = books.get_or_insert_with(|| Books::<B>::new(accounts, RICH));
                measure(books, &pairs, slice)
            }),
        }
    }
}

/// What a thread did.
struct Done {
    transfers: u64,
    made: u64,
    runs: u64,
    latencies: Histogram<u64>,
}

fn measure<B: Bank>(
    books: &mut Books<B>,
    pairs: &[Vec<Pair>],
    slice: Duration,
) -> Result<Sample, String> {
    let bank = &books.bank;
    let workers = pairs
        .iter()
        .map(|pairs| move |gate: &Gate| work(bank, pairs, gate));
    let (done, elapsed) = together(slice, workers.collect());
    let mut latencies = histogram();
    let (mut transfers, mut runs) = (0, 0);
    for (done, pairs) in done.iter().zip(pairs) {
        if done.made != done.transfers {
            return Err("a rich account had nothing".to_owned());
        }
        books.record_rounds(pairs, done.transfers);
        transfers += done.transfers;
        runs += done.runs;
        latencies.add(&done.latencies).map_err(|e| e.to_string())?;
    }
    books.add_up()?;
    Ok(vec![
        transfers as f64 * 1e3 / elapsed.as_nanos() as f64,
        runs as f64 / transfers as f64,
        latencies.value_at_quantile(0.5) as f64,
        latencies.value_at_quantile(0.99) as f64,
        latencies.value_at_quantile(0.999) as f64,
    ])
}

fn work<B: Bank>(bank: &B, pairs: &[Pair], gate: &Gate) -> Done {
    let mut done = Done {
        transfers: 0,
        made: 0,
        runs: 0,
        latencies: histogram(),
    };
    gate.pass();
    for burst in pairs.chunks_exact(TIMED).cycle() {
        let start = now();
        done.transfer(bank, burst[0]);
        let elapsed = start.elapsed();
        done.latencies.saturating_record(elapsed.as_nanos() as u64);
        for pair in &burst[1..] {
            done.transfer(bank, *pair);
        }
        if !gate.is_open() {
            break;
        }
    }
    done
}

impl Done {
    #[inline]
    fn transfer<B: Bank>(&mut self, bank: &B, pair: Pair) {
        let transfer = bank.transfer(pair, || {});
        self.transfers += 1;
        self.made += u64::from(transfer.is_made);
        self.runs += transfer.runs;
    }
}

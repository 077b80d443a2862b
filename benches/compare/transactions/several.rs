//! A transaction that reads and writes several values, with nobody in its way.

use super::{FEW, REFERENCE};
use crate::banks::{self, Bank, Part};
use crate::cells::CHECKED;
use crate::results::{Better, Case, Metric};
use crate::runner::{self, Contender, Gate, Plan, Sample, together};
use std::hint::black_box;
use std::time::Duration;

const METRICS: &[Metric] = &[Metric {
    name: "transaction",
    unit: "ns",
    better: Better::Less,
}];

/// Transactions between two looks at the gate.
const BATCH: u64 = 32;

pub(super) fn case<const K: usize>(plan: &Plan) -> Case {
    let name = format!("{K} values read and written");
    let contenders = banks::contenders::<Vec<u64>>(&Several::<K>);
    runner::measure(plan, name, METRICS, REFERENCE, contenders)
}

/// So many of a few.
struct Several<const K: usize>;

impl<const K: usize> Part for Several<K> {
    fn contender<B: Bank>(&self) -> Contender {
        Contender {
            name: B::NAME,
            check: Box::new(check::<B, K>),
            measure: Box::new(measure::<B, K>),
        }
    }
}

/// Two threads, which are in each other's way.
fn check<B: Bank, const K: usize>() -> Result<(), String> {
    let bank = B::new(FEW as usize, 0);
    let worker = |gate: &Gate| {
        gate.pass();
        (0..CHECKED).for_each(|_| bank.bump(banks::first::<K>()));
    };
    together(Duration::ZERO, vec![worker, worker]);
    adds_up::<B, K>(&bank, 2 * CHECKED)
}

fn measure<B: Bank, const K: usize>(slice: Duration) -> Result<Sample, String> {
    let bank = B::new(FEW as usize, 0);
    let worker = |gate: &Gate| {
        let accounts = banks::first::<K>();
        gate.pass();
        let mut transactions = 0;
        loop {
            for _ in 0..BATCH {
                bank.bump(black_box(accounts));
            }
            transactions += BATCH;
            if !gate.is_open() {
                return transactions;
            }
        }
    };
    let (transactions, elapsed) = together(slice, vec![worker]);
    adds_up::<B, K>(&bank, transactions[0])?;
    Ok(vec![elapsed.as_nanos() as f64 / transactions[0] as f64])
}

fn adds_up<B: Bank, const K: usize>(bank: &B, transactions: u64) -> Result<(), String> {
    for account in banks::first::<K>() {
        let count = bank.balance(account);
        if count != transactions {
            return Err(format!(
                "{transactions} transactions left a count of {count}"
            ));
        }
    }
    match bank.versions() {
        Some(versions) if versions != K as u64 * transactions => Err(format!(
            "{transactions} transactions left {versions} versions"
        )),
        _ => Ok(()),
    }
}

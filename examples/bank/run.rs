//! Who works with the bank, and what is counted meanwhile.

use crate::args::Arguments;
use crate::bank::{Account, Bank, DEPOSIT, Order};
use Count::*;
use snapcell::{Lag, Snapshot};
use std::collections::BTreeSet;
use std::ops::{AddAssign, Index, IndexMut};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The most accounts in a transfer.
const MOST: usize = 8;

/// What is counted, as it happens.
#[derive(Clone, Copy)]
pub(crate) enum Count {
    /// Transfers that were made, and those that were refused.
    Transferred,
    Refused,
    /// How often the closures of transfers ran, and how often they went on to the commit.
    Runs,
    Tries,
    /// How often there was interest, and how often none.
    Paid,
    NotPaid,
    /// Plain updates, and their attempts.
    Saved,
    SavingAttempts,
    /// What customers have bought, and how often they waited.
    Bought,
    Waited,
    /// New values of accounts.
    Written,
    /// Audits; those whose sum was right; those that saw nothing older than the one before.
    Audited,
    Balanced,
    InOrder,
    /// Looks that audits took, and audits that took a transaction.
    Looks,
    ByTransaction,
}

/// What one thread has counted, or all of them.
#[derive(Default)]
pub(crate) struct Tally([u64; ByTransaction as usize + 1]);

impl Index<Count> for Tally {
    type Output = u64;

    fn index(&self, count: Count) -> &u64 {
        &self.0[count as usize]
    }
}

impl IndexMut<Count> for Tally {
    fn index_mut(&mut self, count: Count) -> &mut u64 {
        &mut self.0[count as usize]
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        for (all, some) in self.0.iter_mut().zip(other.0) {
            *all += some;
        }
    }
}

/// A run, with what is left of the bank.
pub(crate) struct Run {
    pub(crate) tally: Tally,
    pub(crate) elapsed: Duration,
    pub(crate) accounts: Vec<Snapshot<Account>>,
    pub(crate) transfers: Snapshot<u64>,
    /// What waits to be freed after all.
    pub(crate) lag: Lag,
}

pub(crate) fn run(arguments: &Arguments) -> Run {
    let bank = Bank::new(arguments.accounts);
    let busy = AtomicUsize::new(arguments.tellers);
    let start = Barrier::new(arguments.tellers + arguments.auditors);
    let (tally, elapsed) = thread::scope(|scope| {
        let (bank, busy, start) = (&bank, &busy, &start);
        let mut others = Vec::new();
        for customer in 0..arguments.customers {
            others.push(scope.spawn(move || buy(bank, arguments, customer)));
        }
        for _ in 0..arguments.auditors {
            others.push(scope.spawn(move || {
                start.wait();
                audit(bank, busy)
            }));
        }
        let tellers = (0..arguments.tellers).map(|teller| {
            scope.spawn(move || {
                start.wait();
                let began = now();
                let tally = work(bank, arguments, teller);
                busy.fetch_sub(1, Ordering::Relaxed);
                (tally, began, now())
            })
        });
        let tellers: Vec<_> = tellers.collect();
        let ends = tellers.into_iter().map(|teller| teller.join());
        let ends: Vec<_> = ends.map(|end| end.expect("no teller panics")).collect();
        bank.is_open.replace(false);
        let began = ends.iter().map(|(_, began, _)| *began).min();
        let ended = ends.iter().map(|(_, _, ended)| *ended).max();
        let mut all = Tally::default();
        ends.into_iter().for_each(|(tally, ..)| all += tally);
        for other in others {
            all += other.join().expect("no customer or auditor panics");
        }
        (
            all,
            ended
                .zip(began)
                .map_or(Duration::ZERO, |(ended, began)| ended - began),
        )
    });
    let accounts = bank.audit().into_inner();
    let transfers = bank.transfers.snapshot();
    drop(bank);
    // All other threads have ended, so nothing is in its way.
    snapcell::reclaim();
    Run {
        tally,
        elapsed,
        accounts,
        transfers,
        lag: snapcell::reclamation_lag(),
    }
}

/// A teller: transfers for the most part.
fn work(bank: &Bank, arguments: &Arguments, teller: usize) -> Tally {
    let mut rng = fastrand::Rng::with_seed(arguments.seed ^ ((teller as u64 + 1) << 32));
    let mut tally = Tally::default();
    let share = arguments.operations / arguments.tellers;
    let has_one_more = teller < arguments.operations % arguments.tellers;
    for _ in 0..share + usize::from(has_one_more) {
        let account = rng.usize(1..arguments.accounts);
        match rng.u8(..16) {
            0 if bank.pay_interest(account) => {
                tally[Paid] += 1;
                tally[Written] += 2;
            }
            0 => tally[NotPaid] += 1,
            1..4 => {
                tally[SavingAttempts] += u64::from(bank.save(account));
                tally[Saved] += 1;
                tally[Written] += 1;
            }
            _ => transfer(bank, &draw(&mut rng, arguments), &mut tally),
        }
    }
    tally
}

fn transfer(bank: &Bank, order: &Order, tally: &mut Tally) {
    let (result, effort) = bank.transfer(order);
    tally[Runs] += effort.runs;
    tally[Tries] += effort.tries;
    match result {
        Ok(()) => {
            tally[Transferred] += 1;
            tally[Written] += 1 + order.payees.len() as u64 + u64::from(order.has_fee());
        }
        Err(_) => tally[Refused] += 1,
    }
}

/// Draws a transfer between two to eight accounts, as far as there are so many.
fn draw(rng: &mut fastrand::Rng, arguments: &Arguments) -> Order {
    // All but the bank's own.
    let payer = rng.usize(1..arguments.accounts);
    let accounts = rng.usize(2..=MOST.min(arguments.accounts - 1));
    let mut payees = BTreeSet::new();
    while payees.len() < accounts - 1 {
        let payee = rng.usize(1..arguments.accounts);
        if payee != payer {
            payees.insert(payee);
        }
    }
    let payees = payees.into_iter().map(|payee| (payee, rng.u64(1..=100)));
    Order {
        payer,
        payees: payees.collect(),
    }
}

/// A customer: waits for money, and brings it to the shop, until the bank is closed.
fn buy(bank: &Bank, arguments: &Arguments, customer: usize) -> Tally {
    let mut tally = Tally::default();
    let (own, shop) = (1 + customer, 1 + arguments.customers);
    while bank.buy(own, shop, || tally[Waited] += 1) {
        tally[Bought] += 1;
        tally[Written] += 2;
    }
    tally
}

/// An auditor: counts all the money, once at least, and as long as a teller is at work.
fn audit(bank: &Bank, busy: &AtomicUsize) -> Tally {
    let expected = DEPOSIT * bank.accounts.len() as u64;
    let mut tally = Tally::default();
    let mut versions_before = 0;
    loop {
        let is_last = busy.load(Ordering::Relaxed) == 0;
        let moment = bank.audit();
        let money: u64 = moment.iter().map(|account| account.total()).sum();
        let versions: u64 = moment.iter().map(|account| account.stamp().version()).sum();
        tally[Audited] += 1;
        tally[Balanced] += u64::from(money == expected);
        tally[InOrder] += u64::from(versions >= versions_before);
        tally[Looks] += u64::from(moment.attempts());
        tally[ByTransaction] += u64::from(moment.took_transaction());
        versions_before = versions;
        if is_last {
            return tally;
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "a human reads it; nothing depends on it"
)]
fn now() -> Instant {
    Instant::now()
}

//! Transfers between accounts, by every way to make one, under the eyes of auditors.
//!
//! The laws:
//! 1. the sum of all accounts is the same at every moment that anybody sees, not only at the end;
//! 2. the version of an account is the number of commits that wrote it, and each is counted by whoever made
//!    it;
//! 3. an account is never overdrawn, and no value is torn;
//! 4. whatever panics, gives up, is refused or runs out of attempts has changed nothing;
//! 5. at the end each value was dropped once, and nothing waits to be freed.

use super::payload::Payload;
use super::planned::{PLANNED, plan, silence_what_is_planned};
use super::probes::at_once;
use super::tracked::alone;
use fastrand::Rng;
use snapcell::{
    Changes, Clock, Entity, Retry, Stop, Transact, Transaction, TransactionError, snapshot_of,
    transaction, transaction_or_abort, try_transaction,
};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;

/// How a run is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub(crate) tellers: usize,
    pub(crate) auditors: usize,
    pub(crate) accounts: usize,
    /// Transfers of each teller.
    pub(crate) transfers: usize,
    /// Once in so many times a teller gives its slice of time away in the midst of a transfer.
    pub(crate) yields: u32,
}

/// What came of a run that broke no law.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Report {
    pub(crate) transfers: usize,
    /// Attempts that somebody else made futile.
    pub(crate) conflicts: usize,
    /// Transfers that were given up, for whatever reason.
    pub(crate) given_up: usize,
    pub(crate) audits: usize,
    /// Audits that took more than one look.
    pub(crate) looks_again: usize,
}

const AT_FIRST: u64 = 1_000;

pub(crate) fn run<P: Payload>(config: Config, seed: u64) -> Report {
    silence_what_is_planned();
    alone(|| run_alone::<P>(config, seed))
}

fn run_alone<P: Payload>(config: Config, seed: u64) -> Report {
    let account = |n| match n % 3 {
        0 => Entity::builder(P::make(AT_FIRST))
            .clock(Clock::logical())
            .build(),
        _ => Entity::new(P::make(AT_FIRST)),
    };
    let accounts: Vec<Entity<P>> = (0..config.accounts).map(account).collect();
    let done = AtomicUsize::new(0);
    let over = AtomicBool::new(false);
    let reports = at_once(config.tellers + config.auditors, |id| {
        let rng = Rng::with_seed(seed ^ (id as u64) << 32).fork();
        if id >= config.tellers {
            return audit(&accounts, &over, rng);
        }
        let _ending = OnDrop(|| {
            if done.fetch_add(1, SeqCst) + 1 == config.tellers {
                over.store(true, SeqCst);
            }
        });
        let mut teller = Teller {
            accounts: &accounts,
            config,
            rng,
            commits: vec![0; accounts.len()],
            report: Report::default(),
        };
        for _ in 0..config.transfers {
            teller.transfer();
        }
        (teller.report, teller.commits)
    });
    let mut all = Report::default();
    let mut commits = vec![0; accounts.len()];
    for (report, written) in reports {
        all.transfers += report.transfers;
        all.conflicts += report.conflicts;
        all.given_up += report.given_up;
        all.audits += report.audits;
        all.looks_again += report.looks_again;
        for (account, number) in written.into_iter().enumerate() {
            commits[account] += number;
        }
    }
    let end = snapshot_of(&accounts[..]);
    check_sum(end.iter().map(|account| account.number()), &accounts);
    for (account, commits) in end.iter().zip(commits) {
        assert_eq!(
            account.stamp().version(),
            commits,
            "broken law: the version is the number of commits"
        );
    }
    all
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[track_caller]
fn check_sum<P: Payload>(balances: impl Iterator<Item = u64>, accounts: &[Entity<P>]) {
    let sum: u64 = balances.sum();
    assert_eq!(
        sum,
        AT_FIRST * accounts.len() as u64,
        "broken law: money was made or lost"
    );
}

fn audit<P: Payload>(
    accounts: &[Entity<P>],
    over: &AtomicBool,
    mut rng: Rng,
) -> (Report, Vec<u64>) {
    let mut report = Report::default();
    while !over.load(SeqCst) {
        report.audits += 1;
        match rng.u8(..8) {
            0 => {
                let attempts = transaction(|tx| {
                    let mut balances = Vec::new();
                    for account in accounts {
                        balances.push(tx.read(account)?.number());
                    }
                    check_sum(balances.into_iter(), accounts);
                    Ok(tx.attempt())
                });
                report.looks_again += usize::from(attempts > 1);
            }
            1 => {
                let changes = {
                    let seen = snapshot_of(accounts);
                    let no_change = Changes::new();
                    accounts
                        .iter()
                        .zip(seen.iter())
                        .fold(no_change, |changes, (account, seen)| {
                            changes.require(account, seen.stamp())
                        })
                };
                report.looks_again += usize::from(try_transaction(changes).is_err());
            }
            2.. => {
                let seen = snapshot_of(accounts);
                check_sum(seen.iter().map(|account| account.number()), accounts);
                report.looks_again += usize::from(seen.attempts() > 1);
            }
        }
        if report.audits.is_multiple_of(16) {
            thread::yield_now();
        }
    }
    (report, vec![0; accounts.len()])
}

struct Teller<'e, P: Payload> {
    accounts: &'e [Entity<P>],
    config: Config,
    rng: Rng,
    /// How often this teller has written each account.
    commits: Vec<u64>,
    report: Report,
}

/// A slice of time given away, or not.
#[derive(Clone, Copy)]
struct Hesitation(bool);

impl Hesitation {
    fn pass(self) {
        if self.0 {
            thread::yield_now();
        }
    }
}

/// Why a transfer is not made.
#[derive(Debug, PartialEq)]
struct Overdrawn;

/// Takes so much out of what was read.
fn less<P: Payload>(balance: &P, amount: u64) -> Result<P, Stop<Overdrawn>> {
    let left = balance.number().checked_sub(amount);
    left.map(P::make).ok_or(Stop::Abort(Overdrawn))
}

fn more<P: Payload>(balance: &P, amount: u64) -> P {
    P::make(balance.number() + amount)
}

impl<'e, P: Payload> Teller<'e, P> {
    fn transfer(&mut self) {
        let from = self.rng.usize(..self.accounts.len());
        let to = (from + self.rng.usize(1..self.accounts.len())) % self.accounts.len();
        let amount = self.rng.u64(..300);
        let hesitation = Hesitation(self.rng.u32(..self.config.yields) == 0);
        self.report.transfers += 1;
        let is_made = match self.rng.u8(..11) {
            0 => self.by_updates(from, to, amount, hesitation),
            1 => self.by_writes(from, to, amount, hesitation),
            2 => self.by_a_fold(from, to, amount, hesitation),
            3 => self.by_stamps(from, to, amount, hesitation),
            4 => return self.out_of_many(to, hesitation),
            5 => self.in_few_attempts(from, to, amount, hesitation),
            6 => self.in_a_task(from, to, amount, hesitation),
            7 => self.with_a_panic(from, to, amount, hesitation),
            8 => self.by_handles(from, to, amount, hesitation),
            9 => self.out_of_whichever_has_it(from, to, amount),
            _ => return self.of_nothing(from, to, hesitation),
        };
        if is_made {
            self.commits[from] += 1;
            self.commits[to] += 1;
        } else {
            self.report.given_up += 1;
        }
    }

    fn count(&mut self, attempts: u32) {
        self.report.conflicts += attempts as usize - 1;
    }

    fn by_updates(&mut self, from: usize, to: usize, amount: u64, hesitation: Hesitation) -> bool {
        let (from, to) = (&self.accounts[from], &self.accounts[to]);
        let result = transaction_or_abort(|tx| {
            if tx.read(from)?.number() < amount {
                return Err(Stop::Abort(Overdrawn));
            }
            tx.update(from, |balance| P::make(balance.number() - amount))?;
            hesitation.pass();
            tx.update(to, |balance| more(balance, amount))?;
            Ok(tx.attempt())
        });
        result.map(|attempts| self.count(attempts)).is_ok()
    }

    /// In the other order.
    fn by_writes(&mut self, from: usize, to: usize, amount: u64, hesitation: Hesitation) -> bool {
        let (from, to) = (&self.accounts[from], &self.accounts[to]);
        let result = transaction_or_abort(|tx| {
            tx.write(to, more(tx.read(to)?, amount));
            hesitation.pass();
            tx.write(from, less(tx.read(from)?, amount)?);
            Ok(tx.attempt())
        });
        result.map(|attempts| self.count(attempts)).is_ok()
    }

    fn by_a_fold(&mut self, from: usize, to: usize, amount: u64, hesitation: Hesitation) -> bool {
        let (from, to) = (&self.accounts[from], &self.accounts[to]);
        let result = transaction_or_abort(|tx| {
            tx.fold(to, move |balance| {
                hesitation.pass();
                more(balance, amount)
            });
            tx.write(from, less(tx.read(from)?, amount)?);
            Ok(tx.attempt())
        });
        result.map(|attempts| self.count(attempts)).is_ok()
    }

    fn by_stamps(&mut self, from: usize, to: usize, amount: u64, hesitation: Hesitation) -> bool {
        let (from, to) = (&self.accounts[from], &self.accounts[to]);
        loop {
            let (balance, other) = snapshot_of((from, to)).into_inner();
            let Ok(left) = less::<P>(&balance, amount) else {
                return false;
            };
            hesitation.pass();
            let changes = Changes::new().write(from, balance.stamp(), left).write(
                to,
                other.stamp(),
                more(&*other, amount),
            );
            match try_transaction(changes) {
                Ok(made) => {
                    assert_eq!(
                        made.stamp(from).map(|stamp| stamp.version()),
                        Some(balance.stamp().version() + 1),
                        "broken law: a version is its predecessor's plus one"
                    );
                    self.count(made.attempts());
                    return true;
                }
                Err(refused) => {
                    assert!(refused.is_about(from) || refused.is_about(to));
                    let mut changes = refused.into_changes();
                    let left = changes.take(from).map(|left| left.number());
                    assert_eq!(left, Some(balance.number() - amount), "given back whole");
                    self.report.conflicts += 1;
                }
            }
        }
    }

    /// One from each of several others.
    fn out_of_many(&mut self, to: usize, hesitation: Hesitation) {
        let count = self.rng.usize(1..=self.accounts.len().min(12) - 1);
        let step = self.rng.usize(1..self.accounts.len());
        let mut others: Vec<usize> = (1..=count)
            .map(|n| (to + n * step) % self.accounts.len())
            .filter(|other| *other != to)
            .collect();
        others.sort_unstable();
        others.dedup();
        self.rng.shuffle(&mut others);
        let accounts = self.accounts;
        let taken = transaction(|tx| {
            let mut taken = Vec::new();
            for &other in &others {
                let balance = tx.read(&accounts[other])?.number();
                if balance > 0 {
                    tx.write(&accounts[other], P::make(balance - 1));
                    taken.push(other);
                }
            }
            hesitation.pass();
            let sum = taken.len() as u64;
            tx.update(&accounts[to], |balance| more(balance, sum))?;
            Ok((taken, tx.attempt()))
        });
        let (taken, attempts) = taken;
        self.count(attempts);
        for account in taken.into_iter().chain([to]) {
            self.commits[account] += 1;
        }
    }

    fn in_few_attempts(
        &mut self,
        from: usize,
        to: usize,
        amount: u64,
        hesitation: Hesitation,
    ) -> bool {
        let (from, to) = (&self.accounts[from], &self.accounts[to]);
        let result = Transact::new().retries(Retry::at_most(1)).run(|tx| {
            assert!(tx.attempt() <= 2);
            tx.write(from, less(tx.read(from)?, amount)?);
            hesitation.pass();
            tx.update(to, |balance| more(balance, amount))?;
            Ok(tx.attempt())
        });
        match result {
            Ok(attempts) => {
                self.count(attempts);
                true
            }
            Err(TransactionError::Exhausted { attempts }) => {
                assert_eq!(attempts, 2);
                self.report.conflicts += 2;
                false
            }
            Err(error) => {
                assert_eq!(error, TransactionError::Aborted(Overdrawn));
                false
            }
        }
    }

    fn in_a_task(&mut self, from: usize, to: usize, amount: u64, hesitation: Hesitation) -> bool {
        let (from, to) = (&self.accounts[from], &self.accounts[to]);
        let result = pollster::block_on(Transact::new().start(|tx| {
            tx.write(from, less(tx.read(from)?, amount)?);
            hesitation.pass();
            tx.fold(to, move |balance| more(balance, amount));
            Ok(tx.attempt())
        }));
        match result {
            Ok(attempts) => {
                self.count(attempts);
                true
            }
            Err(error) => {
                assert_eq!(error, TransactionError::Aborted(Overdrawn));
                false
            }
        }
    }

    /// In the closure, when all is written, or at the commit.
    fn with_a_panic(
        &mut self,
        from: usize,
        to: usize,
        amount: u64,
        hesitation: Hesitation,
    ) -> bool {
        let (from, to) = (&self.accounts[from], &self.accounts[to]);
        let at_the_commit = self.rng.bool();
        let panicking = AssertUnwindSafe(|| {
            transaction_or_abort::<(), _>(|tx| {
                tx.write(from, less(tx.read(from)?, amount)?);
                hesitation.pass();
                if !at_the_commit {
                    tx.update(to, |balance| more(balance, amount))?;
                    plan()
                }
                tx.fold(to, |_| plan());
                Ok(())
            })
        });
        match catch_unwind(panicking) {
            Ok(result) => assert_eq!(result, Err(Overdrawn), "it can't have committed"),
            Err(panic) => assert_eq!(panic.downcast_ref::<&str>(), Some(&PLANNED)),
        }
        false
    }

    fn by_handles(&mut self, from: usize, to: usize, amount: u64, hesitation: Hesitation) -> bool {
        let called = Cell::new(false);
        let (from, to) = (self.accounts[from].clone(), self.accounts[to].clone());
        let result = transaction_or_abort(|tx: &Transaction<'_>| {
            tx.after_commit(|| called.set(true));
            tx.write(to.clone(), more(tx.read(to.clone())?, amount));
            tx.require(from.clone())?;
            hesitation.pass();
            tx.write(from.clone(), less(tx.read(from.clone())?, amount)?);
            Ok(tx.attempt())
        });
        assert_eq!(
            called.get(),
            result.is_ok(),
            "the hook is called after a commit"
        );
        result.map(|attempts| self.count(attempts)).is_ok()
    }

    fn out_of_whichever_has_it(&mut self, from: usize, to: usize, amount: u64) -> bool {
        let (from, to) = (&self.accounts[from], &self.accounts[to]);
        let result = transaction_or_abort(|tx| {
            tx.update(to, |balance| more(balance, amount))?;
            tx.or_else(
                |tx| {
                    // Undone, whatever it was.
                    tx.write(to, P::make(0));
                    tx.fold(from, |balance| more(balance, 1));
                    Ok::<(), Stop<Overdrawn>>(tx.retry()?)
                },
                |tx| {
                    tx.write(from, less(tx.read(from)?, amount)?);
                    Ok(())
                },
            )?;
            Ok(tx.attempt())
        });
        result.map(|attempts| self.count(attempts)).is_ok()
    }

    /// The same again: one account is written as it is, by plain commits and by transactions that only look
    /// at another one.
    fn of_nothing(&mut self, from: usize, to: usize, hesitation: Hesitation) {
        let (one, other) = (&self.accounts[from], &self.accounts[to]);
        let same = |balance: &P| P::make(balance.number());
        let attempts = match self.rng.u8(..5) {
            0 => one.update(same).attempts(),
            1 => {
                let base = one.snapshot();
                hesitation.pass();
                let merged =
                    one.commit_or_merge(&base, same(&base), |sides| Some(same(sides.theirs)));
                merged.expect("it never gives up").attempts()
            }
            2 => loop {
                let base = one.snapshot();
                hesitation.pass();
                match one.try_commit_on(&base, same(&base)) {
                    Ok(made) => break made.attempts(),
                    Err(_) => self.report.conflicts += 1,
                }
            },
            _ => transaction(|tx| {
                tx.require(other)?;
                hesitation.pass();
                tx.update(one, same)?;
                Ok(tx.attempt())
            }),
        };
        self.count(attempts);
        self.commits[from] += 1;
    }
}

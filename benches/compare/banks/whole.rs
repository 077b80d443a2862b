//! All accounts behind one pointer, replaced as a whole by arc-swap's `rcu`.
//!
//! A change copies the few, and of the many the path to what changes.

use super::{Bank, Pair, Transfer};
use arc_swap::ArcSwap;
use rpds::VectorSync;
use std::sync::Arc;

/// The balances of all accounts.
pub(crate) trait Ledger: Clone + Send + Sync + 'static {
    const NAME: &'static str;

    fn new(accounts: usize, balance: u64) -> Self;
    fn get(&self, account: usize) -> u64;
    fn set(&mut self, account: usize, balance: u64);
}

/// For a few.
impl Ledger for Vec<u64> {
    const NAME: &'static str = "arc_swap rcu, one Vec";

    fn new(accounts: usize, balance: u64) -> Self {
        vec![balance; accounts]
    }

    #[inline]
    fn get(&self, account: usize) -> u64 {
        self[account]
    }

    #[inline]
    fn set(&mut self, account: usize, balance: u64) {
        self[account] = balance;
    }
}

/// For many.
impl Ledger for VectorSync<u64> {
    const NAME: &'static str = "arc_swap rcu, one rpds Vector";

    fn new(accounts: usize, balance: u64) -> Self {
        (0..accounts).map(|_| balance).collect()
    }

    #[inline]
    fn get(&self, account: usize) -> u64 {
        self[account]
    }

    #[inline]
    fn set(&mut self, account: usize, balance: u64) {
        assert!(self.set_mut(account, balance), "there is such an account");
    }
}

/// All of them.
pub(crate) struct Whole<L>(ArcSwap<L>);

impl<L: Ledger> Bank for Whole<L> {
    const NAME: &'static str = L::NAME;

    fn new(accounts: usize, balance: u64) -> Self {
        Whole(ArcSwap::from_pointee(L::new(accounts, balance)))
    }

    #[inline]
    fn transfer(&self, pair: Pair, halfway: impl Fn()) -> Transfer {
        let mut runs = 0;
        let before = self.0.rcu(|ledger| {
            runs += 1;
            let (source, target) = (ledger.get(pair.from()), ledger.get(pair.to()));
            halfway();
            if source == 0 {
                return Arc::clone(ledger);
            }
            let mut next = L::clone(ledger);
            next.set(pair.from(), source - 1);
            next.set(pair.to(), target + 1);
            Arc::new(next)
        });
        let is_made = before.get(pair.from()) > 0;
        Transfer { is_made, runs }
    }

    #[inline]
    fn bump<const K: usize>(&self, accounts: [usize; K]) {
        self.0.rcu(|ledger| {
            let mut next = L::clone(ledger);
            for account in accounts {
                next.set(account, ledger.get(account) + 1);
            }
            next
        });
    }

    #[inline]
    fn look<const K: usize>(&self, accounts: [usize; K]) -> [u64; K] {
        let ledger = self.0.load();
        accounts.map(|account| ledger.get(account))
    }

    fn balance(&self, account: usize) -> u64 {
        self.0.load().get(account)
    }
}

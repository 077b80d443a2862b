//! Locks: one for each account, taken in the order of their indexes, or one for all.

use super::{Bank, Pair, Transfer};
use crate::cells::locks::Lock;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A lock that an account may have.
pub(crate) trait Each: Lock<Value = u64> {
    const NAME: &'static str;
}

impl Each for Mutex<u64> {
    const NAME: &'static str = "std Mutexes, in order";
}

impl Each for parking_lot::Mutex<u64> {
    const NAME: &'static str = "parking_lot Mutexes, in order";
}

/// A lock for each account. Who needs several takes them in order, and then nobody waits in a circle.
pub(crate) struct Ordered<L>(Vec<L>);

impl<L: Each> Bank for Ordered<L> {
    const NAME: &'static str = <L as Each>::NAME;

    fn new(accounts: usize, balance: u64) -> Self {
        Ordered((0..accounts).map(|_| L::around(balance)).collect())
    }

    #[inline]
    fn transfer(&self, pair: Pair, halfway: impl Fn()) -> Transfer {
        let (mut source, mut target);
        if pair.from() < pair.to() {
            source = self.0[pair.from()].exclusive();
            target = self.0[pair.to()].exclusive();
        } else {
            target = self.0[pair.to()].exclusive();
            source = self.0[pair.from()].exclusive();
        }
        halfway();
        let is_made = *source > 0;
        if is_made {
            *source -= 1;
            *target += 1;
        }
        Transfer { is_made, runs: 1 }
    }

    #[inline]
    fn bump<const K: usize>(&self, accounts: [usize; K]) {
        for mut balance in accounts.map(|account| self.0[account].exclusive()) {
            *balance += 1;
        }
    }

    #[inline]
    fn look<const K: usize>(&self, accounts: [usize; K]) -> [u64; K] {
        let guards = accounts.map(|account| self.0[account].shared());
        guards.each_ref().map(|guard| **guard)
    }

    fn balance(&self, account: usize) -> u64 {
        *self.0[account].shared()
    }
}

/// One lock for all accounts.
pub(crate) struct Global(Mutex<Vec<u64>>);

impl Global {
    #[inline]
    fn lock(&self) -> MutexGuard<'_, Vec<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bank for Global {
    const NAME: &'static str = "one std Mutex";

    fn new(accounts: usize, balance: u64) -> Self {
        Global(Mutex::new(vec![balance; accounts]))
    }

    #[inline]
    fn transfer(&self, pair: Pair, halfway: impl Fn()) -> Transfer {
        let mut balances = self.lock();
        let (source, target) = (balances[pair.from()], balances[pair.to()]);
        halfway();
        let is_made = source > 0;
        if is_made {
            balances[pair.from()] = source - 1;
            balances[pair.to()] = target + 1;
        }
        Transfer { is_made, runs: 1 }
    }

    #[inline]
    fn bump<const K: usize>(&self, accounts: [usize; K]) {
        let mut balances = self.lock();
        for account in accounts {
            balances[account] += 1;
        }
    }

    #[inline]
    fn look<const K: usize>(&self, accounts: [usize; K]) -> [u64; K] {
        let balances = self.lock();
        accounts.map(|account| balances[account])
    }

    fn balance(&self, account: usize) -> u64 {
        self.lock()[account]
    }
}

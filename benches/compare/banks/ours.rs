//! The crate itself: a vector of entities.

use super::{Bank, Pair, Transfer};
use snapcell::{Entity, snapshot_of, transaction};

impl Bank for Vec<Entity<u64>> {
    const NAME: &'static str = "snapcell transaction";
    const LOOK: &'static str = "snapcell snapshot_of";

    fn new(accounts: usize, balance: u64) -> Self {
        (0..accounts).map(|_| Entity::new(balance)).collect()
    }

    #[inline]
    fn transfer(&self, pair: Pair, halfway: impl Fn()) -> Transfer {
        let (from, to) = (&self[pair.from()], &self[pair.to()]);
        let mut runs = 0;
        let is_made = transaction(|tx| {
            runs += 1;
            let (source, target) = (tx.get(from)?, tx.get(to)?);
            halfway();
            if source == 0 {
                return Ok(false);
            }
            tx.write(from, source - 1);
            tx.write(to, target + 1);
            Ok(true)
        });
        Transfer { is_made, runs }
    }

    #[inline]
    fn bump<const K: usize>(&self, accounts: [usize; K]) {
        transaction(|tx| {
            for account in accounts {
                let value = tx.get(&self[account])?;
                tx.write(&self[account], value + 1);
            }
            Ok(())
        });
    }

    #[inline]
    fn look<const K: usize>(&self, accounts: [usize; K]) -> [u64; K] {
        let mut seen = [0; K];
        match accounts.map(|account| &self[account])[..] {
            [a, b] => {
                let moment = snapshot_of((a, b));
                seen.copy_from_slice(&[*moment.0, *moment.1]);
            }
            [a, b, c, d] => {
                let (a, b, c, d) = snapshot_of((a, b, c, d)).into_inner();
                seen.copy_from_slice(&[*a, *b, *c, *d]);
            }
            [a, b, c, d, e, f, g, h] => {
                let (a, b, c, d, e, f, g, h) = snapshot_of((a, b, c, d, e, f, g, h)).into_inner();
                seen.copy_from_slice(&[*a, *b, *c, *d, *e, *f, *g, *h]);
            }
            ref entities => {
                let moment = snapshot_of(entities);
                for (seen, value) in seen.iter_mut().zip(moment.iter()) {
                    *seen = **value;
                }
            }
        }
        seen
    }

    fn balance(&self, account: usize) -> u64 {
        self[account].read(|balance| *balance)
    }

    fn versions(&self) -> Option<u64> {
        let versions = |entity: &Entity<u64>| entity.snapshot().stamp().version();
        Some(self.iter().map(versions).sum())
    }
}

/// Looks by a transaction that writes nothing.
pub(crate) struct Reading(Vec<Entity<u64>>);

impl Bank for Reading {
    const NAME: &'static str = "snapcell transaction";

    fn new(accounts: usize, balance: u64) -> Self {
        Reading(Bank::new(accounts, balance))
    }

    #[inline]
    fn transfer(&self, pair: Pair, halfway: impl Fn()) -> Transfer {
        self.0.transfer(pair, halfway)
    }

    #[inline]
    fn bump<const K: usize>(&self, accounts: [usize; K]) {
        self.0.bump(accounts);
    }

    #[inline]
    fn look<const K: usize>(&self, accounts: [usize; K]) -> [u64; K] {
        transaction(|tx| {
            let mut seen = [0; K];
            for (seen, account) in seen.iter_mut().zip(accounts) {
                *seen = tx.get(&self.0[account])?;
            }
            Ok(seen)
        })
    }

    fn balance(&self, account: usize) -> u64 {
        self.0.balance(account)
    }

    fn versions(&self) -> Option<u64> {
        self.0.versions()
    }
}

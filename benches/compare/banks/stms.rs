//! Software transactional memory: a vector of `TVar`s.
//!
//! stm and fast-stm have the same interface. async-stm's transactions are futures; one that doesn't say
//! `retry` is ready when it is polled first, so it is polled once, by a waker that does nothing, which
//! costs less than any executor.

use super::{Bank, Pair, Transfer};
use async_stm::Stm;
use std::cell::Cell;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

macro_rules! bank {
    ($library:ident, $name:literal) => {
        impl Bank for Vec<$library::TVar<u64>> {
            const NAME: &'static str = $name;

            fn new(accounts: usize, balance: u64) -> Self {
                let new = |_| $library::TVar::new(balance);
                (0..accounts).map(new).collect()
            }

            #[inline]
            fn transfer(&self, pair: Pair, halfway: impl Fn()) -> Transfer {
                let (from, to) = (&self[pair.from()], &self[pair.to()]);
                let runs = Cell::new(0);
                let is_made = $library::atomically(|tx| {
                    runs.update(|runs| runs + 1);
                    let (source, target) = (from.read(tx)?, to.read(tx)?);
                    halfway();
                    if source == 0 {
                        return Ok(false);
                    }
                    from.write(tx, source - 1)?;
                    to.write(tx, target + 1)?;
                    Ok(true)
                });
                let runs = runs.get();
                Transfer { is_made, runs }
            }

            #[inline]
            fn bump<const K: usize>(&self, accounts: [usize; K]) {
                $library::atomically(|tx| {
                    for account in accounts {
                        let value = self[account].read(tx)?;
                        self[account].write(tx, value + 1)?;
                    }
                    Ok(())
                });
            }

            #[inline]
            fn look<const K: usize>(&self, accounts: [usize; K]) -> [u64; K] {
                $library::atomically(|tx| {
                    let mut seen = [0; K];
                    for (seen, account) in seen.iter_mut().zip(accounts) {
                        *seen = self[account].read(tx)?;
                    }
                    Ok(seen)
                })
            }

            fn balance(&self, account: usize) -> u64 {
                self[account].read_atomic()
            }
        }
    };
}

bank!(stm, "stm");
bank!(fast_stm, "fast-stm");

impl Bank for Vec<async_stm::TVar<u64>> {
    const NAME: &'static str = "async-stm";

    fn new(accounts: usize, balance: u64) -> Self {
        let new = |_| async_stm::TVar::new(balance);
        (0..accounts).map(new).collect()
    }

    #[inline]
    fn transfer(&self, pair: Pair, halfway: impl Fn()) -> Transfer {
        let (from, to) = (&self[pair.from()], &self[pair.to()]);
        let runs = Cell::new(0);
        let is_made = atomically(|| {
            runs.update(|runs| runs + 1);
            let (source, target) = (from.read_clone()?, to.read_clone()?);
            halfway();
            if source == 0 {
                return Ok(false);
            }
            from.write(source - 1)?;
            to.write(target + 1)?;
            Ok(true)
        });
        let runs = runs.get();
        Transfer { is_made, runs }
    }

    #[inline]
    fn bump<const K: usize>(&self, accounts: [usize; K]) {
        atomically(|| {
            for account in accounts {
                let value = self[account].read_clone()?;
                self[account].write(value + 1)?;
            }
            Ok(())
        });
    }

    #[inline]
    fn look<const K: usize>(&self, accounts: [usize; K]) -> [u64; K] {
        atomically(|| {
            let mut seen = [0; K];
            for (seen, account) in seen.iter_mut().zip(accounts) {
                *seen = self[account].read_clone()?;
            }
            Ok(seen)
        })
    }

    fn balance(&self, account: usize) -> u64 {
        self.look([account])[0]
    }
}

#[inline]
fn atomically<T>(body: impl Fn() -> Stm<T>) -> T {
    let transaction = pin!(async_stm::atomically(body));
    match transaction.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("none of these transactions waits"),
    }
}

//! Several values that change at one instant: what the contenders have in common.
//!
//! The values are the balances of accounts, so that a change which was lost, done twice or seen by half
//! shows in a sum. Each contender is used as its documentation recommends; where there was a choice, its
//! file says which.

pub(crate) mod locks;
pub(crate) mod ours;
pub(crate) mod stms;
pub(crate) mod whole;

use crate::cells::CHECKED;
use crate::runner::{Contender, Gate, together};
use locks::{Global, Ordered};
use snapcell::Entity;
use std::array;
use std::time::Duration;
use whole::{Ledger, Whole};

/// A balance that no run uses up: each transfer finds something to move.
pub(crate) const RICH: u64 = 1 << 40;

/// Accounts, by an index below their number.
///
/// Where a call takes several of them, they are different ones, in ascending order.
pub(crate) trait Bank: Send + Sync + 'static {
    const NAME: &'static str;
    /// What its way to look is called.
    const LOOK: &'static str = Self::NAME;

    /// So many accounts, with so much on each.
    fn new(accounts: usize, balance: u64) -> Self;

    /// Moves 1, if the source has it. Calls `halfway` when both balances are read and none is written:
    /// in a closure, or under the locks.
    fn transfer(&self, pair: Pair, halfway: impl Fn()) -> Transfer;

    /// Adds 1 to each.
    fn bump<const K: usize>(&self, accounts: [usize; K]);

    /// Their balances at one instant.
    fn look<const K: usize>(&self, accounts: [usize; K]) -> [u64; K];

    /// The balance of one.
    fn balance(&self, account: usize) -> u64;

    /// How many versions all accounts together have had, if versions are counted.
    fn versions(&self) -> Option<u64> {
        None
    }
}

/// From where to where.
#[derive(Clone, Copy)]
pub(crate) struct Pair {
    from: u32,
    to: u32,
}

impl Pair {
    /// Of two different accounts.
    pub(crate) const fn new(from: u32, to: u32) -> Self {
        assert!(from != to, "a transfer takes two accounts");
        Pair { from, to }
    }

    #[inline]
    pub(crate) fn from(self) -> usize {
        self.from as usize
    }

    #[inline]
    pub(crate) fn to(self) -> usize {
        self.to as usize
    }
}

/// What came of a transfer.
pub(crate) struct Transfer {
    /// Whether the source had something.
    pub(crate) is_made: bool,
    /// How often the closure ran.
    pub(crate) runs: u64,
}

/// What a case does with a contender.
pub(crate) trait Part {
    fn contender<B: Bank>(&self) -> Contender;
}

/// All of them; `L` is what lies behind a single pointer.
pub(crate) fn contenders<L: Ledger>(part: &impl Part) -> Vec<Contender> {
    vec![
        part.contender::<Vec<Entity<u64>>>(),
        part.contender::<Vec<stm::TVar<u64>>>(),
        part.contender::<Vec<fast_stm::TVar<u64>>>(),
        part.contender::<Vec<async_stm::TVar<u64>>>(),
        part.contender::<Ordered<std::sync::Mutex<u64>>>(),
        part.contender::<Ordered<parking_lot::Mutex<u64>>>(),
        part.contender::<Global>(),
        part.contender::<Whole<L>>(),
    ]
}

/// Transfers that a thread makes, again and again. All pairs are equally likely.
pub(crate) fn draw(accounts: u32, number: usize, seed: u64) -> Vec<Pair> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut pair = || {
        let from = random.u32(..accounts);
        // One of the others.
        let to = (from + random.u32(1..accounts)) % accounts;
        Pair::new(from, to)
    };
    (0..number).map(|_| pair()).collect()
}

/// A bank, and what its accounts should hold.
pub(crate) struct Books<B> {
    pub(crate) bank: B,
    should: Vec<u64>,
    transfers: u64,
}

impl<B: Bank> Books<B> {
    pub(crate) fn new(accounts: u32, balance: u64) -> Self {
        Books {
            bank: B::new(accounts as usize, balance),
            should: vec![balance; accounts as usize],
            transfers: 0,
        }
    }

    /// So many transfers of this kind were made.
    pub(crate) fn record(&mut self, pair: Pair, times: u64) {
        self.should[pair.from()] = self.should[pair.from()].wrapping_sub(times);
        self.should[pair.to()] = self.should[pair.to()].wrapping_add(times);
        self.transfers += times;
    }

    /// So many transfers were made, which went through these pairs again and again.
    pub(crate) fn record_rounds(&mut self, pairs: &[Pair], transfers: u64) {
        let (rounds, rest) = (
            transfers / pairs.len() as u64,
            transfers % pairs.len() as u64,
        );
        for (at, pair) in (0..).zip(pairs) {
            self.record(*pair, rounds + u64::from(at < rest));
        }
    }

    /// Whether each account holds what the transfers make of it.
    pub(crate) fn add_up(&self) -> Result<(), String> {
        let transfers = self.transfers;
        for (account, should) in self.should.iter().enumerate() {
            let is = self.bank.balance(account);
            if is != *should {
                return Err(format!(
                    "{transfers} transfers left {is} on account {account}, not {should}"
                ));
            }
        }
        match self.bank.versions() {
            Some(versions) if versions != 2 * transfers => {
                Err(format!("{transfers} transfers left {versions} versions"))
            }
            _ => Ok(()),
        }
    }
}

/// Checks transfers between poor accounts, some of which are refused: none is lost, none is made twice.
pub(crate) fn check_transfers<B: Bank>(threads: usize) -> Result<(), String> {
    const ACCOUNTS: u32 = 16;
    let mut books = Books::<B>::new(ACCOUNTS, 1);
    let bank = &books.bank;
    let worker = |seed: usize| {
        move |gate: &Gate| {
            let mut pairs = draw(ACCOUNTS, CHECKED as usize, seed as u64);
            gate.pass();
            pairs.retain(|pair| bank.transfer(*pair, || {}).is_made);
            pairs
        }
    };
    let (made, _) = together(Duration::ZERO, (0..threads).map(worker).collect());
    for pair in made.iter().flatten() {
        books.record(*pair, 1);
    }
    if books.transfers == 0 || books.transfers == CHECKED * threads as u64 {
        return Err(format!("{} transfers were made", books.transfers));
    }
    books.add_up()
}

/// The first accounts.
pub(crate) fn first<const K: usize>() -> [usize; K] {
    array::from_fn(|account| account)
}

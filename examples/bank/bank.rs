//! The bank: its accounts, and what can be done with them.
//!
//! A part of a transaction is a function that takes the transaction and what it works on. Whoever calls it
//! says what else belongs to the same instant.

use snapcell::{
    Entity, Moment, Restart, Snapshot, Stop, Transaction, snapshot_of, transaction,
    transaction_or_abort,
};
use std::cell::Cell;

/// What an account is worth in the beginning.
pub(crate) const DEPOSIT: u64 = 1_000;
/// What a customer waits for.
pub(crate) const PRICE: u64 = 1_200;
/// A transfer to more accounts than this costs a fee of one.
const FREE_OF_CHARGE: usize = 3;

/// What is in an account. Nobody changes one: a change is a new one.
#[derive(Clone, Copy)]
pub(crate) struct Account {
    pub(crate) current: u64,
    pub(crate) savings: u64,
}

impl Account {
    pub(crate) fn total(self) -> u64 {
        self.current + self.savings
    }

    fn plus(self, amount: u64) -> Account {
        let current = self.current + amount;
        Account { current, ..self }
    }

    fn minus(self, amount: u64) -> Option<Account> {
        let current = self.current.checked_sub(amount)?;
        Some(Account { current, ..self })
    }
}

/// There is less in the account than is to be taken.
pub(crate) struct Overdrawn;

/// How often somebody had to try.
#[derive(Clone, Copy, Default)]
pub(crate) struct Effort {
    /// How often the closure of the transaction ran.
    pub(crate) runs: u64,
    /// How often it went on to the commit, which is tried again without the closure as long as nothing that was
    /// read has changed.
    pub(crate) tries: u64,
}

/// A transfer to be made: from one account to some others, so much to each.
pub(crate) struct Order {
    pub(crate) payer: usize,
    pub(crate) payees: Vec<(usize, u64)>,
}

impl Order {
    pub(crate) fn has_fee(&self) -> bool {
        self.payees.len() > FREE_OF_CHARGE
    }
}

pub(crate) struct Bank {
    /// The first one is the bank's own.
    pub(crate) accounts: Vec<Entity<Account>>,
    /// How many transfers were made.
    pub(crate) transfers: Entity<u64>,
    pub(crate) is_open: Entity<bool>,
}

impl Bank {
    pub(crate) fn new(accounts: usize) -> Self {
        let opened = Account {
            current: DEPOSIT,
            savings: 0,
        };
        Bank {
            accounts: (0..accounts).map(|_| Entity::new(opened)).collect(),
            transfers: Entity::new(0),
            is_open: Entity::new(true),
        }
    }

    fn own(&self) -> &Entity<Account> {
        &self.accounts[0]
    }

    /// Pays several at one instant, or nobody.
    pub(crate) fn transfer(&self, order: &Order) -> (Result<(), Overdrawn>, Effort) {
        let (runs, tries) = (Cell::new(0), Cell::new(0));
        let result = transaction_or_abort(|tx| {
            runs.set(runs.get() + 1);
            let fee = u64::from(order.has_fee());
            let amount: u64 = order.payees.iter().map(|(_, amount)| amount).sum();
            withdraw(tx, &self.accounts[order.payer], amount + fee)?;
            for &(payee, amount) in &order.payees {
                deposit(tx, &self.accounts[payee], amount)?;
            }
            // Every teller wants these two, and none of them cares what they are: a fold doesn't mind others
            // who commit meanwhile. It is applied with each try, and so can count them.
            if fee > 0 {
                tx.fold(self.own(), move |account| account.plus(fee));
            }
            tx.fold(&self.transfers, |n| {
                tries.set(tries.get() + 1);
                n + 1
            });
            Ok(())
        });
        let effort = Effort {
            runs: runs.get(),
            tries: tries.get(),
        };
        (result, effort)
    }

    /// Pays a twentieth of the savings, if the bank has earned that much. Whether it has.
    pub(crate) fn pay_interest(&self, account: usize) -> bool {
        transaction(|tx| {
            let interest = tx.read(&self.accounts[account])?.savings / 20;
            match tx.get(self.own())?.minus(interest) {
                Some(rest) if interest > 0 => tx.write(self.own(), rest),
                _ => return Ok(false),
            }
            deposit(tx, &self.accounts[account], interest)?;
            Ok(true)
        })
    }

    /// Saves a quarter of what is in an account. That concerns nobody else, so it takes no transaction, and
    /// gets along with those that others make. How many attempts it took.
    pub(crate) fn save(&self, account: usize) -> u32 {
        let saved = self.accounts[account].update(|account| {
            let savings = account.total() / 4;
            let current = account.total() - savings;
            Account { current, savings }
        });
        saved.attempts()
    }

    /// Waits until there is enough money in an account, and has it spent in a shop. Whether that was done:
    /// once the bank is closed nobody waits any more. `waits` is called each time there is too little.
    pub(crate) fn buy(&self, customer: usize, shop: usize, mut waits: impl FnMut()) -> bool {
        transaction(|tx| {
            let purse = tx.get(&self.accounts[customer])?;
            if let Some(rest) = purse.minus(PRICE) {
                tx.write(&self.accounts[customer], rest);
                deposit(tx, &self.accounts[shop], PRICE)?;
                tx.fold(&self.transfers, |n| n + 1);
                return Ok(true);
            }
            if !tx.get(&self.is_open)? {
                return Ok(false);
            }
            waits();
            // Until somebody pays in, or the bank is closed: what was read is what is waited for.
            tx.retry()
        })
    }

    /// All accounts as they were at one moment. Nobody is kept from changing them meanwhile.
    pub(crate) fn audit(&self) -> Moment<Vec<Snapshot<Account>>> {
        snapshot_of(&self.accounts[..])
    }
}

/// Takes money from an account, or has the whole transaction fail.
fn withdraw<'e>(
    tx: &Transaction<'e>,
    from: &'e Entity<Account>,
    amount: u64,
) -> Result<(), Stop<Overdrawn>> {
    let rest = tx.get(from)?.minus(amount);
    tx.write(from, rest.ok_or(Stop::Abort(Overdrawn))?);
    Ok(())
}

/// Puts money into an account.
fn deposit<'e>(tx: &Transaction<'e>, to: &'e Entity<Account>, amount: u64) -> Result<(), Restart> {
    tx.update(to, |account| account.plus(amount))
}

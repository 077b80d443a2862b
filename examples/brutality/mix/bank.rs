//! The bank of the tutorial: an account of 1000, and +100 +50 −75 +200 −25 at once, which makes 1250; and the same at
//! size, with withdrawals that the account doesn't allow.

use super::hot::{chance, stamp_of, way};
use super::{Check, Mix, Outcome, Scenario, class_of, line, past};
use crate::args::{Arguments, Policy};
use crate::books::{Answer, Books, Drawn, End, Entry, Meter, Way};
use crate::door::Door;
use crate::laws::{self, Law};
use crate::run;
use crate::workload::{SplitMix64, Token};
use snapcell::{Engine, Entity, Merge, Operation, Priority, Snapshot};
use std::fmt;
use std::sync::Arc;

const OPENING: i64 = 1_000;
const AMOUNTS: [i64; 5] = [100, 50, -75, 200, -25];
/// More than there could ever be, so it is refused whenever it comes.
const TOO_MUCH: i64 = -1_000_000_000_000;
const KINDS: [&str; 3] = ["deposit", "withdrawal", "overdraft"];

/// What an account is.
#[derive(Clone, Debug)]
struct Account {
    balance: i64,
    transactions: u64,
    _token: Token,
}

impl Account {
    fn new() -> Self {
        Account {
            balance: OPENING,
            transactions: 0,
            _token: Token::new(),
        }
    }

    fn after(&self, amount: i64) -> Result<Self, Overdrawn> {
        let balance = self.balance + amount;
        match balance >= 0 {
            true => Ok(Account {
                balance,
                transactions: self.transactions + 1,
                _token: Token::new(),
            }),
            false => Err(Overdrawn),
        }
    }
}

/// There is not so much in the account. It is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Overdrawn;

impl fmt::Display for Overdrawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the account doesn't hold so much")
    }
}

pub(crate) struct Bank {
    arguments: Arguments,
    accounts: Vec<Entity<Account>>,
}

impl Bank {
    pub(crate) fn new(arguments: &Arguments) -> Self {
        let accounts = (0..arguments.targets()).map(|_| Entity::new(Account::new()));
        Bank {
            arguments: arguments.clone(),
            accounts: accounts.collect(),
        }
    }

    fn amount(&self, drawn: &Drawn) -> i64 {
        let mut random = SplitMix64::seeded(self.arguments.seed, drawn.id.into());
        amount(&mut random)
    }

    fn change(
        &self,
        drawn: &Drawn,
        meter: &Arc<Meter>,
    ) -> impl Fn(&Account) -> Result<Account, Overdrawn> + Clone + Send + Sync + use<> {
        let (amount, meter, work) = (self.amount(drawn), meter.clone(), self.arguments.work);
        move |account| {
            meter.run(work, || {
                let next = account.after(amount)?;
                meter.changes(next.transactions);
                Ok(next)
            })
        }
    }
}

/// One in twenty is too much.
fn amount(random: &mut SplitMix64) -> i64 {
    match random.below(20) {
        0 => TOO_MUCH,
        _ => AMOUNTS[random.below(AMOUNTS.len() as u64) as usize],
    }
}

/// One of the two, if there is enough for it.
fn merged(merge: &Merge<'_, Account>) -> Option<Account> {
    let amount = merge.mine.balance - merge.base.balance;
    merge.theirs.after(amount).ok()
}

impl Mix for Bank {
    fn kinds(&self) -> &'static [&'static str] {
        &KINDS
    }

    fn draw(&self, id: u32) -> Drawn {
        let mut random = SplitMix64::seeded(self.arguments.seed, id.into());
        let amount = amount(&mut random);
        let target = random.below(self.accounts.len() as u64) as usize;
        Drawn {
            id,
            kind: match amount {
                TOO_MUCH => 2,
                0.. => 0,
                _ => 1,
            },
            target,
            class: class_of(Priority::NORMAL),
            priority: Priority::NORMAL,
            way: way(&self.arguments, &mut chance(&self.arguments, id)),
            is_part: false,
        }
    }

    fn submit(&self, drawn: &Drawn, _: u32, meter: &Arc<Meter>, door: &mut Door<'_>) {
        let account = &self.accounts[drawn.target];
        let change = self.change(drawn, meter);
        let change = move |account: &Account| change(account).map(Some);
        if self.arguments.policy != Policy::Merge {
            let order = Operation::try_update(account, change);
            return door.submit(drawn, meter, order, stamp_of);
        }
        let noted = meter.clone();
        let merge = move |merge: Merge<'_, Account>| {
            let next = noted.merge(|| merged(&merge))?;
            noted.changes(next.transactions);
            Some(next)
        };
        door.submit(
            drawn,
            meter,
            Operation::merging(account, change, merge),
            stamp_of,
        );
    }

    fn at_once(&self, drawn: &Drawn, _: u32, meter: &Arc<Meter>, engine: &Engine) -> Answer {
        let account = &self.accounts[drawn.target];
        let change = self.change(drawn, meter);
        if drawn.way == Way::Past {
            return past::commit(account, &self.arguments, drawn, meter, change);
        }
        let order = Operation::try_update(account, move |account| change(account).map(Some))
            .class(drawn.class)
            .priority(drawn.priority);
        Answer::of(engine.run(&order), meter, stamp_of)
    }

    fn scenarios(&self) -> Vec<Check> {
        tutorial(&self.arguments)
    }

    fn waiting(&self, engine: &Engine) -> usize {
        self.accounts
            .iter()
            .map(|account| engine.waiting(account))
            .sum()
    }

    fn judge(&self, books: &Books) -> Outcome {
        let finals: Vec<_> = self.accounts.iter().map(Entity::snapshot).collect();
        let line = |(index, last): (usize, &Snapshot<Account>)| {
            (
                line(books, index),
                last.stamp().version(),
                last.transactions,
            )
        };
        let lines: Vec<_> = finals.iter().enumerate().map(line).collect();
        let mut laws = laws::of_lines(self.arguments.policy, &lines);
        let balance = |line: &[&Entry]| -> i64 {
            let amounts = line.iter().map(|entry| self.amount(&entry.drawn));
            OPENING + amounts.sum::<i64>()
        };
        let was_ever_negative = |line: &[&Entry]| {
            let mut balance = OPENING;
            line.iter().any(|entry| {
                balance += self.amount(&entry.drawn);
                balance < 0
            })
        };
        let ends: Vec<_> = lines.iter().zip(&finals).collect();
        laws.extend([
            Law::new(
                "accounts that hold 1000 and what was committed",
                ends.len() as u64,
                laws::count(&ends, |((line, ..), last)| balance(line) == last.balance),
            ),
            Law::none(
                "accounts that were ever overdrawn",
                laws::count(&lines, |(line, ..)| was_ever_negative(line)),
            ),
            Law::none(
                "overdrafts that were committed",
                books.count(|entry| entry.drawn.kind == 2 && entry.is_committed()),
            ),
            Law::none(
                "deposits that were refused",
                books.count(|entry| entry.drawn.kind == 0 && entry.end == End::Refused),
            ),
        ]);
        let targets = finals.iter().map(|last| super::Target {
            version: last.stamp().version(),
            state: format!(
                "balance {}, {} transactions",
                last.balance, last.transactions
            ),
        });
        Outcome {
            targets: targets.collect(),
            laws,
            ..Outcome::default()
        }
    }
}

/// The five of the tutorial, at once. Where only one of a round wins, the others come again.
fn tutorial(arguments: &Arguments) -> Vec<Check> {
    let engine = run::engine(&arguments.for_scenarios());
    // Without tokens: those are for the accounts that are counted.
    let account = Entity::new((OPENING, 0_u32));
    let order = |amount: i64| {
        let change = move |(balance, transactions): &(i64, u32)| {
            let left = balance + amount;
            match left >= 0 {
                true => Ok(Some((left, transactions + 1))),
                false => Err(Overdrawn),
            }
        };
        Operation::try_update(&account, change)
    };
    let mut open = AMOUNTS.to_vec();
    let (mut succeeded, mut rounds) = (0, 0);
    while !open.is_empty() && rounds < AMOUNTS.len() {
        rounds += 1;
        let mut stage = engine.stage();
        let staged: Vec<_> = open
            .iter()
            .map(|amount| (*amount, stage.add(order(*amount)).expect("it is taken")))
            .collect();
        stage.resolve();
        open.clear();
        for (amount, ticket) in staged {
            match ticket.wait() {
                Ok(_) => succeeded += 1,
                Err(_) => open.push(amount),
            }
        }
    }
    let mut scenario = Scenario::new("the tutorial's account");
    scenario.check("5 of 5 succeed", succeeded == 5);
    scenario.check(
        "at once, or one in each round where one wins",
        rounds
            == if arguments.policy == Policy::Winner {
                5
            } else {
                1
            },
    );
    scenario.check(
        "1000 + 100 + 50 - 75 + 200 - 25 = 1250",
        account.snapshot().0 == 1_250,
    );
    scenario.check("5 transactions", account.snapshot().1 == 5);
    let before = account.snapshot();
    let overdraft = engine.submit(order(-2_000)).expect("it is taken").wait();
    scenario.check(
        "an overdraft is refused",
        overdraft.is_err_and(|error| error.into_refused() == Some(Overdrawn)),
    );
    scenario.check(
        "and changes nothing",
        account.snapshot().stamp() == before.stamp(),
    );
    scenario.done()
}

//! Random operations: which constructor, which class, and what their closures do.

use super::books::{About, Outcome, Refusal, Temper};
use super::dice::Dice;
use super::held::{Error, Held, Holding, note};
use super::nest::Nest;
use super::seen::Mechanism;
use super::street::Street;
use super::value::{Captured, Value};
use crate::planned::plan;
use snapcell::{
    Body, Class, Entity, Merge, NotTaken, Operation, OperationError, Priority, RetryPolicy, Stage,
    Stop,
};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How an operation gets to the engine.
pub(crate) enum Via<'s> {
    Submit,
    Run,
    Stage(&'s mut Stage),
}

/// What a closure does each time that it is run.
pub(crate) struct Act {
    captured: Captured,
    temper: Temper,
    /// It lets others go on meanwhile.
    is_slow: bool,
    nest: Option<Nest>,
}

impl Act {
    /// Whether there is to be a change.
    fn perform(&self) -> Result<bool, Refusal> {
        let _ = &self.captured;
        if self.is_slow {
            thread::yield_now();
        }
        if let Some(nest) = &self.nest {
            nest.perform();
        }
        match self.temper {
            Temper::Commit => Ok(true),
            Temper::Leave => Ok(false),
            Temper::Refuse => Err(Refusal),
            Temper::Panic => plan(),
        }
    }

    /// The change of one value.
    fn change(&self, value: &Value) -> Result<Option<Value>, Refusal> {
        let is_change = self.perform()?;
        Ok(is_change.then(|| value.next()))
    }
}

const TEMPERS: [(Temper, usize); 4] = [
    (Temper::Commit, 80),
    (Temper::Leave, 6),
    (Temper::Refuse, 7),
    (Temper::Panic, 7),
];

fn temper(dice: &mut Dice) -> Temper {
    let mut number = dice.below(100);
    for (temper, weight) in TEMPERS {
        if number < weight {
            return temper;
        }
        number -= weight;
    }
    unreachable!("they are a hundred in all")
}

/// A random operation on one entity. `about` has its room, or its guest; the temper is drawn.
pub(crate) fn single(
    street: &Street,
    (house, entity, mut about): (usize, &Entity<Value>, About),
    nest: Option<Nest>,
    via: Via<'_>,
    dice: &mut Dice,
) -> Option<Box<dyn Holding>> {
    about.temper = temper(dice);
    let mut act = Act {
        captured: Captured::new(),
        temper: about.temper,
        is_slow: dice.percent(30),
        nest,
    };
    let to = Address {
        street,
        house,
        about,
    };
    match dice.below(4) {
        0 => {
            // It can't refuse, and always changes something.
            let temper = match act.temper {
                Temper::Panic => Temper::Panic,
                _ => Temper::Commit,
            };
            act.temper = temper;
            street.seen.note(Mechanism::Update);
            let operation = Operation::update(entity, move |value: &Value| {
                act.perform().expect("it does not refuse");
                value.next()
            });
            to.with(temper).offer(operation, via, dice)
        }
        1 => {
            street.seen.note(Mechanism::TryUpdate);
            let operation = Operation::try_update(entity, move |value: &Value| act.change(value));
            to.offer(operation, via, dice)
        }
        2 => {
            street.seen.note(Mechanism::Prepared);
            let act = Arc::new(act);
            let (first, then) = if dice.percent(50) {
                (Some(act.clone()), None)
            } else {
                (None, Some(act.clone()))
            };
            let prepare = move |_: &_| first.as_ref().map_or(Ok(true), |act| act.perform());
            let apply = move |value: &Value, is_change: &bool| {
                let is_change =
                    *is_change && then.as_ref().map_or(Ok(true), |act| act.perform())?;
                Ok(is_change.then(|| value.next()))
            };
            to.offer(Operation::prepared(entity, prepare, apply), via, dice)
        }
        _ => {
            street.seen.note(Mechanism::Merging);
            let (seen, merges) = (street.seen.clone(), dice.percent(90));
            let merge = move |values: Merge<'_, Value>| {
                seen.note(Mechanism::Merged);
                let mine = values.mine.effects() - values.base.effects();
                merges.then(|| Value::of(values.theirs.effects() + mine))
            };
            let operation =
                Operation::merging(entity, move |value: &Value| act.change(value), merge);
            to.offer(operation, via, dice)
        }
    }
}

/// A random operation on two to four rooms.
pub(crate) fn several(
    street: &Street,
    house: usize,
    via: Via<'_>,
    dice: &mut Dice,
) -> Option<Box<dyn Holding>> {
    let all = &street.houses[house].rooms;
    let mut rooms: Vec<usize> = (0..all.len()).collect();
    for place in (1..rooms.len()).rev() {
        rooms.swap(place, dice.below(place + 1));
    }
    rooms.truncate(2 + dice.below(3));
    let temper = match temper(dice) {
        // A transaction that changes nothing counts as committed.
        Temper::Leave => Temper::Commit,
        temper => temper,
    };
    let act = Act {
        captured: Captured::new(),
        temper,
        is_slow: dice.percent(30),
        nest: None,
    };
    let entities: Vec<_> = rooms.iter().map(|&room| all[room].clone()).collect();
    let operation = Operation::transaction(entities, move |tx, entities| {
        let (one, others) = entities.split_first().expect("there are two at least");
        tx.update(one, Value::next)?;
        act.perform().map_err(Stop::Abort)?;
        for entity in others {
            tx.update(entity, Value::next)?;
        }
        Ok(())
    });
    street.seen.note(Mechanism::Transaction);
    let about = About {
        rooms,
        temper,
        is_independent: false,
        guest: None,
    };
    let to = Address {
        street,
        house,
        about,
    };
    to.offer(operation, via, dice)
}

/// Where an operation is to go, and what it is about.
struct Address<'s> {
    street: &'s Street,
    house: usize,
    about: About,
}

impl Address<'_> {
    fn with(mut self, temper: Temper) -> Self {
        self.about.temper = temper;
        self
    }

    /// Gives the operation to the engine. What is taken is in the books from now on.
    fn offer<B, O: Outcome, F: Error>(
        mut self,
        operation: Operation<B>,
        via: Via<'_>,
        dice: &mut Dice,
    ) -> Option<Box<dyn Holding>>
    where
        B: Body<Output = O, Error = F>,
    {
        let mut operation = dress(operation, dice);
        self.about.is_independent = dice.percent(10);
        if self.about.is_independent {
            operation = operation.independent();
        }
        let seen = &self.street.seen;
        let house = &self.street.houses[self.house];
        let submitted = match via {
            Via::Submit => {
                seen.note(Mechanism::Submitted);
                house.engine.submit(operation)
            }
            Via::Stage(stage) => stage.add(operation),
            Via::Run => {
                seen.note(Mechanism::Ran);
                match house.engine.run(&operation) {
                    Err(OperationError::NotTaken(why)) => self.refused(why),
                    result => {
                        house.books.taken();
                        note(house, self.about, None, result, self.street);
                    }
                }
                return None;
            }
        };
        match submitted {
            Ok(ticket) => {
                house.books.taken();
                if ticket.trace().is_some() {
                    seen.note(Mechanism::Traced);
                }
                let times = ticket.times();
                if times.ended == Some(times.born) {
                    seen.note(Mechanism::AtOnce);
                }
                Some(Box::new(Held {
                    ticket,
                    house: self.house,
                    about: self.about,
                }))
            }
            Err(error) => {
                self.refused(error.why());
                // It is given back, and whole.
                drop(error.into_operation());
                None
            }
        }
    }

    fn refused(&self, why: NotTaken) {
        self.street.seen.note(match why {
            NotTaken::Overloaded => Mechanism::Overloaded,
            NotTaken::ShutDown => Mechanism::ShutDown,
            NotTaken::Priority { .. } => Mechanism::PriorityNotAllowed,
            other => panic!("what is to be thought of {other:?}?"),
        });
    }
}

/// Class, priority, and how often and how long it tries.
fn dress<B>(operation: Operation<B>, dice: &mut Dice) -> Operation<B> {
    let (class, floor, ceiling) = *dice.one_of(&[
        (Class::STRUCTURAL, 8, 10),
        (Class::NORMAL, 1, 10),
        (Class::LOW, 1, 5),
    ]);
    let mut operation = operation.class(class);
    if dice.percent(60) {
        let number = floor + dice.below(ceiling + 1 - floor);
        let priority = Priority::new(number as u8).expect("from 1 to 10");
        operation = operation.priority(priority);
    } else if dice.percent(5) {
        operation = operation.priority(dice.priority());
    }
    operation = match dice.below(4) {
        0 => operation.retries(0),
        1 => operation.retries(u32::MAX),
        _ => operation,
    };
    operation = match dice.below(4) {
        0 => operation.retrying(RetryPolicy::exponential(Duration::ZERO, 1.0)),
        1 => operation.retrying(RetryPolicy::default().reserving_after(dice.below(2) as u32)),
        _ => operation,
    };
    operation = match dice.below(12) {
        0 => operation.patience(Duration::from_micros(dice.below(60) as u64)),
        1 | 2 => operation.endless_patience(),
        _ => operation,
    };
    operation = match dice.below(8) {
        0 => operation.traced(),
        1 => operation.named("soak"),
        _ => operation,
    };
    if dice.percent(30) {
        operation = operation.short();
    }
    operation
}

//! One thread of a soak: step by step, it does whatever can be done.

use super::books::{About, Temper};
use super::dice::Dice;
use super::guest;
use super::held::Holding;
use super::make::{Via, several, single};
use super::nest::Nest;
use super::outside;
use super::seen::Mechanism;
use super::street::{House, ROOMS, Street, UNTOLD, check_history};
use snapcell::{Policy, ShutDown};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// So many tickets are in a hand.
const HAND: usize = 40;

/// A thread, and the tickets in its hand.
pub(crate) struct Submitter<'s> {
    street: &'s Arc<Street>,
    dice: Dice,
    hand: Vec<Box<dyn Holding>>,
    /// Threads of threads start no more threads.
    is_inner: bool,
}

impl<'s> Submitter<'s> {
    pub(crate) fn new(street: &'s Arc<Street>, seed: u64) -> Self {
        Submitter {
            street,
            dice: Dice::of(seed),
            hand: Vec::new(),
            is_inner: false,
        }
    }

    /// Does so many steps, and waits for all that it has in its hand.
    pub(crate) fn run(mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
            while self.hand.len() > HAND {
                self.settle();
            }
        }
        while !self.hand.is_empty() {
            self.settle();
        }
    }

    fn step(&mut self) {
        let house = self.dice.below(self.street.houses.len());
        match self.dice.below(1_000) {
            0..400 => self.offer(house, false),
            400..500 => self.offer(house, true),
            500..560 => self.stage(house),
            560..640 => outside::commit(self.street, &mut self.dice),
            640..720 => self.settle(),
            720..780 => self.settle_in_time(),
            780..830 => self.cancel(),
            830..880 => self.prioritize(),
            880..910 => self.let_go(house),
            910..930 => self.burst(house),
            930..950 => guest::visit(self.street, house, &mut self.dice),
            950..955 => guest::engine(&self.street.seen, &mut self.dice),
            955..965 => self.thread(),
            965..975 => outside::wait(self.street, &mut self.dice),
            975..978 => self.shut_down(house),
            _ => self.look(house),
        }
    }

    /// The house, a room of it, and what is to be said about an operation on it.
    fn room(&mut self, house: usize) -> (&'s House, usize, About) {
        let room = self.dice.below(ROOMS);
        let about = About {
            rooms: vec![room],
            temper: Temper::Commit,
            is_independent: false,
            guest: None,
        };
        (&self.street.houses[house], room, about)
    }

    /// An operation: to be run by this thread, or by the engine.
    fn offer(&mut self, house: usize, runs: bool) {
        let via = if runs { Via::Run } else { Via::Submit };
        let held = if self.dice.percent(15) {
            several(self.street, house, via, &mut self.dice)
        } else {
            let (at, room, about) = self.room(house);
            let nest = self
                .dice
                .percent(8)
                .then(|| Nest::new(self.street, (house, room), Vec::new(), &mut self.dice));
            let entity = &at.rooms[room];
            single(
                self.street,
                (house, entity, about),
                nest,
                via,
                &mut self.dice,
            )
        };
        self.hand.extend(held);
    }

    fn stage(&mut self, house: usize) {
        let (at, seen) = (&self.street.houses[house], &self.street.seen);
        let mut stage = at.engine.stage();
        for _ in 0..2 + self.dice.below(6) {
            let via = Via::Stage(&mut stage);
            let held = if self.dice.percent(10) {
                several(self.street, house, via, &mut self.dice)
            } else {
                let (at, room, about) = self.room(house);
                let entity = &at.rooms[room];
                single(
                    self.street,
                    (house, entity, about),
                    None,
                    via,
                    &mut self.dice,
                )
            };
            self.hand.extend(held);
        }
        match self.dice.below(10) {
            0 => {
                seen.note(Mechanism::StageDropped);
                stage.clear();
            }
            1 => {
                seen.note(Mechanism::StageDropped);
                drop(stage);
            }
            _ => {
                seen.note(Mechanism::Staged);
                stage.resolve();
            }
        }
    }

    /// Takes a ticket out of the hand.
    fn pick(&mut self) -> Option<Box<dyn Holding>> {
        let count = self.hand.len();
        (count > 0).then(|| self.hand.swap_remove(self.dice.below(count)))
    }

    fn settle(&mut self) {
        if let Some(held) = self.pick() {
            held.settle(self.street);
        }
    }

    fn settle_in_time(&mut self) {
        let time = Duration::from_micros(self.dice.below(40) as u64);
        if let Some(held) = self.pick() {
            self.hand.extend(held.settle_in(time, self.street));
        }
    }

    fn cancel(&mut self) {
        if let Some(held) = self.pick() {
            let mechanism = if held.cancel() {
                assert!(held.is_done(), "broken law: what is cancelled is done");
                Mechanism::Cancelled
            } else {
                Mechanism::CancelledTooLate
            };
            self.street.seen.note(mechanism);
            self.hand.push(held);
        }
    }

    fn prioritize(&mut self) {
        let priority = self.dice.priority();
        if let Some(held) = self.pick() {
            held.set_priority(priority);
            self.street.seen.note(Mechanism::Prioritized);
            self.hand.push(held);
        }
    }

    /// Drops the ticket of a new one. Those of folds are all about one room, so that the versions of the others are
    /// known.
    fn let_go(&mut self, house: usize) {
        let (at, mut room, mut about) = self.room(house);
        if at.policy == Policy::Fold {
            room = UNTOLD;
            about.rooms = vec![room];
        }
        let held = if self.dice.percent(20) && at.policy != Policy::Fold {
            several(self.street, house, Via::Submit, &mut self.dice)
        } else {
            let entity = &at.rooms[room];
            single(
                self.street,
                (house, entity, about),
                None,
                Via::Submit,
                &mut self.dice,
            )
        };
        if let Some(held) = held {
            held.let_go(self.street);
        }
    }

    /// Many for one room, so that it gets full.
    fn burst(&mut self, house: usize) {
        let (at, room, about) = self.room(house);
        for _ in 0..30 {
            let entity = &at.rooms[room];
            let about = about.clone();
            let held = single(
                self.street,
                (house, entity, about),
                None,
                Via::Submit,
                &mut self.dice,
            );
            self.hand.extend(held);
        }
    }

    /// A thread that does a little, and ends.
    fn thread(&mut self) {
        if self.is_inner {
            return;
        }
        self.street.seen.note(Mechanism::Threads);
        let mut inner = Submitter::new(self.street, self.dice.seed());
        inner.is_inner = true;
        let steps = 1 + self.dice.below(30);
        thread::scope(|scope| scope.spawn(move || inner.run(steps)).join())
            .unwrap_or_else(|panic| resume_unwind(panic));
    }

    fn shut_down(&mut self, house: usize) {
        let how = if self.dice.percent(50) {
            self.street.seen.note(Mechanism::ShutDownFinish);
            ShutDown::Finish
        } else {
            self.street.seen.note(Mechanism::ShutDownCancel);
            ShutDown::Cancel
        };
        let engine = &self.street.houses[house].engine;
        // Somebody else may open it meanwhile.
        let _ = engine.shut_down(how, None);
        // Others are to find it shut down.
        thread::yield_now();
        engine.start();
    }

    fn look(&mut self, house: usize) {
        let (at, room, _) = self.room(house);
        let counts = at.engine.counts();
        assert!(
            counts.ended() <= counts.submitted,
            "broken law: more has ended than was taken: {counts:?}"
        );
        check_history(&at.rooms[room]);
        self.street.seen.note(Mechanism::History);
    }
}

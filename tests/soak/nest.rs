//! What a closure does with engines: it submits operations that are part of its own, and waits for them.

use super::books::{About, Temper};
use super::dice::Dice;
use super::make::{Via, single};
use super::seen::Mechanism;
use super::street::{ROOMS, Street, UNTOLD};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

/// Operations inside of one.
pub(crate) struct Nest {
    street: Arc<Street>,
    house: usize,
    /// The rooms that those around it are busy with, each with its house.
    busy: Vec<(usize, usize)>,
    seed: u64,
    attempts: AtomicU64,
}

/// So deep operations are in each other.
const DEPTH: usize = 3;

/// So often somebody looks whether an operation has begun before waiting for it.
const LOOKS: usize = 100;

impl Nest {
    /// For an operation on that room, or on a guest, inside of those that are busy.
    pub(crate) fn new(
        street: &Arc<Street>,
        (house, room): (usize, usize),
        mut busy: Vec<(usize, usize)>,
        dice: &mut Dice,
    ) -> Self {
        busy.push((house, room));
        Nest {
            street: street.clone(),
            house,
            busy,
            seed: dice.seed(),
            attempts: AtomicU64::new(0),
        }
    }

    /// One or two of them.
    pub(crate) fn perform(&self) {
        let attempt = self.attempts.fetch_add(1, Relaxed);
        let mut dice = Dice::of(self.seed.wrapping_add(attempt));
        for _ in 0..1 + dice.below(2) {
            self.one(&mut dice);
        }
    }

    fn one(&self, dice: &mut Dice) {
        let (street, seen) = (&self.street, &self.street.seen);
        let house = if dice.percent(20) {
            dice.below(street.houses.len())
        } else {
            self.house
        };
        let room = dice.below(ROOMS);
        let is_busy = self.busy.contains(&(house, room));
        // Who waits for such a one is refused, and nobody is told how it ends.
        if is_busy && !(room == UNTOLD && dice.percent(30)) {
            return;
        }
        let nest = (!is_busy && self.busy.len() < DEPTH && dice.percent(30))
            .then(|| Nest::new(street, (house, room), self.busy.clone(), dice));
        let about = About {
            rooms: vec![room],
            temper: Temper::Commit,
            is_independent: false,
            guest: None,
        };
        let entity = &street.houses[house].rooms[room];
        let Some(held) = single(street, (house, entity, about), nest, Via::Submit, dice) else {
            return;
        };
        seen.note(Mechanism::Nested);
        if house != self.house {
            seen.note(Mechanism::NestedElsewhere);
        }
        // Where somebody else runs it already, who waits can't run it instead.
        let mut looks = if dice.percent(30) { LOOKS } else { 0 };
        while looks > 0 && !held.has_begun() {
            thread::yield_now();
            looks -= 1;
        }
        if dice.percent(30) {
            let time = Duration::from_micros(dice.below(30) as u64);
            if let Some(held) = held.settle_in(time, street) {
                held.let_go(street);
            }
        } else {
            held.settle(street);
        }
    }
}

//! The hierarchy test: six scenarios, each of which has one right outcome; and then chains of three operations, each
//! part of the one before, so that the least important of them is as important as the first.

mod scenarios;

use super::hot::Hot;
use super::{Check, Mix, Outcome};
use crate::args::Arguments;
use crate::books::{Answer, Books, Drawn, Meter};
use crate::door::Door;
use snapcell::{Engine, Priority};
use std::sync::Arc;

/// A chain: something critical or high, a part of it that is normal, and a part of that which is low.
const CHAIN: u32 = 3;

pub(crate) struct Hierarchy(Hot);

impl Hierarchy {
    pub(crate) fn new(arguments: &Arguments) -> Self {
        Hierarchy(Hot::new(arguments, |operation, random| {
            match operation.id % CHAIN {
                0 if random.below(2) == 0 => Priority::CRITICAL,
                0 => Priority::HIGH,
                1 => Priority::NORMAL,
                _ => Priority::LOW,
            }
        }))
    }
}

impl Mix for Hierarchy {
    fn kinds(&self) -> &'static [&'static str] {
        self.0.kinds()
    }

    fn draw(&self, id: u32) -> Drawn {
        Drawn {
            is_part: !id.is_multiple_of(CHAIN),
            ..self.0.draw(id)
        }
    }

    fn submit(&self, drawn: &Drawn, user: u32, meter: &Arc<Meter>, door: &mut Door<'_>) {
        self.0.submit(drawn, user, meter, door);
    }

    fn at_once(&self, drawn: &Drawn, user: u32, meter: &Arc<Meter>, engine: &Engine) -> Answer {
        self.0.at_once(drawn, user, meter, engine)
    }

    fn waiting(&self, engine: &Engine) -> usize {
        self.0.waiting(engine)
    }

    fn judge(&self, books: &Books) -> Outcome {
        self.0.judge(books)
    }

    fn scenarios(&self) -> Vec<Check> {
        scenarios::all(self.0.arguments.policy)
    }
}

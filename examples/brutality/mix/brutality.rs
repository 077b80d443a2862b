//! The "total brutality" test: 30 000 operations of four kinds, 60 % of them normal, 30 % high, 10 % critical, on three
//! targets, staged in batches of 100.

use super::hot::Hot;
use super::{Mix, Outcome};
use crate::args::Arguments;
use crate::books::{Answer, Books, Drawn, Meter};
use crate::door::Door;
use crate::workload;
use snapcell::{Engine, Priority};
use std::sync::Arc;

pub(crate) fn new(arguments: &Arguments) -> Hot {
    Hot::new(arguments, |operation, _| match operation.priority {
        workload::Priority::Normal => Priority::NORMAL,
        workload::Priority::High => Priority::HIGH,
        workload::Priority::Critical => Priority::CRITICAL,
    })
}

impl Mix for Hot {
    fn kinds(&self) -> &'static [&'static str] {
        Hot::kinds(self)
    }

    fn draw(&self, id: u32) -> Drawn {
        Hot::draw(self, id)
    }

    fn submit(&self, drawn: &Drawn, user: u32, meter: &Arc<Meter>, door: &mut Door<'_>) {
        Hot::submit(self, drawn, user, meter, door);
    }

    fn at_once(&self, drawn: &Drawn, user: u32, meter: &Arc<Meter>, engine: &Engine) -> Answer {
        Hot::at_once(self, drawn, user, meter, engine)
    }

    fn waiting(&self, engine: &Engine) -> usize {
        Hot::waiting(self, engine)
    }

    fn judge(&self, books: &Books) -> Outcome {
        Hot::judge(self, books)
    }
}

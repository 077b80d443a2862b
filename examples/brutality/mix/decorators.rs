//! The decorator test: 60 % of the operations are functions that are protected, in each of the four ways, and 40 % plain
//! ones, on three targets in batches of six. Before that, five of the same priority, and three that are only optimistic.

use super::hot::Hot;
use super::{Check, Mix, Outcome, Scenario};
use crate::args::{Arguments, Policy};
use crate::books::{Answer, Books, Drawn, Meter, Way};
use crate::door::Door;
use crate::run;
use crate::workload;
use snapcell::{Class, Engine, Entity, Operation, Priority, Protection, Reason};
use std::sync::{Arc, Barrier};
use std::thread;

const PROTECTED: u64 = 60;

pub(crate) struct Decorators(Hot);

impl Decorators {
    pub(crate) fn new(arguments: &Arguments) -> Self {
        Decorators(Hot::new(arguments, |operation, _| {
            match operation.priority {
                workload::Priority::Critical => Priority::CRITICAL,
                _ => Priority::NORMAL,
            }
        }))
    }
}

impl Mix for Decorators {
    fn kinds(&self) -> &'static [&'static str] {
        self.0.kinds()
    }

    fn draw(&self, id: u32) -> Drawn {
        const WAYS: [Protection; 4] = [
            Protection::None,
            Protection::Staged,
            Protection::Optimistic,
            Protection::Both,
        ];
        let mut drawn = self.0.draw(id);
        // Another stream than those that draw the rest.
        let mut random =
            workload::SplitMix64::seeded(self.0.arguments.seed.rotate_left(32), id.into());
        if random.below(100) < PROTECTED {
            drawn.way = Way::Protected(WAYS[random.below(4) as usize]);
            drawn.class = Class::NORMAL;
            drawn.priority = Priority::NORMAL;
        }
        drawn
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
        let mut checks = five_of_a_kind(&self.0.arguments);
        checks.extend(three_optimists(&self.0.arguments));
        checks
    }
}

/// Five of the same priority that are staged together.
fn five_of_a_kind(arguments: &Arguments) -> Vec<Check> {
    let engine = run::engine(&arguments.for_scenarios());
    let value = Entity::new(0_u32);
    let mut stage = engine.stage();
    let tickets: Vec<_> = (0..5)
        .map(|_| {
            stage
                .add(Operation::update(&value, |n| n + 1))
                .expect("it is taken")
        })
        .collect();
    stage.resolve();
    let answers: Vec<_> = tickets.into_iter().map(snapcell::Ticket::wait).collect();
    let succeeded = answers.iter().filter(|answer| answer.is_ok()).count() as u32;
    let lost = answers.iter().filter(|answer| {
        let rejection = answer.as_ref().err().and_then(|error| error.rejection());
        rejection.is_some_and(|why| matches!(why.reason, Reason::Lost { .. }))
    });
    let wins = match arguments.policy {
        Policy::Winner => 1,
        _ => 5,
    };
    let mut scenario = Scenario::new("five of the same priority");
    scenario.check("as many succeed as the policy lets", succeeded == wins);
    scenario.check(
        "the others are told that they lost",
        lost.count() as u32 == 5 - wins,
    );
    scenario.check("each success is in the value", *value.snapshot() == wins);
    scenario.done()
}

/// +100, +200 and +300, all of which have read before any of them writes.
fn three_optimists(arguments: &Arguments) -> Vec<Check> {
    let engine = run::engine(&arguments.for_scenarios());
    let value = Entity::new(0_u32);
    let all_have_read = Arc::new(Barrier::new(3));
    let amounts = [100, 200, 300];
    let results: Vec<_> = thread::scope(|scope| {
        let start = |amount: u32| {
            let (engine, value, all_have_read) = (&engine, &value, all_have_read.clone());
            scope.spawn(move || {
                let first = std::sync::Once::new();
                engine.protect(Class::NORMAL, Protection::Optimistic, value, move |n| {
                    first.call_once(|| {
                        all_have_read.wait();
                    });
                    n + amount
                })
            })
        };
        let threads = amounts.map(start);
        threads
            .map(|thread| thread.join().expect("no thread panics"))
            .into()
    });
    let mut scenario = Scenario::new("three that are only optimistic");
    scenario.check("all succeed", results.iter().all(Result::is_ok));
    scenario.check("none is lost: +600", *value.snapshot() == 600);
    scenario.check("three versions", value.snapshot().stamp().version() == 3);
    scenario.check("two of them lost at first", engine.counts().conflicts >= 2);
    scenario.done()
}

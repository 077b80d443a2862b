//! Random closures, alternatives in alternatives included, beside a model of what they should do.
//!
//! The model is a map from entities to what is to become of them, and a copy of it for each alternative that
//! is being tried. In their midst others commit to entities that nothing depends on yet: what was folded or
//! written blindly must take that in, and no closure may have to run again for it.

use super::{alone, fewer_if_slow, logical, overtake, plan, values, version};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use snapcell::{Entity, Restart, Transaction, transaction};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a closure does, one after the other.
#[derive(Clone, Debug)]
enum Step {
    Read(usize),
    Get(usize),
    Require(usize),
    Write(usize, i64),
    Update(usize, i64),
    Fold(usize, i64),
    /// Somebody else commits, if nothing depends on the entity yet.
    Overtake(usize, i64),
    /// The first one says `retry` at its end, or not.
    OrElse(Vec<Step>, bool, Vec<Step>),
    /// An alternative that panics at its end, which the closure catches.
    Caught(Vec<Step>),
}

/// So few entities that each is met again.
const ENTITIES: usize = 3;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let entity = || 0..ENTITIES;
    let change = || (0..ENTITIES, 0..100_i64);
    let leaf = prop_oneof![
        entity().prop_map(Step::Read),
        entity().prop_map(Step::Get),
        entity().prop_map(Step::Require),
        change().prop_map(|(e, n)| Step::Write(e, n)),
        change().prop_map(|(e, n)| Step::Update(e, n)),
        change().prop_map(|(e, n)| Step::Fold(e, n)),
        change().prop_map(|(e, n)| Step::Overtake(e, n)),
    ];
    let step = leaf.prop_recursive(3, 40, 6, |inner| {
        let some = || prop::collection::vec(inner.clone(), 0..6);
        prop_oneof![
            3 => inner.clone(),
            3 => (some(), any::<bool>(), some())
                .prop_map(|(first, retries, second)| Step::OrElse(first, retries, second)),
            1 => some().prop_map(Step::Caught),
        ]
    });
    prop::collection::vec(step, 0..12)
}

/// A change that commutes with none of its kind.
fn mix(value: i64, number: i64) -> i64 {
    value.wrapping_mul(3).wrapping_add(number)
}

/// What is to become of an entity.
#[derive(Clone, Debug)]
enum Change {
    Nothing,
    Value(i64),
    Folds(Vec<i64>),
}

#[derive(Clone, Debug)]
struct Model {
    current: [i64; ENTITIES],
    commits: [u64; ENTITIES],
    change: [Change; ENTITIES],
    depends_on: [bool; ENTITIES],
    /// What the closure reads.
    seen: Vec<i64>,
    /// Of each time that somebody could commit, whether he does.
    overtakes: Vec<bool>,
}

impl Model {
    fn new() -> Self {
        Model {
            current: [0; ENTITIES],
            commits: [0; ENTITIES],
            change: [const { Change::Nothing }; ENTITIES],
            depends_on: [false; ENTITIES],
            seen: Vec::new(),
            overtakes: Vec::new(),
        }
    }

    fn of(steps: &[Step]) -> Self {
        let mut model = Model::new();
        model.run(steps);
        for e in 0..ENTITIES {
            if let Some(value) = model.outcome(e) {
                model.current[e] = value;
                model.commits[e] += 1;
            }
        }
        model
    }

    /// What an entity would get now.
    fn outcome(&self, e: usize) -> Option<i64> {
        match &self.change[e] {
            Change::Nothing => None,
            Change::Value(value) => Some(*value),
            Change::Folds(numbers) => Some(numbers.iter().fold(self.current[e], |v, n| mix(v, *n))),
        }
    }

    /// A read: what was folded becomes a write, and that depends on what it was applied to.
    fn read(&mut self, e: usize) -> i64 {
        if !matches!(self.change[e], Change::Value(_)) {
            self.depends_on[e] = true;
        }
        let Some(value) = self.outcome(e) else {
            return self.current[e];
        };
        self.change[e] = Change::Value(value);
        value
    }

    fn run(&mut self, steps: &[Step]) {
        for step in steps {
            match *step {
                Step::Read(e) | Step::Get(e) => {
                    let value = self.read(e);
                    self.seen.push(value);
                }
                Step::Require(e) => self.depends_on[e] = true,
                Step::Write(e, n) => self.change[e] = Change::Value(n),
                Step::Update(e, n) => {
                    let value = self.read(e);
                    self.change[e] = Change::Value(mix(value, n));
                }
                Step::Fold(e, n) => match &mut self.change[e] {
                    change @ Change::Nothing => *change = Change::Folds(vec![n]),
                    Change::Value(value) => *value = mix(*value, n),
                    Change::Folds(numbers) => numbers.push(n),
                },
                Step::Overtake(e, n) => {
                    let does = !self.depends_on[e];
                    self.overtakes.push(does);
                    if does {
                        self.current[e] = n;
                        self.commits[e] += 1;
                    }
                }
                Step::OrElse(ref first, retries, ref second) => {
                    let before = self.change.clone();
                    self.run(first);
                    if retries {
                        self.change = before;
                        self.run(second);
                    }
                }
                Step::Caught(ref steps) => {
                    let before = self.change.clone();
                    self.run(steps);
                    self.change = before;
                }
            }
        }
    }
}

/// The same in earnest.
struct Run<'r, 'e> {
    tx: &'r Transaction<'e>,
    entities: &'e [Entity<i64>; ENTITIES],
    /// Those that are still to come.
    overtakes: &'r Cell<Vec<bool>>,
    seen: &'r Cell<Vec<i64>>,
}

impl Run<'_, '_> {
    fn see(&self, value: i64) {
        let mut seen = self.seen.take();
        seen.push(value);
        self.seen.set(seen);
    }

    fn run(&self, steps: &[Step]) -> Result<(), Restart> {
        let Run { tx, entities, .. } = *self;
        for step in steps {
            match *step {
                Step::Read(e) => self.see(*tx.read(&entities[e])?),
                Step::Get(e) => self.see(tx.get(&entities[e])?),
                Step::Require(e) => _ = tx.require(&entities[e])?,
                Step::Write(e, n) => tx.write(&entities[e], n),
                Step::Update(e, n) => tx.update(&entities[e], |v| mix(*v, n))?,
                Step::Fold(e, n) => tx.fold(&entities[e], move |v| mix(*v, n)),
                Step::Overtake(e, n) => {
                    let mut left = self.overtakes.take();
                    let does = left.remove(0);
                    self.overtakes.set(left);
                    if does {
                        overtake(&entities[e], n);
                    }
                }
                Step::OrElse(ref first, retries, ref second) => {
                    let first = |_: &Transaction<'_>| {
                        self.run(first)?;
                        if retries { tx.retry() } else { Ok(()) }
                    };
                    tx.or_else(first, |_| self.run(second))?;
                }
                Step::Caught(ref steps) => {
                    let panicking = |_: &Transaction<'_>| {
                        self.run(steps)?;
                        plan::<Result<(), Restart>>()
                    };
                    let never = |_: &Transaction<'_>| unreachable!("a panic is no `retry`");
                    let caught = AssertUnwindSafe(|| tx.or_else(panicking, never));
                    if let Ok(ended) = catch_unwind(caught) {
                        ended?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[test]
fn random_closures_do_what_the_model_does() {
    alone(|| {
        let cases = fewer_if_slow(if cfg!(debug_assertions) { 600 } else { 3_000 });
        let config = Config {
            cases: cases as u32,
            failure_persistence: None,
            ..Config::default()
        };
        let (alternatives, overtakes) = (Cell::new(0), Cell::new(0));
        let outcome = TestRunner::new(config).run(&steps(), |steps| {
            let model = Model::of(&steps);
            let is_alternative = |step: &Step| matches!(step, Step::OrElse(_, true, _));
            if steps.iter().any(is_alternative) {
                alternatives.set(alternatives.get() + 1);
            }
            if model.overtakes.contains(&true) {
                overtakes.set(overtakes.get() + 1);
            }
            let entities = [(); ENTITIES].map(|()| logical(0));
            let seen = Cell::new(Vec::new());
            let left = Cell::new(model.overtakes.clone());
            let attempts = transaction(|tx| {
                let run = Run {
                    tx,
                    entities: &entities,
                    overtakes: &left,
                    seen: &seen,
                };
                run.run(&steps)?;
                Ok(tx.attempt())
            });
            prop_assert_eq!(attempts, 1, "nobody was in its way");
            prop_assert_eq!(left.take(), []);
            prop_assert_eq!(seen.take(), model.seen);
            prop_assert_eq!(values(&entities), model.current);
            prop_assert_eq!(
                [0, 1, 2].map(|e: usize| version(&entities[e])),
                model.commits
            );
            Ok(())
        });
        if let Err(failure) = outcome {
            panic!("{failure}");
        }
        let (alternatives, overtakes) = (alternatives.get(), overtakes.get());
        println!("{cases} closures, {alternatives} with alternatives, {overtakes} overtaken");
        assert!(
            alternatives > cases / 20 && overtakes > cases / 20,
            "NOT EXERCISED"
        );
    });
}

//! Operations of four kinds on hot targets, which several mixes have: how they are drawn, what they do, and what must
//! be true of the targets.
//!
//! The strongest law is the replay: all commits, put in the order of the versions that they were given and applied one
//! by one to a fresh target, must give the very state that the threads left, history included.

use super::{Mix, Outcome, class_of, line, past};
use crate::args::{Arguments, Policy};
use crate::books::{Answer, Books, Drawn, Entry, Meter, Way};
use crate::door::Door;
use crate::laws::{self, Law};
use crate::workload::{Entry as Line, History, Kind, Operation, SplitMix64, State, Target, User};
use snapcell::{Engine, Entity, Priority, Snapshot};
use std::convert::Infallible;
use std::sync::Arc;

/// The targets, and how operations on them are drawn.
pub(crate) struct Hot {
    pub(crate) arguments: Arguments,
    pub(crate) targets: Vec<Entity<Target>>,
    /// How important an operation is.
    priority: fn(&Operation, &mut SplitMix64) -> Priority,
}

impl Hot {
    pub(crate) fn new(
        arguments: &Arguments,
        priority: fn(&Operation, &mut SplitMix64) -> Priority,
    ) -> Self {
        let targets = (0..arguments.targets()).map(|_| Entity::new(Target::new()));
        Hot {
            arguments: arguments.clone(),
            targets: targets.collect(),
            priority,
        }
    }

    /// What the operation of this number does.
    pub(crate) fn operation(&self, id: u32) -> Operation {
        Operation::draw(self.arguments.seed, id, self.arguments.targets())
    }

    /// The closure of an operation.
    fn change(
        &self,
        drawn: &Drawn,
        thread: u32,
        meter: &Arc<Meter>,
    ) -> impl Fn(&Target) -> Target + Clone + Send + Sync + use<> {
        let operation = self.operation(drawn.id);
        let user = user(thread, drawn);
        let (meter, work) = (meter.clone(), self.arguments.work);
        move |target| {
            meter.run(work, || {
                let next = target.after(&operation, user);
                meter.changes(next.state.modifications);
                next
            })
        }
    }

    fn effects(
        &self,
        books: &Books,
        lines: &[(Vec<&Entry>, u64, u64)],
        finals: &[Snapshot<Target>],
    ) -> Vec<Law> {
        let hits = |entry: &Entry| Kind::ALL[entry.drawn.kind].hits();
        let ends: Vec<_> = lines.iter().zip(finals).collect();
        let all = ends.len() as u64;
        vec![
            Law::new(
                "sum of hits = committed increments + accumulates + versions",
                books.count(|entry| entry.is_committed() && hits(entry)),
                finals.iter().map(|last| last.state.hits).sum(),
            ),
            Law::new(
                "targets whose history is in the order of commits and of the right length",
                all,
                laws::count(finals, |last| is_history(&last.state)),
            ),
            Law::new(
                "targets that are what the replay of their commits gives",
                all,
                laws::count(&ends, |((line, ..), last)| self.replay(line) == last.state),
            ),
        ]
    }

    /// What a target becomes by these commits, one after another and on one thread.
    fn replay(&self, line: &[&Entry]) -> State {
        line.iter().fold(State::default(), |state, entry| {
            let operation = self.operation(entry.drawn.id);
            state.after(&operation, user(entry.thread, &entry.drawn))
        })
    }
}

impl Mix for Hot {
    fn kinds(&self) -> &'static [&'static str] {
        const NAMES: [&str; 4] = [
            Kind::ALL[0].name(),
            Kind::ALL[1].name(),
            Kind::ALL[2].name(),
            Kind::ALL[3].name(),
        ];
        &NAMES
    }

    fn draw(&self, id: u32) -> Drawn {
        let operation = self.operation(id);
        let mut random = chance(&self.arguments, id);
        let priority = (self.priority)(&operation, &mut random);
        Drawn {
            id,
            kind: operation.kind as usize,
            target: operation.target,
            class: class_of(priority),
            priority,
            way: way(&self.arguments, &mut random),
            is_part: false,
        }
    }

    fn submit(&self, drawn: &Drawn, thread: u32, meter: &Arc<Meter>, door: &mut Door<'_>) {
        let target = &self.targets[drawn.target];
        let change = self.change(drawn, thread, meter);
        if self.arguments.policy != Policy::Merge {
            let update = snapcell::Operation::update(target, change);
            return door.submit(drawn, meter, update, stamp_of);
        }
        let (operation, noted) = (self.operation(drawn.id), meter.clone());
        let merging = snapcell::Operation::merging(
            target,
            move |target| Ok::<_, Infallible>(Some(change(target))),
            move |merge| {
                let merged = || Target::merged(merge.base, merge.mine, merge.theirs, &operation);
                let next = noted.merge(merged);
                noted.changes(next.state.modifications);
                Some(next)
            },
        );
        door.submit(drawn, meter, merging, stamp_of);
    }

    fn at_once(&self, drawn: &Drawn, thread: u32, meter: &Arc<Meter>, engine: &Engine) -> Answer {
        let target = &self.targets[drawn.target];
        let change = self.change(drawn, thread, meter);
        match drawn.way {
            Way::Protected(protection) => {
                let result = engine.protect(drawn.class, protection, target, change);
                Answer::of(result, meter, stamp_of)
            }
            Way::Past => {
                let change = |target: &Target| Ok::<_, Infallible>(change(target));
                past::commit(target, &self.arguments, drawn, meter, change)
            }
            Way::InTurn | Way::AtOnce => {
                let operation = snapcell::Operation::update(target, change)
                    .class(drawn.class)
                    .priority(drawn.priority);
                Answer::of(engine.run(&operation), meter, stamp_of)
            }
        }
    }

    fn waiting(&self, engine: &Engine) -> usize {
        self.targets
            .iter()
            .map(|target| engine.waiting(target))
            .sum()
    }

    fn judge(&self, books: &Books) -> Outcome {
        let finals: Vec<Snapshot<Target>> = self.targets.iter().map(Entity::snapshot).collect();
        let line = |(index, last): (usize, &Snapshot<Target>)| {
            let (version, changes) = (last.stamp().version(), last.state.modifications);
            (line(books, index), version, changes)
        };
        let lines: Vec<_> = finals.iter().enumerate().map(line).collect();
        let mut laws = laws::of_lines(self.arguments.policy, &lines);
        laws.extend(self.effects(books, &lines, &finals));
        let targets = finals.iter().map(|last| {
            let State {
                hits,
                total,
                last_user,
                ..
            } = &last.state;
            super::Target {
                version: last.stamp().version(),
                state: format!(
                    "{hits} hits, total {total}, last by operation {} of thread {}",
                    last_user.operation, last_user.thread
                ),
            }
        });
        let runs: u64 = books
            .entries
            .iter()
            .map(|entry| u64::from(entry.runs))
            .sum();
        Outcome {
            targets: targets.collect(),
            laws,
            // A merge makes values that nobody else counts.
            values: (self.arguments.policy != Policy::Merge)
                .then_some(self.targets.len() as u64 + runs),
            ..Outcome::default()
        }
    }
}

/// Random numbers for what an operation is besides what it does.
pub(crate) fn chance(arguments: &Arguments, id: u32) -> SplitMix64 {
    SplitMix64::seeded(!arguments.seed, u64::from(id))
}

/// In its turn, or beside the lanes: at once, or, where it works, past the engine.
pub(crate) fn way(arguments: &Arguments, random: &mut SplitMix64) -> Way {
    let is_beside = random.below(100) < u64::from(arguments.beside());
    match (is_beside, arguments.work.is_zero()) {
        (false, _) => Way::InTurn,
        (true, true) => Way::AtOnce,
        (true, false) => Way::Past,
    }
}

pub(crate) fn stamp_of<T>(snapshot: &Snapshot<T>) -> Option<snapcell::Stamp> {
    Some(snapshot.stamp())
}

fn user(thread: u32, drawn: &Drawn) -> User {
    User {
        thread,
        operation: drawn.id,
    }
}

/// Whether the history ends with the last change, goes back from there without a gap, and is as long as it should be.
fn is_history(state: &State) -> bool {
    let entries = state.history.entries();
    let length = History::length_after(state.modifications);
    let dropped = state.modifications - length;
    let is_next = |(entry, before): (&Line, u64)| entry.modification == before + 1;
    entries.len() as u64 == length && entries.iter().zip(dropped..).all(is_next)
}

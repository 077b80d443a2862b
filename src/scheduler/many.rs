//! How whoever submits several operations together does those that are [short](crate::Operation::short).
//!
//! As one that is submitted alone (`short`), but what is asked once for all is asked once: whether somebody listens, and
//! whether the engine is shut down. Those of one target are done one after the other, the most important first, so that
//! its entity stays in the caches of this processor; or on one copy of its value, and published by one commit, where the
//! policy is to fold them. Where somebody is faster, those of another target come first, and somebody else has done
//! with the entity meanwhile. What can't be done at once is submitted as a [stage](crate::Stage).
#![forbid(unsafe_code)]

use super::account::tally::Incident;
use super::body::{Attempt, Body, Published, Step};
use super::current;
use super::fold::MOST;
use super::lane::Lane;
use super::local;
use super::operation::Operation;
use super::policy::Policy;
use super::record::Ending;
use super::run::{Entry, attempt};
use super::shared::Shared;
use super::short::TRIES;
use super::stage::Stage;
use super::ticket::Submitted;
use crate::cell::Backoff;
use crate::raw::quietly;
use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// One that may be done at once.
#[derive(Clone, Copy)]
struct Turn {
    /// Which one it is.
    index: usize,
    entry: Entry,
    /// How many attempts it has lost.
    lost: u32,
}

/// Those of one target that may be done at once, in their order.
struct Group {
    lane: Arc<Lane>,
    turns: Vec<Turn>,
    /// How many of them are done.
    done: usize,
    /// Whether they are published by one commit.
    folds: bool,
    /// Whether one was found that may not be done at once.
    waits: bool,
}

/// Whether somebody was faster. Otherwise the group is done, or something is in its way.
type IsLost = bool;

/// What is submitted, and what comes of it.
struct All<B: Body> {
    operations: Vec<Operation<B>>,
    tickets: Vec<Option<Submitted<B>>>,
}

/// For so many of one target there is room at first.
const FEW: usize = 16;

/// So often they are folded again where somebody was faster. From then on each is done by itself.
const FOLDS: u32 = 2;

/// The most important first, and those that are equal as they are. There are few priorities, so that this is faster than a
/// sort.
fn put_in_order(turns: &mut Vec<Turn>) {
    let priorities = |turn: &Turn| 1_u16 << turn.entry.priority.get();
    let mut left = turns.iter().fold(0, |set, turn| set | priorities(turn));
    if left.count_ones() < 2 {
        return;
    }
    let mut sorted = Vec::with_capacity(turns.len());
    while left != 0 {
        let highest = 1 << left.ilog2();
        sorted.extend(turns.iter().filter(|turn| priorities(turn) == highest));
        left &= !highest;
    }
    *turns = sorted;
}

impl Shared {
    /// See [`Engine::submit_all`](crate::Engine::submit_all).
    pub(super) fn submit_all<B: Body>(
        self: &Arc<Self>,
        operations: impl IntoIterator<Item = Operation<B>>,
    ) -> Vec<Submitted<B>> {
        // First all of them: whoever makes them may do anything, and panic.
        let operations: Vec<_> = operations.into_iter().collect();
        let mut tickets = Vec::new();
        tickets.resize_with(operations.len(), || None);
        let mut all = All {
            operations,
            tickets,
        };
        let mut groups = self.groups(&all.operations);
        let entered = groups.iter().map(|group| group.turns.len() as u64).sum();
        let is_open = entered > 0 && self.ledger.gate.enter_many(entered);
        if is_open {
            self.do_in_turn(&mut groups, &mut all);
        }
        let All {
            operations,
            mut tickets,
        } = all;
        let done = self.stage_rest(operations, &mut tickets, &groups);
        if is_open {
            self.ledger.gate.leave_many(entered);
        }
        // The destructors of their closures may do anything, and panic, which is nobody's business here.
        for body in done {
            quietly(|| drop(body));
        }
        let ticket = |ticket: Option<_>| ticket.expect("all are submitted");
        tickets.into_iter().map(ticket).collect()
    }

    /// Those that may be done at once, of each target the most important first. Where one may not, those that want the
    /// same target wait for their turn with it.
    fn groups<B: Body>(&self, operations: &[Operation<B>]) -> Vec<Group> {
        if self.hands_over() {
            return Vec::new();
        }
        let room = operations.len().min(FEW);
        let groups = local::with(self, |local| {
            let mut groups = BTreeMap::<_, Group>::new();
            for (index, operation) in operations.iter().enumerate() {
                let Some(&target) = operation.body.targets().first() else {
                    continue;
                };
                let group = groups.entry(target).or_insert_with(|| Group {
                    lane: local.lane(self, target).clone(),
                    turns: Vec::with_capacity(room),
                    done: 0,
                    folds: self.policy == Policy::Fold,
                    waits: false,
                });
                // What is refused is in nobody's way.
                let Ok(entry) = self.ask(local, operation, |lane| lane.inbox.is_idle()) else {
                    continue;
                };
                if entry.is_free && operation.wish.may_be_done_at_once() {
                    group.turns.push(Turn {
                        index,
                        entry,
                        lost: 0,
                    });
                } else {
                    group.waits = true;
                }
            }
            groups
        });
        let groups = groups.into_values().filter(|group| !group.waits);
        let in_order = groups.map(|mut group| {
            put_in_order(&mut group.turns);
            group
        });
        in_order.collect()
    }

    fn do_in_turn<B: Body>(&self, groups: &mut [Group], all: &mut All<B>) {
        let mut rest: VecDeque<_> = groups.iter_mut().collect();
        let mut backoff = Backoff::new();
        while let Some(group) = rest.pop_front() {
            let is_lost = if group.folds {
                self.do_folded(group, all)
            } else {
                self.do_in_order(group, all)
            };
            if is_lost {
                if rest.is_empty() {
                    backoff.lost();
                }
                rest.push_back(group);
            }
        }
    }

    /// Does those of one target, each by a commit of its own.
    fn do_in_order<B: Body>(&self, group: &mut Group, all: &mut All<B>) -> IsLost {
        for turn in &mut group.turns[group.done..] {
            if !self.may_go_on(&group.lane, turn) {
                break;
            }
            let operation = &all.operations[turn.index];
            let at = self.ledger.now();
            let now = self.ledger.clock.is_monotonic().then_some(at);
            let (result, ending) = match attempt(operation, None, turn.entry.priority, now) {
                Attempt::Committed(output) => (Ok(output), Ending::Committed),
                Attempt::Unchanged(output) => (Ok(output), Ending::Unchanged),
                Attempt::Failed(error) => (Err(error), Ending::Failed),
                Attempt::Lost(_) => {
                    turn.lost += 1;
                    return true;
                }
            };
            let ticket = self.end_at_once(operation, turn.entry, result, ending, turn.lost, at);
            all.tickets[turn.index] = Some(Ok(ticket));
            group.done += 1;
        }
        false
    }

    /// Whether it may be done here, now.
    fn may_go_on(&self, lane: &Lane, turn: &Turn) -> bool {
        turn.lost < TRIES && lane.is_free() && !self.ledger.gate.cancels()
    }

    /// Does those of one target on one copy of its value, and publishes that by one commit.
    fn do_folded<B: Body>(&self, group: &mut Group, all: &mut All<B>) -> IsLost {
        while let Some(first) = group.turns.get(group.done) {
            if !self.may_go_on(&group.lane, first) {
                break;
            }
            let (leader, priority) = (&all.operations[first.index], first.entry.priority);
            let at = self.ledger.now();
            let upto = group.turns.len().min(group.done + MOST);
            let turns = &mut group.turns[group.done..upto];
            // The destructor of a value and a validator are as much in there as a closure.
            let published = current::within(None, priority, leader.body.targets(), || {
                self.fold(turns, &all.operations, &mut all.tickets, at)
            });
            match published {
                Published::Done => group.done = upto,
                Published::Lost => {
                    for turn in turns {
                        turn.lost += 1;
                        // One of them may commit to what it computes for, and would have the others lose again and again.
                        group.folds = turn.lost < FOLDS;
                    }
                    return true;
                }
                // Each by itself, then.
                Published::Refused => {
                    group.folds = false;
                    return self.do_in_order(group, all);
                }
            }
        }
        false
    }

    /// Has these operations change one copy of the value, and publishes it. Refused are also those that can't be folded.
    fn fold<B: Body>(
        &self,
        turns: &[Turn],
        operations: &[Operation<B>],
        tickets: &mut [Option<Submitted<B>>],
        at: u64,
    ) -> Published {
        let leader = &operations[turns[0].index];
        let Some(mut fold) = leader.body.fold() else {
            return Published::Refused;
        };
        let mut steps = Vec::with_capacity(turns.len());
        for turn in turns {
            let (body, priority) = (&operations[turn.index].body, turn.entry.priority);
            let step = || body.step(fold.as_any());
            steps.push(current::within(None, priority, body.targets(), step));
        }
        let published = fold.publish();
        if published != Published::Done {
            quietly(|| drop(steps));
            return published;
        }
        let changes = steps.iter().filter(|step| matches!(step, Step::Changed));
        if changes.count() > 1 {
            self.ledger.tally.note(&leader.wish.kind, Incident::Fold);
        }
        for (turn, step) in turns.iter().zip(steps) {
            let operation = &operations[turn.index];
            let output = || operation.body.folded((*fold).as_ref());
            let (result, ending) = match step {
                Step::Changed => (Ok(output()), Ending::Committed),
                Step::Unchanged => (Ok(output()), Ending::Unchanged),
                Step::Failed(error) => {
                    let error: Box<dyn Any> = error;
                    let error = error.downcast().expect("a step fails with its own error");
                    (Err(*error), Ending::Failed)
                }
            };
            let ticket = self.end_at_once(operation, turn.entry, result, ending, turn.lost, at);
            tickets[turn.index] = Some(Ok(ticket));
        }
        Published::Done
    }

    /// Submits at one moment what was not done at once. What is left of the others.
    fn stage_rest<B: Body>(
        self: &Arc<Self>,
        operations: Vec<Operation<B>>,
        tickets: &mut [Option<Submitted<B>>],
        groups: &[Group],
    ) -> Vec<B> {
        let left = groups
            .iter()
            .filter_map(|group| group.turns.get(group.done..));
        let lost: BTreeMap<_, _> = left.flatten().map(|turn| (turn.index, turn.lost)).collect();
        let mut done = Vec::with_capacity(operations.len());
        let mut stage = None;
        for (index, (operation, ticket)) in operations.into_iter().zip(tickets).enumerate() {
            if ticket.is_some() {
                done.push(operation.body);
                continue;
            }
            let stage = stage.get_or_insert_with(|| Stage::new(self.clone()));
            let lost = lost.get(&index).copied().unwrap_or(0);
            *ticket = Some(self.stage_after(stage, operation, lost));
        }
        if let Some(stage) = stage {
            stage.resolve();
        }
        done
    }

    /// Stages one that has lost so many attempts.
    fn stage_after<B: Body>(
        &self,
        stage: &mut Stage,
        operation: Operation<B>,
        lost: u32,
    ) -> Submitted<B> {
        let kind = operation.wish.kind;
        let target = operation.body.targets().first().copied();
        let ticket = stage.add_after(operation, lost)?;
        if let Some(target) = target {
            self.note_lost(&kind, target, lost);
        }
        Ok(ticket)
    }
}

//! How an operation deals with the reservation of its target, and how it stays away.
//!
//! Whoever has lost often enough reserves the target, as its [`RetryPolicy`](crate::RetryPolicy) says. Others step
//! back for it if they are less important, and for one budget in all: then they go on, whatever is reserved. So
//! nobody waits for one who is gone, and no commit fails by a reservation.
#![forbid(unsafe_code)]

use super::account::tally::{Incident, Kind};
use super::header::Header;
use super::id::OperationId;
use super::lane::Lane;
use super::ledger::Ledger;
use super::local;
use super::priority::Priority;
use super::reservation::Claim;
use super::retry::Next;
use super::shared::Shared;
use crate::clock;
use crate::sync::orderings::site;
use crate::sync::{self, sleep};
use std::mem;
use std::time::Duration;

/// What an operation has to do with the reservation of its target: it may have one itself, and steps back for
/// others. Dropping it gives the reservation back.
pub(super) struct Claiming<'l> {
    lane: &'l Lane,
    ledger: &'l Ledger,
    kind: Kind,
    own: Option<Claim>,
    /// Whether it has the reservation, as far as it knows; and whether it has stepped back for others.
    is_taken: bool,
    has_stepped_back: bool,
    /// How long it may still step back for others, in microseconds: one budget for an operation, as long as
    /// a reservation lasts.
    budget: u64,
    /// When it first reserved its target, by which its reservation ends, in microseconds.
    since: Option<u64>,
    /// What stays with the operation, if it may come back to its lane: how much of the budget is spent, and `since`.
    /// Only whoever runs it writes these.
    record: Option<&'l Header>,
}

impl<'l> Claiming<'l> {
    pub(super) fn new(lane: &'l Lane, ledger: &'l Ledger, kind: Kind) -> Self {
        Claiming {
            lane,
            ledger,
            kind,
            own: None,
            is_taken: false,
            has_stepped_back: false,
            budget: 0,
            since: None,
            record: None,
        }
    }

    /// That of an operation which was submitted.
    pub(super) fn of(lane: &'l Lane, ledger: &'l Ledger, header: &'l Header) -> Self {
        Claiming {
            record: Some(header),
            ..Claiming::new(lane, ledger, header.kind)
        }
    }

    /// What comes before an attempt: stays away while somebody more important has reserved the target, as long as
    /// the budget lasts, and then reserves it, if `reserves`. `false`: it has stayed away, and still would, but something
    /// more important waits for the lane than what is in it.
    #[inline]
    pub(super) fn respect(
        &mut self,
        shared: &Shared,
        id: impl FnOnce() -> OperationId,
        priority: Priority,
        reserves: bool,
    ) -> bool {
        if reserves || !self.lane.reservation.is_free() {
            return self.deal(shared, id, priority, reserves);
        }
        true
    }

    #[cold]
    fn deal(
        &mut self,
        shared: &Shared,
        id: impl FnOnce() -> OperationId,
        priority: Priority,
        reserves: bool,
    ) -> bool {
        let own = self.own(shared, id, priority);
        while let Some(step) = self.step_back(shared, &own, STEP) {
            let begun = shared.ledger.now();
            pause(Next::Wait(step));
            let took = Duration::from_nanos(shared.ledger.now().saturating_sub(begun));
            self.spend(took.saturating_sub(step));
            if self.lane.waiting_above(priority) {
                return false;
            }
        }
        if reserves {
            self.take(shared);
        }
        true
    }

    /// How long to stay away before the next look whether that is still necessary, at most `longest` microseconds.
    /// `None`: not at all, or no longer.
    pub(super) fn step_back(
        &mut self,
        shared: &Shared,
        own: &Claim,
        longest: u64,
    ) -> Option<Duration> {
        if self.budget == 0 {
            return None;
        }
        let left = self.lane.reservation.blocks(own, micros(shared))?;
        // In short steps, since whoever has reserved it may be done long before.
        let step = left.clamp(1, longest).min(self.budget);
        self.spend(Duration::from_micros(step));
        if !mem::replace(&mut self.has_stepped_back, true) {
            self.ledger.tally.note(&self.kind, Incident::SteppedBack);
        }
        Some(Duration::from_micros(step))
    }

    /// It stays away for so long, or has done so for so much longer than it was to.
    pub(super) fn spend(&mut self, more: Duration) {
        let more = u64::try_from(more.as_micros()).unwrap_or(u64::MAX);
        self.budget = self.budget.saturating_sub(more);
        if let Some(record) = self.record {
            let spent = &record.stepped_back;
            let sum = spent.load(site::RECORD_LOAD).saturating_add(more);
            spent.store(sum, site::RECORD_STORE);
        }
    }

    /// Reserves the target by the claim that [`own`](Claiming::own) has made, unless somebody more important has
    /// reserved it, or the time for which the operation may is over.
    pub(super) fn take(&mut self, shared: &Shared) {
        let now = micros(shared);
        let Some(own) = &mut self.own else { return };
        if self.since.is_none() {
            own.start_us = now;
        }
        if !self.lane.reservation.try_take(own, now) {
            return;
        }
        if self.since.is_none() {
            self.since = Some(now);
            if let Some(record) = self.record {
                record.set_reserved_since(now);
            }
        }
        if !mem::replace(&mut self.is_taken, true) {
            self.ledger.tally.note(&self.kind, Incident::Reserved);
        }
    }

    /// The claim, which is made once, and again if the operation has become more important.
    pub(super) fn own(
        &mut self,
        shared: &Shared,
        id: impl FnOnce() -> OperationId,
        priority: Priority,
    ) -> Claim {
        let claim = match self.own {
            Some(own) if own.priority == priority => return own,
            Some(own) => {
                self.give_back(&own);
                Claim { priority, ..own }
            }
            None => {
                let grace = local::with(shared, |local| local.policies().grace());
                let grace_us = u64::try_from(grace.as_micros()).unwrap_or(u64::MAX);
                let spent = self
                    .record
                    .map_or(0, |record| record.stepped_back.load(site::RECORD_LOAD));
                self.since = self.record.and_then(Header::reserved_since);
                self.budget = grace_us.saturating_mul(4).saturating_sub(spent);
                Claim {
                    priority,
                    tag: id().get() as u32,
                    // Of no account before it is taken.
                    start_us: self.since.unwrap_or(0),
                    grace_us,
                }
            }
        };
        *self.own.insert(claim)
    }

    /// Gives the reservation back, if it has it. It may be taken again.
    ///
    /// This comes before the operation can be claimed by somebody else, whose claim would be the same.
    pub(super) fn leave(&mut self) {
        if let Some(own) = self.own {
            self.give_back(&own);
        }
    }

    /// Gives the reservation back, if it has it, and notes if it was over before.
    fn give_back(&mut self, own: &Claim) {
        if !mem::take(&mut self.is_taken) {
            return;
        }
        let was_left = self.lane.reservation.clear(own) && !own.is_over(self.ledger.now() / 1_000);
        if !was_left {
            self.ledger.tally.note(&self.kind, Incident::Lapsed);
        }
    }
}

impl Drop for Claiming<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The longest step back without a look whether it is still necessary, in microseconds.
const STEP: u64 = 20;

fn micros(shared: &Shared) -> u64 {
    shared.ledger.now() / 1_000
}

/// Stays away for so long.
pub(super) fn pause(next: Next) {
    match next {
        Next::Spin(rounds) => sync::spin(rounds),
        // There is no time in models.
        Next::Wait(_) if cfg!(any(snapcell_model, snapcell_shuttle)) => sync::spin(1),
        Next::Wait(long) => {
            let deadline = clock::deadline(long);
            while !sleep::is_over(deadline) && sleep::park(deadline) {}
        }
        Next::Now | Next::Exhausted | Next::Expired => {}
    }
}

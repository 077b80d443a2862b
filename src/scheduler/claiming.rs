//! How an operation deals with the reservation of its target, and how it stays away.
//!
//! Whoever has lost often enough reserves the target, as its [`RetryPolicy`](crate::RetryPolicy) says. Others step
//! back for it if they are less important, and for one budget in all: then they go on, whatever is reserved. So
//! nobody waits for one who is gone, and no commit fails by a reservation.
#![forbid(unsafe_code)]

use super::id::OperationId;
use super::lane::Lane;
use super::local;
use super::priority::Priority;
use super::reservation::Claim;
use super::retry::Next;
use super::shared::Shared;
use crate::clock;
use crate::sync;
use crate::sync::sleep;
use std::time::Duration;

/// What an operation has to do with the reservation of its target: it may have one itself, and steps back for
/// others. Dropping it gives the reservation back.
pub(super) struct Claiming<'l> {
    lane: &'l Lane,
    own: Option<Claim>,
    /// How long it may still step back for others, in microseconds: one budget for an operation, as long as
    /// a reservation lasts.
    budget: u64,
}

impl<'l> Claiming<'l> {
    pub(super) fn new(lane: &'l Lane) -> Self {
        Claiming {
            lane,
            own: None,
            budget: 0,
        }
    }

    /// What comes before an attempt: stays away while somebody more important has reserved the target, as long as
    /// the budget lasts, and then reserves it, if `reserves`.
    #[inline]
    pub(super) fn respect(
        &mut self,
        shared: &Shared,
        id: impl FnOnce() -> OperationId,
        priority: Priority,
        reserves: bool,
    ) {
        if reserves || !self.lane.reservation.is_free() {
            self.deal(shared, id, priority, reserves);
        }
    }

    #[cold]
    fn deal(
        &mut self,
        shared: &Shared,
        id: impl FnOnce() -> OperationId,
        priority: Priority,
        reserves: bool,
    ) {
        let own = self.own(shared, id, priority);
        while let Some(step) = self.step_back(shared, &own, STEP) {
            let begun = shared.ledger.now();
            pause(Next::Wait(step));
            let took = Duration::from_nanos(shared.ledger.now().saturating_sub(begun));
            self.spend(took.saturating_sub(step));
        }
        if reserves {
            self.take(shared, &own);
        }
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
        self.budget -= step;
        Some(Duration::from_micros(step))
    }

    /// It has stayed away for longer than it was to.
    pub(super) fn spend(&mut self, more: Duration) {
        let more = u64::try_from(more.as_micros()).unwrap_or(u64::MAX);
        self.budget = self.budget.saturating_sub(more);
    }

    /// Reserves the target, unless somebody more important has.
    pub(super) fn take(&self, shared: &Shared, own: &Claim) {
        let _ = self.lane.reservation.try_take(own, micros(shared));
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
                self.lane.reservation.clear(&own);
                Claim { priority, ..own }
            }
            None => {
                let grace = local::with(shared, |local| local.policies().grace());
                let grace_us = u64::try_from(grace.as_micros()).unwrap_or(u64::MAX);
                self.budget = grace_us.saturating_mul(4);
                Claim {
                    priority,
                    tag: id().get() as u32,
                    start_us: micros(shared),
                    grace_us,
                }
            }
        };
        *self.own.insert(claim)
    }
}

impl Drop for Claiming<'_> {
    fn drop(&mut self) {
        if let Some(own) = &self.own {
            self.lane.reservation.clear(own);
        }
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

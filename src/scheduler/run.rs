//! How an operation is run on its caller's thread, beside the lane of its target.
//!
//! It is an optimistic change, as any other: it takes no turn, and nobody waits for it. It steps back for whoever is
//! more important and has reserved the target, and may reserve it itself.
#![forbid(unsafe_code)]

use super::body::{self, Attempt, Body};
use super::claiming::{Claiming, pause};
use super::current::{self, Around, Context};
use super::local;
use super::operation::Operation;
use super::outcome::{NotTaken, OperationError, Reason, Rejection};
use super::priority::Priority;
use super::record::Ending;
use super::retry::{Next, Situation};
use super::shared::{Shared, Terms, admit};
use std::time::Duration;

impl Shared {
    /// See [`Engine::run`](crate::Engine::run).
    #[inline]
    pub(super) fn run_here<B: Body>(
        &self,
        operation: &Operation<B>,
    ) -> Result<B::Output, OperationError<B::Error>> {
        let visit = self.begin(operation)?;
        let _inside = visit.enter();
        if visit.is_free {
            match body::guarded(|| operation.body.attempt_here()) {
                Attempt::Lost => self.ledger.tally.conflict(),
                attempt => return visit.end(attempt),
            }
        }
        visit.go_on(u32::from(visit.is_free))
    }

    /// What comes before the first attempt.
    #[inline(always)]
    pub(super) fn begin<'v, B: Body>(
        &'v self,
        operation: &'v Operation<B>,
    ) -> Result<Visit<'v, B>, OperationError<B::Error>> {
        let wish = &operation.wish;
        let targets = operation.body.targets();
        let Some(&target) = targets.first() else {
            return Err(OperationError::NotTaken(NotTaken::NoTarget));
        };
        let current = match current::around(targets) {
            Around::Nothing => None,
            Around::Inside(context) => Some(context),
            Around::Busy => return Err(OperationError::SelfConflict),
        };
        let terms = local::with(self, |local| {
            let policies = local.policies();
            let policy = policies.get(wish.class).ok_or(NotTaken::UnknownClass)?;
            let priority = admit(policy, wish.priority)?;
            let reserves = wish.retry.as_ref().unwrap_or(policy.retry()).reserves(0);
            let lane = local.lane(self, target);
            Ok((priority, !reserves && lane.reservation.is_free()))
        });
        let (priority, is_free) = terms.map_err(OperationError::NotTaken)?;
        if !self.ledger.gate.enter() {
            return Err(OperationError::NotTaken(NotTaken::ShutDown));
        }
        let parent = wish.parent(|| current);
        let inherited = parent.as_ref().map(Context::priority);
        Ok(Visit {
            shared: self,
            operation,
            target,
            priority: inherited.map_or(priority, |inherited| inherited.max(priority)),
            parent,
            is_free,
        })
    }
}

/// An operation that is run on its caller's thread.
pub(super) struct Visit<'v, B> {
    shared: &'v Shared,
    operation: &'v Operation<B>,
    pub(super) target: usize,
    pub(super) priority: Priority,
    parent: Option<Context>,
    /// Whether nobody has reserved the target, and this one won't for its first attempt.
    is_free: bool,
}

impl<B: Body> Visit<'_, B> {
    #[inline(always)]
    pub(super) fn enter(&self) -> current::Running {
        let parent = self.parent.as_ref();
        let context = Context {
            work: parent.and_then(|parent| parent.work.clone()),
            floor: self.priority,
        };
        current::enter(context, self.operation.body.targets())
    }

    /// Notes what came of it.
    #[inline(always)]
    pub(super) fn end(
        &self,
        attempt: Attempt<B::Output, B::Error>,
    ) -> Result<B::Output, OperationError<B::Error>> {
        let (result, ending) = match attempt {
            Attempt::Committed(output) => (Ok(output), Ending::Committed),
            Attempt::Unchanged(output) => (Ok(output), Ending::Unchanged),
            Attempt::Failed(error @ OperationError::Rejected(_)) => (Err(error), Ending::Rejected),
            Attempt::Failed(error) => (Err(error), Ending::Failed),
            Attempt::Lost => unreachable!("it goes on"),
        };
        self.shared.ledger.ended(ending);
        result
    }

    /// Attempts it until it has ended, after so many attempts were lost.
    #[cold]
    fn go_on(&self, mut lost: u32) -> Result<B::Output, OperationError<B::Error>> {
        let shared = self.shared;
        let terms = match shared.terms(&self.operation.wish) {
            Ok(terms) => terms,
            // Its class was changed meanwhile, and doesn't allow it any more. It was begun before that.
            Err(why) => return self.end(Attempt::Failed(OperationError::NotTaken(why))),
        };
        let lane = shared.lane(self.target);
        let mut claim = Claiming::new(&lane);
        let begun = shared.ledger.now();
        loop {
            if lost > 0 {
                let age = Duration::from_nanos(shared.ledger.now().saturating_sub(begun));
                let next = terms.retry.next(Situation {
                    attempt: lost,
                    retries: terms.retries,
                    age,
                    patience: terms.patience,
                    contention: u32::try_from(lane.waiting()).unwrap_or(u32::MAX),
                    entropy: fastrand::u64(..),
                });
                if let Some(error) = self.over(&terms, next, lost) {
                    return self.end(Attempt::Failed(error));
                }
                pause(next);
            }
            let reserves = terms.retry.reserves(lost);
            claim.respect(shared, || shared.next_id(), self.priority, reserves);
            match body::guarded(|| self.operation.body.attempt_here()) {
                Attempt::Lost => shared.ledger.tally.conflict(),
                attempt => return self.end(attempt),
            }
            lost = lost.saturating_add(1);
        }
    }

    /// The error of an operation that isn't tried again.
    pub(super) fn over(
        &self,
        terms: &Terms,
        next: Next,
        lost: u32,
    ) -> Option<OperationError<B::Error>> {
        let reason = match next {
            Next::Exhausted => Reason::Exhausted {
                retries: terms.retries,
            },
            Next::Expired => Reason::Expired {
                patience: terms.patience.unwrap_or_default(),
            },
            _ => return None,
        };
        Some(OperationError::Rejected(Rejection {
            reason,
            priority: self.priority,
            attempts: lost,
        }))
    }
}

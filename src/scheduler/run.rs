//! How an operation is run on its caller's thread, beside the lane of its target.
//!
//! It is an optimistic change, as any other: it takes no turn, and nobody waits for it. It steps back for whoever is
//! more important and has reserved the target, and may reserve it itself.
#![forbid(unsafe_code)]

use super::account::event::{About, EventKind, TargetId, What};
use super::account::tally::{Incident, Kind};
use super::body::{self, Attempt, Body, Overtaken};
use super::claiming::{Claiming, pause};
use super::current::{self, Around, Context};
use super::id::OperationId;
use super::lane::Lane;
use super::local::{self, Local};
use super::operation::Operation;
use super::outcome::{NotTaken, OperationError, Reason, Rejection};
use super::priority::Priority;
use super::record::{Ending, told_of};
use super::retry::{Next, Situation};
use super::shared::{Shared, Terms, admit};
use std::cell::Cell;
use std::time::Duration;

impl Shared {
    /// See [`Engine::run`](crate::Engine::run).
    ///
    /// The ordinary case is here: nothing is around the operation, nobody listens, nobody has reserved the target, and
    /// nobody is faster. What more the other cases need is made when it turns out to be one.
    #[inline]
    pub(super) fn run_here<B: Body>(
        &self,
        operation: &Operation<B>,
    ) -> Result<B::Output, OperationError<B::Error>> {
        if current::is_in_closure()
            || operation.wish.has_parent()
            || self.ledger.feed.wants_of_operations()
        {
            return self.run_watched(operation);
        }
        let entry = self.enter(operation).map_err(OperationError::NotTaken)?;
        if !entry.is_free {
            return self.visit(operation, entry, None).go_on(0);
        }
        let attempt = attempt(operation, None, entry.priority, None);
        let (output, ending) = match attempt {
            Attempt::Committed(output) => (output, Ending::Committed),
            Attempt::Unchanged(output) => (output, Ending::Unchanged),
            attempt => return self.visit(operation, entry, None).after(attempt),
        };
        // Somebody may listen by now.
        if self.ledger.feed.wants_of_operations() {
            return self
                .visit(operation, entry, None)
                .end(Ok(output), ending, 0);
        }
        // Counted before anybody can learn of it.
        self.ledger
            .tally
            .came_and_went(&operation.wish.kind, ending, 0);
        self.ledger.gate.leave();
        Ok(output)
    }

    /// The same, inside another operation, or while somebody listens.
    #[inline(never)]
    fn run_watched<B: Body>(
        &self,
        operation: &Operation<B>,
    ) -> Result<B::Output, OperationError<B::Error>> {
        let parent = parent_of(operation)?;
        let entry = self.enter(operation).map_err(OperationError::NotTaken)?;
        let visit = self.visit(operation, entry, parent);
        visit.tell_start();
        if entry.is_free {
            // Its entity may have the same clock, which need not be asked twice then.
            let now = visit.begun.filter(|_| self.ledger.clock.is_monotonic());
            let attempt = visit.attempt(now);
            return visit.after(attempt);
        }
        visit.go_on(0)
    }

    /// What comes before the first attempt.
    pub(super) fn begin<'v, B: Body>(
        &'v self,
        operation: &'v Operation<B>,
    ) -> Result<Visit<'v, B>, OperationError<B::Error>> {
        let parent = parent_of(operation)?;
        let entry = self.enter(operation).map_err(OperationError::NotTaken)?;
        let visit = self.visit(operation, entry, parent);
        visit.tell_start();
        Ok(visit)
    }

    /// Takes an operation in, if its class allows what it is to be and the engine isn't shut down.
    #[inline(always)]
    fn enter<B: Body>(&self, operation: &Operation<B>) -> Result<Entry, NotTaken> {
        let entry = local::with(self, |local| self.ask(local, operation, |_| true))?;
        if self.ledger.gate.enter() {
            Ok(entry)
        } else {
            Err(NotTaken::ShutDown)
        }
    }

    /// What its class makes of an operation. `is_free`: what else is asked of the lane of its target, for that to count
    /// as free.
    #[inline(always)]
    pub(super) fn ask<B: Body>(
        &self,
        local: &mut Local,
        operation: &Operation<B>,
        is_free: impl Fn(&Lane) -> bool,
    ) -> Result<Entry, NotTaken> {
        let wish = &operation.wish;
        let &target = operation.body.targets().first().ok_or(NotTaken::NoTarget)?;
        let policies = local.policies();
        let policy = policies
            .get(wish.kind.class)
            .ok_or(NotTaken::UnknownClass)?;
        let reserves = wish.retry.as_deref().unwrap_or(policy.retry()).reserves(0);
        let (priority, budget) = (
            admit(policy, wish.priority)?,
            wish.retries.unwrap_or(policy.retries()),
        );
        let lane = local.lane(self, target);
        Ok(Entry {
            priority,
            budget,
            is_free: !reserves && lane.reservation.is_free() && is_free(lane),
        })
    }

    /// What is known of an operation that was taken in.
    #[cold]
    pub(super) fn visit<'v, B: Body>(
        &'v self,
        operation: &'v Operation<B>,
        entry: Entry,
        parent: Option<Context>,
    ) -> Visit<'v, B> {
        let ledger = &self.ledger;
        let inherited = parent.as_ref().map(Context::priority);
        let own = entry.priority;
        Visit {
            shared: self,
            operation,
            entry,
            target: operation.body.targets()[0],
            priority: inherited.map_or(own, |inherited| inherited.max(own)),
            parent,
            id: Cell::new(None),
            begun: ledger.feed.wants_of_operations().then(|| ledger.now()),
        }
    }
}

/// What an operation is part of.
fn parent_of<B: Body>(
    operation: &Operation<B>,
) -> Result<Option<Context>, OperationError<B::Error>> {
    let current = match current::around(operation.body.targets()) {
        Around::Nothing => None,
        Around::Inside(context) => Some(context),
        Around::Busy => return Err(OperationError::SelfConflict),
    };
    Ok(operation.wish.parent(|| current))
}

/// What its class makes of an operation.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    /// Its own priority.
    pub(super) priority: Priority,
    budget: u32,
    /// Whether nobody has reserved the target, and this one won't for its first attempt.
    pub(super) is_free: bool,
}

/// Makes an attempt, inside the closure of an operation. Who is woken by what comes of it is no part of this. `now`: what
/// the monotonic clock says, if it was asked just now.
#[inline(always)]
pub(super) fn attempt<B: Body>(
    operation: &Operation<B>,
    parent: Option<&Context>,
    priority: Priority,
    now: Option<u64>,
) -> Attempt<B::Output, B::Error> {
    let work = parent.and_then(|parent| parent.work.as_ref());
    let body = &operation.body;
    current::within(work, priority, body.targets(), || {
        body::guarded(|| body.attempt_here(now))
    })
}

/// An operation that is run on its caller's thread.
pub(super) struct Visit<'v, B> {
    shared: &'v Shared,
    operation: &'v Operation<B>,
    entry: Entry,
    pub(super) target: usize,
    pub(super) priority: Priority,
    parent: Option<Context>,
    /// Its number, once it has needed one.
    id: Cell<Option<OperationId>>,
    /// When it began, if somebody wanted to know.
    begun: Option<u64>,
}

impl<B: Body> Visit<'_, B> {
    /// Makes an attempt. `now` as in [`attempt`].
    pub(super) fn attempt(&self, now: Option<u64>) -> Attempt<B::Output, B::Error> {
        attempt(self.operation, self.parent.as_ref(), self.priority, now)
    }

    fn tell_start(&self) {
        if let Some(begun) = self.begun {
            let ledger = &self.shared.ledger;
            ledger.tell_at(begun, EventKind::Started, || (self.about(0), What::Started));
        }
    }

    /// Which operations it is counted with.
    pub(super) fn kind(&self) -> &Kind {
        &self.operation.wish.kind
    }

    /// The same, with the number that it has been given.
    pub(super) fn known_as(self, id: OperationId) -> Self {
        self.id.set(Some(id));
        self
    }

    /// Its number. Most never need one.
    pub(super) fn id(&self) -> OperationId {
        let id = self.id.get().unwrap_or_else(|| self.shared.next_id());
        self.id.set(Some(id));
        id
    }

    /// What is told of it.
    #[inline]
    fn about(&self, retries: u32) -> About {
        let wish = &self.operation.wish;
        let parent = self.parent.as_ref().and_then(|parent| parent.work.as_ref());
        let parent = parent.map(|parent| parent.header());
        // Ids are unique in an engine.
        let parent = parent.filter(|parent| self.shared.is_that_of(&parent.lane));
        let id = self.id();
        About {
            id,
            name: wish.kind.name,
            class: wish.kind.class,
            priority: self.priority,
            own: self.entry.priority,
            target: TargetId(self.target),
            parent: parent.map(|parent| parent.id),
            root: parent.map_or(id, |parent| parent.root),
            retries,
            budget: self.entry.budget,
        }
    }

    /// Somebody was faster than an attempt of it, which had lost so many before.
    #[cold]
    pub(super) fn lost(&self, retries: u32, overtaken: Option<Overtaken>) {
        let ledger = &self.shared.ledger;
        ledger.tally.note(self.kind(), Incident::Conflict);
        self.shared.lane(self.target).note_conflict();
        ledger.tell(EventKind::Conflict, || {
            let what = What::Conflict {
                expected: overtaken.and_then(|overtaken| overtaken.expected),
                found: overtaken.map(|overtaken| overtaken.found),
            };
            (self.about(retries), what)
        });
    }

    /// It is tried again for this time.
    pub(super) fn tell_retry(&self, number: u32, budget: u32, next: Next) {
        self.shared.ledger.tell(EventKind::Retry, || {
            let what = What::Retry {
                number,
                budget,
                delay: next.delay(),
            };
            (self.about(number), what)
        });
    }

    /// What comes after the first attempt.
    #[inline]
    fn after(
        &self,
        attempt: Attempt<B::Output, B::Error>,
    ) -> Result<B::Output, OperationError<B::Error>> {
        match attempt {
            Attempt::Lost(overtaken) => {
                self.lost(0, overtaken);
                self.go_on(1)
            }
            attempt => self.settle(attempt, 0),
        }
    }

    /// Ends it by what came of its last attempt.
    #[inline]
    pub(super) fn settle(
        &self,
        attempt: Attempt<B::Output, B::Error>,
        lost: u32,
    ) -> Result<B::Output, OperationError<B::Error>> {
        let (result, ending) = match attempt {
            Attempt::Committed(output) => (Ok(output), Ending::Committed),
            Attempt::Unchanged(output) => (Ok(output), Ending::Unchanged),
            Attempt::Failed(error @ OperationError::Rejected(_)) => (Err(error), Ending::Rejected),
            Attempt::Failed(OperationError::Cancelled) => {
                (Err(OperationError::Cancelled), Ending::Cancelled)
            }
            Attempt::Failed(error) => (Err(error), Ending::Failed),
            Attempt::Lost(_) => unreachable!("it goes on"),
        };
        self.end(result, ending, lost)
    }

    /// Notes how it has ended.
    #[inline]
    fn end(
        &self,
        result: Result<B::Output, OperationError<B::Error>>,
        ending: Ending,
        lost: u32,
    ) -> Result<B::Output, OperationError<B::Error>> {
        let ledger = &self.shared.ledger;
        // Counted before anybody can learn of it.
        ledger.tally.came_and_went(self.kind(), ending, lost);
        // The last attempt of one that was rejected is lost, too.
        let retries = lost - u32::from(ending == Ending::Rejected && lost > 0);
        self.tell_end(&result, ending, retries);
        ledger.gate.leave();
        result
    }

    /// Tells how it has ended, after so many retries.
    #[inline]
    pub(super) fn tell_end(
        &self,
        result: &Result<B::Output, OperationError<B::Error>>,
        ending: Ending,
        retries: u32,
    ) {
        let ledger = &self.shared.ledger;
        if ledger.feed.wants(ending.event()) {
            let now = ledger.now();
            ledger.tell_at(now, ending.event(), || {
                let changed = ending == Ending::Committed;
                let answer = result.as_ref().map(|output| (B::stamp(output), changed));
                let took = self.begun.map_or(0, |begun| now.saturating_sub(begun));
                (self.about(retries), told_of(answer, took))
            });
        }
    }

    /// Attempts it until it has ended, after so many attempts were lost.
    #[cold]
    fn go_on(&self, mut lost: u32) -> Result<B::Output, OperationError<B::Error>> {
        let shared = self.shared;
        let terms = match shared.terms(&self.operation.wish) {
            Ok(terms) => terms,
            // Its class was changed meanwhile, and doesn't allow it any more. It was begun before that.
            Err(why) => return self.settle(Attempt::Failed(OperationError::NotTaken(why)), lost),
        };
        let lane = shared.lane(self.target);
        let mut claim = Claiming::new(&lane, &shared.ledger, *self.kind());
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
                    return self.settle(Attempt::Failed(error), lost);
                }
                self.tell_retry(lost, terms.retries, next);
                pause(next);
                if shared.ledger.gate.cancels() {
                    let cancelled = Attempt::Failed(OperationError::Cancelled);
                    return self.settle(cancelled, lost);
                }
            }
            let reserves = terms.retry.reserves(lost);
            // It isn't in the lane.
            while !claim.respect(shared, || self.id(), self.priority, reserves) {}
            match self.attempt(None) {
                Attempt::Lost(overtaken) => self.lost(lost, overtaken),
                attempt => {
                    drop(claim);
                    return self.settle(attempt, lost);
                }
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

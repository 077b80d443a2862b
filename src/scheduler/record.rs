//! An operation that was submitted: one allocation, with its status, its body and its answer.
//!
//! The status is the truth, and everything else that speaks of an operation is a hint: an entry in a queue counts
//! only if the operation is still pending and as important as the entry says. So whoever changes the status need
//! not look for entries, and whoever finds an entry claims the operation by an exchange of its status.
//!
//! | who | changes the status |
//! |---|---|
//! | the holder of its lane | pending → executing, and then to how it ends |
//! | whoever waits for it inside another operation | the same, in place of the lane |
//! | its ticket | pending → cancelled; its priority |
//! | its parent, when that one gets more important | its priority |
#![forbid(unsafe_code)]

use super::account::event::{About, EventKind, Failure, TargetId, What};
use super::account::tally::Incident;
use super::body::sealed::Body;
use super::body::{self, Attempt, Fold, Overtaken, Step};
use super::current;
use super::header::{Birth, Header};
use super::ledger::Ledger;
use super::outcome::{OperationError, Panic, Reason, Rejection};
use super::priority::Priority;
use super::status::{IllegalTransition, State, Status};
use super::trace::{self, Trace};
use crate::clock::Clock;
use crate::raw::{self, Answer, Batch, Link, Linked, quietly};
use crate::stamp::Stamp;
use crate::sync::fault::{Fault, planted};
use crate::sync::orderings::site;
use std::any::Any;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

/// An operation whose types nobody needs to know.
pub(super) trait Work: Send + Sync {
    fn header(&self) -> &Header;
    fn status(&self) -> Status;
    /// Changes the status from one to another, if it is still the first.
    fn exchange(&self, from: Status, to: Status) -> Result<(), Status>;
    /// Whether it is done, and its answer is there.
    fn is_done(&self) -> bool;
    fn targets(&self) -> &[usize];
    /// Makes an attempt, while executing, and ends it, unless somebody was faster. Whether it has ended. `me` is
    /// itself, here and below.
    fn attempt(&self, me: &Arc<dyn Work>, ledger: &Ledger) -> bool;
    /// Ends it as the scheduler says, once its status is such that nobody else does.
    fn end(&self, verdict: Verdict, ledger: &Ledger);
    /// Whether it has a part that is done before, beside others.
    fn is_prepared(&self, merges: bool) -> bool;
    /// Does that part, which may end it.
    fn prepare(&self, me: &Arc<dyn Work>, ledger: &Ledger);
    /// Begins a fold, if it can take part in one.
    fn fold(&self) -> Option<Box<dyn Fold>>;
    /// Whether it can take part in a fold.
    fn folds(&self) -> bool;
    /// Takes part in a fold.
    fn step(&self, me: &Arc<dyn Work>, fold: &mut dyn Fold) -> Step;
    /// Ends it, by what its step in a fold, which was published, has made of it.
    fn folded(&self, fold: &dyn Fold, step: Step, ledger: &Ledger);
}

/// How an operation has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Committed,
    Unchanged,
    Failed,
    Rejected,
    Cancelled,
}

impl Ending {
    /// The kind of event that tells it.
    #[inline]
    pub(super) fn event(self) -> EventKind {
        match self {
            Ending::Committed | Ending::Unchanged => EventKind::Completed,
            Ending::Failed => EventKind::Failed,
            Ending::Rejected => EventKind::Rejected,
            Ending::Cancelled => EventKind::Cancelled,
        }
    }
}

/// What is told of an operation that has ended so.
pub(super) fn told_of<F>(
    answer: Result<(Option<Stamp>, bool), &OperationError<F>>,
    took: u64,
) -> What {
    match answer {
        Ok((stamp, is_changed)) => {
            let took = Duration::from_nanos(took);
            if is_changed {
                What::Completed { stamp, took }
            } else {
                What::Unchanged { stamp, took }
            }
        }
        Err(error) => match error {
            OperationError::Refused(_) => What::Failed(Failure::Refused),
            OperationError::Invalid(_) => What::Failed(Failure::Invalid),
            OperationError::Panicked(_) => What::Failed(Failure::Panicked),
            OperationError::VersionLimit => What::Failed(Failure::VersionLimit),
            OperationError::Rejected(why) => What::Rejected(*why),
            OperationError::Cancelled => What::Cancelled,
            _ => What::Failed(Failure::Stuck),
        },
    }
}

/// What the scheduler may make of an operation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    Rejected(Rejection),
    Cancelled,
}

impl Linked for dyn Work {
    fn link(&self) -> &Link<dyn Work> {
        &self.header().link
    }
}

impl dyn Work {
    /// Claims it, whose status was that: from now on it is executing, and whoever claims it has to end it. `false`: it
    /// isn't pending any more, or not as important as `level` says.
    pub(super) fn claim(
        &self,
        mut status: Status,
        level: Option<Priority>,
        now: u64,
        ledger: &Ledger,
    ) -> bool {
        loop {
            let Ok(started) = status.start() else {
                return planted(Fault::RunUnclaimed);
            };
            if level.is_some_and(|level| level != status.priority()) {
                return false;
            }
            match self.exchange(status, started) {
                Ok(()) => break,
                Err(_) if planted(Fault::RunUnclaimed) => break,
                Err(newer) => status = newer,
            }
        }
        let started = &self.header().started;
        if started.load(site::RECORD_LOAD) == 0 {
            started.store(now.max(1), site::RECORD_STORE);
            ledger.tell_at(now, EventKind::Started, || (self.about(), What::Started));
        }
        self.tell();
        true
    }

    /// What is told of it.
    pub(super) fn about(&self) -> About {
        let (header, status) = (self.header(), self.status());
        About {
            id: header.id,
            name: header.kind.name,
            class: header.kind.class,
            priority: status.priority(),
            own: header.own(),
            target: TargetId(header.lane.target),
            parent: header.parent_here().map(|parent| parent.header().id),
            root: header.root,
            retries: status.retries(),
            budget: header.budget,
        }
    }

    /// Somebody was faster than an attempt of it.
    pub(super) fn lost(&self, overtaken: Option<Overtaken>, ledger: &Ledger) {
        let header = self.header();
        let lost = header.lost.load(site::RECORD_LOAD);
        header.lost.store(lost + 1, site::RECORD_STORE);
        header.lane.note_conflict();
        ledger.tally.note(&header.kind, Incident::Conflict);
        ledger.tell(EventKind::Conflict, || {
            let what = What::Conflict {
                expected: overtaken.and_then(|overtaken| overtaken.expected),
                found: overtaken.map(|overtaken| overtaken.found),
            };
            (self.about(), what)
        });
    }

    /// Changes its status by a transition, again if others were faster. `Err`: it is illegal.
    pub(super) fn change(
        &self,
        transition: impl Fn(Status) -> Result<Status, IllegalTransition>,
    ) -> Result<Status, IllegalTransition> {
        let mut status = self.status();
        loop {
            let next = transition(status)?;
            match self.exchange(status, next) {
                Ok(()) => {
                    self.tell();
                    return Ok(next);
                }
                Err(newer) => status = newer,
            }
        }
    }

    /// Ends it, if it is pending. Whether it was.
    pub(super) fn end_pending(&self, verdict: Verdict, ledger: &Ledger) -> bool {
        let decided = self.change(|status| match verdict {
            // What runs already is only asked to end.
            _ if status.state() != State::Pending => status.start(),
            Verdict::Rejected(_) => status.reject(),
            Verdict::Cancelled => status.cancel(),
        });
        if decided.is_ok() {
            self.end(verdict, ledger);
        }
        decided.is_ok()
    }

    /// Its rejection, for a reason.
    pub(super) fn rejection(&self, reason: Reason) -> Verdict {
        Verdict::Rejected(Rejection {
            reason,
            priority: self.status().priority(),
            // Those that it hasn't lost ended it.
            attempts: self.header().lost(),
        })
    }

    /// Has somebody woken when it is done. Whoever calls this looks afterwards whether it is.
    pub(super) fn listen(&self, waker: &Waker) {
        let waker = Some(waker.clone());
        let former = self
            .header()
            .waker
            .with(|place| std::mem::replace(place, waker));
        drop(former);
        let mut status = self.status();
        while !status.awaited {
            let awaited = Status {
                awaited: true,
                ..status
            };
            match self.exchange(status, awaited) {
                Ok(()) => break,
                Err(newer) => status = newer,
            }
        }
    }

    /// Wakes whoever waits for it.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.header().waker.with(Option::take) {
            quietly(|| waker.wake());
        }
    }

    /// All that this one is part of, itself first.
    pub(super) fn chain(&self) -> impl Iterator<Item = &dyn Work> {
        std::iter::successors(Some(self), |work| work.header().parent.as_deref())
    }
}

/// Makes an operation as important as `priority`, if it is less so; and with it what depends on it. Each that waits for
/// its turn is put into its lane again, by its own engine, which may be another one.
pub(super) fn prioritize(work: &Arc<dyn Work>, priority: Priority) {
    if set_priority(work, priority, false) {
        follow_all(work, false);
    }
}

/// Sets an operation's own priority.
pub(super) fn reprioritize(work: &Arc<dyn Work>, own: Priority) {
    work.header()
        .own
        .store(u64::from(own.get()), site::RECORD_STORE);
    if follow(work, true) {
        follow_all(work, true);
    }
}

/// Has all that is part of an operation follow its priority.
fn follow_all(work: &Arc<dyn Work>, exactly: bool) {
    let mut open = vec![work.clone()];
    while let Some(work) = open.pop() {
        let children = work.header().children.with(|children| {
            children.retain(|child| child.strong_count() > 0);
            children.clone()
        });
        let children = children.iter().filter_map(Weak::upgrade);
        open.extend(children.filter(|child| follow(child, exactly)));
    }
}

/// Makes an operation as important as itself and its parent want, again if they want something else by then: so of those
/// who change them at the same time the last one to look leaves it as it should be. `false`: it has ended.
fn follow(work: &Arc<dyn Work>, exactly: bool) -> bool {
    let header = work.header();
    let wanted = || {
        let parent = header.parent.as_ref();
        let above = parent.map(|parent| parent.status().priority());
        above.map_or(header.own(), |above| above.max(header.own()))
    };
    let mut priority = wanted();
    while set_priority(work, priority, exactly) {
        let now = wanted();
        if now == priority || planted(Fault::FollowOnce) {
            return true;
        }
        priority = now;
    }
    false
}

/// Makes an operation as important as that, if it is less so, or, if `exactly`, in any case. `false`: it has ended.
fn set_priority(work: &Arc<dyn Work>, priority: Priority, exactly: bool) -> bool {
    let changed = work.change(|status| {
        let stays = !exactly && status.priority() > priority;
        status.prioritize(if stays { status.priority() } else { priority })
    });
    let Ok(now) = changed else {
        return false;
    };
    if now.state() == State::Pending
        && let Some(engine) = work.header().lane.engine.upgrade()
    {
        engine.requeue(work);
    }
    true
}

/// An operation with its types. First what whoever serves needs, as in [`Header`].
#[repr(C)]
pub(super) struct Record<B: Body> {
    body: Quiet<B>,
    answer: Answer<Result<B::Output, OperationError<B::Error>>>,
    header: Header,
}

/// Something of somebody else's. That its destructor panics is nobody's business here.
struct Quiet<B>(Option<B>);

impl<B> Deref for Quiet<B> {
    type Target = B;

    fn deref(&self) -> &B {
        self.0.as_ref().expect("it is there until the end")
    }
}

impl<B> Drop for Quiet<B> {
    fn drop(&mut self) {
        quietly(|| drop(self.0.take()));
    }
}

/// An operation whose answer has these types.
pub(super) trait Promise<O, F>: Work {
    fn take(&self) -> Option<Result<O, OperationError<F>>>;
}

impl<B: Body> Promise<B::Output, B::Error> for Record<B> {
    fn take(&self) -> Option<Result<B::Output, OperationError<B::Error>>> {
        self.answer.take()
    }
}

impl<B: Body> Record<B> {
    /// An operation that is pending, and known to its parent. `traced`: the clock of its trace, if it is to have one.
    #[inline(always)]
    pub(super) fn new(birth: Birth, body: B, traced: Option<&Clock>) -> Arc<Self> {
        let inherited = birth
            .parent
            .as_ref()
            .map(|parent| parent.status().priority());
        let priority = inherited.map_or(birth.priority, |parent| birth.priority.max(parent));
        let status = Status::new(priority);
        let mut record = raw::shared(|| Record {
            body: Quiet(Some(body)),
            answer: Answer::new(status.pack()),
            header: Header::new(birth),
        });
        if let Some(clock) = traced {
            let trace = trace::begin(&record.header, status, clock.clone());
            let record = Arc::get_mut(&mut record).expect("nobody else has it yet");
            record.header.trace = Some(trace);
        }
        if let Some(parent) = &record.header.parent {
            let weak = Arc::downgrade(&record);
            parent.header().children.with(|children| {
                // Those that are gone make room now and then.
                if children.len() == children.capacity() {
                    children.retain(|child: &Weak<dyn Work>| child.strong_count() > 0);
                }
                children.push(weak);
            });
            // It may have become more important since it was asked; whoever made it so may not have seen this one.
            let now = parent.status().priority();
            let _ = (&*record as &dyn Work)
                .change(|status| status.prioritize(status.priority().max(now)));
        }
        record
    }

    fn settle(
        &self,
        answer: Result<B::Output, OperationError<B::Error>>,
        ending: Ending,
        ledger: &Ledger,
    ) {
        self.header
            .ended
            .store(ledger.now().max(1), site::RECORD_STORE);
        // Counted before anybody can learn of it, so that whoever has learned of it finds it counted.
        ledger
            .tally
            .ended(&self.header.kind, ending, || self.header.life());
        let end = |status: Status| {
            let next = match ending {
                Ending::Committed | Ending::Unchanged => status.succeed(),
                Ending::Failed => status.fail(),
                Ending::Rejected => status.reject(),
                Ending::Cancelled => status.cancel(),
            };
            // What the scheduler ends may be in its last state already.
            next.unwrap_or(status)
        };
        // Whoever hears of its end finds it wherever it is kept.
        if let Some(registry) = &ledger.registry {
            registry.end(Trace::of(&self.header, end(self.status())));
        }
        self.header.tell_end(|| end(self.status()));
        ledger.tell_at(self.header.ended(), ending.event(), || {
            let changed = ending == Ending::Committed;
            let answer = answer.as_ref().map(|output| (B::stamp(output), changed));
            let took = self.header.ended().saturating_sub(self.header.born);
            ((self as &dyn Work).about(), told_of(answer, took))
        });
        let settled = self
            .answer
            .settle(answer, |bits| end(Status::unpack(bits)).pack());
        match settled {
            Ok(bits) if Status::unpack(bits).awaited => (self as &dyn Work).wake(),
            Ok(_) => {}
            Err(_) => debug_assert!(planted(Fault::RunUnclaimed), "it is ended once"),
        }
        ledger.gate.leave();
    }

    /// Runs what is inside its closure.
    #[inline(always)]
    fn within<R>(&self, me: &Arc<dyn Work>, run: impl FnOnce() -> R) -> R {
        current::within(Some(me), Priority::BACKGROUND, self.body.targets(), run)
    }

    fn attempted(&self, attempt: Attempt<B::Output, B::Error>, ledger: &Ledger) -> bool {
        let (answer, ending) = match attempt {
            Attempt::Committed(output) => (Ok(output), Ending::Committed),
            Attempt::Unchanged(output) => (Ok(output), Ending::Unchanged),
            Attempt::Failed(error) => (Err(error), Ending::Failed),
            Attempt::Lost(overtaken) => {
                (self as &dyn Work).lost(overtaken, ledger);
                return false;
            }
        };
        self.settle(answer, ending, ledger);
        true
    }
}

impl<B: Body> Work for Record<B> {
    fn header(&self) -> &Header {
        &self.header
    }

    fn status(&self) -> Status {
        Status::unpack(self.answer.above())
    }

    fn exchange(&self, from: Status, to: Status) -> Result<(), Status> {
        self.answer
            .change(from.pack(), to.pack())
            .map_err(Status::unpack)
    }

    fn is_done(&self) -> bool {
        self.answer.is_full()
    }

    fn targets(&self) -> &[usize] {
        self.body.targets()
    }

    fn attempt(&self, me: &Arc<dyn Work>, ledger: &Ledger) -> bool {
        // Who is woken by what comes of it may do anything, and is no part of this.
        let attempt = self.within(me, || {
            body::guarded(|| match self.header.is_short {
                true => self.body.attempt_here(None),
                false => self.body.attempt(),
            })
        });
        self.attempted(attempt, ledger)
    }

    fn end(&self, verdict: Verdict, ledger: &Ledger) {
        let (error, ending) = match verdict {
            Verdict::Rejected(why) => (OperationError::Rejected(why), Ending::Rejected),
            Verdict::Cancelled => (OperationError::Cancelled, Ending::Cancelled),
        };
        self.settle(Err(error), ending, ledger);
    }

    fn is_prepared(&self, merges: bool) -> bool {
        self.body.is_prepared(merges)
    }

    fn prepare(&self, me: &Arc<dyn Work>, ledger: &Ledger) {
        let prepared = self.within(me, || {
            catch_unwind(AssertUnwindSafe(|| self.body.prepare()))
        });
        let error = match prepared {
            Ok(Ok(())) => return,
            Ok(Err(error)) => OperationError::Refused(error),
            Err(payload) => OperationError::Panicked(Panic::new(payload)),
        };
        // Unless somebody has ended it meanwhile.
        if (self as &dyn Work).claim(self.status(), None, ledger.now(), ledger) {
            self.settle(Err(error), Ending::Failed, ledger);
        }
    }

    fn fold(&self) -> Option<Box<dyn Fold>> {
        self.body.fold()
    }

    fn folds(&self) -> bool {
        self.body.folds()
    }

    fn step(&self, me: &Arc<dyn Work>, fold: &mut dyn Fold) -> Step {
        self.within(me, || self.body.step(fold.as_any()))
    }

    fn folded(&self, fold: &dyn Fold, step: Step, ledger: &Ledger) {
        let (answer, ending) = match step {
            Step::Changed => (Ok(self.body.folded(fold.as_ref())), Ending::Committed),
            Step::Unchanged => (Ok(self.body.folded(fold.as_ref())), Ending::Unchanged),
            Step::Failed(error) => {
                let error: Box<dyn Any> = error;
                let error = error.downcast().expect("a step fails with its own error");
                (Err(*error), Ending::Failed)
            }
        };
        self.settle(answer, ending, ledger);
    }
}

/// One operation as what goes into an inbox.
pub(super) fn alone(work: Arc<dyn Work>) -> Batch<dyn Work> {
    let mut batch = Batch::new();
    batch.add(work);
    batch
}

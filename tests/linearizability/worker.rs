//! What one thread does in one round: it draws its calls, makes them, and records what they return.
//!
//! What it draws doesn't depend on what happens; only what it commits on does, the snapshot that it saw
//! last.

use super::history::Record;
use super::race::Timer;
use super::record::{Flaw, Payload, Setup};
use super::spec::{Base, Claim, State};
use fastrand::Rng;
use snapcell::{
    Committed, Entity, Guard, Loaded, Reader, Retry, Snapshot, Stamp, TimedOut, UpdateError,
    Updated, Watch,
};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

pub(super) fn seen<P: Payload>(snapshot: &Snapshot<P>) -> State {
    State {
        stamp: snapshot.stamp(),
        number: snapshot.number(),
    }
}

fn loaded<P: Payload>(loaded: Loaded<'_, P>) -> State {
    State {
        stamp: loaded.stamp(),
        number: loaded.number(),
    }
}

/// A number that no other thread and no other call makes.
pub(super) fn number(thread: usize, made: u64) -> u64 {
    (thread as u64 + 1) << 32 | made
}

pub(super) fn replaced<P: Payload>(
    committed: &Committed<'_, P>,
    base: Option<Base>,
    written: u64,
) -> Claim {
    Claim::Replaced {
        base,
        written,
        previous: loaded(committed.previous()),
        published: loaded(committed.current()),
    }
}

fn changed(changed: bool, base: Stamp) -> Claim {
    if changed {
        Claim::Changed(base)
    } else {
        Claim::Still(base)
    }
}

/// When a call began and ended.
#[derive(Clone, Copy)]
struct Span {
    called: u64,
    returned: u64,
}

/// Looks at the clock, calls, looks again.
///
/// A processor may begin a load before it has read its counter, and the call would seem to begin later
/// than it did. So which of two equal subjects is called depends on the time that was read: on its
/// highest bit, which is never set. The address is not known before the time is. The end needs no such
/// care: the system's clock waits for the loads before it.
fn timed<S, R>(
    timer: &mut Timer,
    subject: &mut [S; 2],
    call: impl FnOnce(&mut S) -> R,
) -> (Span, R) {
    let called = timer.now();
    let result = call(&mut subject[(called >> 63) as usize]);
    let returned = timer.now();
    (Span { called, returned }, result)
}

/// Gives a slice of time away, or not.
#[derive(Clone, Copy)]
struct Hesitation(bool);

impl Hesitation {
    fn pass(self) {
        if self.0 {
            thread::yield_now();
        }
    }
}

/// One thread in one round.
pub(super) struct Worker<'e, P: Payload> {
    setup: &'e Setup,
    id: usize,
    rng: Rng,
    timer: Timer,
    entity: [&'e Entity<P>; 2],
    reader: [Reader<P>; 2],
    /// Made when it is used first: an entity that is watched is not like others.
    watch: Option<[Watch<P>; 2]>,
    /// A guard that some loads share, and other calls nest in.
    guard: Option<Guard>,
    /// What was read last, and commits are based on.
    base: Snapshot<P>,
    /// How many values this thread has made.
    made: u64,
    /// What a flaw remembers.
    looks: u32,
    winner: Option<Snapshot<P>>,
    records: Vec<Record>,
}

impl<'e, P: Payload> Worker<'e, P> {
    pub(super) fn new(
        setup: &'e Setup,
        id: usize,
        entity: &'e Entity<P>,
        timer: Timer,
        rng: Rng,
    ) -> Self {
        Worker {
            setup,
            id,
            rng,
            timer,
            entity: [entity, entity],
            reader: [entity.reader(), entity.reader()],
            watch: None,
            guard: None,
            base: entity.snapshot(),
            made: 0,
            looks: 0,
            winner: None,
            records: Vec::with_capacity(2 * setup.steps.end()),
        }
    }

    pub(super) fn work(mut self) -> Vec<Record> {
        for _ in 0..self.rng.usize(self.setup.steps.clone()) {
            if self.rng.u8(..4) == 0 {
                self.guard = None;
            }
            self.hesitate().pass();
            match self.rng.u8(..if self.setup.waits { 24 } else { 16 }) {
                0 => self.read(),
                1 => self.load(),
                2 => self.snapshot(),
                3 | 4 => self.get(),
                5 => self.is_stale(),
                6 => self.has_conflict(),
                7 | 8 => self.try_commit(),
                9 => self.try_commit_on(),
                10 => self.update(),
                11 => self.update_once(),
                12 => self.try_update(),
                13 => self.keep_unchanged(),
                14 => self.replace(),
                15 => self.commit_or_merge(),
                16 => self.changed(),
                17 => self.changed_in_time(),
                18 => self.changed_if_polled(),
                19 => self.wait_for(),
                20 => self.wait_for_map(),
                21 => self.watch_get(),
                22 => self.watch_has_changed(),
                _ => self.watch_changed(),
            }
        }
        self.records
    }

    fn hesitate(&mut self) -> Hesitation {
        Hesitation(self.rng.u32(..self.setup.yields) == 0)
    }

    fn new_number(&mut self) -> u64 {
        self.made += 1;
        number(self.id, self.made)
    }

    fn note(&mut self, call: &'static str, span: Span, claim: Claim) {
        self.note_attempts(call, span, claim, 1);
    }

    fn note_attempts(&mut self, call: &'static str, span: Span, claim: Claim, attempts: u32) {
        self.records.push(Record {
            thread: self.id,
            call,
            called: span.called,
            returned: span.returned,
            claim,
            attempts,
        });
    }

    fn note_commit(
        &mut self,
        call: &'static str,
        span: Span,
        committed: &Committed<'_, P>,
        base: Option<Base>,
        written: u64,
    ) {
        let claim = replaced(committed, base, written);
        self.note_attempts(call, span, claim, committed.attempts());
    }

    fn read(&mut self) {
        let (span, number) = timed(&mut self.timer, &mut self.entity, |e| e.read(P::number));
        self.note("read", span, Claim::HasNumber(number));
    }

    fn load(&mut self) {
        let guard = self.guard.get_or_insert_with(snapcell::pin);
        let (span, seen) = timed(&mut self.timer, &mut self.entity, |e| e.load(guard));
        let (state, keep) = (loaded(seen), self.rng.bool());
        if keep {
            self.base = seen.snapshot();
        }
        self.note("load", span, Claim::Is(state));
    }

    fn snapshot(&mut self) {
        let (span, snapshot) = timed(&mut self.timer, &mut self.entity, |e| e.snapshot());
        self.note("snapshot", span, Claim::Is(seen(&snapshot)));
        self.base = snapshot;
    }

    fn get(&mut self) {
        self.looks += 1;
        let stale = self.setup.flaw == Flaw::StaleReader && self.looks.is_multiple_of(3);
        let (span, state) = timed(&mut self.timer, &mut self.reader, |reader| {
            seen(if stale { reader.seen() } else { reader.get() })
        });
        self.note("get", span, Claim::Is(state));
        if self.rng.bool() {
            self.base = self.reader[0].seen().clone();
        }
    }

    fn is_stale(&mut self) {
        let (span, stale) = timed(&mut self.timer, &mut self.reader, |r| r.is_stale());
        let claim = changed(stale, self.reader[0].stamp());
        self.note("is_stale", span, claim);
    }

    fn has_conflict(&mut self) {
        let base = self.base.stamp();
        let ask = |e: &mut &'e Entity<P>| e.has_conflict(base);
        let (span, conflict) = timed(&mut self.timer, &mut self.entity, ask);
        self.note("has_conflict", span, changed(conflict, base));
    }

    /// Half of the time from what is current now, and else from what was read some time ago.
    fn refresh(&mut self) {
        if self.rng.bool() {
            self.snapshot();
            self.hesitate().pass();
        }
    }

    fn try_commit(&mut self) {
        self.refresh();
        let (expected, written) = (self.base.stamp(), self.new_number());
        let (flaw, hesitation) = (self.setup.flaw, self.hesitate());
        let (span, result) = timed(&mut self.timer, &mut self.entity, |entity| {
            if flaw == Flaw::CompareThenReplace {
                let current = entity.snapshot();
                if current.stamp() != expected {
                    return Err(current);
                }
                hesitation.pass();
                return Ok(entity.replace(P::make(written)));
            }
            let result = entity.try_commit(expected, P::make(written));
            result.map_err(|error| {
                assert!(error.is_conflict(), "there is no other reason: {error}");
                let (proposed, current, _) = error.into_parts();
                assert_eq!(proposed.number(), written, "given back whole");
                current
            })
        });
        self.note_outcome("try_commit", span, expected, written, result);
    }

    fn try_commit_on(&mut self) {
        self.refresh();
        let written = self.new_number();
        let base = &self.base;
        let (span, result) = timed(&mut self.timer, &mut self.entity, |entity| {
            entity.try_commit_on(base, P::make(written))
        });
        let result = result.map_err(|error| {
            assert!(error.is_conflict(), "there is no other reason: {error}");
            let (proposed, current, _) = error.into_parts();
            assert_eq!(proposed.number(), written, "given back whole");
            current
        });
        self.note_outcome("try_commit_on", span, self.base.stamp(), written, result);
    }

    fn note_outcome(
        &mut self,
        call: &'static str,
        span: Span,
        expected: Stamp,
        written: u64,
        result: Result<Committed<'e, P>, Snapshot<P>>,
    ) {
        let base = Base::Stamp(expected);
        match result {
            Ok(committed) => {
                self.note_commit(call, span, &committed, Some(base), written);
                if self.rng.bool() {
                    self.base = committed.snapshot();
                }
            }
            Err(winner) => {
                let old = self.winner.replace(winner.clone());
                let shown = match old {
                    Some(old) if self.setup.flaw == Flaw::OldWinner && old.stamp() != expected => {
                        old
                    }
                    _ => winner,
                };
                let current = seen(&shown);
                self.note(call, span, Claim::Overtaken { base, current });
                self.base = shown;
            }
        }
    }

    fn update(&mut self) {
        let (written, hesitation) = (self.new_number(), self.hesitate());
        let mut from = 0;
        let in_two_steps = self.setup.flaw == Flaw::UpdateInTwoSteps;
        let (span, committed) = timed(&mut self.timer, &mut self.entity, |entity| {
            let mut change = |value: &P| {
                from = value.number();
                hesitation.pass();
                P::make(written)
            };
            if in_two_steps {
                let value = change(&entity.snapshot());
                return entity.replace(value);
            }
            entity.update(change)
        });
        let base = Some(Base::Number(from));
        self.note_commit("update", span, &committed, base, written);
    }

    /// An update that gives up when it loses.
    fn update_once(&mut self) {
        let (written, hesitation) = (self.new_number(), self.hesitate());
        let mut from = 0;
        let (span, result) = timed(&mut self.timer, &mut self.entity, |entity| {
            entity.update_with(Retry::at_most(0), |value| {
                from = value.number();
                hesitation.pass();
                P::make(written)
            })
        });
        let base = Base::Number(from);
        match result {
            Ok(committed) => self.note_commit("update_with", span, &committed, Some(base), written),
            Err(UpdateError::Exhausted { current, .. }) => {
                let current = seen(&current);
                self.note("update_with", span, Claim::Overtaken { base, current });
            }
            Err(error) => panic!("there is no other reason: {error}"),
        }
    }

    fn try_update(&mut self) {
        let (written, hesitation) = (self.new_number(), self.hesitate());
        let mut from = 0;
        let (span, result) = timed(&mut self.timer, &mut self.entity, |entity| {
            entity.try_update::<()>(|value| {
                from = value.number();
                hesitation.pass();
                Ok(Some(P::make(written)))
            })
        });
        match result {
            Ok(Updated::Committed(committed)) => {
                let base = Some(Base::Number(from));
                self.note_commit("try_update", span, &committed, base, written);
            }
            other => panic!("the closure always changes the value: {other:?}"),
        }
    }

    fn keep_unchanged(&mut self) {
        let hesitation = self.hesitate();
        let (span, result) = timed(&mut self.timer, &mut self.entity, |entity| {
            entity.try_update::<()>(|_| {
                hesitation.pass();
                Ok(None)
            })
        });
        match result {
            Ok(Updated::Unchanged(kept)) => {
                self.note("try_update, unchanged", span, Claim::Is(seen(&kept)));
            }
            other => panic!("the closure never changes the value: {other:?}"),
        }
    }

    fn replace(&mut self) {
        let written = self.new_number();
        let (span, committed) = timed(&mut self.timer, &mut self.entity, |entity| {
            entity.replace(P::make(written))
        });
        self.note_commit("replace", span, &committed, None, written);
    }

    /// A merge that makes a value of its own, or gives up one time in four.
    fn commit_or_merge(&mut self) {
        self.refresh();
        let (mine, merged) = (self.new_number(), self.new_number());
        let (hesitation, gives_up) = (self.hesitate(), self.rng.u8(..4) == 0);
        let (base, mut theirs) = (&self.base, None);
        let (span, result) = timed(&mut self.timer, &mut self.entity, |entity| {
            entity.commit_or_merge(base, P::make(mine), |sides| {
                assert_eq!(
                    sides.base.number(),
                    base.number(),
                    "the base that was given"
                );
                assert_eq!(sides.mine.number(), mine, "the value that was proposed");
                theirs = Some(sides.theirs.number());
                hesitation.pass();
                (!gives_up).then(|| P::make(merged))
            })
        });
        let expected = Base::Stamp(self.base.stamp());
        match (result, theirs) {
            (Ok(committed), None) => {
                let call = "commit_or_merge";
                self.note_commit(call, span, &committed, Some(expected), mine);
            }
            (Ok(committed), Some(theirs)) => {
                let base = Some(Base::Number(theirs));
                self.note_commit("commit_or_merge, merged", span, &committed, base, merged);
            }
            (Err(error), _) => {
                assert!(gives_up && error.is_conflict(), "no other reason: {error}");
                let claim = Claim::Overtaken {
                    base: expected,
                    current: seen(error.current()),
                };
                assert_eq!(error.into_proposed().number(), mine, "given back whole");
                self.note("commit_or_merge, given up", span, claim);
            }
        }
    }

    /// Waits, on this thread or in a task.
    fn changed(&mut self) {
        let (since, in_a_task) = (self.base.stamp(), self.rng.bool());
        let (span, snapshot) = timed(
            &mut self.timer,
            &mut self.entity,
            |entity| match in_a_task {
                true => pollster::block_on(entity.changed(since)),
                false => entity.changed(since).wait(),
            },
        );
        self.note_change("changed", span, since, &snapshot);
        self.base = snapshot;
    }

    fn changed_in_time(&mut self) {
        let since = self.base.stamp();
        let (span, result) = timed(&mut self.timer, &mut self.entity, |entity| {
            entity.changed(since).wait_timeout(Duration::ZERO)
        });
        match result {
            Ok(snapshot) => self.note_change("changed, at once", span, since, &snapshot),
            Err(TimedOut) => self.note("changed, at once", span, Claim::Still(since)),
        }
    }

    fn changed_if_polled(&mut self) {
        let since = self.base.stamp();
        let (span, poll) = timed(&mut self.timer, &mut self.entity, |entity| {
            let mut context = Context::from_waker(Waker::noop());
            pin!(entity.changed(since)).poll(&mut context)
        });
        match poll {
            Poll::Ready(snapshot) => self.note_change("changed, polled", span, since, &snapshot),
            Poll::Pending => self.note("changed, polled", span, Claim::Still(since)),
        }
    }

    fn note_change(&mut self, call: &'static str, span: Span, since: Stamp, now: &Snapshot<P>) {
        let (base, current) = (Base::Stamp(since), seen(now));
        self.note(call, span, Claim::Overtaken { base, current });
    }

    fn wait_for(&mut self) {
        let old = self.base.number();
        let (span, snapshot) = timed(&mut self.timer, &mut self.entity, |entity| {
            entity.wait_for(|value| value.number() != old).wait()
        });
        let (base, current) = (Base::Number(old), seen(&snapshot));
        self.note("wait_for", span, Claim::Overtaken { base, current });
        self.base = snapshot;
    }

    fn wait_for_map(&mut self) {
        let old = self.base.number();
        let other = |value: &P| Some(value.number()).filter(|number| *number != old);
        let (span, number) = timed(&mut self.timer, &mut self.entity, |entity| {
            entity.wait_for_map(other).wait()
        });
        self.note("wait_for_map", span, Claim::HasNumber(number));
    }

    fn watch(&mut self) -> (&mut Timer, &mut [Watch<P>; 2]) {
        let make = || self.entity.map(Entity::watch);
        (&mut self.timer, self.watch.get_or_insert_with(make))
    }

    fn watch_get(&mut self) {
        let (timer, watch) = self.watch();
        let (span, state) = timed(timer, watch, |watch| seen(watch.get()));
        self.note("watch.get", span, Claim::Is(state));
    }

    fn watch_has_changed(&mut self) {
        let (timer, watch) = self.watch();
        let base = watch[0].stamp();
        let (span, has) = timed(timer, watch, |watch| watch.has_changed());
        self.note("watch.has_changed", span, changed(has, base));
    }

    fn watch_changed(&mut self) {
        let (timer, watch) = self.watch();
        let since = watch[0].stamp();
        let (span, result) = timed(timer, watch, |watch| watch.changed().wait());
        match result {
            Ok(snapshot) => self.note_change("watch.changed", span, since, &snapshot),
            Err(closed) => panic!("the entity lives as long as the round: {closed}"),
        }
    }
}

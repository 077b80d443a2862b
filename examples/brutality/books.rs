//! The program's own books: one entry for each operation, from what its closure, its ticket and its answer say.
//!
//! Nothing in here comes from the engine's counts, so the laws can compare the two. An operation carries a [`Meter`],
//! which its closure writes into whenever it runs; whoever has waited for it makes an [`Entry`] of that and of what the
//! ticket says.

use crate::clock;
use snapcell::{Class, OperationError, Priority, Protection, Reason, Stamp};
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// An operation as it was drawn: what is to be done, and how it gets there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drawn {
    pub(crate) id: u32,
    /// The index of its kind in the list of the mix.
    pub(crate) kind: usize,
    /// The index of its target.
    pub(crate) target: usize,
    pub(crate) class: Class,
    pub(crate) priority: Priority,
    pub(crate) way: Way,
    /// It is part of the one that was submitted before it, if there is one in its batch.
    pub(crate) is_part: bool,
}

/// How an operation gets to its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By the lane of its target: staged or submitted.
    InTurn,
    /// Beside the lane: run on the submitter's thread.
    AtOnce,
    /// Past the engine, which knows nothing of it: a plain commit.
    Past,
    /// By `protect`.
    Protected(Protection),
}

impl Way {
    /// Whether the engine counts it.
    pub(crate) fn is_counted(self) -> bool {
        !matches!(self, Way::Past | Way::Protected(Protection::None))
    }
}

/// Where a closure notes that it has run. The last note is that of the attempt that was committed, if one was.
#[derive(Debug)]
pub(crate) struct Meter {
    runs: AtomicU32,
    merges: AtomicU32,
    all_ns: AtomicU64,
    last_ns: AtomicU64,
    modification: AtomicU64,
    changed: AtomicBool,
}

/// How many there are. Each closure has one, so when all is over there should be none.
static ALIVE: AtomicU64 = AtomicU64::new(0);

impl Drop for Meter {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Relaxed);
    }
}

impl Meter {
    pub(crate) fn new() -> Self {
        ALIVE.fetch_add(1, Relaxed);
        Meter {
            runs: AtomicU32::new(0),
            merges: AtomicU32::new(0),
            all_ns: AtomicU64::new(0),
            last_ns: AtomicU64::new(0),
            modification: AtomicU64::new(0),
            changed: AtomicBool::new(false),
        }
    }

    pub(crate) fn alive() -> u64 {
        ALIVE.load(Relaxed)
    }

    /// A run of the closure, which works for so long first.
    pub(crate) fn run<R>(&self, work: Duration, run: impl FnOnce() -> R) -> R {
        self.runs.fetch_add(1, Relaxed);
        self.time(|| {
            clock::work(work);
            run()
        })
    }

    /// A merge of what the closure has made.
    pub(crate) fn merge<R>(&self, merge: impl FnOnce() -> R) -> R {
        self.merges.fetch_add(1, Relaxed);
        merge()
    }

    fn time<R>(&self, run: impl FnOnce() -> R) -> R {
        let begun = clock::now();
        let result = run();
        let took = clock::nanoseconds(begun.elapsed());
        self.all_ns.fetch_add(took, Relaxed);
        self.last_ns.store(took, Relaxed);
        result
    }

    /// What the target is to become has been changed so often, this change included.
    pub(crate) fn changes(&self, modification: u64) {
        self.modification.store(modification, Relaxed);
        self.changed.store(true, Relaxed);
    }

    pub(crate) fn runs(&self) -> u32 {
        self.runs.load(Relaxed)
    }
}

/// How an operation has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Committed,
    Unchanged,
    Rejected(Why),
    /// Its closure has refused, as the workload wants it to now and then.
    Refused,
    /// Anything else: a bug.
    Broken,
    Cancelled,
    /// The engine didn't take it.
    NotTaken,
}

/// Why the scheduler has ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Exhausted,
    Expired,
    Lost,
    Evicted,
    /// A reason that this program doesn't know.
    Other,
}

impl Why {
    pub(crate) const ALL: [(Why, &'static str); 5] = [
        (Why::Exhausted, "budget used up"),
        (Why::Expired, "patience over"),
        (Why::Lost, "lost its round"),
        (Why::Evicted, "made room"),
        (Why::Other, "otherwise"),
    ];
}

/// What an answer says.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) end: End,
    /// Of what was published, if it was.
    pub(crate) stamp: Option<Stamp>,
    /// How often it was attempted, by the rejection.
    pub(crate) attempts: Option<u32>,
    /// What was wrong, if it is a bug.
    pub(crate) complaint: Option<String>,
}

impl Answer {
    /// Of an operation that goes past the engine, and was tried so often in vain.
    pub(crate) fn exhausted(attempts: u32) -> Self {
        Answer {
            end: End::Rejected(Why::Exhausted),
            stamp: None,
            attempts: Some(attempts),
            complaint: None,
        }
    }

    /// Of an operation whose closure has written into this meter.
    pub(crate) fn of<O, F: Display>(
        result: Result<O, OperationError<F>>,
        meter: &Meter,
        stamp: impl FnOnce(&O) -> Option<Stamp>,
    ) -> Self {
        let (end, stamp, attempts) = match &result {
            Ok(output) if meter.changed.load(Relaxed) => (End::Committed, stamp(output), None),
            Ok(_) => (End::Unchanged, None, None),
            Err(OperationError::Refused(_)) => (End::Refused, None, None),
            Err(OperationError::Cancelled) => (End::Cancelled, None, None),
            Err(OperationError::NotTaken(_)) => (End::NotTaken, None, None),
            Err(OperationError::Rejected(rejection)) => {
                let why = match rejection.reason {
                    Reason::Exhausted { .. } => Why::Exhausted,
                    Reason::Expired { .. } => Why::Expired,
                    Reason::Lost { .. } => Why::Lost,
                    Reason::Evicted => Why::Evicted,
                    _ => Why::Other,
                };
                (End::Rejected(why), None, Some(rejection.attempts))
            }
            Err(_) => (End::Broken, None, None),
        };
        let complaint = match (&result, end) {
            (Err(error), End::Broken) => Some(error.to_string()),
            _ => None,
        };
        Answer {
            end,
            stamp,
            attempts,
            complaint,
        }
    }
}

/// One operation, when it has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) drawn: Drawn,
    /// Of the submitter.
    pub(crate) thread: u32,
    pub(crate) end: End,
    pub(crate) stamp: Option<Stamp>,
    /// How often its closure ran, and a merge of it.
    pub(crate) runs: u32,
    pub(crate) merges: u32,
    /// How often it was attempted to commit, by its ticket or its rejection; where it has no ticket, by its closure.
    pub(crate) attempts: u32,
    /// How long its closure ran in all, and the last time.
    pub(crate) all_ns: u64,
    pub(crate) last_ns: u64,
    /// Which change of its target it was.
    pub(crate) modification: u64,
    /// On the clock of the engine.
    pub(crate) born: Duration,
    pub(crate) started: Option<Duration>,
    pub(crate) ended: Duration,
    /// How important it was in the end, and was to be.
    pub(crate) effective: Priority,
    pub(crate) expected: Priority,
}

/// What a ticket says of an operation, or what was seen of one that has none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    pub(crate) born: Duration,
    pub(crate) started: Option<Duration>,
    pub(crate) ended: Duration,
    /// `None`: nobody tells.
    pub(crate) retries: Option<u32>,
    pub(crate) effective: Priority,
    pub(crate) expected: Priority,
}

impl Entry {
    pub(crate) fn new(
        drawn: Drawn,
        thread: u32,
        answer: &Answer,
        meter: &Meter,
        course: Course,
    ) -> Self {
        let runs = meter.runs();
        let told = match (course.started, course.retries) {
            (None, _) => 0,
            (Some(_), Some(retries)) => retries + 1,
            (Some(_), None) => runs,
        };
        Entry {
            drawn,
            thread,
            end: answer.end,
            stamp: answer.stamp,
            runs,
            merges: meter.merges.load(Relaxed),
            attempts: answer.attempts.unwrap_or(told),
            all_ns: meter.all_ns.load(Relaxed),
            last_ns: meter.last_ns.load(Relaxed),
            modification: meter.modification.load(Relaxed),
            born: course.born,
            started: course.started,
            ended: course.ended,
            effective: course.effective,
            expected: course.expected,
        }
    }

    /// Of one that the engine didn't take.
    pub(crate) fn refused(drawn: Drawn, thread: u32, now: Duration) -> Self {
        let answer = Answer {
            end: End::NotTaken,
            stamp: None,
            attempts: None,
            complaint: None,
        };
        let course = Course {
            born: now,
            started: None,
            ended: now,
            retries: None,
            effective: drawn.priority,
            expected: drawn.priority,
        };
        Entry::new(drawn, thread, &answer, &Meter::new(), course)
    }

    pub(crate) fn is_committed(&self) -> bool {
        self.end == End::Committed
    }

    pub(crate) fn has_succeeded(&self) -> bool {
        matches!(self.end, End::Committed | End::Unchanged)
    }

    /// The attempts that lost to another.
    pub(crate) fn lost(&self) -> u32 {
        match self.end {
            End::Rejected(Why::Exhausted) => self.attempts,
            // It may have been computed, to be merged later, but was not attempted.
            End::Rejected(_) | End::Cancelled if self.started.is_none() => 0,
            // The rejection of what has ended while it stayed away counts the attempt that it was not given.
            End::Rejected(_) | End::Cancelled => self.runs,
            _ => self.attempts.saturating_sub(1),
        }
    }

    pub(crate) fn latency(&self) -> Duration {
        self.ended.saturating_sub(self.born)
    }

    /// How long it has waited until it began, if it did.
    pub(crate) fn queueing(&self) -> Option<Duration> {
        Some(self.started?.saturating_sub(self.born))
    }

    /// The time that its closure ran for nothing.
    pub(crate) fn wasted_ns(&self) -> u64 {
        match self.has_succeeded() {
            true => self.all_ns - self.last_ns,
            false => self.all_ns,
        }
    }
}

/// All entries, and what else was seen.
#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(crate) entries: Vec<Entry>,
    /// What was wrong, in the first few cases.
    pub(crate) complaints: Vec<String>,
}

/// How operations have ended: each term counted by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) submitted: u64,
    pub(crate) committed: u64,
    pub(crate) unchanged: u64,
    pub(crate) rejected: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
    pub(crate) lost_attempts: u64,
}

impl Books {
    pub(crate) fn complain(&mut self, complaint: Option<String>) {
        const KEPT: usize = 5;
        if self.complaints.len() < KEPT {
            self.complaints.extend(complaint);
        }
    }

    pub(crate) fn add(&mut self, other: Books) {
        self.entries.extend(other.entries);
        other
            .complaints
            .into_iter()
            .for_each(|complaint| self.complain(Some(complaint)));
    }

    /// Of those entries that are wanted.
    pub(crate) fn sums(&self, wanted: impl Fn(&Entry) -> bool) -> Sums {
        let mut sums = Sums::default();
        for entry in self.entries.iter().filter(|entry| wanted(entry)) {
            let term = match entry.end {
                // It was given back.
                End::NotTaken => continue,
                End::Committed => &mut sums.committed,
                End::Unchanged => &mut sums.unchanged,
                End::Rejected(_) => &mut sums.rejected,
                End::Refused | End::Broken => &mut sums.failed,
                End::Cancelled => &mut sums.cancelled,
            };
            *term += 1;
            sums.submitted += 1;
            sums.lost_attempts += u64::from(entry.lost());
        }
        sums
    }

    pub(crate) fn count(&self, wanted: impl Fn(&Entry) -> bool) -> u64 {
        self.entries.iter().filter(|entry| wanted(entry)).count() as u64
    }
}

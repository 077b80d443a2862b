//! How many operations there were, and how they ended: counts that add up.
//!
//! Each thread counts in rows of its own, so that threads don't meet there: one for each kind of operation, or one for
//! all, if nobody wants to know more than totals. Whoever reads adds the rows up. When a thread ends, or counts for
//! others, its rows are added to what all have in common.
//!
//! *Submitted* is counted before an operation can end, and its end afterwards, before anybody can learn of it.
//! Whoever reads looks at the ends first, in all rows, and at what was submitted then: so at every moment at least
//! as many were submitted as have ended. *end* an operation's end is counted (TALLY_END, Release) → *read* (TALLY_READ,
//! Acquire) → the count of what was submitted, which is not older. What else is known of an operation's end is noted
//! before that end is counted.
#![forbid(unsafe_code)]

use super::super::class::Class;
use super::super::record::Ending;
use super::histogram::{Histogram, Spread, add};
use crate::sync::fault::{Fault, planted};
use crate::sync::lock::Lock;
use crate::sync::orderings::site;
use crate::sync::{AtomicU64, per_thread};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

/// Which operations are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Kind {
    pub(in super::super) class: Class,
    pub(in super::super) name: &'static str,
}

impl Kind {
    const ANY: Kind = Kind {
        class: Class::NORMAL,
        name: "",
    };

    /// Whether the other one is the same, as far as a look at where the name lies tells.
    #[inline]
    fn is(&self, other: &Kind) -> bool {
        self.class == other.class && std::ptr::eq(self.name, other.name)
    }
}

/// What is known of an operation when it ends.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Life {
    /// How many attempts it has lost.
    pub(in super::super) lost: u32,
    /// How long it waited until it began, if it began; and how long it took in all, in nanoseconds.
    pub(in super::super) queueing: Option<u64>,
    pub(in super::super) latency: Option<u64>,
}

/// Something that happens to an operation that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Incident {
    /// It was overtaken.
    Conflict,
    /// It was published with others. The first of them counts that.
    Fold,
    /// It made way for a more important one.
    Preempted,
    /// It has reserved its target.
    Reserved,
    /// Its reservation was over before it was done, or taken over.
    Lapsed,
    /// It stepped back for somebody's reservation.
    SteppedBack,
}

const INCIDENTS: usize = 6;

/// The counts of an engine. See the header of this file.
pub(in super::super) struct Tally {
    rows: Arc<Rows>,
    is_detailed: bool,
}

/// All rows: what all threads have in common, and those of each.
struct Rows(Lock<Vec<Arc<Row>>>);

/// The counts of one kind of operations by one thread, which alone writes them.
struct Row {
    kind: Kind,
    /// Nobody's: it is written under the lock of all rows.
    is_common: bool,
    submitted: AtomicU64,
    ends: [AtomicU64; ENDINGS],
    incidents: [AtomicU64; INCIDENTS],
    details: Option<Details>,
}

struct Details {
    absorbed: AtomicU64,
    escaped: AtomicU64,
    first_tries: AtomicU64,
    attempts: [AtomicU64; ATTEMPTS],
    queueing: Histogram,
    latency: Histogram,
}

const ENDINGS: usize = 5;

/// So many attempts, and more, are counted together.
const ATTEMPTS: usize = 33;

/// For how many kinds of operations, of all engines, a thread keeps rows.
const MINE: usize = 64;

per_thread! {
    static ROWS: RefCell<Vec<Mine>> = RefCell::new(Vec::new());
}

/// A row of this thread. It doesn't keep those of an engine that is gone.
struct Mine {
    /// Which rows it is one of: `all` keeps others from being there.
    address: usize,
    all: Weak<Rows>,
    row: Arc<Row>,
}

impl Mine {
    #[cold]
    #[inline(never)]
    fn new(tally: &Tally, kind: Kind) -> Self {
        let row = Arc::new(Row::new(kind, tally.is_detailed, false));
        tally.rows.0.with(|rows| rows.push(row.clone()));
        Mine {
            address: Arc::as_ptr(&tally.rows).addr(),
            all: Arc::downgrade(&tally.rows),
            row,
        }
    }

    /// Whether it is the row of an engine for such operations.
    #[inline]
    fn is_of(&self, tally: &Tally, kind: &Kind) -> bool {
        self.address == Arc::as_ptr(&tally.rows).addr() && self.row.kind.is(kind)
    }
}

impl Drop for Mine {
    /// Adds the row to that which all have in common.
    fn drop(&mut self) {
        let row = &self.row;
        let Some(all) = self.all.upgrade() else {
            return;
        };
        let gone = all.0.with(|rows| {
            let common = rows
                .iter()
                .find(|other| other.is_common && other.kind == row.kind);
            let common = common.cloned().unwrap_or_else(|| {
                let common = Arc::new(Row::new(row.kind, row.details.is_some(), true));
                rows.push(common.clone());
                common
            });
            common.add(row);
            let place = rows.iter().position(|other| Arc::ptr_eq(other, row));
            place.map(|place| rows.swap_remove(place))
        });
        drop(gone);
    }
}

impl Row {
    fn new(kind: Kind, is_detailed: bool, is_common: bool) -> Self {
        Row {
            kind,
            is_common,
            submitted: AtomicU64::new(0),
            ends: std::array::from_fn(|_| AtomicU64::new(0)),
            incidents: std::array::from_fn(|_| AtomicU64::new(0)),
            details: is_detailed.then(Details::new),
        }
    }

    #[inline]
    fn end(&self, ending: Ending, life: impl Fn() -> Life) {
        if let Some(details) = &self.details {
            details.note(ending, life());
        }
        let ended = &self.ends[ending as usize];
        ended.store(ended.load(site::TALLY_LOAD) + 1, site::TALLY_END);
    }

    /// Under the lock of all rows, which whoever reads takes as well: it orders all of this.
    fn add(&self, other: &Row) {
        let ends = self.ends.iter().zip(&other.ends);
        let incidents = self.incidents.iter().zip(&other.incidents);
        for (mine, theirs) in ends.chain(incidents) {
            add(mine, theirs.load(site::TALLY_LOAD));
        }
        add(&self.submitted, other.submitted.load(site::TALLY_LOAD));
        if let (Some(mine), Some(theirs)) = (&self.details, &other.details) {
            mine.add(theirs);
        }
    }

    fn incident(&self, incident: Incident) -> u64 {
        self.incidents[incident as usize].load(site::TALLY_LOAD)
    }

    /// All but what was submitted.
    fn counts(&self) -> Counts {
        let end = |ending: Ending| self.ends[ending as usize].load(site::TALLY_READ);
        Counts {
            committed: end(Ending::Committed),
            unchanged: end(Ending::Unchanged),
            failed: end(Ending::Failed),
            rejected: end(Ending::Rejected),
            cancelled: end(Ending::Cancelled),
            conflicts: self.incident(Incident::Conflict),
            folds: self.incident(Incident::Fold),
            submitted: 0,
        }
    }

    fn submitted(&self) -> u64 {
        self.submitted.load(site::TALLY_LOAD)
    }
}

impl Details {
    fn new() -> Self {
        Details {
            absorbed: AtomicU64::new(0),
            escaped: AtomicU64::new(0),
            first_tries: AtomicU64::new(0),
            attempts: std::array::from_fn(|_| AtomicU64::new(0)),
            queueing: Histogram::new(),
            latency: Histogram::new(),
        }
    }

    #[inline(always)]
    fn note(&self, ending: Ending, life: Life) {
        let is_success = matches!(ending, Ending::Committed | Ending::Unchanged);
        let lost = u64::from(life.lost);
        if lost > 0 {
            let sum = if is_success {
                &self.absorbed
            } else {
                &self.escaped
            };
            add(sum, lost);
        } else if is_success {
            add(&self.first_tries, 1);
        }
        let attempts = life.lost as usize + usize::from(is_success || ending == Ending::Failed);
        add(&self.attempts[attempts.min(ATTEMPTS - 1)], 1);
        if let Some(queueing) = life.queueing {
            self.queueing.note(queueing);
        }
        if let Some(latency) = life.latency {
            self.latency.note(latency);
        }
    }

    fn add(&self, other: &Details) {
        let pairs = [
            (&self.absorbed, &other.absorbed),
            (&self.escaped, &other.escaped),
            (&self.first_tries, &other.first_tries),
        ];
        let attempts = self.attempts.iter().zip(&other.attempts);
        for (mine, theirs) in pairs.into_iter().chain(attempts) {
            add(mine, theirs.load(site::TALLY_LOAD));
        }
        self.queueing.add(&other.queueing);
        self.latency.add(&other.latency);
    }

    fn read(&self, into: &mut Sums) {
        let read = |count: &AtomicU64| count.load(site::TALLY_LOAD);
        into.absorbed += read(&self.absorbed);
        into.escaped += read(&self.escaped);
        into.first_tries += read(&self.first_tries);
        into.attempts.resize(ATTEMPTS, 0);
        for (sum, count) in into.attempts.iter_mut().zip(&self.attempts) {
            *sum += read(count);
        }
        self.queueing.read(&mut into.queueing);
        self.latency.read(&mut into.latency);
    }
}

/// What all threads have counted of one kind of operations.
#[derive(Default)]
pub(in super::super) struct Sums {
    pub(in super::super) counts: Counts,
    pub(super) absorbed: u64,
    pub(super) escaped: u64,
    pub(super) first_tries: u64,
    pub(super) preempted: u64,
    pub(super) reserved: u64,
    pub(super) lapsed: u64,
    pub(super) stepped_back: u64,
    /// By number; the last one stands for itself and more.
    pub(super) attempts: Vec<u64>,
    pub(super) queueing: Spread,
    pub(super) latency: Spread,
}

impl Tally {
    /// `is_detailed`: there is to be more than totals.
    pub(in super::super) fn new(is_detailed: bool) -> Self {
        Tally {
            rows: Arc::new(Rows(Lock::new(Vec::new()))),
            is_detailed,
        }
    }

    pub(in super::super) fn is_detailed(&self) -> bool {
        self.is_detailed
    }

    /// Counts in the row of this thread.
    #[inline(always)]
    fn with(&self, kind: &Kind, count: impl Fn(&Row)) {
        let kind = if self.is_detailed { kind } else { &Kind::ANY };
        let known = ROWS.try_with(|mine| {
            let mut mine = mine.borrow_mut();
            match mine.iter().find(|mine| mine.is_of(self, kind)) {
                Some(mine) => count(&mine.row),
                None => count(self.open(&mut mine, kind)),
            }
        });
        if known.is_err() {
            // At the end of a thread there is no such place any more.
            count(&Mine::new(self, *kind).row);
        }
    }

    /// Where the rows of this thread have a new one.
    #[cold]
    #[inline(never)]
    fn open<'m>(&self, mine: &'m mut Vec<Mine>, kind: &Kind) -> &'m Row {
        if mine.len() == MINE {
            mine.retain(|mine| mine.all.strong_count() > 0);
        }
        if mine.len() == MINE {
            // Any of them, so that kinds that come in turns don't all go in turns.
            mine.swap_remove(fastrand::usize(..MINE));
        }
        // At the front, to be found first: the rows of engines that are gone may still be there.
        mine.insert(0, Mine::new(self, *kind));
        &mine[0].row
    }

    #[inline]
    pub(in super::super) fn submitted(&self, kind: &Kind) {
        self.with(kind, |row| add(&row.submitted, 1));
    }

    #[inline]
    pub(in super::super) fn ended(&self, kind: &Kind, ending: Ending, life: impl Fn() -> Life) {
        self.with(kind, |row| row.end(ending, &life));
    }

    /// Counts an operation that nobody else knew of: as submitted, and as ended.
    #[inline]
    pub(in super::super) fn came_and_went(&self, kind: &Kind, ending: Ending, lost: u32) {
        self.with(kind, |row| {
            add(&row.submitted, 1);
            row.end(ending, || Life {
                lost,
                queueing: None,
                latency: None,
            });
        });
    }

    pub(in super::super) fn note(&self, kind: &Kind, incident: Incident) {
        self.with(kind, |row| add(&row.incidents[incident as usize], 1));
    }

    /// The totals.
    pub(in super::super) fn read(&self) -> Counts {
        self.rows.0.with(|rows| {
            let submitted = || rows.iter().map(|row| row.submitted()).sum();
            let early = planted(Fault::ReadSubmittedFirst).then(submitted);
            let mut counts = Counts::default();
            for row in rows.iter() {
                counts.merge(&row.counts());
            }
            // After the ends.
            counts.submitted = early.unwrap_or_else(submitted);
            counts
        })
    }

    /// All, for each kind.
    pub(in super::super) fn read_all(&self) -> BTreeMap<Kind, Sums> {
        self.rows.0.with(|rows| {
            let mut all = BTreeMap::<Kind, Sums>::new();
            for row in rows.iter() {
                let sums = all.entry(row.kind).or_default();
                sums.counts.merge(&row.counts());
                sums.preempted += row.incident(Incident::Preempted);
                sums.reserved += row.incident(Incident::Reserved);
                sums.lapsed += row.incident(Incident::Lapsed);
                sums.stepped_back += row.incident(Incident::SteppedBack);
                if let Some(details) = &row.details {
                    details.read(sums);
                }
            }
            // After the ends.
            for row in rows.iter() {
                let sums = all.entry(row.kind).or_default();
                sums.counts.submitted += row.submitted();
            }
            all
        })
    }
}

/// How many operations an engine has taken, and how they ended.
///
/// Whenever the engine is idle `submitted` is the sum of the five that follow; at any other moment it is at least
/// that. What is [run](crate::Engine::run) on its caller's thread is counted when it has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Counts {
    /// How many were taken.
    pub submitted: u64,
    /// How many were committed.
    pub committed: u64,
    /// How many found nothing to change.
    pub unchanged: u64,
    /// How many failed: an error or a panic of their closure, or a value that was refused.
    pub failed: u64,
    /// How many the scheduler has ended.
    pub rejected: u64,
    /// How many were cancelled.
    pub cancelled: u64,
    /// How often somebody was faster than an attempt. Where several are published by one commit, that is an attempt of
    /// each.
    pub conflicts: u64,
    /// How often several operations were published by one commit.
    pub folds: u64,
}

impl Counts {
    /// How many have ended.
    #[must_use]
    pub const fn ended(&self) -> u64 {
        self.succeeded() + self.failed + self.rejected + self.cancelled
    }

    /// How many are done: committed, or with nothing to change.
    #[must_use]
    pub const fn succeeded(&self) -> u64 {
        self.committed + self.unchanged
    }

    /// Adds others to these.
    pub fn merge(&mut self, other: &Counts) {
        self.submitted += other.submitted;
        self.committed += other.committed;
        self.unchanged += other.unchanged;
        self.failed += other.failed;
        self.rejected += other.rejected;
        self.cancelled += other.cancelled;
        self.conflicts += other.conflicts;
        self.folds += other.folds;
    }

    /// What was counted since an earlier reading. More may have ended than was submitted since then.
    #[must_use]
    pub const fn since(&self, earlier: &Counts) -> Counts {
        Counts {
            submitted: self.submitted.saturating_sub(earlier.submitted),
            committed: self.committed.saturating_sub(earlier.committed),
            unchanged: self.unchanged.saturating_sub(earlier.unchanged),
            failed: self.failed.saturating_sub(earlier.failed),
            rejected: self.rejected.saturating_sub(earlier.rejected),
            cancelled: self.cancelled.saturating_sub(earlier.cancelled),
            conflicts: self.conflicts.saturating_sub(earlier.conflicts),
            folds: self.folds.saturating_sub(earlier.folds),
        }
    }

    /// How many have not ended yet. 0, if more have ended than were submitted, as may be [since](Counts::since) an earlier
    /// reading.
    #[must_use]
    pub const fn unfinished(&self) -> u64 {
        self.submitted.saturating_sub(self.ended())
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} submitted: {} committed, {} unchanged, {} failed, {} rejected, {} cancelled, {} unfinished; {} conflicts",
            self.submitted,
            self.committed,
            self.unchanged,
            self.failed,
            self.rejected,
            self.cancelled,
            self.unfinished(),
            self.conflicts
        )
    }
}

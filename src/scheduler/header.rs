//! What the scheduler knows of an operation that was submitted, whatever that does.
#![forbid(unsafe_code)]

use super::account::tally::{Kind, Life};
use super::id::OperationId;
use super::lane::Lane;
use super::priority::Priority;
use super::ready::Rows;
use super::record::Work;
use super::retry::RetryPolicy;
use super::trace::Trace;
use crate::cell::Entity;
use crate::raw::{Link, quietly};
use crate::sync::lock::Lock;
use crate::sync::orderings::site;
use crate::sync::{AtomicU64, AtomicUsize, per_thread};
use std::cell::RefCell;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

/// What the scheduler knows of an operation, whatever it does.
///
/// In this order, so that what whoever serves looks at, and writes to, is in as few lines of the caches as can be: each
/// of them has to come from the processor that has submitted the operation, and to go back.
#[repr(C)]
pub(super) struct Header {
    pub(super) link: Link<dyn Work>,
    /// When it was submitted, in nanoseconds of the engine's clock; and when its patience ends.
    pub(super) born: u64,
    pub(super) id: OperationId,
    pub(super) expires: u64,
    /// In which rows of its lane's queue it has an entry, a bit for each. Only whoever has the lane asks.
    rows: AtomicUsize,
    /// Where its lane counts it: its priority, or 0. Only whoever has the lane asks.
    counted: AtomicUsize,
    /// When it began to run, and when it was done. 0: not yet.
    pub(super) started: AtomicU64,
    pub(super) ended: AtomicU64,
    /// How many attempts it has lost. Only whoever runs it writes this.
    pub(super) lost: AtomicUsize,
    /// Which operations it is counted with.
    pub(super) kind: Kind,
    pub(super) lane: Arc<Lane>,
    /// What others see of it, if it is traced.
    pub(super) trace: Option<Entity<Trace>>,
    /// Whether it stays away from its lane for a while. Its lane passes it over meanwhile, whatever entries it has.
    is_away: AtomicUsize,
    /// Whether a guard may be held while its closure runs.
    pub(super) is_short: bool,
    /// Whether its first attempt is made under a reservation.
    reserves_at_once: bool,
    /// How often it may be tried again, and how.
    pub(super) budget: u32,
    // From here on only what few operations need.
    pub(super) retry: RetryPolicy,
    pub(super) patience: Duration,
    pub(super) parent: Option<Arc<dyn Work>>,
    /// The outermost operation of the same engine that it is part of, or itself; and of how many it is part.
    pub(super) root: OperationId,
    pub(super) depth: u32,
    /// How long it has stepped back for reservations, in microseconds.
    pub(super) stepped_back: AtomicU64,
    /// When it first reserved its target, in microseconds. [`NEVER`]: it has not.
    reserved_since: AtomicU64,
    /// Its own priority, which it has when nobody lends it a higher one.
    pub(super) own: AtomicU64,
    /// Where it is to be found among what is ready, if it is to be prepared.
    pub(super) rows_ready: Rows,
    /// Whether the task that awaits it is to be called when something is ready: see `Shared::serve_for`.
    is_listed: AtomicUsize,
    pub(super) children: Lock<Vec<Weak<dyn Work>>>,
    pub(super) waker: Lock<Option<Waker>>,
}

/// No time in microseconds: nanoseconds of a clock are fewer.
const NEVER: u64 = u64::MAX;

/// What a header is made of.
pub(super) struct Birth {
    pub(super) id: OperationId,
    pub(super) kind: Kind,
    pub(super) born: u64,
    pub(super) patience: Option<Duration>,
    pub(super) budget: u32,
    pub(super) retry: RetryPolicy,
    pub(super) priority: Priority,
    pub(super) lane: Arc<Lane>,
    pub(super) parent: Option<Arc<dyn Work>>,
    /// How many attempts it has lost before.
    pub(super) lost: u32,
    pub(super) is_short: bool,
}

impl Header {
    #[inline(always)]
    pub(super) fn new(birth: Birth) -> Self {
        let patience = birth.patience.unwrap_or(Duration::MAX);
        let nanos = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
        let (mut root, mut depth) = (birth.id, 0);
        if let Some(parent) = here(birth.parent.as_ref(), &birth.lane) {
            let parent = parent.header();
            (root, depth) = (parent.root, parent.depth.saturating_add(1));
        }
        Header {
            id: birth.id,
            kind: birth.kind,
            born: birth.born,
            expires: birth.born.saturating_add(nanos),
            is_short: birth.is_short,
            reserves_at_once: birth.retry.reserves(0),
            patience,
            budget: birth.budget,
            retry: birth.retry,
            lane: birth.lane,
            parent: birth.parent,
            root,
            depth,
            trace: None,
            own: AtomicU64::new(u64::from(birth.priority.get())),
            stepped_back: AtomicU64::new(0),
            reserved_since: AtomicU64::new(NEVER),
            started: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            lost: AtomicUsize::new(birth.lost as usize),
            counted: AtomicUsize::new(0),
            rows: AtomicUsize::new(0),
            rows_ready: Rows::new(),
            is_away: AtomicUsize::new(0),
            is_listed: AtomicUsize::new(0),
            link: Link::new(),
            children: Lock::new(Vec::new()),
            waker: Lock::new(None),
        }
    }

    /// What it is part of, if that belongs to the same engine: ids are unique only there.
    pub(super) fn parent_here(&self) -> Option<&Arc<dyn Work>> {
        here(self.parent.as_ref(), &self.lane)
    }

    /// When it first reserved its target, in microseconds.
    pub(super) fn reserved_since(&self) -> Option<u64> {
        let since = self.reserved_since.load(site::RECORD_LOAD);
        (since != NEVER).then_some(since)
    }

    /// Sets it. Only whoever runs the operation does.
    pub(super) fn set_reserved_since(&self, since: u64) {
        self.reserved_since.store(since, site::RECORD_STORE);
    }

    /// Whether the attempt after so many that were lost is made under a reservation.
    pub(super) fn reserves(&self, lost: u32) -> bool {
        match lost {
            0 => self.reserves_at_once,
            _ => self.retry.reserves(lost),
        }
    }

    /// Its own priority.
    pub(super) fn own(&self) -> Priority {
        let number = self.own.load(site::RECORD_LOAD) as u8;
        Priority::new(number).expect("only priorities are stored")
    }

    pub(super) fn rows(&self) -> usize {
        self.rows.load(site::RECORD_LOAD)
    }

    pub(super) fn set_rows(&self, rows: usize) {
        self.rows.store(rows, site::RECORD_STORE);
    }

    pub(super) fn counted(&self) -> usize {
        self.counted.load(site::RECORD_LOAD)
    }

    pub(super) fn count(&self, level: usize) {
        self.counted.store(level, site::RECORD_STORE);
    }

    pub(super) fn is_away(&self) -> bool {
        self.is_away.load(site::RECORD_LOAD) != 0
    }

    /// Before it waits for its turn again; and before it is put into its lane, whose holder finds that it is back.
    pub(super) fn set_away(&self, is_away: bool) {
        self.is_away.store(usize::from(is_away), site::RECORD_STORE);
    }

    pub(super) fn is_listed(&self) -> bool {
        self.is_listed.load(site::RECORD_LOAD) != 0
    }

    pub(super) fn set_listed(&self, is_listed: bool) {
        self.is_listed
            .store(usize::from(is_listed), site::RECORD_STORE);
    }

    /// Its life, which has just ended.
    pub(super) fn life(&self) -> Life {
        let (started, ended) = (self.started(), self.ended());
        Life {
            lost: self.lost(),
            queueing: (started != 0).then(|| started.saturating_sub(self.born)),
            latency: Some(ended.saturating_sub(self.born)),
        }
    }

    /// How many attempts it has lost.
    pub(super) fn lost(&self) -> u32 {
        u32::try_from(self.lost.load(site::RECORD_LOAD)).unwrap_or(u32::MAX)
    }

    pub(super) fn started(&self) -> u64 {
        self.started.load(site::RECORD_LOAD)
    }

    pub(super) fn ended(&self) -> u64 {
        self.ended.load(site::RECORD_LOAD)
    }
}

/// What is part of the same engine as a lane.
fn here<'w>(work: Option<&'w Arc<dyn Work>>, lane: &Lane) -> Option<&'w Arc<dyn Work>> {
    work.filter(|work| Weak::ptr_eq(&work.header().lane.engine, &lane.engine))
}

impl Drop for Header {
    /// Parents one after the other: a chain of a million must not overflow a stack. What is dropped while another
    /// one is waits until that has ended.
    fn drop(&mut self) {
        if let Some(waker) = self.waker.get_mut().take() {
            quietly(|| drop(waker));
        }
        let Some(parent) = self.parent.take() else {
            return;
        };
        let mut parent = Some(parent);
        let is_outermost = ENDING.try_with(|ending| match &mut *ending.borrow_mut() {
            Some(others) => {
                others.extend(parent.take());
                false
            }
            none => {
                *none = Some(Vec::new());
                true
            }
        });
        while let Some(next) = parent.take() {
            quietly(|| drop(next));
            if matches!(is_outermost, Ok(true)) {
                parent = ENDING.with(|ending| ending.borrow_mut().as_mut().and_then(Vec::pop));
            }
        }
        if matches!(is_outermost, Ok(true)) {
            ENDING.with(|ending| ending.borrow_mut().take());
        }
    }
}

per_thread! {
    /// The parents of those that are dropped by one drop.
    static ENDING: RefCell<Option<Vec<Arc<dyn Work>>>> = RefCell::new(None);
}

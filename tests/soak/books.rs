//! What was done with one engine, as those saw it who did it. The engine's own counts are checked by these.

use super::seen::{Mechanism, Seen};
use super::value::Value;
use crate::planned::PLANNED;
use snapcell::{Entity, OperationError, Reason, State, Trace};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

/// How the closure of an operation ends, whenever it is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Temper {
    Commit,
    Leave,
    Refuse,
    Panic,
}

/// What a closure refuses with.
#[derive(Debug)]
pub(crate) struct Refusal;

/// How an operation has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Committed,
    Unchanged,
    Failed,
    Rejected,
    Cancelled,
}

pub(crate) const ENDINGS: usize = 5;

/// What an operation is about.
#[derive(Clone)]
pub(crate) struct About {
    /// The rooms that it changes. None: it changes a guest.
    pub(crate) rooms: Vec<usize>,
    pub(crate) temper: Temper,
    /// It is part of no other one, wherever it is submitted: so who is in one may be refused to wait for it.
    pub(crate) is_independent: bool,
    /// How many commits its guest has seen.
    pub(crate) guest: Option<Arc<AtomicU64>>,
}

/// What has come of operations since the last checkpoint.
pub(crate) struct Books {
    /// How many the engine has taken.
    taken: AtomicU64,
    /// How they have ended, as their tickets told.
    told: [AtomicU64; ENDINGS],
    /// Of how many nobody will be told.
    untold: AtomicU64,
    /// Those whose traces will tell.
    traces: Mutex<Vec<(Entity<Trace>, About)>>,
    rooms: Vec<Page>,
}

/// What has come of one room.
#[derive(Default)]
pub(crate) struct Page {
    /// Effects of operations, as was told.
    told: AtomicU64,
    /// Operations of which nobody will be told.
    untold: AtomicU64,
    /// Those of the told ones of which nobody knows the version.
    unstamped: AtomicU64,
    /// Those of the told ones that change several entities, and so have a version of their own.
    several: AtomicU64,
    /// Commits past the engine.
    outside: AtomicU64,
    /// The versions that the others have made. Those of one fold have made the same one.
    versions: Mutex<Vec<u64>>,
}

/// A page, closed.
#[derive(Debug)]
pub(crate) struct RoomSums {
    pub(crate) told: u64,
    pub(crate) untold: u64,
    pub(crate) unstamped: u64,
    /// How many publications are known of.
    pub(crate) published: u64,
    pub(crate) outside: u64,
}

/// Books, closed.
#[derive(Debug)]
pub(crate) struct Sums {
    pub(crate) taken: u64,
    pub(crate) told: [u64; ENDINGS],
    pub(crate) untold: u64,
    pub(crate) rooms: Vec<RoomSums>,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, SeqCst);
}

fn take(counter: &AtomicU64) -> u64 {
    counter.swap(0, SeqCst)
}

impl Books {
    pub(crate) fn new(rooms: usize) -> Self {
        Books {
            taken: AtomicU64::new(0),
            told: Default::default(),
            untold: AtomicU64::new(0),
            traces: Mutex::default(),
            rooms: (0..rooms).map(|_| Page::default()).collect(),
        }
    }

    pub(crate) fn taken(&self) {
        count(&self.taken);
    }

    pub(crate) fn outside(&self, room: usize) {
        count(&self.rooms[room].outside);
    }

    /// Somebody was told how an operation ended, and perhaps of which version its change is.
    pub(crate) fn told(&self, about: &About, ending: Ending, version: Option<u64>) {
        count(&self.told[ending as usize]);
        if ending != Ending::Committed {
            return;
        }
        if let Some(guest) = &about.guest {
            count(guest);
        }
        for &room in &about.rooms {
            let room = &self.rooms[room];
            count(&room.told);
            match version {
                _ if about.rooms.len() > 1 => count(&room.several),
                None => count(&room.unstamped),
                Some(version) => {
                    let mut versions = room.versions.lock().unwrap_or_else(PoisonError::into_inner);
                    versions.push(version);
                }
            }
        }
    }

    /// Nobody will be told how it ends, unless by a trace.
    pub(crate) fn let_go(&self, about: About, trace: Option<Entity<Trace>>) {
        if let Some(trace) = trace {
            let mut traces = self.traces.lock().unwrap_or_else(PoisonError::into_inner);
            traces.push((trace, about));
            return;
        }
        assert!(about.guest.is_none() && about.rooms.len() == 1);
        count(&self.untold);
        count(&self.rooms[about.rooms[0]].untold);
    }

    /// What was written into them. They begin anew. Everything must have ended.
    pub(crate) fn close(&self) -> Sums {
        let mut traces = self.traces.lock().unwrap_or_else(PoisonError::into_inner);
        for (trace, about) in traces.drain(..) {
            self.told(
                &about,
                ending_of(trace.snapshot().state, about.temper),
                None,
            );
        }
        Sums {
            taken: take(&self.taken),
            told: std::array::from_fn(|ending| take(&self.told[ending])),
            untold: take(&self.untold),
            rooms: self.rooms.iter().map(Page::close).collect(),
        }
    }
}

impl Page {
    fn close(&self) -> RoomSums {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        versions.sort_unstable();
        versions.dedup();
        let published = versions.len() as u64 + take(&self.several);
        versions.clear();
        RoomSums {
            told: take(&self.told),
            untold: take(&self.untold),
            unstamped: take(&self.unstamped),
            published,
            outside: take(&self.outside),
        }
    }
}

/// How an operation has ended whose trace says this.
///
/// # Panics
/// If it has not ended.
pub(crate) fn ending_of(state: State, temper: Temper) -> Ending {
    match (state, temper) {
        (State::Succeeded, Temper::Commit) => Ending::Committed,
        (State::Succeeded, Temper::Leave) => Ending::Unchanged,
        (State::Failed, Temper::Refuse | Temper::Panic) => Ending::Failed,
        (State::Rejected, _) => Ending::Rejected,
        (State::Cancelled, _) => Ending::Cancelled,
        _ => panic!("broken law: an operation that was to {temper:?} is told to be {state:?}"),
    }
}

/// How an operation has ended of which this is told. `None`: it goes on, but nobody waits for it any more.
///
/// # Panics
/// If that is not as its closure was to end.
pub(crate) fn told<O>(
    result: &Result<O, OperationError<Refusal>>,
    temper: Temper,
    is_independent: bool,
    seen: &Seen,
) -> Option<Ending> {
    let (ending, mechanism) = match (result, temper) {
        (Ok(_), Temper::Commit) => return Some(Ending::Committed),
        (Ok(_), Temper::Leave) => (Ending::Unchanged, Mechanism::Unchanged),
        (Err(OperationError::Refused(_)), Temper::Refuse) => (Ending::Failed, Mechanism::Refused),
        (Err(OperationError::Panicked(panic)), Temper::Panic)
            if panic.message().as_deref() == Some(PLANNED) =>
        {
            (Ending::Failed, Mechanism::Panicked)
        }
        (Err(OperationError::Rejected(why)), _) => {
            let mechanism = match why.reason {
                Reason::Exhausted { .. } => Mechanism::Exhausted,
                Reason::Expired { .. } => Mechanism::Expired,
                Reason::Lost { .. } => Mechanism::Lost,
                Reason::Evicted => Mechanism::Evicted,
                other => panic!("what is to be thought of {other:?}?"),
            };
            (Ending::Rejected, mechanism)
        }
        (Err(OperationError::Cancelled), _) => return Some(Ending::Cancelled),
        (Err(OperationError::SelfConflict), _) => {
            seen.note(Mechanism::SelfConflict);
            return None;
        }
        (Err(OperationError::MayDeadlock), _) if is_independent => {
            seen.note(Mechanism::MayDeadlock);
            return None;
        }
        (Err(error), _) => {
            panic!("broken law: an operation that was to {temper:?} has ended so: {error:?}")
        }
        (Ok(_), _) => panic!("broken law: an operation that was to {temper:?} has succeeded"),
    };
    seen.note(mechanism);
    Some(ending)
}

/// What is told of an operation that has succeeded.
pub(crate) trait Outcome: Send + 'static {
    /// The version that it has made, if it tells.
    fn version(&self) -> Option<u64>;
}

impl Outcome for snapcell::Snapshot<Value> {
    fn version(&self) -> Option<u64> {
        Some(self.stamp().version())
    }
}

impl Outcome for () {
    fn version(&self) -> Option<u64> {
        None
    }
}

//! The limit: what a map does that has an immutable snapshot for each counter, and nothing else.
//!
//! A counter is a word, found by its number, that leads to a snapshot: a stamp of 128 bits, a count of those who hold
//! it, and the value. Each operation pins, and an update puts a new snapshot there by one exchange. No ids are compared,
//! nobody can hold anything or wait, and there is no clock. What was replaced is used again after a grace, which is asked
//! for once in 256 updates.

use super::maps::Map;
use crossbeam_epoch::Guard;
use snapcell::EntityId;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};

/// Counters by number.
#[derive(Default)]
pub(super) struct Bare {
    /// Which node is current, from one. Zero: there is no such counter.
    heads: Rows<AtomicUsize>,
    nodes: Rows<Node>,
    begun: AtomicUsize,
    made: AtomicUsize,
    /// Tells it from all others.
    identity: Arc<()>,
}

/// A snapshot. It is written by whoever is to publish it.
#[derive(Default)]
#[repr(align(32))]
struct Node {
    version: AtomicU64,
    time: AtomicU64,
    holders: AtomicU64,
    value: AtomicU64,
}

/// What there is by number: rows, each twice as long as the one before, made when they are needed.
#[derive(Default)]
struct Rows<T>([OnceLock<Box<[T]>>; 16]);

/// The length of the first row: most go no further.
const FIRST: usize = 1 << 17;

impl<T: Default> Rows<T> {
    #[inline]
    fn get(&self, number: usize) -> &T {
        let at = number + FIRST;
        let row = (at.ilog2() - FIRST.ilog2()) as usize;
        let make = || (0..FIRST << row).map(|_| T::default()).collect();
        &self.0[row].get_or_init(make)[at - (FIRST << row)]
    }
}

/// What one thread has replaced.
#[derive(Default)]
struct Ring {
    /// In which map, by its identity.
    of: Option<Arc<()>>,
    waiting: VecDeque<usize>,
    retired: u64,
    released: u64,
    /// How many may be used again.
    ripe: Arc<AtomicU64>,
}

thread_local! {
    static RING: RefCell<Ring> = RefCell::default();
}

/// Replacements between two requests for a grace.
const BEACON: u64 = 256;

impl Ring {
    fn take(&mut self, bare: &Bare) -> usize {
        let is_of = |of: &Arc<()>| Arc::ptr_eq(of, &bare.identity);
        if !self.of.as_ref().is_some_and(is_of) {
            *self = Ring {
                of: Some(Arc::clone(&bare.identity)),
                ..Ring::default()
            };
        }
        if self.released < self.ripe.load(Acquire)
            && let Some(index) = self.waiting.pop_front()
        {
            self.released += 1;
            return index;
        }
        bare.made.fetch_add(1, Relaxed) + 1
    }

    fn retire(&mut self, index: usize, guard: &Guard) {
        self.waiting.push_back(index);
        self.retired += 1;
        if self.retired.is_multiple_of(BEACON) {
            let (ripe, retired) = (Arc::clone(&self.ripe), self.retired);
            guard.defer(move || ripe.fetch_max(retired, Release));
            guard.flush();
        }
    }
}

impl Bare {
    /// The head of a counter that was begun.
    #[inline]
    fn head(&self, id: EntityId) -> Option<&AtomicUsize> {
        let number = usize::try_from(id.to_bits()).ok()?;
        let is_begun = number < self.begun.load(Relaxed);
        is_begun.then(|| self.heads.get(number))
    }

    #[inline]
    fn node(&self, index: usize) -> &Node {
        self.nodes.get(index - 1)
    }

    /// Replaces what is there by a snapshot of what `next` makes of it.
    #[inline]
    fn replace(&self, id: EntityId, next: impl Fn(Option<&Node>) -> Option<(u64, u64)>) -> bool {
        let Some(head) = self.head(id) else {
            return false;
        };
        let guard = crossbeam_epoch::pin();
        RING.with_borrow_mut(|ring| {
            let new = ring.take(self);
            let node = self.node(new);
            let mut found = head.load(Acquire);
            loop {
                let base = (found > 0).then(|| self.node(found));
                let Some((version, value)) = next(base) else {
                    ring.retire(new, &guard);
                    return false;
                };
                node.version.store(version, Relaxed);
                node.time.store(version, Relaxed);
                node.holders.store(1, Relaxed);
                node.value.store(value, Relaxed);
                match head.compare_exchange(found, new, Release, Acquire) {
                    Ok(_) => break,
                    Err(newer) => found = newer,
                }
            }
            if found > 0 {
                ring.retire(found, &guard);
            }
            true
        })
    }
}

impl Map for Bare {
    const NAME: &'static str = "limit: a bare snapshot each";
    type Burst<'a> = &'a Self;

    fn burst(&self) -> &Self {
        self
    }

    fn insert(burst: &&Self, id: EntityId) -> bool {
        burst.replace(id, |base| base.is_none().then_some((0, 0)))
    }

    fn begin(burst: &&Self, _: EntityId) -> Option<EntityId> {
        let id = EntityId::from_bits(burst.begun.fetch_add(1, Relaxed) as u128);
        Self::insert(burst, id).then_some(id)
    }

    #[inline]
    fn read(burst: &&Self, id: EntityId) -> Option<u64> {
        let head = burst.head(id)?;
        let _guard = crossbeam_epoch::pin();
        let found = head.load(Acquire);
        (found > 0).then(|| burst.node(found).value.load(Relaxed))
    }

    #[inline]
    fn update(burst: &&Self, id: EntityId) -> bool {
        burst.replace(id, |base| {
            let (version, value) = base.map(|node| (&node.version, &node.value))?;
            Some((version.load(Relaxed) + 1, value.load(Relaxed) + 1))
        })
    }

    fn remove(burst: &&Self, id: EntityId) -> bool {
        burst.head(id).is_some_and(|head| head.swap(0, Relaxed) > 0)
    }
}

//! Where the rows of operations are: an operation that hasn't ended is looked at where it lies, and one that has is a
//! plain row, so that nothing of what it did is kept alive.
//!
//! Operations lie in shards, by their ids, and each shard has one lock: its rows and all its indexes change under it
//! together. So whoever looks finds an operation once, before its end or after it, and an index never names what
//! isn't there. Under a lock nothing of anybody else's runs or is dropped: operations are handed out, and asked
//! afterwards.
//!
//! An operation is noted before anybody can end it: its lane gets it afterwards, and so does whoever has submitted it.
#![forbid(unsafe_code)]

use super::super::id::OperationId;
use super::super::record::Work;
use super::super::trace::Trace;
use super::event::TargetId;
use super::rows::{Ended, Keys, Targets, Unfinished};
use crate::sync::lock::Lock;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Of how many shards a large registry consists, and from which bound on it is large. A small one has a single shard, so
/// that the oldest of all are those that go first.
const SHARDS: usize = 16;
const LARGE: usize = 1_024;

/// See the header of this file.
pub(in super::super) struct Registry(Box<[Lock<Shard>]>);

/// What was found: an operation, or what is left of it.
pub(super) enum Found {
    Unfinished(Arc<dyn Work>),
    Ended(Trace),
}

impl Found {
    /// What there is to say of it now.
    pub(super) fn row(&self) -> Trace {
        match self {
            Found::Unfinished(work) => Trace::now(&**work),
            Found::Ended(row) => *row,
        }
    }
}

/// Among which operations to look: by an index, where there is one.
#[derive(Clone, Copy)]
pub(super) enum Among<'a> {
    All,
    Unfinished,
    Target(TargetId),
    /// Those of a target that haven't ended.
    Rivals(TargetId),
    Name(&'a str),
    /// Those that are part of one of these, and of nothing between.
    Parents(&'a [OperationId]),
}

/// How many rows there are.
#[derive(Clone, Copy, Default)]
pub(super) struct Sizes {
    pub(super) unfinished: usize,
    pub(super) ended: usize,
    /// When the first of those that are kept has ended.
    pub(super) oldest: Option<Duration>,
    /// How many were let go of to make room.
    pub(super) forgotten: u64,
}

impl Registry {
    /// A registry that keeps so many operations that have ended.
    pub(in super::super) fn new(kept: usize) -> Self {
        let shards = if kept < LARGE { 1 } else { SHARDS };
        let limit = |shard| kept / shards + usize::from(shard < kept % shards);
        let shard = |shard| Lock::new(Shard::new(limit(shard)));
        Registry((0..shards).map(shard).collect())
    }

    /// Not by the last bits of an id: what is run at once may take those in turns with what is submitted.
    fn shard(&self, id: OperationId) -> &Lock<Shard> {
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        let mixed = id.get().wrapping_mul(GOLDEN) >> 32;
        &self.0[mixed as usize % self.0.len()]
    }

    /// Notes an operation that was submitted.
    pub(in super::super) fn begin(&self, work: &Arc<dyn Work>) {
        let header = work.header();
        let keys = Keys {
            name: header.kind.name,
            parent: header.parent_here().map(|parent| parent.header().id),
            targets: Targets::of(work.targets()),
        };
        let weak = Arc::downgrade(work);
        let shard = self.shard(header.id);
        shard.with(|shard| shard.unfinished.insert(header.id, keys, weak));
    }

    /// Notes how an operation has ended.
    pub(in super::super) fn end(&self, row: Trace) {
        let ended = self.shard(row.id).with(|shard| shard.end(row));
        drop(ended);
    }

    pub(super) fn get(&self, id: OperationId) -> Option<Found> {
        self.shard(id).with(|shard| shard.get(id))
    }

    /// Those operations among which to look, without those that have ended and aren't `wanted`. In no order.
    ///
    /// One shard after the other is looked at, so this is not what was at one instant.
    pub(super) fn select(&self, among: Among<'_>, wanted: impl Fn(&Trace) -> bool) -> Vec<Found> {
        let mut found = Vec::new();
        for shard in &self.0 {
            shard.with(|shard| shard.select(among, &wanted, &mut found));
        }
        found
    }

    pub(super) fn sizes(&self) -> Sizes {
        let mut all = Sizes::default();
        for shard in &self.0 {
            let sizes = shard.with(|shard| shard.sizes());
            all.unfinished += sizes.unfinished;
            all.ended += sizes.ended;
            all.forgotten += sizes.forgotten;
            all.oldest = match (all.oldest, sizes.oldest) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
        all
    }

    /// How many have ended before a time, and how many there are in all.
    pub(super) fn ended_before(&self, time: Duration) -> (usize, usize) {
        self.sum(|shard| (shard.ended.before(time), shard.len()))
    }

    /// Lets go of those that have ended before a time. How many these were, and how many there were in all.
    pub(super) fn forget_before(&self, time: Duration) -> (usize, usize) {
        self.sum(|shard| {
            let (old, all) = (shard.ended.before(time), shard.len());
            for _ in 0..old {
                shard.ended.forget_oldest();
            }
            (old, all)
        })
    }

    fn sum(&self, count: impl Fn(&mut Shard) -> (usize, usize)) -> (usize, usize) {
        let counts = self.0.iter().map(|shard| shard.with(&count));
        counts.fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
    }

    /// Whether all indexes agree with the rows.
    pub(super) fn is_consistent(&self) -> bool {
        self.0
            .iter()
            .all(|shard| shard.with(|shard| shard.is_consistent()))
    }
}

struct Shard {
    unfinished: Unfinished,
    ended: Ended,
    /// How many that have ended are kept.
    limit: usize,
    /// How many were let go of because of that.
    forgotten: u64,
}

impl Shard {
    fn new(limit: usize) -> Self {
        Shard {
            unfinished: Unfinished::default(),
            ended: Ended::default(),
            limit,
            forgotten: 0,
        }
    }

    fn len(&self) -> usize {
        self.unfinished.len() + self.ended.len()
    }

    /// Puts a row in the place of an operation, which is given back.
    fn end(&mut self, row: Trace) -> Option<Weak<dyn Work>> {
        let (keys, work) = self.unfinished.remove(row.id)?;
        if self.limit == 0 {
            self.forgotten += 1;
            return Some(work);
        }
        self.ended.insert(keys, row);
        while self.ended.len() > self.limit {
            self.ended.forget_oldest();
            self.forgotten += 1;
        }
        Some(work)
    }

    fn get(&self, id: OperationId) -> Option<Found> {
        let ended = || self.ended.get(id).map(|row| Found::Ended(*row));
        let unfinished = self.unfinished.get(id);
        unfinished.map(Found::Unfinished).or_else(ended)
    }

    fn select(&self, among: Among<'_>, wanted: &impl Fn(&Trace) -> bool, found: &mut Vec<Found>) {
        let unfinished = self.unfinished.among(among);
        found.extend(unfinished.map(Found::Unfinished));
        let ended = self.ended.among(among).filter(|row| wanted(row));
        found.extend(ended.map(|row| Found::Ended(*row)));
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            unfinished: self.unfinished.len(),
            ended: self.ended.len(),
            oldest: self.ended.oldest(),
            forgotten: self.forgotten,
        }
    }

    fn is_consistent(&self) -> bool {
        self.unfinished.is_consistent()
            && self.ended.is_consistent()
            && self.ended.len() <= self.limit
            && self.unfinished.ids().all(|id| self.ended.get(id).is_none())
    }
}

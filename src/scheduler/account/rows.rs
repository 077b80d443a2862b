//! The rows of a part of the registry, and by what they are found: indexes that are kept in step with them.
//!
//! What hasn't ended ends in any order, and there is little of it: its indexes are ordered sets of pairs, a key and an
//! id. What has ended goes in the order in which it has ended, by bound or clean-up: so all its indexes are lines
//! in that order, and what goes is at the front of each. A line that is empty is taken away.
#![forbid(unsafe_code)]

use super::super::id::OperationId;
use super::super::record::Work;
use super::super::trace::Trace;
use super::event::TargetId;
use super::registry::Among;
use crate::sync::map::Hashing;
use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::num::NonZeroU64;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// By what an operation is found.
pub(super) struct Keys {
    pub(super) name: &'static str,
    pub(super) parent: Option<OperationId>,
    pub(super) targets: Targets,
}

/// The targets of an operation, of which most have one.
pub(super) struct Targets {
    first: Option<TargetId>,
    others: Box<[TargetId]>,
}

impl Targets {
    pub(super) fn of(targets: &[usize]) -> Self {
        let mut targets = targets.iter().copied().map(TargetId);
        Targets {
            first: targets.next(),
            others: targets.collect(),
        }
    }

    fn iter(&self) -> impl Iterator<Item = TargetId> {
        self.first.iter().chain(&self.others).copied()
    }
}

/// What hasn't ended.
#[derive(Default)]
pub(super) struct Unfinished {
    rows: HashMap<OperationId, (Keys, Weak<dyn Work>), Hashing>,
    by_target: BTreeSet<(TargetId, OperationId)>,
    by_parent: BTreeSet<(OperationId, OperationId)>,
    by_name: BTreeSet<(&'static str, OperationId)>,
}

const FIRST: OperationId = OperationId(NonZeroU64::MIN);
const LAST: OperationId = OperationId(NonZeroU64::MAX);

impl Unfinished {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn insert(&mut self, id: OperationId, keys: Keys, work: Weak<dyn Work>) {
        let targets = keys.targets.iter().map(|target| (target, id));
        self.by_target.extend(targets);
        let parent = keys.parent.map(|parent| (parent, id));
        self.by_parent.extend(parent);
        self.by_name.insert((keys.name, id));
        self.rows.insert(id, (keys, work));
    }

    pub(super) fn remove(&mut self, id: OperationId) -> Option<(Keys, Weak<dyn Work>)> {
        let (keys, work) = self.rows.remove(&id)?;
        for target in keys.targets.iter() {
            self.by_target.remove(&(target, id));
        }
        if let Some(parent) = keys.parent {
            self.by_parent.remove(&(parent, id));
        }
        self.by_name.remove(&(keys.name, id));
        Some((keys, work))
    }

    /// The operation, which is there as long as it hasn't ended: its lane has it.
    pub(super) fn get(&self, id: OperationId) -> Option<Arc<dyn Work>> {
        self.rows.get(&id)?.1.upgrade()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = OperationId> {
        self.rows.keys().copied()
    }

    pub(super) fn among(&self, among: Among<'_>) -> impl Iterator<Item = Arc<dyn Work>> {
        let ids: Vec<_> = match among {
            Among::All | Among::Unfinished => self.ids().collect(),
            Among::Target(target) | Among::Rivals(target) => {
                let range = (target, FIRST)..=(target, LAST);
                self.by_target.range(range).map(|(_, id)| *id).collect()
            }
            Among::Name(name) => {
                let range = (name, FIRST)..=(name, LAST);
                self.by_name.range(range).map(|(_, id)| *id).collect()
            }
            Among::Parents(parents) => {
                let children = |parent: &OperationId| {
                    let range = (*parent, FIRST)..=(*parent, LAST);
                    self.by_parent.range(range).map(|(_, id)| *id)
                };
                parents.iter().flat_map(children).collect()
            }
        };
        ids.into_iter().filter_map(|id| self.get(id))
    }

    /// Whether the indexes agree with the rows.
    pub(super) fn is_consistent(&self) -> bool {
        let keys = || self.rows.values().map(|(keys, _)| keys);
        let all_are_found = self.rows.iter().all(|(id, (keys, _))| {
            let parent = keys.parent;
            let mut targets = keys.targets.iter();
            targets.all(|target| self.by_target.contains(&(target, *id)))
                && parent.is_none_or(|parent| self.by_parent.contains(&(parent, *id)))
                && self.by_name.contains(&(keys.name, *id))
        });
        let targets: usize = keys().map(|keys| keys.targets.iter().count()).sum();
        let parents = keys().filter(|keys| keys.parent.is_some()).count();
        let sizes = (self.by_target.len(), self.by_parent.len());
        all_are_found && sizes == (targets, parents) && self.by_name.len() == self.rows.len()
    }
}

/// Operations in the order in which they have ended.
type Line = VecDeque<Place>;
type Place = (Duration, OperationId);

/// Puts somebody in its place in a line, which is its end if clocks don't go backwards, and threads don't overtake each
/// other.
fn enter(line: &mut Line, place: Place) {
    if line.back().is_none_or(|last| *last < place) {
        line.push_back(place);
    } else {
        let at = line.partition_point(|other| *other < place);
        line.insert(at, place);
    }
}

/// Takes somebody out of a line, who is at its front.
fn leave(line: &mut Line, place: Place) {
    if line.front() == Some(&place) {
        line.pop_front();
    } else if let Ok(at) = line.binary_search(&place) {
        line.remove(at);
    }
}

/// A line for each key.
struct Index<K>(HashMap<K, Line, Hashing>);

impl<K> Default for Index<K> {
    fn default() -> Self {
        Index(HashMap::default())
    }
}

impl<K: Copy + Eq + Hash> Index<K> {
    fn insert(&mut self, key: K, place: Place) {
        enter(self.0.entry(key).or_default(), place);
    }

    fn remove(&mut self, key: K, place: Place) {
        if let Some(line) = self.0.get_mut(&key) {
            leave(line, place);
            if line.is_empty() {
                self.0.remove(&key);
            }
        }
    }

    fn of<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> impl Iterator<Item = OperationId>
    where
        K: Borrow<Q>,
    {
        let line = self.0.get(key);
        line.into_iter().flatten().map(|(_, id)| *id)
    }

    fn has(&self, key: K, place: Place) -> bool {
        let line = self.0.get(&key);
        line.is_some_and(|line| line.binary_search(&place).is_ok())
    }

    fn len(&self) -> usize {
        self.0.values().map(VecDeque::len).sum()
    }

    fn is_tidy(&self) -> bool {
        self.0.values().all(|line| !line.is_empty())
    }
}

/// What has ended.
#[derive(Default)]
pub(super) struct Ended {
    rows: HashMap<OperationId, (Keys, Trace), Hashing>,
    line: Line,
    by_target: Index<TargetId>,
    by_parent: Index<OperationId>,
    by_name: Index<&'static str>,
}

fn place_of(row: &Trace) -> Place {
    (row.times.ended.unwrap_or_default(), row.id)
}

impl Ended {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn insert(&mut self, keys: Keys, row: Trace) {
        let place = place_of(&row);
        enter(&mut self.line, place);
        for target in keys.targets.iter() {
            self.by_target.insert(target, place);
        }
        if let Some(parent) = keys.parent {
            self.by_parent.insert(parent, place);
        }
        self.by_name.insert(keys.name, place);
        self.rows.insert(row.id, (keys, row));
    }

    /// Lets go of the one that has ended first: everywhere.
    pub(super) fn forget_oldest(&mut self) {
        let Some(place) = self.line.pop_front() else {
            return;
        };
        let Some((keys, _)) = self.rows.remove(&place.1) else {
            return;
        };
        for target in keys.targets.iter() {
            self.by_target.remove(target, place);
        }
        if let Some(parent) = keys.parent {
            self.by_parent.remove(parent, place);
        }
        self.by_name.remove(keys.name, place);
    }

    /// How many have ended before a time.
    pub(super) fn before(&self, time: Duration) -> usize {
        self.line.partition_point(|(ended, _)| *ended < time)
    }

    /// When the first one has ended.
    pub(super) fn oldest(&self) -> Option<Duration> {
        self.line.front().map(|(ended, _)| *ended)
    }

    pub(super) fn get(&self, id: OperationId) -> Option<&Trace> {
        self.rows.get(&id).map(|(_, row)| row)
    }

    pub(super) fn among(&self, among: Among<'_>) -> impl Iterator<Item = &Trace> {
        let ids: Vec<_> = match among {
            Among::All => self.rows.keys().copied().collect(),
            Among::Unfinished | Among::Rivals(_) => Vec::new(),
            Among::Target(target) => self.by_target.of(&target).collect(),
            Among::Name(name) => self.by_name.of(name).collect(),
            Among::Parents(parents) => {
                let children = |parent| self.by_parent.of(parent);
                parents.iter().flat_map(children).collect()
            }
        };
        ids.into_iter().filter_map(|id| self.get(id))
    }

    /// Whether the indexes agree with the rows, and nothing is left in them.
    pub(super) fn is_consistent(&self) -> bool {
        let keys = || self.rows.values().map(|(keys, _)| keys);
        let all_are_found = self.rows.values().all(|(keys, row)| {
            let place = place_of(row);
            let parent = keys.parent;
            let mut targets = keys.targets.iter();
            targets.all(|target| self.by_target.has(target, place))
                && parent.is_none_or(|parent| self.by_parent.has(parent, place))
                && self.by_name.has(keys.name, place)
                && self.line.binary_search(&place).is_ok()
        });
        let targets: usize = keys().map(|keys| keys.targets.iter().count()).sum();
        let parents = keys().filter(|keys| keys.parent.is_some()).count();
        let many = self.rows.len();
        let sizes = (self.by_target.len(), self.by_parent.len());
        all_are_found
            && sizes == (targets, parents)
            && (self.by_name.len(), self.line.len()) == (many, many)
            && self.by_target.is_tidy()
            && self.by_parent.is_tidy()
            && self.by_name.is_tidy()
    }
}

//! Forks and merges: which entity came from which, and what two of them have in common.
//!
//! A fork is a new entity that begins with a version of another one, its *origin*. A merge brings into one
//! entity what a relative has that it hasn't; it is recorded with the version of the relative that was merged.
//! So versions form a graph without cycles: each follows from the one before, the first from the origin, and a
//! merged one from the version that was merged as well. What comes before a version is its *past*.
//!
//! # The base of a merge
//! It is the latest version that is in the past of both sides. (Of two entities that were merged crosswise there
//! may be several; then they are merged first.) That is decided by the records alone:
//! the past of a version has, of each entity, all versions up to some one, which is the current one, an origin,
//! or one that was merged. The records hold these versions themselves, so their values are there.
//!
//! # What is held
//! By each entity: the version that it was forked from, those that its ancestors were forked from (shared with
//! them, [`KEPT`] at least and twice as many at most), and the last version of each other entity that was merged
//! into it, of removed ones the latest [`KEPT`], each with the names of what came before it. So the past may be known in part only, up to a *cut*. A base that
//! comes before a cut might not be the latest, and what is between would be merged twice; it is refused.
//!
//! # Which entity
//! An id can be given again after a removal. So a record has the node that was at the id, and two versions are
//! of one entity only if their nodes are the same.
#![forbid(unsafe_code)]

use super::error::Absent;
use super::id::{EntityId, LineageId};
use super::provenance::Sources;
use super::standing::Standing;
use super::version::{Node, Version};
use super::within::Within;
use super::{Inner, Store, Unknown};
use crate::cell::{Entity, Merge, Restart, Stop, transaction, transaction_or_abort};
use crate::stamp::Stamp;
use rpds::ListSync;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A version by its name: which entity, and which stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The entity.
    pub id: EntityId,
    /// Which version of it.
    pub stamp: Stamp,
}

impl<T> From<&Version<T>> for Origin {
    fn from(version: &Version<T>) -> Self {
        Origin {
            id: version.id(),
            stamp: version.stamp(),
        }
    }
}

/// The id, and the stamp.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.stamp)
    }
}

/// What ties an entity to others.
pub(super) struct Ties<T: Send + Sync + 'static> {
    past: Past<T>,
    pub(super) sources: Sources,
}

impl<T: Send + Sync + 'static> Ties<T> {
    fn of(past: Past<T>) -> Arc<Self> {
        let sources = Sources::new();
        Arc::new(Ties { past, sources })
    }
}

impl<T: Send + Sync + 'static> Standing<T> {
    fn past(&self) -> Past<T> {
        let past = self.ties.as_ref().map(|ties| ties.past.clone());
        past.unwrap_or_default()
    }

    pub(super) fn sources(&self) -> Sources {
        let sources = self.ties.as_ref().map(|ties| ties.sources.clone());
        sources.unwrap_or_default()
    }

    fn with_past(&self, past: Past<T>) -> Self {
        let sources = self.sources();
        Standing {
            ties: Some(Arc::new(Ties { past, sources })),
            ..self.clone()
        }
    }

    pub(super) fn with_sources(&self, sources: Sources) -> Self {
        let past = self.past();
        Standing {
            ties: Some(Arc::new(Ties { past, sources })),
            ..self.clone()
        }
    }
}

/// How many ancestors are known for certain, however many were removed; and how many that were merged and
/// removed.
const KEPT: usize = 64;

/// What an entity has in its past besides its own versions.
struct Past<T: Send + Sync + 'static> {
    /// Its origin, the origin of that one, and so on.
    ancestors: ListSync<Arc<Point<T>>>,
    merges: Arc<Merges<T>>,
}

/// What was merged into an entity.
struct Merges<T: Send + Sync + 'static> {
    /// The last version of each.
    last: BTreeMap<EntityId, Merging<T>>,
    /// The version by which something was merged that is not known any more, if there is one.
    cut: Option<u64>,
}

/// A version that was merged, by itself or with another one that it came before. So what comes before it is
/// in the same records, or in the past of the entity that they belong to, and nothing hangs on a record.
struct Merging<T: Send + Sync + 'static> {
    from: Point<T>,
    /// The version that it made.
    at: u64,
    /// The version that the first merge of the same entity made.
    since: u64,
    kind: MergeKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum MergeKind {
    /// The two values were merged.
    Joined,
    /// It made a copy of what was merged.
    Copied,
    /// It came with another one.
    Inherited,
}

impl<T: Send + Sync + 'static> Merges<T> {
    /// With one merge more, that made the version `at`. Of those that have been removed only some are kept.
    fn with(&self, at: u64, merged: Vec<Merging<T>>, is_cut: bool) -> Self {
        let (mut last, mut cut) = (self.last.clone(), self.cut);
        if is_cut {
            cut = Some(at);
        }
        for mut merging in merged {
            match last.get(&merging.from.id()) {
                Some(old) if old.from.is_kin(&merging.from) => merging.since = old.since,
                // Another one, which had the same id.
                Some(old) => cut = cut.max(Some(old.at)),
                None => {}
            }
            last.insert(merging.from.id(), merging);
        }
        if last.len() > KEPT {
            let gone = last.iter().filter(|(_, merging)| merging.from.is_gone());
            let mut gone: Vec<_> = gone.map(|(id, merging)| (merging.at, *id)).collect();
            gone.sort_unstable();
            let surplus = gone.len().saturating_sub(KEPT);
            for (at, id) in gone.into_iter().take(surplus) {
                last.remove(&id);
                cut = cut.max(Some(at));
            }
        }
        Merges { last, cut }
    }
}

/// A version in somebody's past, into which others may have been merged.
struct Point<T: Send + Sync + 'static> {
    /// Whose version it is, if that is still known.
    node: Option<Node<T>>,
    version: Version<T>,
    /// What its entity was forked from.
    origin: Option<Origin>,
    merges: Arc<Merges<T>>,
    /// Of a record, the names of all that comes before it.
    before: Arc<[Origin]>,
}

impl<T: Send + Sync + 'static> Point<T> {
    fn new(node: Option<Node<T>>, version: Version<T>, past: &Past<T>) -> Self {
        let origin = past.ancestors.first();
        Point {
            node,
            version,
            origin: origin.map(|point| Origin::from(&point.version)),
            merges: Arc::clone(&past.merges),
            before: Arc::default(),
        }
    }

    /// For a record: without what was merged into it, of which only the names remain.
    fn alone(&self, before: Arc<[Origin]>) -> Self {
        Point {
            merges: Arc::default(),
            before,
            ..self.clone()
        }
    }

    fn id(&self) -> EntityId {
        self.version.id()
    }

    fn number(&self) -> u64 {
        self.version.stamp().version()
    }

    /// Whether the two are versions of one entity.
    fn is_kin(&self, other: &Self) -> bool {
        match (&self.node, &other.node) {
            (Some(node), Some(other)) => Entity::ptr_eq(node, other),
            _ => Version::ptr_eq(&self.version, &other.version),
        }
    }

    /// Whether the entity was removed.
    fn is_gone(&self) -> bool {
        let is_gone = |node: &Node<T>| node.read(|slot| slot.live().is_none());
        self.node.as_ref().is_none_or(is_gone)
    }

    /// Whether something was merged by its own version, or before, of which only what came later is known.
    fn is_cut(&self) -> bool {
        let number = self.number();
        let mut merges = self.merges.last.values();
        merges.any(|merging| merging.since <= number && number < merging.at)
    }

    /// What was merged by its own version, or before.
    fn merged(&self) -> impl Iterator<Item = &Merging<T>> {
        let number = self.number();
        let merges = self.merges.last.values();
        merges.filter(move |merging| merging.at <= number)
    }
}

/// A version with all that comes before it.
struct Place<T: Send + Sync + 'static> {
    point: Arc<Point<T>>,
    ancestors: ListSync<Arc<Point<T>>>,
    /// Whether nothing is known of what comes before it, as of a record of a merge.
    is_bare: bool,
}

impl<T: Send + Sync + 'static> Place<T> {
    fn bare(point: &Point<T>) -> Self {
        Place {
            point: Arc::new(point.clone()),
            ancestors: ListSync::new_sync(),
            is_bare: true,
        }
    }

    fn at(node: Option<Node<T>>, version: Version<T>, past: &Past<T>) -> Self {
        Place {
            point: Arc::new(Point::new(node, version, past)),
            ancestors: past.ancestors.clone(),
            is_bare: false,
        }
    }
}

/// All that comes before a version, itself included: of each entity the latest version.
struct Reach<T: Send + Sync + 'static> {
    reached: BTreeMap<EntityId, Vec<Reached<T>>>,
    /// The versions before which something is not known any more.
    cuts: Vec<(Arc<Point<T>>, u64)>,
    /// Versions that are in it by name only.
    names: Vec<Origin>,
}

struct Reached<T: Send + Sync + 'static> {
    latest: Place<T>,
    /// The latest version of which it is known what comes before it. That is in the reach as well.
    followed: Option<u64>,
}

impl<T: Send + Sync + 'static> Reach<T> {
    /// Of each entity the latest version.
    fn places(&self) -> impl Iterator<Item = &Place<T>> {
        self.reached.values().flatten().map(|known| &known.latest)
    }

    fn names(&self) -> Arc<[Origin]> {
        let places = self
            .places()
            .map(|place| Origin::from(&place.point.version));
        places.chain(self.names.iter().copied()).collect()
    }

    /// The place in it that is one of the same entity.
    fn kin(&self, point: &Point<T>) -> Option<&Place<T>> {
        let mut reached = self.reached.get(&point.id())?.iter();
        let known = reached.find(|known| known.latest.point.is_kin(point));
        known.map(|known| &known.latest)
    }

    /// Whether it has a version of the entity, or a later one.
    fn has(&self, point: &Point<T>, number: u64) -> bool {
        let kin = self.kin(point);
        let (id, time) = (point.id(), point.version.stamp().time());
        kin.is_some_and(|place| place.point.number() >= number)
            || self.names.iter().any(|name| {
                name.id == id && name.stamp.version() >= number && name.stamp.time() >= time
            })
    }

    fn is_cut(&self) -> bool {
        !self.cuts.is_empty()
    }

    /// Has all that another one has as well.
    fn extend(&mut self, other: Self) {
        for place in other.places() {
            self.enter(place);
        }
        self.cuts.extend(other.cuts);
        self.names.extend(other.names);
    }

    /// Enters a place. Whether what comes before it has to be entered, too.
    fn enter(&mut self, place: &Place<T>) -> bool {
        let number = place.point.number();
        let followed = (!place.is_bare).then_some(number);
        let reached = self.reached.entry(place.point.id()).or_default();
        let mut kin = reached.iter_mut();
        let Some(known) = kin.find(|known| known.latest.point.is_kin(&place.point)) else {
            let latest = place.clone();
            reached.push(Reached { latest, followed });
            return !place.is_bare;
        };
        let latest = known.latest.point.number();
        if latest < number || (latest == number && known.latest.is_bare) {
            known.latest = place.clone();
        }
        let is_news = followed > known.followed;
        known.followed = known.followed.max(followed);
        is_news
    }
}

/// A value that two versions have in common.
enum Base<T: Send + Sync + 'static> {
    /// That of a version.
    Known(Version<T>),
    /// Several versions, of which none comes before another, merged.
    Merged(T),
}

impl<T: Send + Sync + 'static> Base<T> {
    fn value(&self) -> &T {
        match self {
            Base::Known(version) => version,
            Base::Merged(value) => value,
        }
    }
}

/// Why there is none.
enum NoBase {
    /// They have nothing in common.
    Nothing,
    /// It is not known any more.
    Forgotten,
    /// There are several, which can't be merged.
    Unmergeable,
}

impl<T: Send + Sync + 'static> Inner<T> {
    /// All that comes before a place, itself included.
    fn reach(&self, place: &Place<T>) -> Reach<T> {
        let mut reach = Reach {
            reached: BTreeMap::new(),
            cuts: Vec::new(),
            names: Vec::new(),
        };
        reach.names.extend_from_slice(&place.point.before);
        let mut next = vec![place.clone()];
        while let Some(place) = next.pop() {
            if !reach.enter(&place) {
                continue;
            }
            let point = &place.point;
            match self.origin_of(&place) {
                Ok(origin) => next.extend(origin),
                Err(Cut) => reach.cuts.push((Arc::clone(point), point.number())),
            }
            if let Some(cut) = point.merges.cut.filter(|cut| *cut <= point.number()) {
                reach.cuts.push((Arc::clone(point), cut));
            }
            if point.is_cut() {
                reach.cuts.push((Arc::clone(point), point.number()));
            }
            for merging in point.merged() {
                next.push(Place::bare(&merging.from));
            }
        }
        reach
    }

    /// Where the entity of a place was forked, if it was and that is still known.
    fn origin_of(&self, place: &Place<T>) -> Result<Option<Place<T>>, Cut> {
        let point = &place.point;
        let Some(origin) = point.origin else {
            return match point.node {
                Some(_) => Ok(None),
                None => Err(Cut),
            };
        };
        let step = |ancestors: &ListSync<Arc<Point<T>>>| {
            let first = ancestors.first()?;
            (Origin::from(&first.version) == origin).then_some(())?;
            Some(Place {
                point: Arc::clone(first),
                ancestors: ancestors.drop_first()?,
                is_bare: false,
            })
        };
        let known = step(&place.ancestors).or_else(|| {
            // It knows that itself, if it is still there.
            let place = self.place_of(point)?;
            step(&place.ancestors)
        });
        known.map(Some).ok_or(Cut)
    }

    /// The place of a version, if its entity is still there.
    fn place_of(&self, point: &Point<T>) -> Option<Place<T>> {
        let standing = self.standing_of(&point.id(), point.node.as_ref()?)?;
        let (node, version) = (point.node.clone(), point.version.clone());
        Some(Place::at(node, version, &standing.past()))
    }

    /// Whether all that a version has to offer comes before another one: it does so itself, or is a copy of
    /// what does.
    fn is_covered(&self, place: &Place<T>, reach: &Reach<T>) -> bool {
        let mut place = place.clone();
        loop {
            let number = place.point.number();
            if reach.has(&place.point, number) {
                return true;
            }
            let copy = match number {
                0 => self.origin_of(&place).ok().flatten(),
                _ => {
                    let is_it = |merging: &&Merging<T>| {
                        merging.kind == MergeKind::Copied && merging.at == number
                    };
                    let copied = place.point.merged().find(is_it);
                    copied.map(|merging| Place::bare(&merging.from))
                }
            };
            match copy {
                Some(copy) => place = copy,
                None => return false,
            }
        }
    }

    /// What comes before both: the latest version, or, where there are several of which none comes before
    /// another, what is made of them by merging them with what they have in common, and so on.
    fn base(
        &self,
        mine: &Reach<T>,
        theirs: &Reach<T>,
        merge: &mut impl FnMut(Merge<'_, T>) -> Option<T>,
    ) -> Result<Base<T>, NoBase> {
        let mut latest = self.latest(mine, theirs);
        if latest.len() > 1 {
            // Names are not enough to merge them.
            for (place, before) in latest.iter_mut().filter(|(place, _)| place.is_bare) {
                *place = self.place_of(&place.point).ok_or(NoBase::Forgotten)?;
                *before = self.reach(place);
            }
            if latest.iter().any(|(_, before)| before.is_cut()) {
                return Err(NoBase::Forgotten);
            }
        }
        let mut latest = latest.into_iter();
        let mut cuts = mine.cuts.iter().chain(&theirs.cuts);
        let Some((place, mut before)) = latest.next() else {
            return Err(match cuts.next() {
                None => NoBase::Nothing,
                Some(_) => NoBase::Forgotten,
            });
        };
        let mut base = Base::Known(place.point.version.clone());
        for (place, also_before) in latest {
            let common = match self.base(&before, &also_before, merge) {
                Err(NoBase::Nothing) => return Err(NoBase::Forgotten),
                common => common?,
            };
            let merged = merge(Merge {
                base: common.value(),
                mine: base.value(),
                theirs: &place.point.version,
            });
            base = Base::Merged(merged.ok_or(NoBase::Unmergeable)?);
            before.extend(also_before);
        }
        match cuts.all(|(point, number)| before.has(point, *number)) {
            true => Ok(base),
            false => Err(NoBase::Forgotten),
        }
    }

    /// The latest places that are in both, the one that was committed last first, each with all that comes
    /// before it. None comes before another.
    fn latest(&self, mine: &Reach<T>, theirs: &Reach<T>) -> Vec<(Place<T>, Reach<T>)> {
        let mut common = Vec::new();
        for place in mine.places() {
            if let Some(other) = theirs.kin(&place.point) {
                let is_earlier = place.point.number() <= other.point.number();
                common.push(if is_earlier { place } else { other }.clone());
            }
        }
        common.sort_by_key(|place| {
            let version = &place.point.version;
            (version.stamp().time(), version.id())
        });
        let mut latest: Vec<(Place<T>, Reach<T>)> = Vec::new();
        // From the end, since most come before the last one.
        while let Some(place) = common.pop() {
            let before = self.reach(&place);
            let is_after = |other: &Place<T>| !before.has(&other.point, other.point.number());
            common.retain(is_after);
            latest.retain(|(other, _)| is_after(other));
            latest.push((place, before));
        }
        latest
    }
}

/// What came before is not known any more.
struct Cut;

/// What became of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Merged {
    /// There was nothing to do: all that the other one has is there already.
    UpToDate,
    /// There was nothing to merge with, so the value of the other one was taken as it is. It made this version.
    Forwarded(u64),
    /// The two values were merged, which made this version.
    Joined(u64),
}

impl Merged {
    /// The version that was made, if one was.
    #[must_use]
    pub fn version(self) -> Option<u64> {
        match self {
            Merged::UpToDate => None,
            Merged::Forwarded(version) | Merged::Joined(version) => Some(version),
        }
    }
}

/// A merge that was not made. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// One of the two isn't there.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// The two have nothing in common.
    #[error("{into} and {from} have no ancestor in common")]
    Unrelated {
        /// What was to be changed.
        into: EntityId,
        /// What was to be merged into it.
        from: EntityId,
    },
    /// What the two have in common is not known for certain any more: the entities between were removed, and
    /// they were many; one was forked from a version of a removed entity, or from an old one; or they were merged
    /// crosswise more than once.
    #[error("what {into} and {from} have in common is not known any more")]
    BaseForgotten {
        /// What was to be changed.
        into: EntityId,
        /// What was to be merged into it.
        from: EntityId,
    },
    /// The closure says that the two values can't be merged.
    #[error("{from} can't be merged into {into}")]
    Unmergeable {
        /// What was to be changed.
        into: EntityId,
        /// What was to be merged into it.
        from: EntityId,
    },
}

impl<T: Clone + Send + Sync + 'static> Within<'_, '_, T> {
    /// A new entity in the same line, with the value of another one, as [`Store::fork`].
    ///
    /// It is forked from the version that the transaction is based on: what this transaction has written to
    /// it is not in the fork, and what was born in it is not known yet.
    ///
    /// # Errors
    /// As [`get`](Within::get).
    pub fn fork(&self, id: &EntityId) -> Result<EntityId, Absent> {
        let version = self.version(id)?;
        let node = self.node(id);
        // Nobody changes where it comes from, and a merge would be a commit to it.
        let standing = self.inner().standing_of(id, &node);
        let standing = standing.ok_or_else(|| Absent::Restart(Restart::overtaken()))?;
        self.fork_from(Some(node), version, &standing)
    }

    fn fork_from(
        &self,
        node: Option<Node<T>>,
        origin: Version<T>,
        standing: &Standing<T>,
    ) -> Result<EntityId, Absent> {
        let value = T::clone(&origin);
        let past = standing.past();
        let origin = Arc::new(Point::new(node, origin, &past));
        let mut ancestors = past.ancestors.push_front(origin);
        if ancestors.len() > 2 * KEPT {
            ancestors = ancestors.iter().take(KEPT).cloned().collect();
        }
        let past = Past {
            ancestors,
            merges: Arc::default(),
        };
        let id = self.insert(value)?;
        let newborn = Standing {
            lineage: standing.lineage,
            ties: Some(Ties::of(past)),
            ..Standing::default_of(id)
        };
        self.set_standing(&id, newborn)?;
        Ok(id)
    }

    pub(super) fn merge(
        &self,
        into: &EntityId,
        from: &EntityId,
        merge: &mut impl FnMut(Merge<'_, T>) -> Option<T>,
    ) -> Result<Merged, Stop<MergeError>> {
        if into == from {
            self.get(into)?;
            return Ok(Merged::UpToDate);
        }
        let (mine, theirs) = (self.version(into)?, self.version(from)?);
        let standing = self.standing(into)?;
        let (node, from_node) = (self.node(into), self.node(from));
        let overtaken = || Stop::Restart(Restart::overtaken());
        let other = self.inner().standing_of(from, &from_node);
        let other = other.ok_or_else(overtaken)?;

        let past = standing.past();
        let here = Place::at(Some(node), mine.clone(), &past);
        let there = Place::at(Some(from_node), theirs.clone(), &other.past());
        let inner = self.inner();
        let (before_mine, before_theirs) = (inner.reach(&here), inner.reach(&there));
        let (into, from) = (*into, *from);
        if inner.is_covered(&there, &before_mine) {
            return Ok(Merged::UpToDate);
        }
        let is_copy = inner.is_covered(&here, &before_theirs);
        let value = if is_copy {
            T::clone(&theirs)
        } else {
            let refusal = |none| {
                Stop::Abort(match none {
                    NoBase::Nothing => MergeError::Unrelated { into, from },
                    NoBase::Forgotten => MergeError::BaseForgotten { into, from },
                    NoBase::Unmergeable => MergeError::Unmergeable { into, from },
                })
            };
            let base = inner.base(&before_mine, &before_theirs, merge);
            let base = base.map_err(refusal)?;
            let merged = merge(Merge {
                base: base.value(),
                mine: &mine,
                theirs: &theirs,
            });
            merged.ok_or_else(|| refusal(NoBase::Unmergeable))?
        };

        let at = here.point.number() + 1;
        let mut merged = Vec::new();
        for place in before_theirs.places() {
            if before_mine.has(&place.point, place.point.number()) {
                continue;
            }
            let kind = match place.point.is_kin(&there.point) {
                true if is_copy => MergeKind::Copied,
                true => MergeKind::Joined,
                false => MergeKind::Inherited,
            };
            let before = match place.is_bare {
                true => Arc::clone(&place.point.before),
                false => inner.reach(place).names(),
            };
            let from = place.point.alone(before);
            merged.push(Merging {
                from,
                at,
                since: at,
                kind,
            });
        }
        let mut cuts = before_theirs.cuts.iter();
        let is_cut = cuts.any(|(point, number)| !before_mine.has(point, *number));
        let past = Past {
            merges: Arc::new(past.merges.with(at, merged, is_cut)),
            ..past
        };
        self.write(&into, value)?;
        self.set_standing(&into, standing.with_past(past))?;
        Ok(match is_copy {
            true => Merged::Forwarded(at),
            false => Merged::Joined(at),
        })
    }
}

impl<T: Clone + Send + Sync + 'static> Store<T> {
    /// A new entity in the same line, at version 0, with the current value of another one, which is recorded
    /// as its origin. From then on each goes its own way, until one is [merged](Store::merge) into the other.
    ///
    /// # Errors
    /// [`Unknown`].
    /// # Linearization
    /// The exchange that decides a transaction: the entity still had that version.
    /// # Complexity
    /// A transaction of the new entity, its standing and the index of lines, a clone of the value, and a look
    /// at each ancestor.
    ///
    /// # Examples
    /// ```
    /// let store = snapcell::Store::new();
    /// let draft = store.insert("one");
    /// let copy = store.fork(&draft)?;
    /// store.replace(&draft, "two").unwrap();
    /// assert_eq!(*store.get(&copy)?, "one");
    /// let origin = store.origin(&copy)?.expect("it was forked");
    /// assert_eq!((origin.id(), *origin), (draft, "one"));
    /// assert_eq!(store.lineage_of(&copy)?, store.lineage_of(&draft)?);
    /// # Ok::<(), snapcell::Unknown>(())
    /// ```
    pub fn fork(&self, id: &EntityId) -> Result<EntityId, Unknown> {
        transaction_or_abort(|tx| Ok(self.within(tx).fork(id)?))
    }

    /// As [`fork`](Store::fork), from any version that somebody has kept, even of an entity that was removed:
    /// then what came before it is not known any more, and it begins the line that bears its id.
    ///
    /// Where the id was given again after a removal, the version may be taken for one of the entity that has
    /// it now.
    ///
    /// # Examples
    /// ```
    /// let store = snapcell::Store::new();
    /// let id = store.insert("one");
    /// let kept = store.get(&id)?;
    /// store.replace(&id, "two").unwrap();
    /// let back = store.fork_of(&kept);
    /// assert_eq!((*store.get(&back)?, store.get(&back)?.stamp().version()), ("one", 0));
    /// assert_eq!(store.origin(&back)?.unwrap().stamp(), kept.stamp());
    /// # Ok::<(), snapcell::Unknown>(())
    /// ```
    pub fn fork_of(&self, version: &Version<T>) -> EntityId {
        let id = version.id();
        let forked = transaction_or_abort::<_, Unknown>(|tx| {
            let within = self.within(tx);
            // A version that comes after the current one belongs to another entity, which was removed.
            let stamp = version.stamp();
            let is_before = |now: Stamp| now >= stamp && now.time() >= stamp.time();
            let node = self.0.nodes.get(&id).filter(|node| {
                let now = node.snapshot();
                now.live().is_some() && is_before(now.stamp())
            });
            let standing = node.as_ref().and_then(|node| self.0.standing_of(&id, node));
            let standing = match (&node, standing) {
                (Some(_), Some(standing)) => standing,
                (Some(_), None) => return Err(Stop::Restart(Restart::overtaken())),
                (None, _) => Standing::default_of(id),
            };
            Ok(within.fork_from(node, version.clone(), &standing)?)
        });
        forked.unwrap_or_else(|_| unreachable!("only what was just born is asked for"))
    }

    /// Brings into one entity what another one has that it hasn't: a commit to `into`, and none to `from`.
    ///
    /// `merge` gets the value that both began with, that of `into` as `mine` and that of `from` as `theirs`,
    /// and returns what is to become of them, or `None` if they can't be merged. What both began with is the
    /// latest version that comes before both, over forks and earlier merges, so nothing is merged twice.
    /// Where `into` has no changes of its own since, the value of `from` is taken as it is, and `merge` isn't
    /// asked. It may run several times, each time against newer values, and for several values that both began
    /// with, where forks of the two were merged crosswise. So it should have no other effect.
    ///
    /// # Errors
    /// [`MergeError`]: one isn't there, the two are no relatives, what they have in common is not known any
    /// more, or `merge` refuses.
    /// # Linearization
    /// The exchange that decides a transaction: both still had those versions. Without a change, as of
    /// [`transaction`](crate::transaction()).
    /// # Progress
    /// As [`transaction_or_abort`].
    /// # Complexity
    /// Linear in the number of relatives that come before either, for the search of the base.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Merge, Merged, Store};
    ///
    /// let store = Store::new();
    /// let stock = store.insert(100);
    /// let branch = store.fork(&stock)?;
    /// store.update(&stock, |n| n - 30)?;
    /// store.update(&branch, |n| n + 5)?;
    /// let sum = |m: Merge<'_, i32>| Some(m.mine + m.theirs - m.base);
    /// assert_eq!(store.merge(&stock, &branch, sum)?, Merged::Joined(2));
    /// assert_eq!(*store.get(&stock)?, 75);
    /// assert_eq!(store.merge(&stock, &branch, sum)?, Merged::UpToDate);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn merge(
        &self,
        into: &EntityId,
        from: &EntityId,
        mut merge: impl FnMut(Merge<'_, T>) -> Option<T>,
    ) -> Result<Merged, MergeError> {
        transaction_or_abort(|tx| self.within(tx).merge(into, from, &mut merge))
    }

    /// Commits the same value once more: the version grows by one, and whoever has read it before is
    /// overtaken.
    ///
    /// # Errors
    /// [`Unknown`].
    ///
    /// # Examples
    /// ```
    /// let store = snapcell::Store::new();
    /// let id = store.insert('a');
    /// let before = store.get(&id)?.stamp();
    /// let after = store.mark_modified(&id)?;
    /// assert_eq!((*store.get(&id)?, after.version()), ('a', 1));
    /// assert!(store.has_conflict(&id, before)? && !store.has_conflict(&id, after)?);
    /// # Ok::<(), snapcell::Unknown>(())
    /// ```
    pub fn mark_modified(&self, id: &EntityId) -> Result<Stamp, Unknown> {
        self.update(id, T::clone)
    }
}

impl<T: Send + Sync + 'static> Store<T> {
    /// Whether an entity has another version than the one of this stamp: it was changed since, or the stamp is
    /// none of it.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn has_conflict(&self, id: &EntityId, stamp: Stamp) -> Result<bool, Unknown> {
        let current = self.0.nodes.look(id, |node| {
            let guard = crate::cell::pin();
            let seen = node.load(&guard);
            seen.live().map(|_| seen.stamp())
        });
        let current = current.flatten().ok_or(Unknown(*id))?;
        Ok(current != stamp)
    }

    /// The version that an entity was forked from, if it was.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn origin(&self, id: &EntityId) -> Result<Option<Version<T>>, Unknown> {
        let past = self.known_standing(id)?.past();
        Ok(past.ancestors.first().map(|point| point.version.clone()))
    }

    /// The version that an entity was forked from, the one that its origin was forked from, and so on, back to
    /// the one that the line began with, or the last one that is known. (Of those that have been removed, the
    /// 64 nearest are known in any case.)
    ///
    /// # Errors
    /// [`Unknown`].
    ///
    /// # Examples
    /// ```
    /// let store = snapcell::Store::new();
    /// let first = store.insert(1);
    /// let second = store.fork(&first)?;
    /// let third = store.fork(&second)?;
    /// let ancestors: Vec<_> = store.ancestry(&third)?.iter().map(|version| version.id()).collect();
    /// assert_eq!(ancestors, [second, first]);
    /// # Ok::<(), snapcell::Unknown>(())
    /// ```
    pub fn ancestry(&self, id: &EntityId) -> Result<Vec<Version<T>>, Unknown> {
        let version = self.get(id)?;
        let node = self.0.nodes.get(id).ok_or(Unknown(*id))?;
        let standing = self.0.standing_of(id, &node).ok_or(Unknown(*id))?;
        let mut place = Place::at(Some(node), version, &standing.past());
        let mut ancestors = Vec::new();
        while let Ok(Some(origin)) = self.0.origin_of(&place) {
            ancestors.push(origin.point.version.clone());
            place = origin;
        }
        Ok(ancestors)
    }

    /// All entities of a line, with where each came from and what was merged into it, as they were at one
    /// moment.
    ///
    /// # Complexity
    /// One transaction that reads all of them.
    ///
    /// # Examples
    /// ```
    /// let store = snapcell::Store::new();
    /// let first = store.insert(1);
    /// let second = store.fork(&first)?;
    /// let report = store.lineage_report(store.lineage_of(&first)?);
    /// let fork = report.entries.iter().find(|entry| entry.id == second).unwrap();
    /// assert_eq!(fork.origin.unwrap().id, first);
    /// # Ok::<(), snapcell::Unknown>(())
    /// ```
    #[must_use]
    pub fn lineage_report(&self, line: LineageId) -> Lineage {
        let entries = transaction(|tx| {
            let within = self.within(tx);
            let mut ids = self.0.lineages.find_in(tx, &line)?.to_vec();
            ids.push(line.founder());
            let mut entries = Vec::new();
            for id in ids {
                let (standing, current) = match (within.standing(&id), within.require(&id)) {
                    (Ok(standing), Ok(current)) => (standing, current),
                    (Err(Absent::Restart(restart)), _) | (_, Err(Absent::Restart(restart))) => {
                        return Err(restart);
                    }
                    _ => continue,
                };
                if standing.lineage == line {
                    entries.push(LineageEntry::new(id, standing, current));
                }
            }
            Ok(entries)
        });
        let mut entries = entries;
        entries.sort_unstable_by_key(|entry| entry.id);
        Lineage { line, entries }
    }
}

/// A line of entities at one moment. Made by [`Store::lineage_report`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// Which line.
    pub line: LineageId,
    /// Its entities, in the order of their ids.
    pub entries: Vec<LineageEntry>,
}

/// An entity of a line at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineageEntry {
    /// The entity.
    pub id: EntityId,
    /// What it was forked from, if it was.
    pub origin: Option<Origin>,
    /// What was merged into it: the last version of each entity, of removed ones the 64 latest.
    pub merges: Vec<MergeRecord>,
    /// The version that it had.
    pub current: Stamp,
}

impl LineageEntry {
    fn new<T: Send + Sync + 'static>(id: EntityId, standing: &Standing<T>, current: Stamp) -> Self {
        let past = standing.past();
        let origin = past.ancestors.first();
        let merges = past.merges.last.values();
        let merges = merges.filter(|merging| merging.kind != MergeKind::Inherited);
        let merges = merges.map(|merging| MergeRecord {
            from: Origin::from(&merging.from.version),
            at: merging.at,
        });
        LineageEntry {
            id,
            origin: origin.map(|point| Origin::from(&point.version)),
            merges: merges.collect(),
            current,
        }
    }
}

/// A merge that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergeRecord {
    /// What was merged.
    pub from: Origin,
    /// The version that it made.
    pub at: u64,
}

impl<T: Send + Sync + 'static> Default for Past<T> {
    fn default() -> Self {
        Past {
            ancestors: ListSync::new_sync(),
            merges: Arc::default(),
        }
    }
}

impl<T: Send + Sync + 'static> Default for Merges<T> {
    fn default() -> Self {
        Merges {
            last: BTreeMap::new(),
            cut: None,
        }
    }
}

impl<T: Send + Sync + 'static> Clone for Past<T> {
    fn clone(&self) -> Self {
        Past {
            ancestors: self.ancestors.clone(),
            merges: Arc::clone(&self.merges),
        }
    }
}

impl<T: Send + Sync + 'static> Clone for Point<T> {
    fn clone(&self) -> Self {
        Point {
            node: self.node.clone(),
            version: self.version.clone(),
            origin: self.origin,
            merges: Arc::clone(&self.merges),
            before: Arc::clone(&self.before),
        }
    }
}

impl<T: Send + Sync + 'static> Clone for Merging<T> {
    fn clone(&self) -> Self {
        Merging {
            from: self.from.clone(),
            at: self.at,
            since: self.since,
            kind: self.kind,
        }
    }
}

impl<T: Send + Sync + 'static> Clone for Place<T> {
    fn clone(&self) -> Self {
        Place {
            point: Arc::clone(&self.point),
            ancestors: self.ancestors.clone(),
            is_bare: self.is_bare,
        }
    }
}

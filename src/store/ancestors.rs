//! What came before a version, and the latest version that came before two.
//!
//! Versions form a graph without cycles: each follows from the one before, the first from the version that its
//! entity was forked from, and a merged one from the version that was merged as well. What comes before a version
//! is its *past*.
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
//! into it, of removed ones the latest [`KEPT`], each with the names of what came before it. So the past may be
//! known in part only, up to a *cut*. A base that comes before a cut might not be the latest, and what is between
//! would be merged twice; it is refused.
//!
//! # Which entity
//! An id can be given again after a removal. So a record has the node that was at the id, and two versions are
//! of one entity only if their nodes are the same.
#![forbid(unsafe_code)]

use super::Inner;
use super::id::EntityId;
use super::version::{Node, Origin, Version};
use crate::cell::{Entity, Merge};
use rpds::ListSync;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many ancestors are known for certain, however many were removed; and how many that were merged and
/// removed.
const KEPT: usize = 64;

/// What an entity has in its past besides its own versions.
pub(super) struct Past<T: Send + Sync + 'static> {
    /// Its origin, the origin of that one, and so on.
    ancestors: ListSync<Arc<Point<T>>>,
    merges: Arc<Merges<T>>,
}

impl<T: Send + Sync + 'static> Past<T> {
    /// That of an entity which begins with a version of one with this past.
    pub(super) fn of_fork(&self, node: Option<Node<T>>, origin: Version<T>) -> Self {
        let origin = Arc::new(Point::new(node, origin, self));
        let mut ancestors = self.ancestors.push_front(origin);
        if ancestors.len() > 2 * KEPT {
            ancestors = ancestors.iter().take(KEPT).cloned().collect();
        }
        Past {
            ancestors,
            merges: Arc::default(),
        }
    }

    /// The version that the entity was forked from, if it was.
    pub(super) fn origin(&self) -> Option<&Version<T>> {
        self.ancestors.first().map(|point| &point.version)
    }

    /// What was merged into the entity itself, and the versions that this made.
    pub(super) fn merges(&self) -> impl Iterator<Item = (Origin, u64)> {
        let merges = self.merges.last.values();
        merges.filter_map(|merging| merging.by_itself)
    }
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
    /// What was merged last by itself, and the version that this made.
    by_itself: Option<(Origin, u64)>,
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
                Some(old) if old.from.is_kin(&merging.from) => {
                    merging.since = old.since;
                    merging.by_itself = merging.by_itself.or(old.by_itself);
                }
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
pub(super) struct Tip<T: Send + Sync + 'static> {
    point: Arc<Point<T>>,
    ancestors: ListSync<Arc<Point<T>>>,
    /// Whether nothing is known of what comes before it, as of a record of a merge.
    is_bare: bool,
}

impl<T: Send + Sync + 'static> Tip<T> {
    /// The version.
    pub(super) fn version(&self) -> &Version<T> {
        &self.point.version
    }

    fn bare(point: &Point<T>) -> Self {
        Tip {
            point: Arc::new(point.clone()),
            ancestors: ListSync::new_sync(),
            is_bare: true,
        }
    }

    pub(super) fn at(node: Option<Node<T>>, version: Version<T>, past: &Past<T>) -> Self {
        Tip {
            point: Arc::new(Point::new(node, version, past)),
            ancestors: past.ancestors.clone(),
            is_bare: false,
        }
    }
}

/// All that comes before a version, itself included: of each entity the latest version.
pub(super) struct Reach<T: Send + Sync + 'static> {
    reached: BTreeMap<EntityId, Vec<Reached<T>>>,
    /// The versions before which something is not known any more.
    cuts: Vec<(Arc<Point<T>>, u64)>,
    /// Versions that are in it by name only.
    names: Vec<Origin>,
}

struct Reached<T: Send + Sync + 'static> {
    latest: Tip<T>,
    /// The latest version of which it is known what comes before it. That is in the reach as well.
    followed: Option<u64>,
}

impl<T: Send + Sync + 'static> Reach<T> {
    /// Of each entity the latest version.
    fn tips(&self) -> impl Iterator<Item = &Tip<T>> {
        self.reached.values().flatten().map(|known| &known.latest)
    }

    fn names(&self) -> Arc<[Origin]> {
        let tips = self.tips().map(|tip| Origin::from(&tip.point.version));
        tips.chain(self.names.iter().copied()).collect()
    }

    /// The tip in it that is one of the same entity.
    fn kin(&self, point: &Point<T>) -> Option<&Tip<T>> {
        let mut reached = self.reached.get(&point.id())?.iter();
        let known = reached.find(|known| known.latest.point.is_kin(point));
        known.map(|known| &known.latest)
    }

    /// Whether it has a version of the entity, or a later one.
    fn has(&self, point: &Point<T>, number: u64) -> bool {
        let kin = self.kin(point);
        let (id, time) = (point.id(), point.version.stamp().time());
        kin.is_some_and(|tip| tip.point.number() >= number)
            || self.names.iter().any(|name| {
                name.id == id && name.stamp.version() >= number && name.stamp.time() >= time
            })
    }

    fn is_cut(&self) -> bool {
        !self.cuts.is_empty()
    }

    /// Has all that another one has as well.
    fn extend(&mut self, other: Self) {
        for tip in other.tips() {
            self.enter(tip);
        }
        self.cuts.extend(other.cuts);
        self.names.extend(other.names);
    }

    /// Enters a tip. Whether what comes before it has to be entered, too.
    fn enter(&mut self, tip: &Tip<T>) -> bool {
        let number = tip.point.number();
        let followed = (!tip.is_bare).then_some(number);
        let reached = self.reached.entry(tip.point.id()).or_default();
        let mut kin = reached.iter_mut();
        let Some(known) = kin.find(|known| known.latest.point.is_kin(&tip.point)) else {
            let latest = tip.clone();
            reached.push(Reached { latest, followed });
            return !tip.is_bare;
        };
        let latest = known.latest.point.number();
        if latest < number || (latest == number && known.latest.is_bare) {
            known.latest = tip.clone();
        }
        let is_news = followed > known.followed;
        known.followed = known.followed.max(followed);
        is_news
    }
}

/// A value that two versions have in common.
pub(super) enum Base<T: Send + Sync + 'static> {
    /// That of a version.
    Known(Version<T>),
    /// Several versions, of which none comes before another, merged.
    Merged(T),
}

impl<T: Send + Sync + 'static> Base<T> {
    pub(super) fn value(&self) -> &T {
        match self {
            Base::Known(version) => version,
            Base::Merged(value) => value,
        }
    }
}

/// Why there is none.
pub(super) enum NoBase {
    /// They have nothing in common.
    Nothing,
    /// It is not known any more.
    Forgotten,
    /// There are several, which can't be merged.
    Unmergeable,
}

impl<T: Send + Sync + 'static> Inner<T> {
    /// All that comes before a tip, itself included.
    pub(super) fn reach(&self, tip: &Tip<T>) -> Reach<T> {
        let mut reach = Reach {
            reached: BTreeMap::new(),
            cuts: Vec::new(),
            names: Vec::new(),
        };
        reach.names.extend_from_slice(&tip.point.before);
        let mut next = vec![tip.clone()];
        while let Some(tip) = next.pop() {
            if !reach.enter(&tip) {
                continue;
            }
            let point = &tip.point;
            match self.origin_of(&tip) {
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
                next.push(Tip::bare(&merging.from));
            }
        }
        reach
    }

    /// Where the entity of a tip was forked, if it was and that is still known.
    pub(super) fn origin_of(&self, tip: &Tip<T>) -> Result<Option<Tip<T>>, Cut> {
        let point = &tip.point;
        let Some(origin) = point.origin else {
            return match point.node {
                Some(_) => Ok(None),
                None => Err(Cut),
            };
        };
        let step = |ancestors: &ListSync<Arc<Point<T>>>| {
            let first = ancestors.first()?;
            (Origin::from(&first.version) == origin).then_some(())?;
            Some(Tip {
                point: Arc::clone(first),
                ancestors: ancestors.drop_first()?,
                is_bare: false,
            })
        };
        let known = step(&tip.ancestors).or_else(|| {
            // It knows that itself, if it is still there.
            let tip = self.tip_of(point)?;
            step(&tip.ancestors)
        });
        known.map(Some).ok_or(Cut)
    }

    /// The tip of a version, if its entity is still there.
    fn tip_of(&self, point: &Point<T>) -> Option<Tip<T>> {
        let standing = self.standing_of(&point.id(), point.node.as_ref()?)?;
        let (node, version) = (point.node.clone(), point.version.clone());
        Some(Tip::at(node, version, &standing.past()))
    }

    /// Whether all that a version has to offer comes before another one: it does so itself, or is a copy of
    /// what does.
    pub(super) fn is_covered(&self, tip: &Tip<T>, reach: &Reach<T>) -> bool {
        let mut tip = tip.clone();
        loop {
            let number = tip.point.number();
            if reach.has(&tip.point, number) {
                return true;
            }
            let copy = match number {
                0 => self.origin_of(&tip).ok().flatten(),
                _ => {
                    let is_it = |merging: &&Merging<T>| {
                        merging.kind == MergeKind::Copied && merging.at == number
                    };
                    let copied = tip.point.merged().find(is_it);
                    copied.map(|merging| Tip::bare(&merging.from))
                }
            };
            match copy {
                Some(copy) => tip = copy,
                None => return false,
            }
        }
    }

    /// What comes before both: the latest version, or, where there are several of which none comes before
    /// another, what is made of them by merging them with what they have in common, and so on.
    pub(super) fn base(
        &self,
        mine: &Reach<T>,
        theirs: &Reach<T>,
        merge: &mut impl FnMut(Merge<'_, T>) -> Option<T>,
    ) -> Result<Base<T>, NoBase> {
        let mut latest = self.latest(mine, theirs);
        if latest.len() > 1 {
            // Names are not enough to merge them.
            for (tip, before) in latest.iter_mut().filter(|(tip, _)| tip.is_bare) {
                *tip = self.tip_of(&tip.point).ok_or(NoBase::Forgotten)?;
                *before = self.reach(tip);
            }
            if latest.iter().any(|(_, before)| before.is_cut()) {
                return Err(NoBase::Forgotten);
            }
        }
        let mut latest = latest.into_iter();
        let mut cuts = mine.cuts.iter().chain(&theirs.cuts);
        let Some((tip, mut before)) = latest.next() else {
            return Err(match cuts.next() {
                None => NoBase::Nothing,
                Some(_) => NoBase::Forgotten,
            });
        };
        let mut base = Base::Known(tip.point.version.clone());
        for (tip, also_before) in latest {
            let common = match self.base(&before, &also_before, merge) {
                Err(NoBase::Nothing) => return Err(NoBase::Forgotten),
                common => common?,
            };
            let merged = merge(Merge {
                base: common.value(),
                mine: base.value(),
                theirs: &tip.point.version,
            });
            base = Base::Merged(merged.ok_or(NoBase::Unmergeable)?);
            before.extend(also_before);
        }
        match cuts.all(|(point, number)| before.has(point, *number)) {
            true => Ok(base),
            false => Err(NoBase::Forgotten),
        }
    }

    /// The latest tips that are in both, the one that was committed last first, each with all that comes
    /// before it. None comes before another.
    fn latest(&self, mine: &Reach<T>, theirs: &Reach<T>) -> Vec<(Tip<T>, Reach<T>)> {
        let mut common = Vec::new();
        for tip in mine.tips() {
            if let Some(other) = theirs.kin(&tip.point) {
                let is_earlier = tip.point.number() <= other.point.number();
                common.push(if is_earlier { tip } else { other }.clone());
            }
        }
        common.sort_by_key(|tip| {
            let version = &tip.point.version;
            (version.stamp().time(), version.id())
        });
        let mut latest: Vec<(Tip<T>, Reach<T>)> = Vec::new();
        // From the end, since most come before the last one.
        while let Some(tip) = common.pop() {
            let before = self.reach(&tip);
            let is_after = |other: &Tip<T>| !before.has(&other.point, other.point.number());
            common.retain(is_after);
            latest.retain(|(other, _)| is_after(other));
            latest.push((tip, before));
        }
        latest
    }

    /// The past of an entity into which another one is merged: by the next version after `here`.
    pub(super) fn past_of_merge(
        &self,
        past: Past<T>,
        here: (&Tip<T>, &Reach<T>),
        there: (&Tip<T>, &Reach<T>),
        is_copy: bool,
    ) -> Past<T> {
        let at = here.0.point.number() + 1;
        let is_news = |point: &Point<T>, number| !here.1.has(point, number);
        let mut merged = Vec::new();
        for tip in there.1.tips() {
            if !is_news(&tip.point, tip.point.number()) {
                continue;
            }
            let kind = match tip.point.is_kin(&there.0.point) {
                true if is_copy => MergeKind::Copied,
                true => MergeKind::Joined,
                false => MergeKind::Inherited,
            };
            let before = match tip.is_bare {
                true => Arc::clone(&tip.point.before),
                false => self.reach(tip).names(),
            };
            merged.push(Merging {
                from: tip.point.alone(before),
                at,
                since: at,
                kind,
                by_itself: (kind != MergeKind::Inherited)
                    .then(|| (Origin::from(&tip.point.version), at)),
            });
        }
        let mut cuts = there.1.cuts.iter();
        let is_cut = cuts.any(|(point, number)| is_news(point, *number));
        Past {
            merges: Arc::new(past.merges.with(at, merged, is_cut)),
            ..past
        }
    }
}

/// What came before is not known any more.
pub(super) struct Cut;

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
            by_itself: self.by_itself,
        }
    }
}

impl<T: Send + Sync + 'static> Clone for Tip<T> {
    fn clone(&self) -> Self {
        Tip {
            point: Arc::clone(&self.point),
            ancestors: self.ancestors.clone(),
            is_bare: self.is_bare,
        }
    }
}

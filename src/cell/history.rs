//! What an entity was: its former snapshots, kept beside its head.
//!
//! The history of an entity is a list of segments, each a row of places for consecutive versions
//! ([`Kept`], set once). A place keeps the very node that was at the head, so nothing is copied: a version costs
//! its node and a word. The list itself is an immutable value behind a head of its own; whoever needs a place
//! behind its end commits a longer one.
//!
//! # Why there are no holes
//! *Whoever is about to publish a successor of a snapshot records that snapshot first*: commits in
//! [`admit`](Entity::admit), transactions when they prepare (`raw/attempt.rs`). All who race do, and they record
//! the same node at the same place. So when version v + 1 is at the head, v has been recorded, by whoever put it
//! there at the latest; a thread that is stopped anywhere leaves nothing undone. What came before the commit
//! is seen by whoever sees its snapshot (HEAD_CAS → HEAD_LOAD). So a reader loads the head first, and
//! finds in its places all versions below that: the history is what is recorded, up to the current version, and
//! the current snapshot. What is recorded but still current is not shown twice, since only versions below
//! the current one are looked up.
//!
//! Who finds a place set needs no head: what was recorded was current once, and that never changes.
//!
//! # Why the list has no gaps
//! Somebody who finds no place for version v exchanges the list that it saw for one with a segment that
//! begins at v. If the exchange succeeds nobody has made a place for v before. So v was not recorded, and
//! is still current; and it is the next one after those in the list, as each of them was recorded before its
//! successor was published. If it fails somebody else has made that place.
//!
//! # What is let go
//! The exchange that adds a segment leaves out those that are older than what is to be kept *while v is
//! current*, as it is then. A reader whose current snapshot is older may find that what it looks for has been
//! let go: then it isn't kept any more, and a newer snapshot is current.
//!
//! # Progress
//! Recording: wait-free where there is a place, and lock-free where one has to be made: an exchange is lost
//! to another one that makes the same place. A history: lock-free; it is looked at again only if others have
//! committed a segment full meanwhile.
#![forbid(unsafe_code)]

use super::entity::{Entity, Extras};
use super::snapshot::Snapshot;
use crate::clock::Reading;
use crate::raw::reclaim::{Guard, Reclaim, Reclaimer};
use crate::raw::{Draft, Handle, Held, Kept, Place, Recorder, Seen};
use crate::stamp::Stamp;
use crate::sync::fault::{Fault, planted, stop_here};
use std::fmt;
use std::iter::FusedIterator;
use std::num::NonZeroUsize;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

/// Places of a segment, at least. In models three, so that a second segment happens there.
const LEAST: usize = if cfg!(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle)) {
    3
} else {
    8
};
/// And at most, so that no single commit takes long. Each segment but these is a quarter of what there is already.
const MOST: usize = 1 << 16;

/// Which snapshots an entity keeps: the current one only, or former ones, too.
///
/// # Examples
/// ```
/// use snapcell::{Entity, Retain};
///
/// let page = Entity::builder("a").retain(Retain::last(2)).build();
/// page.replace("b");
/// page.replace("c");
/// assert_eq!(page.history().map(|s| *s).collect::<Vec<_>>(), ["b", "c"]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Retain {
    /// The current one. The default.
    #[default]
    Latest,
    /// So many, the current one included. One is as good as [`Latest`](Retain::Latest).
    Last(NonZeroUsize),
    /// All of them.
    All,
}

impl Retain {
    /// So many, the current one included.
    ///
    /// # Panics
    /// If that is none.
    #[must_use]
    pub const fn last(number: usize) -> Self {
        match NonZeroUsize::new(number) {
            Some(number) => Retain::Last(number),
            None => panic!("the current snapshot is always kept"),
        }
    }

    /// The same, each in one spelling.
    fn plain(self) -> Self {
        match self {
            Retain::Last(NonZeroUsize::MIN) => Retain::Latest,
            other => other,
        }
    }
}

/// Why there is no snapshot of an entity for a moment in the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Missing {
    /// The entity had no value then.
    #[error("the entity was not born then")]
    Unborn,
    /// It may have had one that is not kept, or it was restored from somewhere later.
    #[error("what the entity was then is not kept")]
    Forgotten,
}

impl Missing {
    /// Before a snapshot with this version.
    fn before(version: u64) -> Self {
        if version == 0 {
            Missing::Unborn
        } else {
            Missing::Forgotten
        }
    }
}

/// A row of places for consecutive versions.
struct Segment<T> {
    /// The version of the first place.
    base: u64,
    places: Box<[Kept<T>]>,
}

impl<T> Segment<T> {
    fn new(base: u64, len: usize) -> Self {
        Segment {
            base,
            places: (0..len).map(|_| Kept::empty()).collect(),
        }
    }

    /// The version of the last place.
    fn last(&self) -> u64 {
        self.base.saturating_add(self.places.len() as u64 - 1)
    }
}

/// The segments, in order and without gaps.
struct Segments<T> {
    /// The first version of all, kept or not.
    first: u64,
    list: Vec<Arc<Segment<T>>>,
}

/// Where a version is.
enum Located<'s, T> {
    /// It has a place.
    At(&'s Kept<T>),
    /// It has been let go, or was never there.
    Gone,
    /// It is behind the end.
    Ahead,
}

impl<T> Segments<T> {
    #[inline]
    fn locate(&self, version: u64) -> Located<'_, T> {
        let Some(last) = self.list.last() else {
            return Located::Ahead;
        };
        if version < last.base {
            return self.locate_earlier(version);
        }
        let place = usize::try_from(version - last.base).ok();
        match place.and_then(|place| last.places.get(place)) {
            Some(place) => Located::At(place),
            None => Located::Ahead,
        }
    }

    /// The same, if it isn't in the last segment.
    #[inline(never)]
    fn locate_earlier(&self, version: u64) -> Located<'_, T> {
        let behind = self.list.partition_point(|segment| segment.base <= version);
        match behind.checked_sub(1) {
            None => Located::Gone,
            Some(at) => {
                let segment = &self.list[at];
                Located::At(&segment.places[(version - segment.base) as usize])
            }
        }
    }

    /// The snapshot of a version, if it has been recorded and is kept.
    fn get(&self, version: u64) -> Option<Seen<'_, T>> {
        match self.locate(version) {
            Located::At(place) => place.get(),
            Located::Gone | Located::Ahead => None,
        }
    }

    /// The oldest version that is to be shown while `current` is current: in any case one that is kept. Whether
    /// there should be older ones.
    fn oldest(&self, current: u64, number: u64) -> (u64, bool) {
        let Some(kept) = self.list.first() else {
            return (current, false);
        };
        let oldest = current.saturating_sub(number - 1).max(self.first);
        (oldest.max(kept.base).min(current), oldest < kept.base)
    }

    /// With places from `current` on, and without what is older than so many versions then.
    fn extended(&self, current: u64, number: u64) -> Self {
        let number = if planted(Fault::ForgetTooMuch) {
            number - 1
        } else {
            number
        };
        let oldest = current.saturating_sub(number - 1);
        let kept = self.list.iter().filter(|segment| segment.last() >= oldest);
        let mut list: Vec<_> = kept.cloned().collect();
        let kept: usize = list.iter().map(|segment| segment.places.len()).sum();
        let least = usize::try_from(number).map_or(LEAST, |number| number.min(LEAST));
        let len = (kept / 4).clamp(least.max(1), MOST);
        list.push(Arc::new(Segment::new(current, len)));
        Segments {
            first: self.list.first().map_or(current, |_| self.first),
            list,
        }
    }
}

/// What an entity keeps of its former snapshots.
pub(super) struct Past<T: Send + Sync + 'static> {
    retain: Retain,
    segments: Handle<Segments<T>, ()>,
}

impl<T: Send + Sync + 'static> Past<T> {
    /// Nothing yet; and nothing at all, where only the current one is kept.
    pub(super) fn new(retain: Retain) -> Option<Self> {
        if retain.plain() == Retain::Latest {
            return None;
        }
        let none = Segments {
            first: 0,
            list: Vec::new(),
        };
        Some(Past {
            retain,
            segments: Handle::new(Draft::new(Place::birth(Stamp::default()), none), None),
        })
    }

    /// How many snapshots are shown, the current one included.
    fn number(&self) -> u64 {
        match self.retain {
            Retain::Latest => 1,
            Retain::Last(number) => number.get() as u64,
            Retain::All => u64::MAX,
        }
    }

    /// Sees to it that the snapshot can be found when it isn't current any more.
    #[inline]
    pub(super) fn record(&self, seen: Seen<'_, T>) {
        let stamp = seen.stamp();
        if stamp == Stamp::UNBORN {
            return;
        }
        let guard = Reclaimer::pin();
        loop {
            match self.seen(&guard).value().locate(stamp.version()) {
                Located::At(place) => {
                    place.set_once(seen);
                    break;
                }
                // It was recorded, and let go.
                Located::Gone => return,
                Located::Ahead => self.extend(stamp.version()),
            }
        }
        stop_here(Fault::StopAfterRecording);
    }

    #[inline]
    fn seen<'g>(&'g self, guard: &'g Guard) -> Seen<'g, Segments<T>> {
        self.segments.head().load(guard)
    }

    /// Makes a place for a version, unless there is one. If the exchange fails somebody else has made it.
    #[cold]
    fn extend(&self, version: u64) {
        let mut attempt = self.segments.head().attempt();
        let seen = attempt.seen();
        if !matches!(seen.value().locate(version), Located::Ahead) {
            return;
        }
        let Some(place) = seen.next(Reading::Next) else {
            unreachable!("there are fewer segments than versions");
        };
        let longer = seen.value().extended(version, self.number());
        let _ = attempt.commit(Draft::new(place, longer), || {});
    }
}

impl<T: Send + Sync + 'static, E: 'static> Recorder<T> for Extras<T, E> {
    fn record(&self, seen: Seen<'_, T>) {
        if let Some(past) = &self.past {
            past.record(seen);
        }
    }
}

impl<T: Send + Sync + 'static, E: 'static> Entity<T, E> {
    /// Which snapshots the entity keeps, as its builder was told.
    #[must_use]
    pub fn retain(&self) -> Retain {
        self.past().map_or(Retain::Latest, |past| past.retain)
    }

    /// The snapshots that are kept, from the oldest to the current one: all of one moment, without gaps.
    ///
    /// An entity that keeps nothing has a history of one snapshot. Of one that is not born yet
    /// ([`born`](crate::Builder::born)) it is empty. The iterator is owned, and keeps what it is yet to show.
    ///
    /// # Linearization
    /// The load of the head.
    /// # Progress
    /// Lock-free: it looks again only if others have committed a good many times meanwhile, and let go what it
    /// was about to show.
    /// # Complexity
    /// Two loads and two counts; and for each snapshot a search in a list that is short, some sixty for a million
    /// versions, and a count.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Entity, Retain};
    ///
    /// let balance = Entity::builder(100).retain(Retain::All).build();
    /// for n in [10, 20, 30] {
    ///     balance.update(|b| b - n);
    /// }
    /// let all: Vec<_> = balance.history().map(|s| (s.stamp().version(), *s)).collect();
    /// assert_eq!(all, [(0, 100), (1, 90), (2, 70), (3, 40)]);
    /// assert_eq!(balance.history().rev().nth(1).map(|s| *s), Some(70), "the one before");
    /// ```
    pub fn history(&self) -> History<T> {
        loop {
            let guard = Reclaimer::pin();
            let current = Snapshot(self.head().load(&guard).hold());
            let (history, is_whole) = History::until(current, self.past(), &guard);
            if is_whole || planted(Fault::ShowWhatIsLeft) {
                return history;
            }
        }
    }

    /// The snapshot of a version, if it is kept.
    ///
    /// # Linearization
    /// The load of its place, if it is found there; otherwise the load of the head.
    /// # Progress
    /// As good as [`pin`](crate::pin), and then wait-free.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Entity, Retain};
    ///
    /// let page = Entity::builder("a").retain(Retain::All).build();
    /// page.replace("b");
    /// assert_eq!(page.at(0).map(|s| *s), Some("a"));
    /// assert_eq!(page.at(1).map(|s| *s), Some("b"));
    /// assert!(page.at(2).is_none());
    /// ```
    #[must_use]
    pub fn at(&self, version: u64) -> Option<Snapshot<T>> {
        let guard = Reclaimer::pin();
        let past = self.past();
        let kept = |past: &Past<T>| Some(past.seen(&guard).value().get(version)?.hold());
        // What is found was current, and all that are kept are shown.
        if let Some(past) = past.filter(|past| past.retain == Retain::All)
            && let Some(held) = kept(past)
        {
            return Some(Snapshot(held));
        }
        let current = self.head().load(&guard);
        let stamp = current.stamp();
        if stamp == Stamp::UNBORN || version > stamp.version() {
            return None;
        }
        if version == stamp.version() {
            return Some(Snapshot(current.hold()));
        }
        let past = past.filter(|past| stamp.version() - version < past.number())?;
        kept(past).map(Snapshot)
    }

    /// The snapshots that are kept whose stamps lie in a range: those after one that is known, for instance.
    ///
    /// Stamps are in the order of versions. For a time there is [`as_of`](Entity::as_of).
    ///
    /// # Linearization
    /// As [`history`](Entity::history).
    /// # Progress
    /// As [`history`](Entity::history).
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Entity, Retain};
    /// use std::ops::Bound::{Excluded, Unbounded};
    ///
    /// let page = Entity::builder("a").retain(Retain::All).build();
    /// let known = page.replace("b").stamp();
    /// page.replace("c");
    /// let news: Vec<_> = page.between((Excluded(known), Unbounded)).map(|s| *s).collect();
    /// assert_eq!(news, ["c"]);
    /// ```
    pub fn between(&self, stamps: impl RangeBounds<Stamp>) -> History<T> {
        let mut history = self.history();
        let start = match stamps.start_bound() {
            Bound::Unbounded => 0,
            Bound::Included(start) => history.partition_point(|stamp| stamp < *start),
            Bound::Excluded(start) => history.partition_point(|stamp| stamp <= *start),
        };
        let end = match stamps.end_bound() {
            Bound::Unbounded => history.len(),
            Bound::Included(end) => history.partition_point(|stamp| stamp <= *end),
            Bound::Excluded(end) => history.partition_point(|stamp| stamp < *end),
        };
        let behind = history.len() - end.max(start);
        history.leave_out_last(behind);
        history.leave_out_first(start);
        history
    }

    /// What was current at a time of the entity's clock, in nanoseconds: the latest snapshot that is not later.
    ///
    /// A commit that is under way may still get a time that has passed. So the answer is the last word only
    /// for a time that lies in the past further than any commit takes.
    ///
    /// # Linearization
    /// As [`history`](Entity::history).
    /// # Progress
    /// As [`history`](Entity::history).
    /// # Errors
    /// [`Missing`], if the entity was not born then, or what it was is not kept.
    /// # Complexity
    /// As [`history`](Entity::history), with a binary search.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Clock, Entity, ManualClock, Retain};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let page = Entity::builder("a").clock(Clock::manual(&clock)).retain(Retain::All).build();
    /// clock.set(Duration::from_nanos(10));
    /// page.replace("b");
    /// assert_eq!((*page.as_of(9)?, *page.as_of(10)?), ("a", "b"));
    /// # Ok::<(), snapcell::Missing>(())
    /// ```
    pub fn as_of(&self, time: u64) -> Result<Snapshot<T>, Missing> {
        self.history().into_latest_at(time)
    }

    /// The same, looked for before `now`, a snapshot of this entity.
    pub(super) fn as_of_before(&self, now: Snapshot<T>, time: u64) -> Result<Snapshot<T>, Missing> {
        let guard = Reclaimer::pin();
        // What has been let go since is not kept.
        History::until(now, self.past(), &guard)
            .0
            .into_latest_at(time)
    }

    /// Plants a fault: too late.
    #[cold]
    pub(super) fn record(&self, replaced: Seen<'_, T>) {
        if let Some(past) = self.past() {
            past.record(replaced);
        }
    }

    #[inline]
    fn past(&self) -> Option<&Past<T>> {
        self.0.extra()?.past.as_ref()
    }
}

/// Snapshots of an entity, from older to newer, without gaps. Made by [`Entity::history`] and
/// [`Entity::between`].
///
/// It is owned, and keeps what it is yet to show. It may be gone through from both ends.
///
/// # Progress
/// Wait-free.
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct History<T> {
    /// Where the versions are from `next` until `end`.
    segments: Option<Held<Segments<T>>>,
    next: u64,
    end: u64,
    /// What was current, if that is to be shown.
    current: Option<Snapshot<T>>,
}

impl<T> History<T> {
    /// All that is kept until `current`, a snapshot of the entity with this past. Whether that is all there should
    /// be. The guard was pinned before.
    fn until(current: Snapshot<T>, past: Option<&Past<T>>, guard: &Guard) -> (Self, bool)
    where
        T: Send + Sync + 'static,
    {
        let stamp = current.stamp();
        let version = stamp.version();
        let mut history = History {
            segments: None,
            next: version,
            end: version,
            current: (stamp != Stamp::UNBORN).then_some(current),
        };
        let Some(past) = past.filter(|_| history.current.is_some()) else {
            return (history, true);
        };
        // After the head: see the header of this file.
        let segments = past.seen(guard);
        let (oldest, lacks) = segments.value().oldest(version, past.number());
        if oldest < version {
            history.next = oldest;
            history.segments = Some(segments.hold());
        }
        (history, !lacks)
    }

    /// How many there are besides the current one.
    fn former(&self) -> usize {
        (self.end - self.next) as usize
    }

    fn former_at(&self, version: u64) -> Seen<'_, T> {
        let segments = self.segments.as_ref();
        let found = segments.and_then(|segments| segments.value().get(version));
        found.expect("what is not current any more was recorded before")
    }

    fn stamp_at(&self, index: usize) -> Stamp {
        match &self.current {
            Some(current) if index == self.former() => current.stamp(),
            _ => self.former_at(self.next + index as u64).stamp(),
        }
    }

    /// How many come first whose stamps are as asked. Those are in order.
    fn partition_point(&self, is_before: impl Fn(Stamp) -> bool) -> usize {
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = from + (to - from) / 2;
            if is_before(self.stamp_at(middle)) {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from
    }

    /// The latest that is not later.
    fn into_latest_at(mut self, time: u64) -> Result<Snapshot<T>, Missing> {
        // The most frequent case, without a search.
        let Some(current) = self
            .current
            .take_if(|current| current.stamp().time() > time)
        else {
            return self.current.ok_or(Missing::Unborn);
        };
        let oldest = match self.former() {
            0 => current.stamp().version(),
            _ => self.next,
        };
        match self.partition_point(|stamp| stamp.time() <= time) {
            0 => Err(Missing::before(oldest)),
            number => Ok(Snapshot(
                self.former_at(self.next + number as u64 - 1).hold(),
            )),
        }
    }

    /// Leaves so many out, at the front.
    fn leave_out_first(&mut self, number: usize) {
        let former = self.former();
        self.next += number.min(former) as u64;
        if number > former {
            self.current = None;
        }
    }

    /// The same at the back.
    fn leave_out_last(&mut self, number: usize) {
        if number > 0 {
            let others = number - usize::from(self.current.take().is_some());
            self.end -= others.min(self.former()) as u64;
        }
    }
}

impl<T> Iterator for History<T> {
    type Item = Snapshot<T>;

    fn next(&mut self) -> Option<Snapshot<T>> {
        if self.next == self.end {
            return self.current.take();
        }
        let former = Snapshot(self.former_at(self.next).hold());
        self.next += 1;
        Some(former)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = self.former() + usize::from(self.current.is_some());
        (len, Some(len))
    }

    fn nth(&mut self, number: usize) -> Option<Snapshot<T>> {
        self.leave_out_first(number);
        self.next()
    }

    fn count(self) -> usize {
        self.len()
    }

    fn last(mut self) -> Option<Snapshot<T>> {
        self.next_back()
    }
}

impl<T> DoubleEndedIterator for History<T> {
    fn next_back(&mut self) -> Option<Snapshot<T>> {
        if let Some(current) = self.current.take() {
            return Some(current);
        }
        if self.next == self.end {
            return None;
        }
        let former = Snapshot(self.former_at(self.end - 1).hold());
        self.end -= 1;
        Some(former)
    }

    fn nth_back(&mut self, number: usize) -> Option<Snapshot<T>> {
        self.leave_out_last(number);
        self.next_back()
    }
}

impl<T> ExactSizeIterator for History<T> {}

impl<T> FusedIterator for History<T> {}

impl<T> Clone for History<T> {
    fn clone(&self) -> Self {
        History {
            segments: self.segments.clone(),
            current: self.current.clone(),
            ..*self
        }
    }
}

/// Without the values: they need not be printable.
impl<T> fmt::Debug for History<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

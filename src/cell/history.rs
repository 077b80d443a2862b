//! What an entity was, as a user sees it: by version, by stamp, by time.
//!
//! What is kept, and why there are no holes in it, is told by `past`. Here the current snapshot is loaded first, and
//! then what is kept before it is looked up.
#![forbid(unsafe_code)]

use super::entity::Entity;
use super::past::{Past, Retain, Segments};
use super::snapshot::Snapshot;
use crate::raw::reclaim::{Guard, Reclaim, Reclaimer};
use crate::raw::{Held, Seen};
use crate::stamp::Stamp;
use crate::sync::fault::{Fault, planted};
use std::fmt;
use std::iter::FusedIterator;
use std::ops::{Bound, RangeBounds};

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

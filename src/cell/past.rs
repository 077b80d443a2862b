//! What an entity keeps of its former snapshots, beside its head.
//!
//! The history of an entity is a list of segments, each a row of places for consecutive versions
//! ([`Kept`], set once). A place keeps the very node that was at the head, so nothing is copied: a version costs
//! its node and a word. The list itself is an immutable value behind a head of its own; whoever needs a place
//! behind its end commits a longer one.
//!
//! # Why there are no holes
//! *Whoever is about to publish a successor of a snapshot records that snapshot first*: commits in
//! `Entity::admit`, transactions when they place their drafts (`raw/place.rs`). All who race do, and they record
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

use super::entity::Extras;
use crate::clock::Reading;
use crate::raw::reclaim::{Guard, Reclaim, Reclaimer};
use crate::raw::{Draft, Handle, Kept, Place, Recorder, Seen};
use crate::stamp::Stamp;
use crate::sync::fault::{Fault, planted, stop_here};
use std::num::NonZeroUsize;
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
pub(super) struct Segments<T> {
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
    pub(super) fn get(&self, version: u64) -> Option<Seen<'_, T>> {
        match self.locate(version) {
            Located::At(place) => place.get(),
            Located::Gone | Located::Ahead => None,
        }
    }

    /// The oldest version that is to be shown while `current` is current: in any case one that is kept. Whether
    /// there should be older ones.
    pub(super) fn oldest(&self, current: u64, number: u64) -> (u64, bool) {
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
    pub(super) retain: Retain,
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
    pub(super) fn number(&self) -> u64 {
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
    pub(super) fn seen<'g>(&'g self, guard: &'g Guard) -> Seen<'g, Segments<T>> {
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

//! Effective priorities where parents are told by their ids.
//!
//! An operation of an engine gets its parent at birth, so its chain has an end. What comes from elsewhere, a file or
//! another machine, names parents by ids, and may name one that isn't there, or itself, or go round in a circle. All
//! of that is found before anything is answered: whoever has a [`Hierarchy`] has one without.
//!
//! From each entry one climbs until there is no parent, or one whose answer is known, and gives the answer to all on
//! the way. So each entry is climbed from once. An entry that is met again on the same climb is on a cycle.
#![forbid(unsafe_code)]

use super::priority::Priority;
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;

/// Who is part of whom, by ids from outside, and how important each is by that.
///
/// The effective priority of an entry is the highest of its own and those of all that it is part of, as with
/// operations that are made [within](crate::Operation::within) others.
///
/// # Complexity
/// One look-up, and some steps, for each entry, however long the chains are. Nothing is recursive.
///
/// # Examples
/// ```
/// use snapcell::{Hierarchy, HierarchyError, Priority};
///
/// let hierarchy = Hierarchy::new([
///     ("restart", Priority::CRITICAL, None),
///     ("drain", Priority::NORMAL, Some("restart")),
///     ("log", Priority::LOW, Some("drain")),
/// ])?;
/// assert_eq!(hierarchy.effective(&"log"), Some(Priority::CRITICAL));
/// assert!(hierarchy.chain(&"log").eq([&"log", &"drain", &"restart"]));
///
/// let circle = [("a", Priority::LOW, Some("b")), ("b", Priority::LOW, Some("a"))];
/// assert_eq!(Hierarchy::new(circle).unwrap_err(), HierarchyError::Cycle(vec!["a", "b"]));
/// # Ok::<(), HierarchyError<&str>>(())
/// ```
#[derive(Clone)]
pub struct Hierarchy<I> {
    places: HashMap<I, usize>,
    entries: Vec<Entry<I>>,
}

#[derive(Clone)]
struct Entry<I> {
    id: I,
    priority: Priority,
    /// The place of the parent.
    parent: Option<usize>,
}

/// How far an entry is, while effective priorities are found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Climb {
    Ahead,
    OnTheWay,
    Known,
}

impl<I: Clone + Eq + Hash> Hierarchy<I> {
    /// The hierarchy of these entries: id, own priority, and id of the parent. Their order is of no matter.
    ///
    /// # Errors
    /// [`HierarchyError`], if two have the same id, a parent is missing, or some are part of themselves.
    pub fn new(
        entries: impl IntoIterator<Item = (I, Priority, Option<I>)>,
    ) -> Result<Self, HierarchyError<I>> {
        let entries: Vec<_> = entries.into_iter().collect();
        let mut places = HashMap::with_capacity(entries.len());
        for (place, (id, ..)) in entries.iter().enumerate() {
            if places.insert(id.clone(), place).is_some() {
                return Err(HierarchyError::Duplicate(id.clone()));
            }
        }
        let find = |(id, priority, parent): (I, Priority, Option<I>)| {
            let parent = match parent {
                None => None,
                Some(parent) if parent == id => return Err(HierarchyError::SelfParent(id)),
                Some(parent) => match places.get(&parent) {
                    Some(place) => Some(*place),
                    None => return Err(HierarchyError::MissingParent { child: id, parent }),
                },
            };
            Ok(Entry {
                id,
                priority,
                parent,
            })
        };
        let mut entries = entries
            .into_iter()
            .map(find)
            .collect::<Result<Vec<_>, _>>()?;
        inherit(&mut entries)?;
        Ok(Hierarchy { places, entries })
    }

    /// How important the entry is: the highest priority in its chain. `None`: there is no such entry.
    #[must_use]
    pub fn effective(&self, id: &I) -> Option<Priority> {
        let place = self.places.get(id)?;
        Some(self.entries[*place].priority)
    }

    /// The entry, what it is part of, and so on to the outermost. Nothing, if there is no such entry.
    pub fn chain<'h>(&'h self, id: &I) -> impl Iterator<Item = &'h I> {
        let first = self.places.get(id).map(|place| &self.entries[*place]);
        let parent = |entry: &&'h Entry<I>| entry.parent.map(|place| &self.entries[place]);
        std::iter::successors(first, parent).map(|entry| &entry.id)
    }

    /// All entries, with their effective priorities, in the order in which they were given.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&I, Priority)> {
        self.entries.iter().map(|entry| (&entry.id, entry.priority))
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Gives each entry its effective priority.
fn inherit<I: Clone>(entries: &mut [Entry<I>]) -> Result<(), HierarchyError<I>> {
    let mut climbs = vec![Climb::Ahead; entries.len()];
    let mut way = Vec::new();
    for start in 0..entries.len() {
        let mut next = Some(start);
        let mut inherited = None;
        while let Some(place) = next {
            match climbs[place] {
                Climb::Known => {
                    inherited = Some(entries[place].priority);
                    break;
                }
                Climb::OnTheWay => {
                    let begin = way.iter().position(|other| *other == place);
                    let circle: &[usize] = &way[begin.unwrap_or(0)..];
                    let ids = circle.iter().map(|place| entries[*place].id.clone());
                    return Err(HierarchyError::Cycle(ids.collect()));
                }
                Climb::Ahead => {
                    climbs[place] = Climb::OnTheWay;
                    way.push(place);
                    next = entries[place].parent;
                }
            }
        }
        while let Some(place) = way.pop() {
            let own = entries[place].priority;
            let effective = inherited.map_or(own, |inherited| own.max(inherited));
            entries[place].priority = effective;
            climbs[place] = Climb::Known;
            inherited = Some(effective);
        }
    }
    Ok(())
}

impl<I: fmt::Debug + Clone + Eq + Hash> fmt::Debug for Hierarchy<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Ids from outside that make no hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HierarchyError<I> {
    /// Two entries have the same id.
    #[error("there are two entries {0:?}")]
    Duplicate(I),
    /// An entry names a parent that isn't there.
    #[error("{child:?} is part of {parent:?}, which isn't there")]
    MissingParent {
        /// The entry.
        child: I,
        /// The parent that it names.
        parent: I,
    },
    /// An entry names itself as its parent.
    #[error("{0:?} is part of itself")]
    SelfParent(I),
    /// Entries are part of each other: each of the next, and the last of the first.
    #[error("these are part of each other, each of the next and the last of the first: {0:?}")]
    Cycle(Vec<I>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOW: Priority = Priority::LOW;

    fn error(entries: &[(u32, Priority, Option<u32>)]) -> HierarchyError<u32> {
        Hierarchy::new(entries.iter().copied()).unwrap_err()
    }

    #[test]
    fn parts_of_something_critical_are_critical() {
        let entries = [
            ("low", Priority::LOW, Some("normal")),
            ("critical", Priority::CRITICAL, None),
            ("normal", Priority::NORMAL, Some("critical")),
        ];
        let hierarchy = Hierarchy::new(entries).expect("it is one");
        for id in ["critical", "normal", "low"] {
            assert_eq!(hierarchy.effective(&id), Some(Priority::CRITICAL));
        }
        let chain: Vec<_> = hierarchy.chain(&"low").copied().collect();
        assert_eq!(chain, ["low", "normal", "critical"]);
        assert!(hierarchy.chain(&"critical").eq([&"critical"]));
    }

    #[test]
    fn a_parent_inherits_nothing_from_its_parts() {
        let entries = [
            (1, LOW, None),
            (2, Priority::HIGH, Some(1)),
            (3, LOW, Some(2)),
        ];
        let hierarchy = Hierarchy::new(entries).expect("it is one");
        let effective: Vec<_> = hierarchy
            .iter()
            .map(|(_, priority)| priority.get())
            .collect();
        assert_eq!(effective, [2, 8, 8]);
    }

    #[test]
    fn a_parent_that_is_missing_is_named_with_its_child() {
        let missing = error(&[(1, LOW, None), (2, LOW, Some(7))]);
        assert_eq!(
            missing,
            HierarchyError::MissingParent {
                child: 2,
                parent: 7
            }
        );
        assert_eq!(missing.to_string(), "2 is part of 7, which isn't there");
    }

    #[test]
    fn nothing_is_part_of_itself() {
        assert_eq!(
            error(&[(1, LOW, None), (2, LOW, Some(2))]),
            HierarchyError::SelfParent(2)
        );
    }

    #[test]
    fn a_cycle_is_told_by_those_on_it_alone() {
        let two = error(&[(1, LOW, Some(2)), (2, LOW, Some(1))]);
        assert_eq!(two, HierarchyError::Cycle(vec![1, 2]));
        // 9 and 8 lead to it, and 5 has nothing to do with it.
        let three = error(&[
            (5, LOW, None),
            (9, LOW, Some(8)),
            (8, LOW, Some(2)),
            (1, LOW, Some(2)),
            (2, LOW, Some(3)),
            (3, LOW, Some(1)),
        ]);
        assert_eq!(three, HierarchyError::Cycle(vec![2, 3, 1]));
    }

    #[test]
    fn an_id_is_that_of_one_entry() {
        let duplicate = error(&[(1, LOW, None), (1, Priority::HIGH, None)]);
        assert_eq!(duplicate, HierarchyError::Duplicate(1));
    }

    #[test]
    fn who_isn_t_there_has_no_priority_and_no_chain() {
        let hierarchy = Hierarchy::new([(1, LOW, None)]).expect("it is one");
        assert_eq!(
            (hierarchy.effective(&2), hierarchy.chain(&2).count()),
            (None, 0)
        );
        assert!(Hierarchy::<u32>::new([]).expect("it is one").is_empty());
    }

    #[test]
    fn a_chain_of_a_million_is_climbed_whatever_the_order() {
        const MANY: u32 = if cfg!(snapcell_sanitize) {
            10_000
        } else {
            1_000_000
        };
        let own = |id| if id == 0 { Priority::CRITICAL } else { LOW };
        let entry = |id: u32| (id, own(id), id.checked_sub(1));
        let forwards = Hierarchy::new((0..MANY).map(entry)).expect("it is one");
        let backwards = Hierarchy::new((0..MANY).rev().map(entry)).expect("it is one");
        for hierarchy in [&forwards, &backwards] {
            assert!(
                hierarchy
                    .iter()
                    .all(|(_, priority)| priority == Priority::CRITICAL)
            );
        }
        assert_eq!(forwards.chain(&(MANY - 1)).count(), MANY as usize);
        // And one that has no end.
        let circle = (0..MANY).map(|id| (id, LOW, Some((id + 1) % MANY)));
        let Err(HierarchyError::Cycle(ids)) = Hierarchy::new(circle) else {
            panic!("it is a cycle");
        };
        assert_eq!(ids.len(), MANY as usize);
    }

    proptest! {
        /// Against the definition: climb from each entry, for as many steps as there are entries.
        #[test]
        fn the_answer_is_that_of_climbing_from_each(
            parents in prop::collection::vec((1_u8..=10, prop::option::of(0_usize..14)), 0..12),
        ) {
            let entry = |(id, (number, parent)): (usize, &(u8, Option<usize>))| {
                (id, Priority::new(*number).expect("it is one"), *parent)
            };
            let entries: Vec<_> = parents.iter().enumerate().map(entry).collect();
            let climb = |id: usize| {
                let mut best = entries[id].1;
                let mut at = entries[id].2;
                for _ in 0..entries.len() {
                    let Some(parent) = at else { return Some(best) };
                    let (_, priority, next) = *entries.get(parent)?;
                    best = best.max(priority);
                    at = next;
                }
                at.is_none().then_some(best)
            };
            let expected: Option<Vec<_>> = (0..entries.len()).map(climb).collect();
            let found = Hierarchy::new(entries.iter().copied());
            let found = found.ok().map(|found| found.iter().map(|(_, priority)| priority).collect());
            prop_assert_eq!(found, expected);
        }
    }
}

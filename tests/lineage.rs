//! Forks, merges, lines and borrowed attributes.
//!
//! Where the names of the replaced system differ: its per-version id is our (id, version), so its *fork of a
//! node* is our commit, its lineage of ids is our count of versions, and its registry of old versions is whoever
//! keeps a [`Version`]. What is called a fork here is a new entity in the same line.
#![cfg(feature = "store")]

#[path = "support/payload.rs"]
mod payload;
#[allow(dead_code, reason = "this test needs little of what others share")]
mod support;
#[allow(dead_code, reason = "this test needs little of what others share")]
#[path = "support/tracked.rs"]
mod tracked;

use fastrand::Rng;
use payload::Payload;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseResult, TestRunner};
use snapcell::{
    Attribute, Attributes, BorrowError, EntityId, LineageId, Merge, MergeError, Merged, Origin,
    Shape, Source, StoreRefusal, Unknown, Version, transaction_or_abort,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Barrier, Mutex};
use tracked::{Tracked, alone};

type Store<T> = snapcell::Store<T>;

fn version<T: Send + Sync + 'static>(store: &Store<T>, id: &EntityId) -> u64 {
    store.get(id).unwrap().stamp().version()
}

/// Ids made within the same millisecond are in no order.
fn sorted(ids: impl Into<Vec<EntityId>>) -> Vec<EntityId> {
    let mut ids = ids.into();
    ids.sort_unstable();
    ids
}

/// Merges numbers by their differences. One that is merged twice shows in the sum.
fn sum(m: Merge<'_, i64>) -> Option<i64> {
    Some(m.mine + m.theirs - m.base)
}

fn never<T>(_: Merge<'_, T>) -> Option<T> {
    panic!("there is nothing to ask")
}

// Forks.

#[test]
fn a_fork_begins_at_version_0_with_the_current_value_in_the_same_line() {
    alone(|| {
        let store = Store::new();
        let id = store.insert(1);
        store.replace(&id, 2).unwrap();
        let fork = store.fork(&id).unwrap();
        assert_ne!(fork, id);
        assert_eq!((*store.get(&fork).unwrap(), version(&store, &fork)), (2, 0));
        assert_eq!(
            version(&store, &id),
            1,
            "nothing has happened to the source"
        );
        assert_eq!(store.lineage_of(&fork), Ok(LineageId::of(id)));
        let origin = store.origin(&fork).unwrap().unwrap();
        assert!(Version::ptr_eq(&origin, &store.get(&id).unwrap()));
        assert!(store.origin(&id).unwrap().is_none());
        assert_eq!(store.validate(), Ok(()));
    });
}

#[test]
fn forks_go_their_own_way() {
    alone(|| {
        let store = Store::new();
        let id = store.insert(vec![1]);
        let fork = store.fork(&id).unwrap();
        store.update(&id, |v| [&v[..], &[2]].concat()).unwrap();
        store.update(&fork, |v| [&v[..], &[3]].concat()).unwrap();
        assert_eq!(*store.get(&id).unwrap(), [1, 2]);
        assert_eq!(*store.get(&fork).unwrap(), [1, 3]);
        assert_eq!(*store.origin(&fork).unwrap().unwrap(), [1]);
    });
}

#[test]
fn what_is_not_there_is_not_forked() {
    alone(|| {
        let store = Store::<i64>::new();
        let id = EntityId::new();
        let unknown = Unknown(id);
        assert_eq!(store.fork(&id), Err(unknown));
        assert_eq!(store.origin(&id).err(), Some(unknown));
        assert_eq!(store.ancestry(&id).err(), Some(unknown));
        assert_eq!(store.sources(&id), Err(unknown));
        assert_eq!(store.mark_modified(&id), Err(unknown));
        let there = store.insert(1);
        assert_eq!(
            store.merge(&id, &there, never),
            Err(MergeError::Unknown(unknown))
        );
        assert_eq!(
            store.merge(&there, &id, never),
            Err(MergeError::Unknown(unknown))
        );
        assert_eq!(
            store.merge(&id, &id, never),
            Err(MergeError::Unknown(unknown))
        );
        assert_eq!(store.spare(), [0; 3]);
    });
}

#[test]
fn ancestry_goes_back_to_the_first_one() {
    alone(|| {
        let store = Store::new();
        let mut ids = vec![store.insert(0)];
        for n in 1..300 {
            let last = *ids.last().unwrap();
            ids.push(store.fork(&last).unwrap());
            store.replace(ids.last().unwrap(), n).unwrap();
        }
        let last = ids.pop().unwrap();
        let found = store.ancestry(&last).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|version| (version.id(), **version))
            .collect();
        ids.reverse();
        let expected: Vec<_> = ids.into_iter().zip((0..299).rev()).collect();
        assert_eq!(found, expected);
    });
}

#[test]
fn of_removed_ancestors_the_64_nearest_are_known() {
    alone(|| {
        let store = Store::new();
        let mut id = store.insert(0);
        for _ in 0..1000 {
            let next = store.fork(&id).unwrap();
            store.remove(&id).unwrap();
            id = next;
        }
        let known = store.ancestry(&id).unwrap().len();
        assert!((64..=128).contains(&known), "{known}");
        assert_eq!(store.len(), 1);
        assert_eq!(store.spare(), [0; 3]);
        assert_eq!(store.validate(), Ok(()));
    });
}

#[test]
fn a_kept_version_can_be_forked_after_the_end_of_its_entity() {
    alone(|| {
        let store = Store::new();
        let id = store.insert(1);
        let kept = store.get(&id).unwrap();
        store.replace(&id, 2).unwrap();
        let early = store.fork_of(&kept);
        assert_eq!(store.lineage_of(&early), Ok(LineageId::of(id)));
        store.remove(&id).unwrap();
        let late = store.fork_of(&kept);
        for fork in [early, late] {
            assert_eq!((*store.get(&fork).unwrap(), version(&store, &fork)), (1, 0));
            assert!(Version::ptr_eq(
                &store.origin(&fork).unwrap().unwrap(),
                &kept
            ));
        }
        store.update(&early, |n| n + 10).unwrap();
        store.update(&late, |n| n + 100).unwrap();
        assert_eq!(store.merge(&early, &late, sum), Ok(Merged::Joined(2)));
        assert_eq!(*store.get(&early).unwrap(), 111);
        assert_eq!(store.lineage(LineageId::of(id)), sorted([early, late]));
        assert_eq!(store.validate(), Ok(()));
    });
}

#[test]
fn a_fork_in_a_transaction_is_there_when_it_commits_or_not_at_all() {
    alone(|| {
        let store = Store::new();
        let id = store.insert(1);
        let mut tried = None;
        let refused = transaction_or_abort::<(), Unknown>(|tx| {
            tried = Some(store.within(tx).fork(&id)?);
            Err(snapcell::Stop::Abort(Unknown(id)))
        });
        assert_eq!(refused, Err(Unknown(id)));
        assert!(!store.contains(&tried.unwrap()));
        assert_eq!((store.len(), store.spare()), (1, [0; 3]));
        let forks = transaction_or_abort::<_, Unknown>(|tx| {
            let within = store.within(tx);
            let first = within.fork(&id)?;
            within.write(&first, 5)?;
            Ok((first, within.fork(&id)?))
        });
        let (first, second) = forks.unwrap();
        assert_eq!(
            (*store.get(&first).unwrap(), *store.get(&second).unwrap()),
            (5, 1)
        );
        assert_eq!(store.lineage(LineageId::of(id)).len(), 3);
        assert_eq!(store.validate(), Ok(()));
    });
}

// Merges.

#[test]
fn a_merge_begins_with_what_both_began_with() {
    alone(|| {
        let store = Store::new();
        let id = store.insert(100);
        let fork = store.fork(&id).unwrap();
        store.update(&id, |n| n - 30).unwrap();
        store.update(&fork, |n| n + 5).unwrap();
        let mut seen = None;
        let merged = store.merge(&id, &fork, |m| {
            seen = Some((*m.base, *m.mine, *m.theirs));
            sum(m)
        });
        assert_eq!(
            (merged, seen),
            (Ok(Merged::Joined(2)), Some((100, 70, 105)))
        );
        assert_eq!((*store.get(&id).unwrap(), version(&store, &id)), (75, 2));
        assert_eq!(
            (*store.get(&fork).unwrap(), version(&store, &fork)),
            (105, 1)
        );
    });
}

#[test]
fn a_second_merge_begins_with_what_was_merged_last() {
    alone(|| {
        let store = Store::new();
        let id = store.insert(0);
        let fork = store.fork(&id).unwrap();
        store.update(&id, |n| n + 1).unwrap();
        store.update(&fork, |n| n + 10).unwrap();
        assert_eq!(store.merge(&id, &fork, sum), Ok(Merged::Joined(2)));
        store.update(&fork, |n| n + 100).unwrap();
        let bases = Mutex::new(Vec::new());
        let merge = |m: Merge<'_, i64>| {
            bases.lock().unwrap().push(*m.base);
            sum(m)
        };
        assert_eq!(store.merge(&id, &fork, merge), Ok(Merged::Joined(3)));
        assert_eq!(*store.get(&id).unwrap(), 111);
        // The other way there is nothing of its own any more.
        assert_eq!(store.merge(&fork, &id, merge), Ok(Merged::Forwarded(3)));
        assert_eq!(*store.get(&fork).unwrap(), 111);
        assert_eq!(*bases.lock().unwrap(), [10]);
    });
}

#[test]
fn siblings_and_distant_cousins_are_merged() {
    alone(|| {
        let store = Store::new();
        let id = store.insert(0);
        let left = store.fork(&id).unwrap();
        store.update(&id, |n| n + 1).unwrap();
        let right = store.fork(&id).unwrap();
        store.update(&left, |n| n + 10).unwrap();
        let cousin = store.fork(&left).unwrap();
        store.update(&cousin, |n| n + 100).unwrap();
        store.update(&right, |n| n + 1000).unwrap();
        // What lies between may be gone.
        store.remove(&id).unwrap();
        store.remove(&left).unwrap();
        assert_eq!(store.merge(&cousin, &right, sum), Ok(Merged::Joined(2)));
        assert_eq!(*store.get(&cousin).unwrap(), 1111);
        assert_eq!(store.validate(), Ok(()));
    });
}

#[test]
fn nothing_new_is_no_commit() {
    alone(|| {
        let store = Store::new();
        let id = store.insert(0);
        let fork = store.fork(&id).unwrap();
        let forks_fork = store.fork(&fork).unwrap();
        store.update(&id, |n| n + 1).unwrap();
        for other in [id, fork, forks_fork] {
            assert_eq!(store.merge(&id, &other, never), Ok(Merged::UpToDate));
        }
        assert_eq!(version(&store, &id), 1);
        for copy in [fork, forks_fork] {
            assert_eq!(store.merge(&copy, &id, never), Ok(Merged::Forwarded(1)));
            assert_eq!(*store.get(&copy).unwrap(), 1);
            // What was taken as it is has nothing new either.
            assert_eq!(store.merge(&id, &copy, never), Ok(Merged::UpToDate));
            assert_eq!(store.merge(&copy, &id, never), Ok(Merged::UpToDate));
        }
        assert_eq!(store.merge(&fork, &forks_fork, never), Ok(Merged::UpToDate));
    });
}

#[test]
fn strangers_are_not_merged() {
    alone(|| {
        let store = Store::new();
        let (a, b) = (store.insert(1), store.insert(2));
        let (into, from) = (a, b);
        assert_eq!(
            store.merge(&a, &b, never),
            Err(MergeError::Unrelated { into, from })
        );
        assert_eq!((version(&store, &a), version(&store, &b)), (0, 0));
    });
}

#[test]
fn a_merge_that_is_refused_changes_nothing() {
    alone(|| {
        let store = Store::new();
        let into = store.insert(1);
        let from = store.fork(&into).unwrap();
        store.replace(&into, 2).unwrap();
        store.replace(&from, 3).unwrap();
        let refused = store.merge(&into, &from, |_| None);
        assert_eq!(refused, Err(MergeError::Unmergeable { into, from }));
        assert_eq!((*store.get(&into).unwrap(), version(&store, &into)), (2, 1));
        assert_eq!(
            store.lineage_report(LineageId::of(into)).entries[0].merges,
            []
        );
    });
}

#[test]
fn a_merge_stays_in_the_report_where_the_same_entity_comes_with_another_one_later() {
    alone(|| {
        let store = Store::new();
        let a = store.insert(0);
        let (x, y) = (store.fork(&a).unwrap(), store.fork(&a).unwrap());
        let sum = |merge: Merge<'_, i32>| Some(merge.mine + merge.theirs - merge.base);
        store.update(&x, |n| n + 1).unwrap();
        let _ = store.merge(&a, &x, sum).unwrap();
        let direct = store.get(&x).unwrap().stamp();
        store.update(&x, |n| n + 2).unwrap();
        store.update(&y, |n| n + 10).unwrap();
        let _ = store.merge(&y, &x, sum).unwrap();
        let _ = store.merge(&a, &y, sum).unwrap();
        assert_eq!(*store.get(&a).unwrap(), 13);
        let report = store.lineage_report(LineageId::of(a));
        let entry = report.entries.iter().find(|entry| entry.id == a).unwrap();
        let merged = |from| {
            let merge = entry.merges.iter().find(|merge| merge.from.id == from);
            merge.map(|merge| (merge.from.stamp, merge.at))
        };
        assert_eq!(entry.merges.len(), 2, "{entry:?}");
        assert_eq!(merged(x), Some((direct, 1)));
        assert_eq!(merged(y).map(|(_, at)| at), Some(2));
    });
}

#[test]
fn a_base_that_is_not_known_for_sure_is_refused() {
    alone(|| {
        let store = Store::new();
        let first = store.insert(0);
        let mut id = store.fork(&first).unwrap();
        for _ in 0..300 {
            let next = store.fork(&id).unwrap();
            store.update(&next, |n| n + 1).unwrap();
            store.remove(&id).unwrap();
            id = next;
        }
        store.update(&first, |n| n + 1000).unwrap();
        let (into, from) = (first, id);
        let refused = store.merge(&into, &from, sum);
        assert_eq!(refused, Err(MergeError::BaseForgotten { into, from }));
    });
}

#[test]
fn merging_short_lived_branches_for_ever_keeps_little_alive() {
    alone(|| {
        let store = Store::new();
        let trunk = store.insert(0);
        let long = store.fork(&trunk).unwrap();
        for n in 0..40 {
            let branch = store.fork(&trunk).unwrap();
            store.update(&branch, |n| n + 1).unwrap();
            store.update(&trunk, |n| n + 1).unwrap();
            // By way of a merge in the other direction as well.
            assert!(
                store
                    .merge(&branch, &trunk, sum)
                    .unwrap()
                    .version()
                    .is_some()
            );
            store.update(&branch, |n| n + 1).unwrap();
            let merged = store.merge(&trunk, &branch, sum).unwrap();
            assert!(merged.version().is_some(), "{n}");
            store.remove(&branch).unwrap();
        }
        assert_eq!(*store.get(&trunk).unwrap(), 120);
        // Fewer than are let go of, so what comes before is known.
        store.update(&long, |n| n + 1000).unwrap();
        assert_eq!(store.merge(&trunk, &long, sum), Ok(Merged::Joined(81)));
        assert_eq!(*store.get(&trunk).unwrap(), 1120);
        for _ in 0..10_000 {
            let branch = store.fork(&trunk).unwrap();
            store.update(&branch, |n| n + 1).unwrap();
            assert!(
                store
                    .merge(&trunk, &branch, sum)
                    .unwrap()
                    .version()
                    .is_some()
            );
            store.remove(&branch).unwrap();
        }
        let report = store.lineage_report(LineageId::of(trunk));
        let trunk = report.entries.iter().find(|entry| entry.id == trunk);
        let merges = trunk.unwrap().merges.len();
        assert!(merges <= 66, "{merges}");
        assert_eq!(store.spare(), [0; 3]);
        // Not by recursion.
        drop(store);
    });
}

#[test]
fn forks_that_were_merged_crosswise_count_everything_once() {
    alone(|| {
        let store = Store::new();
        let a = store.insert(0);
        let b = store.fork(&a).unwrap();
        store.update(&a, |n| n + 1).unwrap();
        store.update(&b, |n| n + 10).unwrap();
        let (of_a, of_b) = (store.fork(&a).unwrap(), store.fork(&b).unwrap());
        store.update(&a, |n| n + 100).unwrap();
        store.update(&b, |n| n + 1000).unwrap();
        assert_eq!(store.merge(&a, &of_b, sum), Ok(Merged::Joined(3)));
        assert_eq!(store.merge(&b, &of_a, sum), Ok(Merged::Joined(3)));
        assert_eq!(
            (*store.get(&a).unwrap(), *store.get(&b).unwrap()),
            (111, 1011)
        );
        assert_eq!(store.merge(&a, &b, sum), Ok(Merged::Joined(4)));
        assert_eq!(*store.get(&a).unwrap(), 1111);
    });
}

#[test]
fn an_id_that_is_given_again_is_another_entity() {
    alone(|| {
        let store = Store::new();
        let id = store.insert(0);
        let fork = store.fork(&id).unwrap();
        store.update(&fork, |n| n + 1).unwrap();
        store.remove(&id).unwrap();
        store.insert_with(id, 50).unwrap();
        assert!(store.origin(&id).unwrap().is_none());
        let (into, from) = (fork, id);
        assert_eq!(
            store.merge(&into, &from, never),
            Err(MergeError::Unrelated { into, from })
        );
        assert_eq!(
            store.merge(&from, &into, never).err(),
            Some(MergeError::Unrelated {
                into: id,
                from: fork
            })
        );
        assert_eq!(store.validate(), Ok(()));
    });
}

#[derive(Clone, Debug)]
enum Step {
    Change(usize),
    Fork(usize),
    ForkOfOld(usize),
    Merge(usize, usize),
    Remove(usize),
    Keep(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let n = 0..8_usize;
    let step = prop_oneof![
        6 => n.clone().prop_map(Step::Change),
        2 => n.clone().prop_map(Step::Fork),
        1 => n.clone().prop_map(Step::ForkOfOld),
        6 => (n.clone(), n.clone()).prop_map(|(a, b)| Step::Merge(a, b)),
        1 => n.clone().prop_map(Step::Remove),
        2 => n.prop_map(Step::Keep),
    ];
    prop::collection::vec(step, 1..100)
}

/// How often each change has been made.
type Counts = BTreeMap<u32, i64>;

fn by_counts(m: Merge<'_, Counts>) -> Option<Counts> {
    let keys: BTreeSet<_> = [m.base, m.mine, m.theirs]
        .into_iter()
        .flat_map(BTreeMap::keys)
        .collect();
    let count = |counts: &Counts, key: &u32| counts.get(key).copied().unwrap_or(0);
    let merged = |key: &u32| count(m.mine, key) + count(m.theirs, key) - count(m.base, key);
    let merged = keys.into_iter().map(|key| (*key, merged(key)));
    Some(merged.filter(|(_, count)| *count != 0).collect())
}

/// Whatever was forked, merged and removed: a merge has what either had, each change once, or it says that it
/// doesn't know.
#[test]
fn every_change_is_merged_exactly_once() {
    alone(|| {
        let config = ProptestConfig {
            cases: 1000,
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        let outcome = TestRunner::new(config).run(&steps(), run_steps);
        outcome.unwrap_or_else(|failed| panic!("{failed}"));
    });
}

fn run_steps(steps: Vec<Step>) -> TestCaseResult {
    let store = Store::<Counts>::new();
    let mut ids = vec![store.insert(Counts::new())];
    let mut kept: Vec<Version<Counts>> = Vec::new();
    let (mut removed, mut joined, mut forgotten) = (0, 0, 0);
    for (n, step) in steps.into_iter().enumerate() {
        let pick = |i: usize, ids: &[EntityId]| ids[i % ids.len()];
        match step {
            Step::Change(i) => {
                let add = |old: &Counts| {
                    let mut new = old.clone();
                    new.insert(n as u32, 1);
                    new
                };
                store.update(&pick(i, &ids), add).unwrap();
            }
            Step::Fork(i) => {
                let fork = store.fork(&pick(i, &ids)).unwrap();
                ids.push(fork);
            }
            Step::Keep(i) => kept.push(store.get(&pick(i, &ids)).unwrap()),
            Step::ForkOfOld(i) if !kept.is_empty() => {
                ids.push(store.fork_of(&kept[i % kept.len()]));
            }
            Step::Remove(i) if ids.len() > 1 => {
                store.remove(&ids.remove(i % ids.len())).unwrap();
                removed += 1;
            }
            Step::Merge(i, j) => {
                let (into, from) = (pick(i, &ids), pick(j, &ids));
                let (mine, theirs) = (store.get(&into).unwrap(), store.get(&from).unwrap());
                let keys = |counts: &Counts| counts.keys().copied().collect::<BTreeSet<_>>();
                let either = &keys(&mine) | &keys(&theirs);
                match store.merge(&into, &from, by_counts) {
                    Ok(merged) => {
                        let now = store.get(&into).unwrap();
                        joined += 1;
                        prop_assert_eq!(keys(&now), either);
                        prop_assert!(now.values().all(|count| *count == 1), "{:?}", *now);
                        prop_assert_eq!(merged == Merged::UpToDate, Version::ptr_eq(&now, &mine));
                    }
                    // Of what was merged crosswise again and again only the last is known.
                    Err(MergeError::BaseForgotten { .. }) => forgotten += 1,
                    // The first of a line may be gone, and its line with it.
                    Err(MergeError::Unrelated { .. }) => prop_assert!(removed > 0),
                    Err(other) => return Err(TestCaseError::fail(other.to_string())),
                }
            }
            Step::ForkOfOld(_) | Step::Remove(_) => {}
        }
    }
    prop_assert!(
        forgotten <= 3 + 2 * joined,
        "it forgets too much: {forgotten} of {joined}"
    );
    prop_assert_eq!(store.validate(), Ok(()));
    prop_assert_eq!(store.spare(), [0; 3]);
    Ok(())
}

// Lines.

#[test]
fn a_line_is_reported_as_it_was_at_one_moment() {
    alone(|| {
        let store = Store::new();
        let first = store.insert(0);
        let before = store.get(&first).unwrap();
        let second = store.fork(&first).unwrap();
        store.update(&second, |n| n + 1).unwrap();
        assert_eq!(
            store.merge(&first, &second, never),
            Ok(Merged::Forwarded(1))
        );
        let report = store.lineage_report(LineageId::of(first));
        assert_eq!(report.entries.len(), 2);
        let entry = |id| report.entries.iter().find(|entry| entry.id == id).unwrap();
        let (one, two) = (entry(first), entry(second));
        assert_eq!((one.id, one.origin), (first, None));
        let from = Origin::from(&store.get(&second).unwrap());
        assert_eq!((one.merges[0].from, one.merges[0].at), (from, 1));
        assert_eq!(one.current, store.get(&first).unwrap().stamp());
        assert_eq!((two.id, two.origin), (second, Some(Origin::from(&before))));
        let nobody = store.lineage_report(LineageId::of(EntityId::new()));
        assert_eq!((nobody.entries, store.spare()), (vec![], [0; 3]));
    });
}

#[test]
fn a_line_outlives_its_first_entity() {
    alone(|| {
        let store = Store::new();
        let first = store.insert(0);
        let second = store.fork(&first).unwrap();
        store.remove(&first).unwrap();
        let third = store.fork(&second).unwrap();
        assert_eq!(store.lineage(LineageId::of(first)), sorted([second, third]));
        assert_eq!(store.lineage_of(&third), Ok(LineageId::of(first)));
        store.remove(&second).unwrap();
        store.remove(&third).unwrap();
        assert_eq!(store.lineage(LineageId::of(first)), []);
        assert_eq!((store.len(), store.spare()), (0, [0; 3]));
    });
}

// Borrowed attributes.

#[derive(Clone, Debug, Default, PartialEq)]
struct Record {
    name: String,
    tags: Vec<String>,
    notes: BTreeMap<String, String>,
}

impl Attributes for Record {
    type Value = String;

    fn attribute(&self, name: &str) -> Option<Attribute<String>> {
        match name {
            "name" => Some(Attribute::Scalar(self.name.clone())),
            "tags" => Some(Attribute::List(self.tags.clone())),
            "notes" => Some(Attribute::Map(self.notes.clone())),
            _ => None,
        }
    }

    fn with_attribute(&self, name: &str, value: Attribute<String>) -> Option<Self> {
        let record = self.clone();
        match (name, value) {
            ("name", Attribute::Scalar(name)) if !name.is_empty() => {
                Some(Record { name, ..record })
            }
            ("tags", Attribute::List(tags)) => Some(Record { tags, ..record }),
            ("notes", Attribute::Map(notes)) => Some(Record { notes, ..record }),
            _ => None,
        }
    }
}

fn record(name: &str, tags: &[&str], notes: &[(&str, &str)]) -> Record {
    let text = |text: &&str| String::from(*text);
    let note = |(key, note): &(&str, &str)| (text(key), text(note));
    Record {
        name: name.to_owned(),
        tags: tags.iter().map(text).collect(),
        notes: notes.iter().map(note).collect(),
    }
}

#[test]
fn a_list_a_map_and_a_scalar_are_borrowed_with_their_sources() {
    alone(|| {
        let store = Store::new();
        let source = store.insert(record("source", &["x", "y"], &[("a", "1")]));
        let target = store.insert(Record::default());
        for (n, name) in ["tags", "notes", "name"].into_iter().enumerate() {
            assert_eq!(store.borrow(&target, name, &source, name), Ok(n as u64 + 1));
        }
        assert_eq!((version(&store, &target), version(&store, &source)), (3, 0));
        assert_eq!(*store.get(&target).unwrap(), *store.get(&source).unwrap());
        let from = Origin::from(&store.get(&source).unwrap());
        let sources = store.sources(&target).unwrap();
        assert_eq!(sources["tags"], Source::List(vec![from, from]));
        assert_eq!(
            sources["notes"],
            Source::Map([("a".to_owned(), from)].into())
        );
        assert_eq!(sources["name"], Source::Scalar(from));
        assert!(store.sources(&source).unwrap().is_empty());

        // Equal, but not shared.
        let borrowed = store.get(&target).unwrap();
        store.replace(&source, record("other", &[], &[])).unwrap();
        assert_eq!((borrowed.name.as_str(), borrowed.tags.len()), ("source", 2));
        assert!(Version::ptr_eq(&borrowed, &store.get(&target).unwrap()));
        // And it is known which version it was, when the source is long gone.
        store.remove(&source).unwrap();
        assert_eq!(
            store.sources(&target).unwrap()["name"],
            Source::Scalar(from)
        );
        assert_eq!(store.validate(), Ok(()));
    });
}

#[test]
fn what_does_not_fit_is_not_borrowed_and_changes_nothing() {
    alone(|| {
        let store = Store::new();
        let (source, target) = (
            store.insert(Record::default()),
            store.insert(Record::default()),
        );
        let none = |id, name: &str| BorrowError::NoAttribute {
            id,
            name: name.to_owned(),
        };
        let borrow =
            |name: &str, from: &str| store.borrow(&target, name, &source, from).unwrap_err();
        assert_eq!(borrow("name", "age"), none(source, "age"));
        assert_eq!(borrow("age", "name"), none(target, "age"));
        let shape = BorrowError::Shape {
            id: target,
            name: "tags".to_owned(),
            expected: Shape::List,
            found: Shape::Scalar,
        };
        assert_eq!(borrow("tags", "name"), shape);
        let refused = BorrowError::Refused {
            id: target,
            name: "name".to_owned(),
        };
        assert_eq!(borrow("name", "name"), refused, "it is empty");
        let gone = EntityId::new();
        let unknown = Err(BorrowError::Unknown(Unknown(gone)));
        assert_eq!(store.borrow(&target, "name", &gone, "name"), unknown);
        assert_eq!(store.borrow(&gone, "name", &source, "name"), unknown);
        assert_eq!((version(&store, &target), version(&store, &source)), (0, 0));
        assert!(store.sources(&target).unwrap().is_empty());
        assert_eq!(store.spare(), [0; 3]);
    });
}

// Versions.

#[test]
fn each_mark_is_a_version_and_conflicts_with_those_before() {
    alone(|| {
        let store = Store::new();
        let id = store.insert("same");
        let mut seen = vec![store.get(&id).unwrap()];
        for n in 1..=20 {
            let stamp = store.mark_modified(&id).unwrap();
            assert_eq!(stamp.version(), n);
            seen.push(store.get(&id).unwrap());
            assert_eq!(seen.last().unwrap().stamp(), stamp);
        }
        for pair in seen.windows(2) {
            let (before, after) = (pair[0].stamp(), pair[1].stamp());
            assert!(before.time() <= after.time() && before != after);
        }
        // In both directions: a stamp of then is not the one of now, nor the other way round.
        let (then, now) = (seen[0].stamp(), seen[20].stamp());
        assert_eq!(
            (store.has_conflict(&id, then), store.has_conflict(&id, now)),
            (Ok(true), Ok(false))
        );
        assert_ne!(then, now);
        // Two untouched copies don't conflict.
        let (one, other) = (store.get(&id).unwrap(), store.get(&id).unwrap());
        assert!(one.stamp() == other.stamp() && Version::ptr_eq(&one, &other));
    });
}

/// Forking a node is a commit here: the next version of the same entity.
#[test]
fn each_commit_is_the_next_version_of_the_same_entity_in_the_same_line() {
    alone(|| {
        let store = Store::new();
        let id = store.insert(0);
        let line = store.lineage_of(&id).unwrap();
        let before = store.get(&id).unwrap();
        let stamp = store.update(&id, |n| n + 1).unwrap();
        assert_eq!(stamp.version(), before.stamp().version() + 1);
        assert!(stamp.time() >= before.stamp().time());
        assert_eq!(
            (store.lineage_of(&id), store.lineage(line)),
            (Ok(line), vec![id])
        );
    });
}

/// The reference counts six ids in the lineage; here it is versions 0 to 5, and whoever wants them keeps them.
#[test]
fn five_commits_make_six_versions_and_each_keeps_its_value() {
    alone(|| {
        let store = Store::new();
        let id = store.insert(vec![0]);
        let mut kept = vec![store.get(&id).unwrap()];
        for n in 1..=5 {
            store.update(&id, |v| [&v[..], &[n]].concat()).unwrap();
            kept.push(store.get(&id).unwrap());
        }
        store.replace(&id, vec![]).unwrap();
        store.remove(&id).unwrap();
        for (n, version) in kept.iter().enumerate() {
            assert_eq!(version.stamp().version(), n as u64);
            assert_eq!(**version, (0..=n).collect::<Vec<_>>());
        }
    });
}

#[test]
fn of_two_workers_that_read_version_0_both_commit_if_the_second_tries_again() {
    alone(|| {
        for with_retry in [true, false] {
            let store = Store::new();
            let id = store.insert(100);
            let conflicts = AtomicUsize::new(0);
            let refused = AtomicUsize::new(0);
            let both_have_read = Barrier::new(2);
            let work = |f: fn(i32) -> i32| {
                let mut read = store.get(&id).unwrap();
                both_have_read.wait();
                loop {
                    match store.try_commit(&id, read.stamp(), f(*read)) {
                        Ok(_) => return,
                        Err(error) => {
                            conflicts.fetch_add(1, SeqCst);
                            let StoreRefusal::Conflict { current, .. } = error.into_parts().1
                            else {
                                panic!("it is there")
                            };
                            if !with_retry {
                                refused.fetch_add(1, SeqCst);
                                return;
                            }
                            read = current;
                        }
                    }
                }
            };
            std::thread::scope(|scope| {
                scope.spawn(|| work(|n| n * 2));
                scope.spawn(|| work(|n| n / 2));
            });
            let last = store.get(&id).unwrap();
            assert!(conflicts.into_inner() >= 1);
            if with_retry {
                assert_eq!((*last, last.stamp().version()), (100, 2));
            } else {
                assert!([50, 200].contains(&*last));
                assert_eq!((last.stamp().version(), refused.into_inner()), (1, 1));
            }
        }
    });
}

// Threads.

#[test]
fn a_merge_tries_again_when_others_commit_meanwhile() {
    alone(|| {
        let store = Store::new();
        let into = store.insert(0);
        let from = store.fork(&into).unwrap();
        store.update(&from, |n| n + 1).unwrap();
        store.update(&into, |n| n + 10).unwrap();
        let mut calls = 0;
        let merged = store.merge(&into, &from, |m| {
            calls += 1;
            match calls {
                1 => drop(store.update(&into, |n| n + 100)),
                2 => drop(store.update(&from, |n| n + 1000)),
                _ => {}
            }
            sum(m)
        });
        assert_eq!((merged, calls), (Ok(Merged::Joined(3)), 3));
        assert_eq!(*store.get(&into).unwrap(), 1111);
    });
}

/// A payload that is counted, and says how often it was cloned in vain.
struct Counted(Tracked);

static SERIAL: AtomicU64 = AtomicU64::new(0);

impl Counted {
    fn new() -> Self {
        Counted(Tracked::make(SERIAL.fetch_add(1, SeqCst)))
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        Counted(Tracked::make(self.0.number()))
    }
}

impl Attributes for Counted {
    type Value = u64;

    fn attribute(&self, name: &str) -> Option<Attribute<u64>> {
        (name == "number").then(|| Attribute::List(vec![self.0.number()]))
    }

    fn with_attribute(&self, name: &str, value: Attribute<u64>) -> Option<Self> {
        match (name, value) {
            ("number", Attribute::List(list)) => Some(Counted(Tracked::make(*list.first()?))),
            _ => None,
        }
    }
}

#[test]
fn four_threads_fork_merge_borrow_and_remove() {
    const STEPS: usize = 1500;
    alone(|| {
        let mut calls = [0; 2];
        for seed in 0..20 {
            let [made, merged] = storm(seed, STEPS);
            calls[0] += made;
            calls[1] += merged;
            // More calls of closures than merges: somebody was overtaken.
            if calls[0] > calls[1] && seed > 1 {
                return;
            }
        }
        panic!("nobody was ever overtaken, so this is no evidence: {calls:?}");
    });
}

/// How often a closure was called, and how many merges that made.
fn storm(seed: u64, steps: usize) -> [usize; 2] {
    let store = Store::new();
    let first = store.insert(Counted::new());
    let alive = Mutex::new(vec![first]);
    let (calls, merges) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (births, removals) = (AtomicUsize::new(1), AtomicUsize::new(0));
    support::together(4, |thread| {
        let mut rng = Rng::with_seed(seed * 4 + thread as u64);
        let pick = |rng: &mut Rng| {
            let alive = alive.lock().unwrap();
            alive[rng.usize(..alive.len())]
        };
        let born = |id| {
            births.fetch_add(1, SeqCst);
            alive.lock().unwrap().push(id);
        };
        for _ in 0..steps {
            let (one, other) = (pick(&mut rng), pick(&mut rng));
            let crowd = alive.lock().unwrap().len();
            match rng.u32(..12) {
                0 | 1 if crowd < 12 => drop(store.fork(&one).map(born)),
                2 if crowd < 12 => {
                    if let Ok(version) = store.get(&one) {
                        born(store.fork_of(&version));
                    }
                }
                3 if crowd > 3 => {
                    alive.lock().unwrap().retain(|id| *id != one);
                    if store.remove(&one).is_ok() {
                        removals.fetch_add(1, SeqCst);
                    }
                }
                4 => drop(store.borrow(&one, "number", &other, "number")),
                5 => drop(store.mark_modified(&one)),
                6 => {
                    // What is found of it was there at one moment.
                    let Ok(line) = store.lineage_of(&one) else {
                        continue;
                    };
                    let report = store.lineage_report(line);
                    for entry in &report.entries {
                        assert!(entry.merges.iter().all(|m| m.at <= entry.current.version()));
                    }
                }
                7 | 8 => drop(store.replace(&one, Counted::new())),
                _ => {
                    let merged = store.merge(&one, &other, |m| {
                        calls.fetch_add(1, SeqCst);
                        Some(Counted(Tracked::make(
                            m.base.0.number() + m.mine.0.number(),
                        )))
                    });
                    if matches!(merged, Ok(Merged::Joined(_))) {
                        merges.fetch_add(1, SeqCst);
                    }
                }
            }
        }
    });
    assert_eq!(store.validate(), Ok(()));
    let live = store.ids();
    assert_eq!(live.len(), births.into_inner() - removals.into_inner());
    assert_eq!((store.len(), store.spare()), (live.len(), [0; 3]));
    // The index of lines is what the entities say.
    let mut lines: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for id in live {
        lines
            .entry(store.lineage_of(&id).unwrap())
            .or_default()
            .push(id);
    }
    for (line, ids) in lines {
        assert_eq!(store.lineage(line), ids);
    }
    // Every origin is a version that there was.
    for version in store.iter() {
        for origin in store.ancestry(&version.id()).unwrap() {
            if let Ok(now) = store.get(&origin.id()) {
                assert!(origin.stamp().version() <= now.stamp().version());
            }
            origin.0.number();
        }
        for source in store.sources(&version.id()).unwrap().into_values() {
            let Source::List(origins) = source else {
                panic!("it is a list")
            };
            for origin in origins {
                if let Ok(now) = store.get(&origin.id) {
                    assert!(origin.stamp <= now.stamp());
                }
            }
        }
    }
    [calls.into_inner(), merges.into_inner()]
}

//! Births and ends of the same few ids by many threads, directly and in transactions, with and without indexes.
//!
//! Afterwards as many live as were born and not removed, the indexes say what the values say, and nothing is
//! left on the maps of what was tried. A run in which nobody was ever refused is no evidence, and fails.
#![cfg(feature = "store")]

#[allow(dead_code, reason = "this test needs little of what others share")]
mod support;

use fastrand::Rng;
use snapcell::{
    Absent, EntityId, Index, Stop, Store, Transact, TransactionError, Unknown, transaction,
    transaction_or_abort,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;
use support::{alone, together};

const IDS: u128 = 8;
const THREADS: usize = 4;

/// The index is by the tens.
fn build(indexed: bool) -> (Store<u64>, Option<Index<u64, u64>>) {
    let mut builder = Store::builder();
    let index = indexed.then(|| builder.index(|n: &u64| (n % 100 != 7).then_some(n / 10 % 10)));
    (builder.build(), index)
}

/// A transaction that gives up.
#[derive(Debug)]
struct Refused;

impl From<Unknown> for Refused {
    fn from(_: Unknown) -> Self {
        Refused
    }
}

#[derive(Default)]
struct Count {
    births: AtomicUsize,
    removals: AtomicUsize,
    refusals: AtomicUsize,
    restarts: AtomicUsize,
}

impl Count {
    fn birth(&self, is_done: bool) {
        let count = if is_done {
            &self.births
        } else {
            &self.refusals
        };
        count.fetch_add(1, SeqCst);
    }

    fn removal(&self, is_done: bool) {
        let count = if is_done {
            &self.removals
        } else {
            &self.refusals
        };
        count.fetch_add(1, SeqCst);
    }
}

/// How often somebody was refused, and how often a transaction ran again.
fn storm(indexed: bool, steps: usize, seed: u64) -> [usize; 2] {
    let (store, index) = build(indexed);
    let count = Count::default();
    together(THREADS, |thread| {
        let mut rng = Rng::with_seed(seed * 100 + thread as u64);
        for _ in 0..steps {
            let (id, other) = (
                EntityId::from_bits(rng.u128(..IDS)),
                EntityId::from_bits(rng.u128(..IDS)),
            );
            let value = rng.u64(..100);
            let attempts = |attempt: u32| count.restarts.fetch_add(attempt as usize - 1, SeqCst);
            match rng.u32(..12) {
                0 | 1 => count.birth(store.insert_with(id, value).is_ok()),
                2 => count.removal(store.remove(&id).is_ok()),
                3 => drop(store.update(&id, |n| n + 13)),
                4 => drop(store.replace(&id, value)),
                // A birth in a transaction.
                5 | 6 => {
                    let born = transaction(|tx| {
                        let born = store.within(tx).insert_with(id, value)?.is_ok();
                        thread::yield_now();
                        attempts(tx.attempt());
                        Ok(born)
                    });
                    count.birth(born);
                }
                // A removal, and a birth in its place.
                7 => {
                    let moved = transaction_or_abort::<_, Unknown>(|tx| {
                        let within = store.within(tx);
                        let value = *within.get(&id)?;
                        within.remove(&id)?;
                        thread::yield_now();
                        attempts(tx.attempt());
                        Ok(within.insert_with(other, value)?.is_ok())
                    });
                    count.removal(moved.is_ok());
                    if let Ok(born) = moved {
                        count.birth(born);
                    }
                }
                // Gives up, after everything.
                8 => {
                    let refused = transaction_or_abort::<(), Refused>(|tx| {
                        let within = store.within(tx);
                        let _ = within.insert_with(id, value)?;
                        within.remove(&other)?;
                        within.insert(value)?;
                        Err(Stop::Abort(Refused))
                    });
                    assert!(refused.is_err());
                }
                // A fork, which has a line in the index of lines, removed at once.
                9 => {
                    if let Ok(fork) = store.fork(&id) {
                        count.birth(true);
                        count.removal(store.remove(&fork).is_ok());
                    }
                }
                10 => {
                    let changed = transaction_or_abort::<_, Unknown>(|tx| {
                        let within = store.within(tx);
                        within.update(&id, |n| n + 1)?;
                        thread::yield_now();
                        within.update(&other, |n| n + 31)?;
                        Ok(())
                    });
                    count
                        .refusals
                        .fetch_add(usize::from(changed.is_err()), SeqCst);
                }
                _ => {
                    if let Some(index) = &index {
                        // What has the key at one moment has it.
                        transaction(|tx| {
                            let within = store.within(tx);
                            for id in within.find(index, &(value / 10))?.iter() {
                                let there = within.look(id)?;
                                assert_eq!(there.map(|n| n / 10 % 10), Some(value / 10));
                            }
                            Ok(())
                        });
                    }
                }
            }
        }
    });
    let live = store.ids();
    assert_eq!(
        live.len(),
        count.births.into_inner() - count.removals.into_inner()
    );
    assert_eq!(store.len(), live.len());
    assert_eq!(store.validate(), Ok(()));
    if let Some(index) = &index {
        let mut truth: BTreeMap<u64, Vec<EntityId>> = BTreeMap::new();
        for version in store.iter().filter(|version| **version % 100 != 7) {
            truth
                .entry(*version / 10 % 10)
                .or_default()
                .push(version.id());
        }
        for key in 0..10 {
            let mut expected = truth.remove(&key).unwrap_or_default();
            expected.sort_unstable();
            assert_eq!(store.find(index, &key).to_vec(), expected);
        }
    }
    assert_eq!(store.spare(), [0; 3]);
    for id in live {
        store.remove(&id).unwrap();
    }
    assert_eq!((store.len(), store.spare()), (0, [0; 3]));
    assert_eq!(store.validate(), Ok(()));
    [count.refusals.into_inner(), count.restarts.into_inner()]
}

/// Storms until somebody was in somebody else's way.
fn storms(indexed: bool) {
    let mut seen = [0; 2];
    for seed in 0..20 {
        let [refusals, restarts] = storm(indexed, 5000, seed);
        seen = [seen[0] + refusals, seen[1] + restarts];
        if seed >= 4 && seen[0] > 0 && seen[1] > 0 {
            return;
        }
    }
    panic!("nobody was ever overtaken, so this is no evidence: {seen:?}");
}

#[test]
fn births_and_removals_of_the_same_ids_add_up() {
    alone(|| storms(false));
}

#[test]
fn births_and_removals_of_the_same_ids_add_up_with_indexes() {
    alone(|| storms(true));
}

/// Found by looking: the id was looked up twice, and the second time it may be another entity.
#[test]
fn a_removal_removes_what_it_has_read() {
    alone(|| {
        let (store, _) = build(true);
        let id = EntityId::from_bits(1);
        let stop = AtomicBool::new(false);
        let (born, removed) = (AtomicU64::new(0), AtomicU64::new(0));
        together(4, |thread| {
            for n in 0..4000 {
                if thread < 2 {
                    let done = store.insert_with(id, n).is_ok();
                    born.fetch_add(u64::from(done), SeqCst);
                } else {
                    let done = store.remove(&id).is_ok();
                    removed.fetch_add(u64::from(done), SeqCst);
                }
            }
            stop.store(true, SeqCst);
        });
        let live = store.ids().len() as u64;
        assert_eq!(born.into_inner() - removed.into_inner(), live);
        assert_eq!(store.validate(), Ok(()));
    });
}

/// Found by looking: what was taken off the map after the commit was the one that lives.
#[test]
fn what_a_transaction_removes_and_inserts_again_is_there() {
    alone(|| {
        for indexed in [false, true] {
            let (store, index) = build(indexed);
            let id = store.insert(11);
            let again = transaction_or_abort::<_, Unknown>(|tx| {
                let within = store.within(tx);
                within.remove(&id)?;
                assert_eq!(within.look(&id)?, None);
                Ok(within.insert_with(id, 22)?.is_ok())
            });
            assert_eq!(again, Ok(true));
            assert_eq!(store.get(&id).map(|version| *version), Ok(22));
            assert_eq!((store.len(), store.ids()), (1, vec![id]));
            if let Some(index) = &index {
                assert_eq!(
                    (store.find(index, &2).len(), store.find(index, &1).len()),
                    (1, 0)
                );
            }
            assert_eq!((store.validate(), store.spare()), (Ok(()), [0; 3]));
            // Born and removed in one.
            let gone = transaction_or_abort::<_, Unknown>(|tx| {
                let within = store.within(tx);
                let id = within.insert(33)?;
                within.remove(&id)?;
                Ok(id)
            });
            assert!(!store.contains(&gone.unwrap()));
            assert_eq!((store.len(), store.spare()), (1, [0; 3]));
        }
    });
}

#[test]
fn what_is_asked_for_in_vain_leaves_nothing_behind() {
    alone(|| {
        let (store, index) = build(true);
        let index = index.unwrap();
        let id = EntityId::from_bits(1);
        let found = transaction(|tx| {
            let within = store.within(tx);
            assert_eq!(within.look(&id)?, None);
            assert!(matches!(within.get(&id), Err(Absent::Unknown(_))));
            Ok(within.find(&index, &5)?.len())
        });
        assert_eq!(found, 0);
        let refused = transaction_or_abort::<(), Refused>(|tx| {
            store.within(tx).insert(55)?;
            Err(Stop::Abort(Refused))
        });
        assert!(refused.is_err());
        let limited = Transact::new().timeout(Duration::from_millis(1)).run(|tx| {
            let _ = store.within(tx).insert_with(id, 55)?;
            Ok::<(), Stop<Refused>>(tx.retry()?)
        });
        assert!(
            matches!(limited, Err(TransactionError::TimedOut { .. })),
            "{limited:?}"
        );
        assert_eq!((store.len(), store.spare()), (0, [0; 3]));
    });
}

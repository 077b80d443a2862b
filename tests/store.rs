//! Entities by id: what each call does, what it refuses, and what remains after that.
#![cfg(feature = "store")]

#[allow(dead_code, reason = "this test needs little of what others share")]
mod support;

use snapcell::{
    Absent, Clock, Entity, EntityId, IdKind, Index, ManualClock, Missing, PastError, Retain, Stamp,
    Stop, Store, StoreRefusal, TimedOut, Transact, Unknown, Version, snapshot_of, transaction,
    transaction_or_abort,
};
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use support::{panic_of, together};

const NOBODY: EntityId = EntityId::from_bits(42);

/// A store of words, by their first letter and by all their letters.
struct Words {
    store: Store<&'static str>,
    first: Index<&'static str, char>,
    letters: Index<&'static str, char>,
}

impl Words {
    fn new() -> Self {
        let mut builder = Store::builder();
        let first = builder.index(|word: &&'static str| word.chars().next());
        let letters = builder.index(|word: &&'static str| word.chars().collect::<Vec<_>>());
        Words {
            store: builder.build(),
            first,
            letters,
        }
    }

    fn with(&self, letter: char) -> (Vec<EntityId>, Vec<EntityId>) {
        let of = |index| self.store.find(index, &letter).to_vec();
        (of(&self.first), of(&self.letters))
    }
}

#[test]
fn what_is_inserted_is_found_at_version_0() {
    let store = Store::new();
    let before = EntityId::new();
    let id = store.insert("a");
    assert!(
        before < id || before.to_bits() >> 80 == id.to_bits() >> 80,
        "ids are in time"
    );
    let found = store.get(&id).unwrap();
    assert_eq!((*found, found.id(), found.stamp().version()), ("a", id, 0));
    assert_eq!(
        (store.len(), store.is_empty(), store.contains(&id)),
        (1, false, true)
    );
    assert_eq!(store.read(&id, |value| value.len()), Ok(1));
}

#[test]
fn ids_are_uuids_of_the_kind_that_was_asked_for() {
    let version = |id: EntityId| id.to_bits() >> 76 & 0xf;
    let ordered: Store<u8> = [1, 2, 3].into_iter().collect();
    assert!(ordered.ids().into_iter().all(|id| version(id) == 7));
    let random = Store::builder().ids(IdKind::Random).build();
    let id = random.insert(1);
    assert_eq!(version(id), 4);
    assert_eq!(id.to_string().parse(), Ok(id));
    assert_eq!(EntityId::from_bits(id.to_bits()), id);
    for wrong in ["", "7", "xyz", "0123456789abcdef0123456789abcde"] {
        assert!(wrong.parse::<EntityId>().is_err(), "{wrong}");
    }
}

#[test]
fn an_id_that_is_not_there_is_refused_by_every_call_and_nothing_changes() {
    let store: Store<u32> = Store::new();
    let unknown = Unknown(NOBODY);
    assert_eq!(store.get(&NOBODY).map(|v| *v), Err(unknown));
    assert_eq!(store.read(&NOBODY, |n| *n), Err(unknown));
    assert_eq!(store.update(&NOBODY, |n| n + 1), Err(unknown));
    assert_eq!(store.remove(&NOBODY).map(drop), Err(unknown));
    assert_eq!(store.handle(&NOBODY).map(drop), Err(unknown));
    assert_eq!(store.follow(&NOBODY).map(drop), Err(unknown));
    assert_eq!(store.snapshot_of(&[NOBODY]).map(drop), Err(unknown));
    assert_eq!(store.replace(&NOBODY, 7).unwrap_err().into_proposed(), 7);
    let refused = store.try_commit(&NOBODY, Stamp::new(0, 0), 7).unwrap_err();
    assert!(refused.is_unknown() && !refused.is_conflict());
    assert_eq!(refused.to_string(), unknown.to_string());
    assert_eq!(refused.into_proposed(), 7);
    let in_a_transaction = transaction_or_abort(|tx| {
        let store = store.within(tx);
        assert_eq!(store.look(&NOBODY)?, None);
        assert!(matches!(store.remove(&NOBODY), Err(Absent::Unknown(_))));
        assert!(matches!(store.write(&NOBODY, 1), Err(Absent::Unknown(_))));
        Ok(*store.get(&NOBODY)?)
    });
    assert_eq!(in_a_transaction, Err(unknown));
    assert!(store.is_empty());
    assert!(unknown.to_string().contains(&NOBODY.to_string()));
}

#[test]
fn an_id_that_is_taken_gives_the_value_back() {
    for words in [Words::new().store, Store::new()] {
        let id = words.insert_with(NOBODY, "first").unwrap();
        let refused = words.insert_with(id, "second").unwrap_err();
        assert!(matches!(refused.refusal(), StoreRefusal::Taken(taken) if *taken == id));
        assert_eq!(refused.into_proposed(), "second");
        let in_a_transaction = transaction(|tx| words.within(tx).insert_with(id, "third"));
        assert_eq!(in_a_transaction, Err("third"));
        assert_eq!((*words.get(&id).unwrap(), words.len()), ("first", 1));
        // And again, once it is gone.
        words.remove(&id).unwrap();
        words.insert_with(id, "fourth").unwrap();
        assert_eq!(words.get(&id).unwrap().stamp().version(), 0);
    }
}

#[test]
fn a_stale_or_foreign_stamp_is_refused_with_the_current_version() {
    let store = Store::new();
    let (id, other) = (store.insert(1), store.insert(2));
    let read = store.get(&id).unwrap().stamp();
    let foreign = store.update(&other, |n| n + 1).unwrap();
    assert!(store.try_commit(&id, foreign, 9).unwrap_err().is_conflict());
    let stamp = store.try_commit(&id, read, 5).unwrap();
    assert_eq!(stamp.version(), 1);
    let refused = store.try_commit(&id, read, 6).unwrap_err();
    let StoreRefusal::Conflict { expected, current } = refused.refusal() else {
        panic!("{refused}");
    };
    assert_eq!((*expected, current.stamp(), **current), (read, stamp, 5));
    assert_eq!(refused.into_proposed(), 6);
}

#[test]
fn a_removed_entity_ends_for_everybody_at_once() {
    let words = Words::new();
    let id = words.store.insert("ab");
    let handle = words.store.handle(&id).unwrap();
    let weak = handle.downgrade();
    let kept = handle.get().unwrap();
    assert_eq!(*words.store.remove(&id).unwrap(), "ab");
    assert_eq!(handle.get().map(drop), Err(Unknown(id)));
    assert_eq!(handle.update(|_| "x"), Err(Unknown(id)));
    assert!(handle.replace("x").unwrap_err().is_unknown());
    assert!(weak.upgrade().is_none());
    assert_eq!(words.with('a'), (vec![], vec![]));
    assert_eq!(*kept, "ab", "what was kept stays");
    assert!(words.store.is_empty());
    words.store.validate().unwrap();
}

#[test]
fn whoever_waits_for_a_removed_entity_is_told() {
    let store = Store::new();
    let id = store.insert(0);
    let mut follower = store.follow(&id).unwrap();
    let not_yet = follower.changed().wait_timeout(Duration::ZERO);
    assert!(matches!(not_yet, Err(TimedOut)));
    std::thread::scope(|scope| {
        scope.spawn(|| store.remove(&id).map(drop));
        let removed = follower.changed().wait().map(|version| *version);
        assert_eq!(removed.unwrap_err().0, id);
    });
    let mut task = store.follow(&store.insert(1)).unwrap();
    drop(store);
    assert!(
        pollster::block_on(task.changed()).is_err(),
        "the store is gone"
    );
}

#[test]
fn a_transaction_sees_its_own_births_changes_and_ends() {
    let words = Words::new();
    let (kept, gone) = (words.store.insert("old"), words.store.insert("gone"));
    let born = transaction_or_abort::<_, Unknown>(|tx| {
        let store = words.store.within(tx);
        let born = store.insert("new")?;
        assert_eq!(*store.get(&born)?, "new");
        store.update(&born, |_| "newer")?;
        store.write(&kept, "kept")?;
        store.remove(&gone)?;
        assert!(store.look(&gone)?.is_none());
        let passing = store.insert("passing")?;
        store.remove(&passing)?;
        assert!(store.find(&words.first, &'n')?.contains(&born));
        assert!(store.find(&words.first, &'p')?.is_empty());
        assert!(words.store.get(&born).is_err(), "nobody else sees it yet");
        Ok(born)
    })
    .unwrap();
    assert_eq!(words.store.get(&born).unwrap().stamp().version(), 0);
    assert_eq!(words.with('n').0, [born]);
    assert_eq!(words.with('k').0, [kept]);
    assert_eq!(words.store.len(), 2);
    words.store.validate().unwrap();
}

#[test]
fn a_transaction_that_gives_up_leaves_nothing() {
    let words = Words::new();
    let id = words.store.insert("a");
    let given_up: Result<(), &str> = transaction_or_abort(|tx| {
        let store = words.store.within(tx);
        store.insert("b")?;
        store.write(&id, "c").map_err(|_| Stop::Abort("absent"))?;
        Err(Stop::Abort("changed my mind"))
    });
    assert_eq!(given_up, Err("changed my mind"));
    let panicked = panic_of(|| {
        transaction::<()>(|tx| {
            words.store.within(tx).insert("b")?;
            panic!("in the closure")
        })
    });
    assert_eq!(panicked, "in the closure");
    assert_eq!(
        (words.store.len(), *words.store.get(&id).unwrap()),
        (1, "a")
    );
    assert_eq!(words.with('b'), (vec![], vec![]));
    words.store.validate().unwrap();
}

#[test]
fn an_attempt_that_runs_again_leaves_no_births_behind() {
    let store = Store::new();
    let id = store.insert(0);
    let attempts = AtomicUsize::new(0);
    transaction(|tx| {
        let within = store.within(tx);
        let seen = within.look(&id)?.copied().unwrap();
        let born = within.insert(seen)?;
        if attempts.fetch_add(1, SeqCst) < 3 {
            store.update(&id, |n| n + 1).unwrap();
        }
        Ok(born)
    });
    assert_eq!(attempts.load(SeqCst), 4, "it ran again");
    assert_eq!(store.len(), 2, "and only the last birth is there");
}

#[test]
fn an_index_follows_a_change_within_a_change_of_the_same_entity() {
    let words = Words::new();
    let id = words.store.insert("a");
    transaction_or_abort::<_, Unknown>(|tx| {
        let within = words.store.within(tx);
        within.update(&id, |_| {
            within.update(&id, |_| "b").expect("it is there");
            "c"
        })?;
        Ok(())
    })
    .unwrap();
    assert_eq!(*words.store.get(&id).unwrap(), "c");
    for (letter, ids) in [('a', vec![]), ('b', vec![]), ('c', vec![id])] {
        assert_eq!(words.with(letter).1, ids, "{letter}");
    }
    words.store.validate().unwrap();
}

#[test]
fn an_index_follows_every_change() {
    let words = Words::new();
    let id = words.store.insert("ab");
    assert_eq!(words.with('a'), (vec![id], vec![id]));
    assert_eq!(words.with('b'), (vec![], vec![id]));
    words.store.update(&id, |_| "bc").unwrap();
    assert_eq!(words.with('a'), (vec![], vec![]));
    assert_eq!(words.with('b'), (vec![id], vec![id]));
    words.store.replace(&id, "").unwrap();
    assert_eq!(words.with('b'), (vec![], vec![]));
    assert_eq!(words.letters.keys(), []);
    let stamp = words.store.get(&id).unwrap().stamp();
    assert_eq!(stamp.version(), 2, "a change of keys is one commit");
    words.store.try_commit(&id, stamp, "cc").unwrap();
    assert_eq!(words.letters.keys(), ['c']);
    assert!(words.store.try_commit(&id, stamp, "d").is_err());
    assert_eq!(words.with('d'), (vec![], vec![]));
    words.store.validate().unwrap();
}

#[test]
fn a_key_function_that_panics_changes_nothing() {
    let mut builder = Store::builder();
    let index = builder.index(|n: &u32| {
        assert!(*n < 10, "too large");
        Some(*n)
    });
    let store = builder.build();
    let id = store.insert(1);
    assert_eq!(panic_of(|| store.insert(10)), "too large");
    assert_eq!(panic_of(|| store.update(&id, |_| 11)), "too large");
    assert_eq!(panic_of(|| store.replace(&id, 12)), "too large");
    assert_eq!((store.len(), *store.get(&id).unwrap()), (1, 1));
    assert_eq!(store.find(&index, &1).to_vec(), [id]);
    store.validate().unwrap();
}

#[test]
fn a_closure_that_panics_or_refuses_changes_nothing() {
    let store = Store::new();
    let id = store.insert(1);
    assert_eq!(panic_of(|| store.update(&id, |_| panic!("no"))), "no");
    #[derive(Debug, PartialEq)]
    struct No;
    impl From<Unknown> for No {
        fn from(_: Unknown) -> Self {
            No
        }
    }
    assert_eq!(store.try_update(&id, |_| Err(No)), Err(No));
    assert_eq!(store.get(&id).unwrap().stamp().version(), 0);
}

#[test]
fn nothing_comes_in_between_a_search_and_a_birth() {
    // Each inserts a word if there is none with its letter yet. Without the search in the read set of the
    // transaction two would get in.
    for round in 0..200 {
        let words = Words::new();
        let attempts: u32 = together(2, |_| {
            transaction(|tx| {
                let store = words.store.within(tx);
                if store.find(&words.first, &'x')?.is_empty() {
                    store.insert("x")?;
                }
                Ok(tx.attempt())
            })
        })
        .into_iter()
        .sum();
        assert_eq!(words.store.len(), 1, "round {round}, {attempts} attempts");
        words.store.validate().unwrap();
    }
}

#[test]
fn several_are_seen_at_one_instant() {
    let store = Store::new();
    let ids: Vec<_> = (0..4).map(|_| store.insert(25_i64)).collect();
    let conflicts: u32 = together(3, |number| {
        let mut conflicts = 0;
        for turn in 0..2_000_usize {
            let (from, to) = (ids[(turn + number) % 4], ids[(turn + 1) % 4]);
            if number == 2 {
                let seen = store.snapshot_of(&ids).unwrap();
                assert_eq!(seen.iter().map(|balance| **balance).sum::<i64>(), 100);
                continue;
            }
            conflicts += transaction_or_abort::<_, Unknown>(|tx| {
                let store = store.within(tx);
                store.update(&from, |n| n - 1)?;
                store.update(&to, |n| n + 1)?;
                Ok(tx.attempt() - 1)
            })
            .unwrap();
        }
        conflicts
    })
    .into_iter()
    .sum();
    let versions: u64 = store.iter().map(|version| version.stamp().version()).sum();
    assert_eq!(store.iter().map(|balance| *balance).sum::<i64>(), 100);
    // A transfer to itself is one commit.
    assert!(
        versions > 0 && versions <= 2 * 2 * 2_000,
        "{versions} commits, {conflicts} conflicts"
    );
}

#[test]
fn indexes_agree_with_values_under_threads() {
    const ENTITIES: usize = 8;
    const TURNS: usize = 1_500;
    let mut builder = Store::builder();
    let by_last = builder.index(|n: &u64| Some(n % 4));
    let by_bits =
        builder.index(|n: &u64| (0..3).filter(|bit| n >> bit & 1 == 1).collect::<Vec<_>>());
    let store = builder.build();
    let ids: Vec<_> = (0..ENTITIES).map(|_| store.insert(0)).collect();
    let done = together(4, |number| {
        let mut rng = fastrand::Rng::with_seed(number as u64);
        let (mut additions, mut checks) = (0, 0);
        for _ in 0..TURNS {
            let id = ids[rng.usize(..ENTITIES)];
            match rng.u8(..4) {
                0 => {
                    // In one transaction the value and all that is said of it agree.
                    transaction(|tx| {
                        let within = store.within(tx);
                        let value = within.look(&id)?.copied().unwrap();
                        for last in 0..4 {
                            let is_there = within.find(&by_last, &last)?.contains(&id);
                            assert_eq!(is_there, value % 4 == last);
                        }
                        for bit in 0..3 {
                            let is_there = within.find(&by_bits, &bit)?.contains(&id);
                            assert_eq!(is_there, value >> bit & 1 == 1);
                        }
                        Ok(())
                    });
                    checks += 1;
                }
                1 => {
                    transaction_or_abort::<_, Unknown>(|tx| {
                        Ok(store.within(tx).update(&id, |n| n + 1)?)
                    })
                    .unwrap();
                    additions += 1;
                }
                _ => {
                    store.update(&id, |n| n + 1).unwrap();
                    additions += 1;
                }
            }
        }
        (additions, checks)
    });
    let additions: u64 = done.iter().map(|(additions, _)| additions).sum();
    assert_eq!(
        store.iter().map(|n| *n).sum::<u64>(),
        additions,
        "no update is lost"
    );
    let versions = store.iter().map(|n| n.stamp().version()).sum::<u64>();
    assert_eq!(versions, additions, "and each is one commit");
    store.validate().unwrap();
}

#[test]
fn a_store_may_go_while_transactions_run() {
    let store = Store::new();
    let id = store.insert(1);
    let weak = store.downgrade();
    let mut store = Some(store);
    let seen = transaction(|tx| {
        let Some(strong) = weak.upgrade() else {
            return Ok(None);
        };
        let seen = strong.within(tx).look(&id)?.copied();
        // The last handle but the one that the transaction has.
        store = None;
        Ok(seen)
    });
    assert_eq!(seen, Some(1));
    assert!(weak.upgrade().is_none());
}

#[test]
fn stores_and_entities_take_part_in_one_transaction() {
    let (here, there) = (Store::new(), Store::new());
    let moves = snapcell::Entity::new(0);
    let id = here.insert("thing");
    transaction_or_abort::<_, Unknown>(|tx| {
        let value = *here.within(tx).get(&id)?;
        here.within(tx).remove(&id)?;
        let there = there.within(tx).insert_with(id, value)?;
        there.expect("it is not there yet");
        Ok(tx.update(&moves, |n| n + 1)?)
    })
    .unwrap();
    assert_eq!((here.len(), there.len(), *moves.snapshot()), (0, 1, 1));
    let _ = snapshot_of((&moves, &moves));
}

#[test]
fn weak_handles_keep_nothing_open() {
    let store = Store::new();
    let handle = store.handle(&store.insert(1)).unwrap();
    let weak = handle.downgrade();
    assert_eq!(weak.upgrade().unwrap().read(|n| *n), Ok(1));
    drop(store);
    assert!(weak.upgrade().is_some(), "the handle keeps the store");
    drop(handle);
    assert!(weak.upgrade().is_none());
}

#[test]
fn versions_and_errors_can_be_read_by_people() {
    let store = Store::new();
    let id = store.insert(7);
    let version: Version<i32> = store.get(&id).unwrap();
    assert_eq!(version.to_string(), format!("7 ({id} {})", version.stamp()));
    assert!(format!("{version:?}").contains("value: 7"));
    assert!(format!("{store:?}").contains("len: 1"));
    let refused = store.try_commit(&id, Stamp::new(9, 9), 8).unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with(&format!("conflict on {id}: expected stamp 9@9"))
    );
    let ids: BTreeSet<_> = store.iter().map(|version| version.id()).collect();
    assert_eq!(ids, BTreeSet::from([id]));
}

/// A store that keeps everything, and the hand of its clock.
fn with_a_past() -> (Store<i32>, ManualClock) {
    let clock = ManualClock::new();
    let builder = Store::builder().retain(Retain::All);
    (builder.clock(Clock::manual(&clock)).build(), clock)
}

#[test]
fn what_an_entity_was_is_found_by_version_stamp_and_time() {
    let (store, clock) = with_a_past();
    clock.set(Duration::from_nanos(10));
    let id = store.insert(0);
    for n in 1..=4 {
        clock.advance(Duration::from_nanos(10));
        store.update(&id, |_| n).unwrap();
    }
    let all: Vec<_> = store.history(&id).unwrap().collect();
    assert_eq!(
        all.iter().map(|version| **version).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4]
    );
    assert_eq!(all[4].stamp(), Stamp::new(4, 50));
    assert!(all.iter().all(|version| version.id() == id));
    let mut versions = store.history(&id).unwrap();
    assert_eq!(
        (versions.len(), versions.next_back().map(|v| *v)),
        (5, Some(4))
    );
    assert_eq!(versions.nth(1).map(|v| *v), Some(1));
    let from_one_to_two = store.between(&id, all[1].stamp()..=all[2].stamp()).unwrap();
    assert_eq!(from_one_to_two.map(|v| *v).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(store.at(&id, 3).unwrap().map(|v| *v), Some(3));
    assert!(store.at(&id, 5).unwrap().is_none());
    assert_eq!(
        (
            *store.as_of(&id, 29).unwrap(),
            *store.as_of(&id, 30).unwrap()
        ),
        (1, 2)
    );
    let too_early = store.as_of(&id, 9).unwrap_err();
    assert_eq!(too_early, PastError::Missing(id, Missing::Unborn));
    assert!(too_early.to_string().contains("not born"));
    let unknown = PastError::Unknown(Unknown(NOBODY));
    assert_eq!(store.as_of(&NOBODY, 30).unwrap_err(), unknown);
    assert_eq!(store.history(&NOBODY).map(drop), Err(Unknown(NOBODY)));
    assert_eq!(
        store.snapshot_as_of(&[id, NOBODY], 30).map(drop),
        Err(unknown)
    );
    store.remove(&id).unwrap();
    assert_eq!(store.history(&id).map(drop), Err(Unknown(id)));
    assert_eq!(*all[0], 0, "what is held stays");
}

#[test]
fn the_past_of_several_is_a_consistent_cut() {
    let (store, clock) = with_a_past();
    let ids = [store.insert(100), store.insert(0)];
    let late = transaction(|tx| {
        let within = store.within(tx);
        clock.set(Duration::from_nanos(5));
        within.insert(7)
    });
    assert_eq!(
        store
            .history(&late)
            .unwrap()
            .map(|v| *v)
            .collect::<Vec<_>>(),
        [7]
    );
    for time in [10, 20, 30] {
        clock.set(Duration::from_nanos(time));
        transaction_or_abort::<_, Unknown>(|tx| {
            store.within(tx).update(&ids[0], |n| n - 1)?;
            Ok(store.within(tx).update(&ids[1], |n| n + 1)?)
        })
        .unwrap();
    }
    for (time, moved) in [(0, 0), (9, 0), (10, 1), (25, 2), (30, 3), (99, 3)] {
        let cut = store.snapshot_as_of(&ids, time).unwrap();
        assert_eq!((*cut[0], *cut[1]), (100 - moved, moved), "at {time}");
    }
    let all = [ids[0], late];
    let missing = store.snapshot_as_of(&all, 4).map(drop).unwrap_err();
    assert_eq!(missing, PastError::Missing(late, Missing::Unborn));
}

#[test]
fn a_store_keeps_as_many_versions_as_it_was_told() {
    for (retain, kept) in [(Retain::Latest, 1), (Retain::last(3), 3), (Retain::All, 11)] {
        let mut builder = Store::builder().retain(retain);
        let parity = builder.index(|n: &u32| Some(n % 2));
        let store = builder.build();
        let id = store.insert(0);
        (0..10).for_each(|_| assert!(store.update(&id, |n| n + 1).is_ok()));
        assert_eq!(store.history(&id).unwrap().len(), kept, "{retain:?}");
        assert_eq!(store.retain(), retain);
        assert!(store.find(&parity, &0).contains(&id));
    }
}

#[cfg(feature = "rayon")]
#[test]
fn all_are_updated_on_all_processors() {
    let mut builder = Store::builder();
    let is_even = builder.index(|n: &u64| Some(n.is_multiple_of(2)));
    let store = builder.build();
    for n in 0..1_000 {
        store.insert(n);
    }
    let changed = store.par_update(|_, n| (n % 2 == 1).then_some(n + 1));
    assert_eq!((changed, store.find(&is_even, &true).len()), (500, 1_000));
    store.validate().unwrap();
}

/// How often a task was woken.
#[derive(Default)]
struct Task(AtomicUsize);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// Found by looking: what was inserted was ended at once, though it counted as read.
#[test]
fn an_insertion_that_an_alternative_undoes_is_in_nobodys_way() {
    let (words, other) = (Words::new(), Entity::new(0));
    let store = &words.store;
    let mut attempts = 0;
    transaction(|tx| {
        attempts = tx.attempt();
        tx.or_else(
            |tx| {
                store.within(tx).insert("gone")?;
                tx.retry()
            },
            |tx| tx.update(&other, |n| n + 1),
        )
    });
    let task = Transact::new().start(|tx| {
        attempts = tx.attempt();
        let second = |tx: &snapcell::Transaction<'_>| {
            store.within(tx).insert("kept")?;
            Ok::<_, Stop<()>>(())
        };
        tx.or_else(
            |tx| {
                store.within(tx).insert("gone")?;
                Ok(tx.retry()?)
            },
            second,
        )
    });
    assert_eq!(pollster::block_on(task), Ok(()));
    assert_eq!((*other.snapshot(), attempts), (1, 1));
    assert_eq!((store.len(), store.spare()), (1, [0; 3]));
    assert_eq!(words.with('k').0, store.ids());
}

#[test]
fn a_task_that_waits_after_an_insertion_does_not_wake_itself() {
    let (words, other) = (Words::new(), Entity::new(0));
    let store = &words.store;
    let task = Arc::new(Task::default());
    let waker = Waker::from(Arc::clone(&task));
    let mut runs = 0;
    {
        let mut inserting = pin!(Transact::new().start(|tx| {
            runs += 1;
            store.within(tx).insert("new")?;
            match tx.get(&other)? {
                0 => Ok(tx.retry()?),
                n => Ok::<_, Stop<()>>(n),
            }
        }));
        let mut poll = || inserting.as_mut().poll(&mut Context::from_waker(&waker));
        assert_eq!(poll(), Poll::Pending);
        assert_eq!((poll(), task.0.load(SeqCst)), (Poll::Pending, 0));
        other.replace(7);
        assert_eq!(task.0.load(SeqCst), 1);
        assert_eq!(poll(), Poll::Ready(Ok(7)));
    }
    assert_eq!((runs, task.0.load(SeqCst)), (2, 1));
    assert_eq!((store.len(), store.spare()), (1, [0; 3]));
    // Given up while it waits.
    let mut given_up = Box::pin(Transact::new().start(|tx| {
        store.within(tx).insert("never")?;
        Ok::<(), Stop<()>>(tx.retry()?)
    }));
    let polled = given_up.as_mut().poll(&mut Context::from_waker(&waker));
    assert_eq!(polled, Poll::Pending);
    drop(given_up);
    assert_eq!((store.len(), store.spare()), (1, [0; 3]));
    assert_eq!(store.validate(), Ok(()));
}

/// What others would do meanwhile.
fn elsewhere<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|s| s.spawn(f).join().unwrap())
}

#[test]
fn that_there_is_none_is_so_until_the_commit() {
    let (words, other) = (Words::new(), Entity::new(0));
    let store = &words.store;
    let mut said = Vec::new();
    transaction(|tx| {
        let there = store.within(tx).look(&NOBODY)?.copied();
        said.push(there);
        if tx.attempt() == 1 {
            elsewhere(|| store.insert_with(NOBODY, "somebody").unwrap());
        }
        tx.update(&other, |n| n + 1)
    });
    assert_eq!((said, *other.snapshot()), (vec![None, Some("somebody")], 1));
    // And that nobody has a key.
    let mut found = Vec::new();
    transaction(|tx| {
        found.push(store.within(tx).find(&words.first, &'x')?.len());
        if tx.attempt() == 1 {
            elsewhere(|| store.insert("x"));
        }
        tx.update(&other, |n| n + 1)
    });
    assert_eq!((found, *other.snapshot()), (vec![0, 1], 2));
    assert_eq!(store.spare(), [0; 3]);
}

#[test]
fn of_two_that_are_born_only_without_the_other_one_is() {
    let ids = [EntityId::from_bits(1), EntityId::from_bits(2)];
    for _ in 0..500 {
        let store = Store::new();
        let born = together(2, |thread| {
            let (own, other) = (ids[thread], ids[1 - thread]);
            transaction(|tx| {
                let within = store.within(tx);
                if within.look(&other)?.is_some() {
                    return Ok(false);
                }
                std::thread::yield_now();
                Ok(within.insert_with(own, thread)?.is_ok())
            })
        });
        assert_eq!(born.iter().filter(|born| **born).count(), 1);
        assert_eq!((store.len(), store.spare()), (1, [0; 3]));
    }
}

/// Whoever only looks, or gives up, doesn't end what somebody else is about to bring into the world.
#[test]
fn a_look_in_vain_is_in_nobodys_way() {
    let words = Words::new();
    let store = &words.store;
    let look = || {
        transaction(|tx| {
            let within = store.within(tx);
            Ok((
                within.look(&NOBODY)?.is_none(),
                within.find(&words.first, &'n')?.len(),
            ))
        })
    };
    let give_up = || {
        transaction_or_abort(|tx| {
            store.within(tx).insert_with(NOBODY, "never")?.unwrap();
            Err::<(), _>(Stop::Abort("no"))
        })
    };
    let mut attempts = 0;
    transaction(|tx| {
        attempts = tx.attempt();
        assert_eq!(elsewhere(look), (true, 0));
        store.within(tx).insert_with(NOBODY, "new")?.unwrap();
        assert_eq!(elsewhere(look), (true, 0));
        assert_eq!(elsewhere(give_up), Err("no"));
        Ok(())
    });
    assert_eq!((attempts, store.get(&NOBODY).as_deref()), (1, Ok(&"new")));
    assert_eq!(store.spare(), [0; 3]);
    assert_eq!(store.validate(), Ok(()));
}

#[test]
fn a_task_may_wait_for_an_id_or_for_a_key() {
    let words = Words::new();
    let store = &words.store;
    let task = [Arc::new(Task::default()), Arc::new(Task::default())];
    let mut by_id = Box::pin(
        Transact::new().start(|tx| match store.within(tx).look(&NOBODY)? {
            Some(word) => Ok::<_, Stop<()>>(*word),
            None => Ok(tx.retry()?),
        }),
    );
    let mut by_key = Box::pin(Transact::new().start(|tx| {
        let found = store.within(tx).find(&words.first, &'h')?.to_vec();
        match found.first() {
            Some(id) => Ok::<_, Stop<()>>(*id),
            None => Ok(tx.retry()?),
        }
    }));
    let waker = task.clone().map(Waker::from);
    let wakes = || task.each_ref().map(|task| task.0.load(SeqCst));
    let mut poll_id = || by_id.as_mut().poll(&mut Context::from_waker(&waker[0]));
    let mut poll_key = || by_key.as_mut().poll(&mut Context::from_waker(&waker[1]));
    assert!(poll_id().is_pending() && poll_key().is_pending());
    // Others who look, and go.
    let found = transaction(|tx| {
        let within = store.within(tx);
        Ok(within.look(&NOBODY)?.is_some() || !within.find(&words.first, &'h')?.is_empty())
    });
    assert!(!found);
    store.insert("elsewhere");
    assert!(poll_id().is_pending() && poll_key().is_pending());
    assert_eq!(wakes(), [0, 0]);
    store.insert_with(NOBODY, "here").unwrap();
    assert_eq!(wakes(), [1, 1]);
    assert_eq!(poll_id(), Poll::Ready(Ok("here")));
    assert_eq!(poll_key(), Poll::Ready(Ok(NOBODY)));
    assert_eq!((store.len(), store.spare()), (2, [0; 3]));
}

#[test]
fn what_an_attempt_or_an_alternative_made_for_itself_goes_with_it() {
    let (words, other) = (Words::new(), Entity::new(0));
    let store = &words.store;
    transaction(|tx| {
        let within = store.within(tx);
        tx.get(&other)?;
        tx.or_else(
            |tx| {
                within.insert("undone")?;
                within.find(&words.letters, &'z')?;
                tx.retry()
            },
            |_| Ok(()),
        )?;
        if tx.attempt() == 1 {
            within.insert("first")?;
            elsewhere(|| _ = other.replace(1));
        } else {
            assert_eq!(
                store.spare(),
                [1, 0, 6 + 1],
                "of `undone`, and of nobody: z"
            );
            within.insert("second")?;
        }
        tx.update(&other, |n| n + 1)
    });
    assert_eq!((store.len(), store.spare()), (1, [0; 3]));
    assert_eq!(words.with('s').0, store.ids());
}

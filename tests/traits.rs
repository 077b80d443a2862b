//! What the public types implement: what may cross threads and panics, what everything looks like in
//! debug output (which never blocks), and that pointers to values compare as the values do.

use snapcell::{
    Builder, Clock, CommitError, Committed, Entity, Guard, History, Invalid, Lag, Loaded,
    ManualClock, Merge, Missing, ParseStampError, Projected, Reader, Refusal, Retain, Retry,
    Snapshot, Stamp, UpdateError, Updated,
};
use std::borrow::Borrow;
use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashSet};
use std::convert::Infallible;
use std::error::Error;
use std::fmt::{self, Debug, Display};
use std::hash::{BuildHasher, RandomState};
use std::marker::PhantomPinned;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Whether a type has a trait, as a value, so that a missing one fails a test and not the build.
macro_rules! has {
    ($ty:ty: $bound:path) => {{
        struct Probe<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code, reason = "one of the two is shadowed, which is the point")]
        trait Absent {
            const ANSWER: bool = false;
        }
        impl<T: ?Sized> Absent for Probe<T> {}
        #[allow(dead_code, reason = "one of the two is shadowed, which is the point")]
        impl<T: ?Sized + $bound> Probe<T> {
            const ANSWER: bool = true;
        }
        <Probe<$ty>>::ANSWER
    }};
}

/// The types among these that lack the trait.
macro_rules! without {
    ($bound:path: $($ty:ty),* $(,)?) => {{
        let all = [$((stringify!($ty), has!($ty: $bound))),*];
        all.iter().filter(|(_, has)| !has).map(|(ty, _)| *ty).collect::<Vec<_>>()
    }};
}

const NONE: [&str; 0] = [];

/// An error that stays on its thread.
type Homebound = Rc<str>;

#[test]
fn the_probe_tells_who_has_a_trait_from_who_has_not() {
    assert_eq!(
        without!(Send: u8, Rc<u8>, Cell<u8>, *const u8, Arc<u8>),
        ["Rc<u8>", "*const u8"]
    );
}

#[test]
fn what_is_owned_may_be_sent_to_other_threads() {
    let lacking = without!(Send:
        Entity<u8>, Entity<Mutex<u8>>, Entity<u8, String>, Entity<u8, Homebound>,
        Reader<u8>, Reader<u8, String>, Reader<u8, Homebound>,
        Builder<u8>, Builder<u8, String>, Builder<u8, Homebound>, Builder<Cell<u8>>,
        Snapshot<u8>, Snapshot<Mutex<u8>>, Projected<u8, u8>, Projected<u8, str>,
        CommitError<u8>, CommitError<u8, String>,
        UpdateError<u8>, UpdateError<u8, String, String>, UpdateError<u8, Cell<u8>, Cell<u8>>,
        Refusal, Refusal<String>, Refusal<Cell<u8>>, Retry, Invalid<u8, String>, Merge<'static, u8>,
        Lag, Clock, ManualClock, Stamp, ParseStampError,
        History<u8>, History<Mutex<u8>>, Retain, Missing,
    );
    assert_eq!(lacking, NONE);
}

#[test]
fn what_is_owned_may_be_shared_between_threads() {
    let lacking = without!(Sync:
        Entity<u8>, Entity<Mutex<u8>>, Entity<u8, String>, Entity<u8, Homebound>,
        Reader<u8>, Reader<u8, String>, Reader<u8, Homebound>,
        Builder<u8>, Builder<u8, String>, Builder<u8, Homebound>,
        Snapshot<u8>, Snapshot<Mutex<u8>>, Projected<u8, u8>, Projected<u8, str>,
        CommitError<u8>, CommitError<u8, String>,
        UpdateError<u8>, UpdateError<u8, String, String>,
        Refusal, Refusal<String>, Retry, Invalid<u8, String>, Merge<'static, u8>,
        Lag, Clock, ManualClock, Stamp, ParseStampError,
        History<u8>, History<Mutex<u8>>, Retain, Missing,
    );
    assert_eq!(lacking, NONE);
}

#[test]
fn what_holds_a_guard_stays_on_its_thread() {
    let sent = [
        has!(Guard: Send),
        has!(Loaded<'static, u8>: Send),
        has!(Committed<'static, u8>: Send),
        has!(Updated<'static, u8>: Send),
    ];
    assert_eq!(sent, [false; 4]);
    assert!(!has!(Guard: Sync));
}

#[test]
fn what_may_not_be_shared_does_not_get_shared_by_a_pointer_to_it() {
    assert!(!has!(Snapshot<Cell<u8>>: Send), "it gives out `&Cell`");
    assert!(!has!(Snapshot<Cell<u8>>: Sync));
    assert!(!has!(Snapshot<Rc<u8>>: Send));
    assert!(!has!(History<Cell<u8>>: Send) && !has!(History<Cell<u8>>: Sync));
    assert!(!has!(Projected<u8, Cell<u8>>: Send), "a part as a whole");
    assert!(!has!(Projected<Cell<u8>, u8>: Send), "a whole as a part");
    assert!(!has!(Projected<u8, Cell<u8>>: Sync));
    assert!(!has!(Builder<Rc<u8>>: Send));
    assert!(
        !has!(CommitError<u8, Homebound>: Send),
        "it holds the error"
    );
    assert!(!has!(UpdateError<u8, Homebound>: Send));
    assert!(!has!(UpdateError<u8, Infallible, Homebound>: Send));
    assert!(!has!(CommitError<Cell<u8>>: Sync));
}

#[test]
fn everything_may_be_moved_whatever_its_value() {
    // Values lie behind pointers, so even one that must not move does not.
    let lacking = without!(Unpin:
        Entity<PhantomPinned>, Entity<u8, PhantomPinned>, Reader<PhantomPinned>,
        Snapshot<PhantomPinned>, Loaded<'static, PhantomPinned>,
        Projected<PhantomPinned, PhantomPinned>, Committed<'static, PhantomPinned>,
        Updated<'static, PhantomPinned>, Merge<'static, PhantomPinned>, Guard,
        Builder<u8>, CommitError<u8>, UpdateError<u8>, Refusal, Retry, Invalid<u8, u8>, Lag, Clock,
        ManualClock, Stamp, ParseStampError, History<PhantomPinned>, Retain, Missing,
    );
    assert_eq!(lacking, NONE);
}

#[test]
fn snapshots_errors_and_plain_data_may_cross_a_caught_panic() {
    let lacking = without!(UnwindSafe:
        Snapshot<u8>, Snapshot<Mutex<u8>>, Projected<u8, u8>, Projected<u8, str>,
        CommitError<u8>, CommitError<u8, String>, UpdateError<u8>, UpdateError<u8, String, String>,
        Refusal, Retry, Invalid<u8, u8>, Merge<'static, u8>, Lag, Clock, ManualClock, Stamp,
        ParseStampError, History<u8>, History<Mutex<u8>>, Retain, Missing,
    );
    assert_eq!(lacking, NONE);
    let lacking = without!(RefUnwindSafe:
        Snapshot<u8>, Snapshot<Mutex<u8>>, Projected<u8, u8>, Projected<u8, str>,
        CommitError<u8>, CommitError<u8, String>, UpdateError<u8>, UpdateError<u8, String, String>,
        Refusal, Retry, Invalid<u8, u8>, Merge<'static, u8>, Lag, Clock, ManualClock, Stamp,
        ParseStampError, History<u8>, History<Mutex<u8>>, Retain, Missing,
    );
    assert_eq!(lacking, NONE);
}

#[test]
fn entities_and_readers_may_cross_a_caught_panic_since_it_leaves_them_as_they_were() {
    let lacking =
        without!(UnwindSafe: Entity<u8>, Entity<u8, String>, Reader<u8>, &'static Entity<u8>);
    assert_eq!(lacking, NONE);
    let lacking = without!(RefUnwindSafe: Entity<u8>, Entity<u8, String>, Reader<u8>);
    assert_eq!(lacking, NONE);
}

#[test]
fn small_answers_are_copied_and_compared() {
    fn check<T: Copy + Eq + Debug>() {}
    check::<Stamp>();
    check::<Lag>();
    check::<Retain>();
    check::<Missing>();
    check::<Retry>();
    check::<Refusal<u8>>();
    check::<Invalid<u8, u8>>();

    let set: HashSet<Retry> = [
        Retry::unbounded(),
        Retry::default(),
        Retry::at_most(0),
        Retry::at_most(1),
    ]
    .into();
    assert_eq!(set.len(), 3, "unbounded is the default");
    assert_eq!(Retry::at_most(3).retries(), Some(3));
    assert_eq!(Retry::unbounded().retries(), None);
}

#[test]
fn errors_are_errors_that_any_caller_can_box() {
    fn boxed(_: Box<dyn Error + Send + Sync + 'static>) {}
    let entity = Entity::builder(1_u8)
        .validate(|_| Err::<(), _>(fmt::Error))
        .try_build()
        .unwrap_err();
    boxed(entity.into());
    let entity = Entity::new(1_u8);
    boxed(
        entity
            .try_commit(Stamp::new(9, 9), 2)
            .map(drop)
            .unwrap_err()
            .into(),
    );
    let refused: UpdateError<u8, fmt::Error, fmt::Error> = UpdateError::Refused(fmt::Error);
    boxed(refused.into());
    boxed("x".parse::<Stamp>().unwrap_err().into());
}

/// An entity with times that can be told in advance.
fn counter(value: u32) -> Entity<u32> {
    Entity::builder(value).clock(Clock::logical()).build()
}

#[test]
fn an_entity_shows_its_value_and_stamp() {
    let entity = counter(5);
    assert_eq!(format!("{entity:?}"), "Entity { stamp: 0@0, value: 5 }");
    entity.update(|n| n + 1);
    assert_eq!(format!("{entity:?}"), "Entity { stamp: 1@1, value: 6 }");
    assert_eq!(
        format!("{entity:#?}"),
        "Entity {\n    stamp: 1@1,\n    value: 6,\n}"
    );
    let entity = Entity::builder("text")
        .clock(Clock::logical())
        .validate(|_| Ok::<(), Homebound>(()))
        .try_build()
        .unwrap();
    assert_eq!(
        format!("{entity:?}"),
        "Entity { stamp: 0@0, value: \"text\" }"
    );
}

#[test]
fn a_reader_shows_what_it_has_seen_and_whether_that_is_stale() {
    let entity = counter(5);
    let mut reader = entity.reader();
    assert_eq!(
        format!("{reader:?}"),
        "Reader { seen: 5, stamp: 0@0, is_stale: false }"
    );
    entity.replace(7);
    assert_eq!(
        format!("{reader:?}"),
        "Reader { seen: 5, stamp: 0@0, is_stale: true }"
    );
    assert_eq!(**reader.get(), 7);
    assert_eq!(
        format!("{reader:?}"),
        "Reader { seen: 7, stamp: 1@1, is_stale: false }"
    );
}

#[test]
fn pointers_to_values_show_the_value() {
    let entity = counter(5);
    let snapshot = entity.snapshot();
    let guard = snapcell::pin();
    let loaded = entity.load(&guard);
    let projected = entity.snapshot().project(|n| n);
    for debug in [&snapshot as &dyn Debug, &loaded, &projected] {
        assert_eq!(format!("{debug:?} {debug:>4?} {debug:02x?}"), "5    5 05");
    }
    for display in [&snapshot as &dyn Display, &loaded, &projected] {
        assert_eq!(format!("{display} {display:<4}|"), "5 5   |");
    }
}

#[test]
fn guards_builders_and_clocks_show_what_can_be_told() {
    assert_eq!(format!("{:?}", snapcell::pin()), "Guard { .. }");
    let clock = ManualClock::new();
    assert_eq!(format!("{clock:?}"), "ManualClock(0ns)");
    clock.set(Duration::from_millis(1500));
    assert_eq!(format!("{clock:?}"), "ManualClock(1.5s)");
    assert_eq!(format!("{:?}", Clock::monotonic()), "Clock(Monotonic)");
    assert_eq!(format!("{:?}", Clock::default()), "Clock(Monotonic)");
    assert_eq!(format!("{:?}", Clock::logical()), "Clock(Logical)");
    assert_eq!(
        format!("{:?}", Clock::manual(&clock)),
        "Clock(Manual(ManualClock(1.5s)))"
    );
    // The value needn't be printable.
    let builder = Entity::builder(PhantomPinned);
    assert_eq!(
        format!("{builder:?}"),
        "Builder { clock: Clock(Monotonic), born: None, retain: Latest, validate: false, .. }"
    );
    let builder = builder
        .clock(Clock::logical())
        .born(Stamp::new(1, 2))
        .retain(Retain::All)
        .validate(|_| Ok::<(), Homebound>(()));
    assert_eq!(
        format!("{builder:?}"),
        "Builder { clock: Clock(Logical), born: Some(Stamp { version: 1, time: 2 }), \
         retain: All, validate: true, .. }"
    );
}

#[test]
fn outcomes_show_stamps_and_attempts() {
    let entity = counter(5);
    assert_eq!(
        format!("{:?}", entity.replace(6)),
        "Committed { stamp: 1@1, previous: 0@0, attempts: 1 }"
    );
    let updated = entity.try_update(|n| Ok::<_, Infallible>(Some(n + 1)));
    assert_eq!(
        format!("{:?}", updated.unwrap()),
        "Committed(Committed { stamp: 2@2, previous: 1@1, attempts: 1 })"
    );
    let unchanged = entity.try_update(|_| Ok::<_, Infallible>(None));
    assert_eq!(format!("{:?}", unchanged.unwrap()), "Unchanged(7)");
    let (base, mine, theirs) = (&1, &2, &3);
    assert_eq!(
        format!("{:?}", Merge { base, mine, theirs }),
        "Merge { base: 1, mine: 2, theirs: 3 }"
    );
    assert_eq!(
        format!("{:?}", Lag::default()),
        "Lag { nodes: 0, bytes: 0 }"
    );
    assert_eq!(
        format!("{:?}", Retry::at_most(3)),
        "Retry { retries: Some(3) }"
    );
    assert_eq!(format!("{:?}", Refusal::Invalid(3)), "Invalid(3)");
}

#[test]
fn debug_output_of_an_entity_never_blocks_and_shows_one_moment() {
    let entity = Arc::new(counter(5));
    let seen = RefCell::new(Vec::new());
    let look = |entity: &Entity<u32>| seen.borrow_mut().push(format!("{entity:?}"));

    // From its own update, under a guard, and from the merge.
    entity.update(|n| {
        look(&entity);
        n + 1
    });
    let guard = snapcell::pin();
    look(&entity);
    drop(guard);
    let base = entity.snapshot();
    entity.replace(8);
    entity
        .commit_or_merge(&base, 9, |merge| {
            look(&entity);
            Some(merge.mine + merge.theirs)
        })
        .unwrap();
    look(&entity);
    assert_eq!(
        seen.take(),
        [
            "Entity { stamp: 0@0, value: 5 }",
            "Entity { stamp: 1@1, value: 6 }",
            "Entity { stamp: 2@2, value: 8 }",
            "Entity { stamp: 3@3, value: 17 }",
        ]
    );
}

#[test]
fn debug_output_works_from_a_validator_and_from_a_destructor() {
    static LAST: Mutex<String> = Mutex::new(String::new());
    struct Shows(Option<Entity<u32>>);
    impl Drop for Shows {
        fn drop(&mut self) {
            if let Some(entity) = &self.0 {
                *LAST.lock().unwrap() = format!("{entity:?}");
            }
        }
    }

    let other = counter(1);
    let watched = other.clone();
    let entity = Entity::builder(Shows(Some(other.clone())))
        .validate(move |_| {
            *LAST.lock().unwrap() = format!("validating beside {watched:?}");
            Ok::<(), Infallible>(())
        })
        .try_build()
        .map_err(|invalid| invalid.error)
        .unwrap();
    assert_eq!(
        LAST.lock().unwrap().as_str(),
        "validating beside Entity { stamp: 0@0, value: 1 }"
    );
    other.replace(2);
    drop(entity);
    assert_eq!(
        LAST.lock().unwrap().as_str(),
        "Entity { stamp: 1@1, value: 2 }"
    );
}

#[test]
fn a_value_that_looks_at_its_own_entity_while_it_is_shown_sees_the_same_moment() {
    struct Nosy(&'static Mutex<Option<Entity<Nosy>>>);
    impl Debug for Nosy {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            // Not while it is locked: the second look would find the lock taken.
            let entity = self.0.lock().unwrap().take();
            match entity {
                Some(entity) => write!(f, "outer {entity:?}"),
                None => f.write_str("inner"),
            }
        }
    }
    static ENTITY: Mutex<Option<Entity<Nosy>>> = Mutex::new(None);
    let entity = Entity::builder(Nosy(&ENTITY))
        .clock(Clock::logical())
        .build();
    *ENTITY.lock().unwrap() = Some(entity.clone());
    assert_eq!(
        format!("{entity:?}"),
        "Entity { stamp: 0@0, value: outer Entity { stamp: 0@0, value: inner } }"
    );
}

#[test]
fn an_entity_comes_from_a_value_or_its_default() {
    let entity: Entity<String> = Entity::default();
    assert_eq!(*entity.snapshot(), "");
    let entity = Entity::from(3_u8);
    assert_eq!(
        (*entity.snapshot(), entity.snapshot().stamp().version()),
        (3, 0)
    );
    let entity: Entity<&str> = "text".into();
    assert_eq!(*entity.snapshot(), "text");
    assert_eq!(ManualClock::default().now(), 0);
    assert_eq!(Stamp::default(), Stamp::from_bits(0));
}

#[test]
fn snapshots_are_equal_if_their_values_are_whatever_their_stamps() {
    let (a, b) = (counter(5), counter(5));
    b.replace(6);
    b.replace(5);
    let (five, also_five) = (a.snapshot(), b.snapshot());
    assert_ne!(five.stamp(), also_five.stamp());
    assert_eq!(five, also_five);
    assert!(!Snapshot::ptr_eq(&five, &also_five));
    assert!(Snapshot::ptr_eq(&five, &five.clone()));
    a.replace(4);
    assert_ne!(a.snapshot(), also_five);

    fn total<T: Eq + Ord>() {}
    total::<Snapshot<u32>>();
    total::<Loaded<'_, u32>>();
    total::<Projected<(u32, u8), str>>();
}

#[test]
fn snapshots_are_ordered_as_their_values() {
    let of = |value: f64| Entity::new(value).snapshot();
    assert_eq!(of(1.0).partial_cmp(&of(2.0)), Some(Ordering::Less));
    assert_eq!(of(f64::NAN).partial_cmp(&of(f64::NAN)), None);
    assert_ne!(of(f64::NAN), of(f64::NAN));

    let entity = counter(3);
    let mut kept = vec![entity.snapshot()];
    for value in [1, 2, 0] {
        kept.push(entity.replace(value).snapshot());
    }
    kept.sort();
    let sorted: Vec<(u32, u64)> = kept
        .iter()
        .map(|snapshot| (**snapshot, snapshot.stamp().version()))
        .collect();
    assert_eq!(sorted, [(0, 3), (1, 1), (2, 2), (3, 0)]);
    assert_eq!(**kept.iter().max().unwrap(), 3);
}

#[test]
fn snapshots_hash_as_their_values_and_are_found_by_them() {
    let names = ["a", "b", "a"].map(|name| Entity::new(String::from(name)).snapshot());
    let state = RandomState::new();
    for name in &names {
        assert_eq!(state.hash_one(name), state.hash_one(String::from(&**name)));
    }
    let set: HashSet<Snapshot<String>> = names.into();
    assert_eq!(set.len(), 2);
    assert!(
        set.contains(&String::from("a")),
        "by a reference to a value"
    );
    assert!(!set.contains(&String::from("c")));

    let ordered: BTreeSet<Snapshot<String>> = set.into_iter().collect();
    assert_eq!(
        **ordered.get(&String::from("b")).unwrap(),
        "b",
        "in a tree as well"
    );
}

#[test]
fn parts_hash_as_the_part_and_are_found_by_it() {
    let entity = Entity::new((7, String::from("name")));
    let name = || entity.snapshot().project(|(_, name)| name.as_str());
    let set: HashSet<Projected<(i32, String), str>> = [name(), name()].into();
    assert_eq!(set.len(), 1);
    assert!(set.contains("name"), "by a plain string");
    assert!(!set.contains("other"));
}

#[test]
fn loaded_values_compare_and_hash_as_the_values_do() {
    let (a, b) = (counter(1), counter(1));
    let guard = snapcell::pin();
    let (one, also_one) = (a.load(&guard), b.load(&guard));
    assert_eq!(one, also_one);
    assert_eq!(one.cmp(&also_one), Ordering::Equal);
    let state = RandomState::new();
    assert_eq!(state.hash_one(one), state.hash_one(1_u32));
    let set: HashSet<Loaded<'_, u32>> = [one, also_one].into();
    assert!(set.contains(&1_u32));
}

#[test]
fn pointers_to_values_lend_them_in_every_way() {
    fn lent<P: AsRef<T> + Borrow<T>, T: Copy + PartialEq + Debug>(pointer: &P) -> T {
        assert_eq!(AsRef::as_ref(pointer), Borrow::borrow(pointer));
        *AsRef::as_ref(pointer)
    }
    let entity = counter(5);
    let guard = snapcell::pin();
    assert_eq!(lent::<_, u32>(&entity.snapshot()), 5);
    assert_eq!(lent::<_, u32>(&entity.load(&guard)), 5);
    assert_eq!(lent::<_, u32>(&entity.snapshot().project(|n| n)), 5);
}

#[test]
fn values_need_not_implement_anything() {
    struct Bare;
    fn debug<T: Debug>(_: &T) {}
    fn clone<T: Clone>(thing: &T) -> T {
        thing.clone()
    }

    let entity = clone(&Entity::new(Bare));
    let snapshot = clone(&entity.snapshot());
    drop(clone(&entity.reader()));
    drop(clone(&snapshot.clone().project(|bare| bare)));
    debug(&Entity::builder(Bare));
    debug(&entity.replace(Bare));
    let error = entity.try_commit_on(&snapshot, Bare).unwrap_err();
    debug(&error);
    assert!(error.is_conflict());
    debug(
        &entity
            .try_update(|_| Err::<Option<Bare>, _>(0))
            .map(drop)
            .unwrap_err(),
    );
}

/// Entities as their values, snapshots with their stamps.
#[cfg(feature = "serde")]
mod with_serde {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Config {
        name: String,
        limits: Vec<u32>,
    }

    fn config() -> Config {
        Config {
            name: String::from("first"),
            limits: vec![1, 2],
        }
    }

    const JSON: &str = r#"{"name":"first","limits":[1,2]}"#;

    #[test]
    fn an_entity_survives_the_way_through_json_as_its_value() {
        let entity = Entity::new(Config {
            name: String::new(),
            limits: vec![],
        });
        entity.replace(config());
        let json = serde_json::to_string(&entity).unwrap();
        assert_eq!(json, JSON);
        let again: Entity<Config> = serde_json::from_str(&json).unwrap();
        assert_eq!(*again.snapshot(), config());
        assert_eq!(again.snapshot().stamp().version(), 0, "it is a new entity");
    }

    #[test]
    fn an_entity_with_a_validator_is_written_alike() {
        let entity = Entity::builder(config())
            .validate(|_| Ok::<(), Homebound>(()))
            .try_build()
            .unwrap();
        assert_eq!(serde_json::to_string(&entity).unwrap(), JSON);
    }

    #[test]
    fn a_snapshot_is_written_with_its_stamp() {
        let entity = Entity::builder(config()).clock(Clock::logical()).build();
        let snapshot = entity.replace(config()).snapshot();
        assert_eq!(
            serde_json::to_string(&snapshot).unwrap(),
            format!(r#"{{"stamp":"1@1","value":{JSON}}}"#)
        );
    }

    #[test]
    fn an_entity_is_restored_from_a_written_snapshot_at_its_old_stamp() {
        #[derive(Deserialize)]
        struct Record {
            stamp: Stamp,
            value: Config,
        }
        let written = serde_json::to_string(&Entity::new(config()).replace(config()).snapshot());
        let Record { stamp, value } = serde_json::from_str(&written.unwrap()).unwrap();
        let restored = Entity::builder(value).born(stamp).build();
        assert_eq!(restored.snapshot().stamp(), stamp);
        assert_eq!(*restored.snapshot(), config());
    }

    #[test]
    fn what_is_no_value_is_no_entity() {
        assert!(serde_json::from_str::<Entity<u8>>("256").is_err());
        assert!(serde_json::from_str::<Entity<Config>>("{}").is_err());
    }
}

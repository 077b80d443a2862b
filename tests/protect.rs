//! Functions under protection: from none at all to both kinds, and what each is worth where others interfere.
#![cfg(feature = "scheduler")]

use snapcell::{
    Class, ClassPolicy, Engine, Entity, NotTaken, OperationError, Policies, Protection, Reason,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};

const ALL: [Protection; 4] = [
    Protection::None,
    Protection::Staged,
    Protection::Optimistic,
    Protection::Both,
];

/// An engine with a class whose operations may lose to so many others.
fn engine(retries: u32) -> (Engine, Class) {
    let mut policies = Policies::default();
    let class = policies.add(ClassPolicy::new("stubborn").with_retries(retries));
    let class = class.expect("there is none of this name");
    (
        Engine::builder().workers(2).policies(policies).build(),
        class,
    )
}

/// Somebody else, who commits between the look of an operation and its commit: the first `times` times.
#[derive(Clone)]
struct Outsider {
    barrier: Arc<Barrier>,
    looks: Arc<AtomicU32>,
    times: u32,
}

impl Outsider {
    fn new(times: u32) -> Self {
        Outsider {
            barrier: Arc::new(Barrier::new(2)),
            looks: Arc::new(AtomicU32::new(0)),
            times,
        }
    }

    /// In the operation, after its look.
    fn window(&self) {
        if self.looks.fetch_add(1, Ordering::Relaxed) < self.times {
            self.barrier.wait();
            self.barrier.wait();
        }
    }

    /// On the other thread.
    fn interfere(&self, commit: impl Fn()) {
        for _ in 0..self.times {
            self.barrier.wait();
            commit();
            self.barrier.wait();
        }
    }
}

/// Runs a `+1` on 1, while somebody else adds 10 in each of the first `times` windows.
fn add_one_beside_ten(
    engine: &Engine,
    class: Class,
    protection: Protection,
    times: u32,
) -> (
    Entity<u64>,
    Result<u64, OperationError<std::convert::Infallible>>,
) {
    let value = Entity::new(0_u64);
    let outsider = Outsider::new(times);
    let result = std::thread::scope(|s| {
        let window = outsider.clone();
        let change = move |n: &u64| {
            window.window();
            n + 1
        };
        let inside = s.spawn(|| engine.protect(class, protection, &value, change));
        outsider.interfere(|| _ = value.update(|n| n + 10));
        inside.join().expect("it doesn't panic")
    });
    (value, result.map(|snapshot| *snapshot))
}

#[test]
fn a_hundred_that_all_read_before_any_writes_add_up() {
    const MANY: u32 = 100;
    // Each of the others makes it lose once.
    let (engine, class) = engine(MANY - 1);
    let value = Entity::new(0_u64);
    let all_have_read = Arc::new(Barrier::new(MANY as usize));
    std::thread::scope(|s| {
        for _ in 0..MANY {
            let (engine, value) = (&engine, &value);
            let (all_have_read, looks) = (all_have_read.clone(), AtomicU32::new(0));
            s.spawn(move || {
                let change = move |n: &u64| {
                    if looks.fetch_add(1, Ordering::Relaxed) == 0 {
                        all_have_read.wait();
                    }
                    n + 1
                };
                engine
                    .protect(class, Protection::Optimistic, value, change)
                    .expect("it may retry");
            });
        }
    });
    let snapshot = value.snapshot();
    assert_eq!((*snapshot, snapshot.stamp().version()), (100, 100));
    let counts = engine.counts();
    assert!(counts.conflicts >= 99, "{counts}");
    assert_eq!(counts.committed, 100);
}

#[test]
fn three_different_sums_are_all_there() {
    for protection in [Protection::Optimistic, Protection::Both] {
        let (engine, class) = engine(10);
        let value = Entity::new(0_u64);
        std::thread::scope(|s| {
            for more in [100, 200, 300] {
                let (engine, value) = (&engine, &value);
                s.spawn(move || {
                    engine
                        .protect(class, protection, value, move |n| n + more)
                        .expect("it may retry")
                });
            }
        });
        assert_eq!(*value.snapshot(), 600, "{protection:?}");
    }
}

#[test]
fn under_both_a_commit_from_outside_costs_one_more_attempt() {
    let (engine, class) = engine(1);
    let (value, result) = add_one_beside_ten(&engine, class, Protection::Both, 1);
    assert_eq!((result.expect("it may retry"), *value.snapshot()), (11, 11));
    assert_eq!(engine.counts().conflicts, 1);
}

#[test]
fn an_optimistic_one_is_tried_again_as_its_class_says() {
    let (engine, class) = engine(3);
    let (value, result) = add_one_beside_ten(&engine, class, Protection::Optimistic, 3);
    assert_eq!((result.expect("it may retry"), *value.snapshot()), (31, 31));
    let (value, result) = add_one_beside_ten(&engine, class, Protection::Optimistic, 4);
    let rejection = *result.unwrap_err().rejection().expect("it was");
    assert_eq!(
        (rejection.reason, rejection.attempts),
        (Reason::Exhausted { retries: 3 }, 4)
    );
    assert_eq!(*value.snapshot(), 40);
}

#[test]
fn without_retries_a_commit_from_outside_ends_it() {
    for protection in [Protection::None, Protection::Staged] {
        let (engine, class) = engine(50);
        let (value, result) = add_one_beside_ten(&engine, class, protection, 1);
        let rejection = *result.unwrap_err().rejection().expect("it was");
        assert_eq!(
            rejection.reason,
            Reason::Exhausted { retries: 0 },
            "{protection:?}"
        );
        assert_eq!(rejection.attempts, 1);
        assert_eq!(*value.snapshot(), 10);
    }
}

#[test]
fn those_that_take_turns_are_not_in_each_others_way() {
    let (engine, class) = engine(0);
    let value = Entity::new(0_u64);
    std::thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| {
                for _ in 0..100 {
                    engine
                        .protect(class, Protection::Staged, &value, |n| n + 1)
                        .expect("nobody else is there");
                }
            });
        }
    });
    assert_eq!(*value.snapshot(), 800);
    assert_eq!(engine.counts().conflicts, 0);
}

#[test]
fn its_own_error_reaches_the_caller_however_it_is_protected() {
    for protection in ALL {
        let engine = Engine::builder().workers(0).build();
        let value = Entity::new(7_u64);
        let refused = engine.try_protect(Class::NORMAL, protection, &value, |_| Err("no"));
        assert_eq!(refused.unwrap_err().into_refused(), Some("no"));
        let panicked = engine.protect(Class::NORMAL, protection, &value, |_| panic!("oops"));
        assert!(matches!(panicked, Err(OperationError::Panicked(_))));
        let left = engine.try_protect(Class::NORMAL, protection, &value, |_| Ok::<_, ()>(None));
        let left = left.expect("it refuses nothing");
        assert_eq!((*left, left.stamp().version()), (7, 0), "{protection:?}");
        let counts = engine.counts();
        let expected = if protection == Protection::None { 0 } else { 3 };
        assert_eq!(counts.submitted, expected);
        assert!(engine.is_clean());
    }
}

#[test]
fn what_the_engine_doesn_t_take_is_told() {
    let (engine, _) = engine(0);
    let mut policies = Policies::default();
    let other = ["a", "b"].map(|name| policies.add(ClassPolicy::new(name)).expect("it is new"));
    for protection in ALL {
        let value = Entity::new(0_u64);
        let unknown = engine.protect(other[1], protection, &value, |n| n + 1);
        assert!(matches!(
            unknown,
            Err(OperationError::NotTaken(NotTaken::UnknownClass))
        ));
        assert_eq!(value.snapshot().stamp().version(), 0);
    }
    engine
        .shut_down(snapcell::ShutDown::Finish, None)
        .expect("nothing is under way");
    for protection in ALL {
        let value = Entity::new(0_u64);
        let result = engine.protect(Class::NORMAL, protection, &value, |n| n + 1);
        // Which is past the engine.
        let is_past = protection == Protection::None;
        assert_eq!(result.is_ok(), is_past, "{protection:?}");
    }
}

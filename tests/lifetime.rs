//! Who keeps what alive: entities, snapshots, readers and what was replaced end in every order, on every
//! thread, at the end of threads too; each value is dropped exactly once, by a loop and not by
//! recursion, where its alignment and size are what they should be, and memory goes back.

mod support;

use snapcell::{
    Clock, Entity, Projected, Reader, Retry, Snapshot, Stamp, Stop, UpdateError, transaction,
    transaction_or_abort,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::marker::PhantomPinned;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use support::{Tally, Token, alone, elsewhere, panic_of, together};

/// Fewer where every access is checked.
const fn fewer_if_slow(number: usize) -> usize {
    if cfg!(snapcell_sanitize) {
        number / 20
    } else {
        number
    }
}

/// The system's allocator, with its calls counted.
struct Counting;

/// Bytes that are allocated in the whole process.
static LIVE: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    /// Allocations that this thread has made.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all is left to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: by the caller.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations this thread makes in `body`.
fn allocations_in<R>(body: impl FnOnce() -> R) -> (usize, R) {
    let before = ALLOCATIONS.get();
    let result = body();
    (ALLOCATIONS.get() - before, result)
}

/// Runs `body` on a thread with so much stack, and waits for its end.
fn with_stack<R: Send + 'static>(bytes: usize, body: impl FnOnce() -> R + Send + 'static) -> R {
    let thread = thread::Builder::new().stack_size(bytes).spawn(body);
    thread
        .unwrap()
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn logical<T: Send + Sync + 'static>(value: T) -> Entity<T> {
    Entity::builder(value).clock(Clock::logical()).build()
}

// The end, in every order.

/// Everything that can hold on to an entity or to one of its snapshots.
enum Holder {
    Handle(Entity<Token>),
    Reader(Reader<Token>),
    Snapshot(Snapshot<Token>),
    Part(Projected<Token, Token>),
}

/// All orders of `n` things.
fn permutations(n: usize) -> Vec<Vec<usize>> {
    match n {
        0 => vec![vec![]],
        _ => permutations(n - 1)
            .into_iter()
            .flat_map(|shorter| {
                (0..n).map(move |at| {
                    let mut longer = shorter.clone();
                    longer.insert(at, n - 1);
                    longer
                })
            })
            .collect(),
    }
}

#[test]
fn each_value_lives_as_long_as_its_last_holder_in_every_order_of_ends() {
    alone(|| {
        let orders = permutations(6);
        assert_eq!(orders.len(), 720);
        for (nth, order) in orders.iter().enumerate() {
            let tally = Tally::default();
            let entity = Entity::new(tally.token());
            let first = Holder::Snapshot(entity.snapshot());
            let part = Holder::Part(entity.snapshot().project(|token| token));
            entity.replace(tally.token());
            let reader = Holder::Reader(entity.reader());
            entity.replace(tally.token());
            let current = Holder::Snapshot(entity.snapshot());
            let other = Holder::Handle(entity.clone());
            let holders = [Holder::Handle(entity), other, reader, current, first, part];
            let mut holders = holders.map(Some);

            // What was replaced is released before one of the ends, or after all of them.
            let release_at = nth % 7;
            for (step, &which) in order.iter().enumerate() {
                if step == release_at {
                    snapcell::reclaim();
                }
                let holder = holders[which].take();
                if nth % 2 == 0 {
                    drop(holder);
                } else {
                    elsewhere(move || drop(holder));
                }
                let held = |which: usize| holders[which].is_some();
                let unreleased = step < release_at;
                let alive: Vec<usize> = [
                    unreleased || held(4) || held(5),
                    unreleased || held(2),
                    held(0) || held(1) || held(2) || held(3),
                ]
                .iter()
                .enumerate()
                .filter_map(|(number, alive)| alive.then_some(number))
                .collect();
                assert_eq!(
                    tally.alive(),
                    alive,
                    "after {:?} of {order:?}",
                    &order[..=step]
                );
            }
            snapcell::reclaim();
            tally.assert_all_dropped_once(3);
        }
    });
}

#[test]
fn holders_that_end_on_many_threads_at_once_end_each_value_once() {
    alone(|| {
        let rounds = fewer_if_slow(2_000);
        for _ in 0..rounds {
            let tally = Tally::default();
            let entity = Entity::new(tally.token());
            let first = Holder::Snapshot(entity.snapshot());
            entity.replace(tally.token());
            let holders = Mutex::new(vec![
                first,
                Holder::Reader(entity.reader()),
                Holder::Snapshot(entity.snapshot()),
                Holder::Part(entity.snapshot().project(|token| token)),
                Holder::Handle(entity.clone()),
                Holder::Handle(entity),
            ]);
            let start = Barrier::new(3);
            together(3, |_| {
                let mine = {
                    let mut holders = holders.lock().unwrap();
                    [holders.pop().unwrap(), holders.pop().unwrap()]
                };
                start.wait();
                for holder in mine {
                    match holder {
                        Holder::Handle(entity) => drop(entity),
                        Holder::Reader(mut reader) => drop(reader.get().clone()),
                        Holder::Snapshot(snapshot) => drop(snapshot.clone()),
                        Holder::Part(part) => drop(part.whole()),
                    }
                }
            });
            snapcell::reclaim();
            tally.assert_all_dropped_once(2);
        }
    });
}

#[test]
fn a_snapshot_outlives_its_entity_and_its_thread() {
    alone(|| {
        let tally = Tally::default();
        let snapshot = elsewhere(|| {
            let entity = Entity::new(tally.token());
            entity.replace(tally.token());
            entity.snapshot()
        });
        snapcell::reclaim();
        assert_eq!((tally.alive(), snapshot.number()), (vec![1], 1));
        drop(elsewhere(move || snapshot.clone()));
        tally.assert_all_dropped_once(2);
    });
}

#[test]
fn commits_and_ends_race_and_nothing_is_lost() {
    alone(|| {
        let tally = Tally::default();
        let made = AtomicUsize::new(1);
        let rounds = fewer_if_slow(500);
        let entity = Mutex::new(Entity::new(tally.token()));
        for _ in 0..rounds {
            // Each thread has a handle of its own that ends in the middle of the others' commits.
            let handles = Mutex::new(vec![entity.lock().unwrap().clone(); 4]);
            *entity.lock().unwrap() = Entity::new(tally.token());
            made.fetch_add(1, Ordering::Relaxed);
            let start = Barrier::new(4);
            together(4, |thread| {
                let handle = handles.lock().unwrap().pop().unwrap();
                start.wait();
                for _ in 0..thread {
                    let kept = handle.snapshot();
                    handle.replace(tally.token());
                    made.fetch_add(1, Ordering::Relaxed);
                    drop(kept);
                }
            });
        }
        drop(entity);
        snapcell::reclaim();
        tally.assert_all_dropped_once(made.into_inner());
    });
}

// Long chains.

/// A value that holds an older snapshot, whose value holds a still older one.
struct Link {
    _before: Before,
    _token: Option<Token>,
}

enum Before {
    Nothing,
    Snapshot { _kept: Snapshot<Link> },
    Part { _kept: Projected<Link, Link> },
    Entity { _kept: Entity<Link> },
}

fn link(before: Before) -> Link {
    Link {
        _before: before,
        _token: None,
    }
}

/// An entity whose value leads to `length` older ones, each of which leads to the rest.
fn chain(length: usize, tally: &Tally) -> Entity<Link> {
    let entity = Entity::new(Link {
        _before: Before::Nothing,
        _token: Some(tally.token()),
    });
    for nth in 0..length {
        let kept = entity.snapshot();
        entity.replace(link(if nth % 2 == 0 {
            Before::Snapshot { _kept: kept }
        } else {
            Before::Part {
                _kept: kept.project(|link| link),
            }
        }));
    }
    snapcell::reclaim();
    entity
}

/// Far less than a million destructors inside each other would need.
const SMALL: usize = 96 * 1024;

#[test]
fn a_million_older_snapshots_end_with_the_last_handle_on_a_small_stack() {
    alone(|| {
        let tally = Tally::default();
        let entity = chain(fewer_if_slow(1_000_000), &tally);
        assert_eq!(tally.alive(), [0]);
        with_stack(SMALL, move || drop(entity));
        tally.assert_all_dropped_once(1);
    });
}

#[test]
fn a_million_older_snapshots_end_with_the_last_snapshot_on_a_small_stack() {
    alone(|| {
        let tally = Tally::default();
        let entity = chain(fewer_if_slow(1_000_000), &tally);
        let snapshot = entity.snapshot();
        drop(entity);
        assert_eq!(tally.alive(), [0]);
        with_stack(SMALL, move || drop(snapshot));
        tally.assert_all_dropped_once(1);
    });
}

#[test]
fn a_million_older_snapshots_end_in_a_drain_on_a_small_stack() {
    alone(|| {
        let tally = Tally::default();
        let entity = chain(fewer_if_slow(1_000_000), &tally);
        with_stack(SMALL, move || {
            entity.replace(link(Before::Nothing));
            snapcell::reclaim();
        });
        tally.assert_all_dropped_once(1);
    });
}

#[test]
fn a_million_older_snapshots_end_in_a_later_commit_on_a_small_stack() {
    alone(|| {
        let tally = Tally::default();
        let entity = chain(fewer_if_slow(1_000_000), &tally);
        let watch = tally.clone();
        with_stack(SMALL, move || {
            entity.replace(link(Before::Nothing));
            let mut commits = 0;
            while !watch.alive().is_empty() {
                entity.replace(link(Before::Nothing));
                commits += 1;
                assert!(commits < 10_000, "commits did not free it");
            }
        });
        tally.assert_all_dropped_once(1);
    });
}

#[test]
fn a_million_older_snapshots_end_with_a_reader_or_an_owner_on_a_small_stack() {
    alone(|| {
        let tally = Tally::default();
        let length = fewer_if_slow(1_000_000);

        let entity = chain(length, &tally);
        let mut reader = entity.reader();
        entity.replace(link(Before::Nothing));
        snapcell::reclaim();
        assert_eq!(tally.alive(), [0], "the reader has not moved on");
        with_stack(SMALL, move || drop(reader.get().clone()));
        tally.assert_all_dropped_once(1);

        let entity = chain(length, &tally);
        with_stack(SMALL, move || {
            drop(entity.into_inner().map_err(drop).unwrap())
        });
        tally.assert_all_dropped_once(2);

        let entity = chain(length, &tally);
        let last = entity.snapshot();
        let refused = with_stack(SMALL, move || {
            let late = link(Before::Snapshot { _kept: last });
            let error = entity.try_commit(Stamp::new(0, 0), late).map(drop);
            drop(entity);
            error.unwrap_err().into_proposed()
        });
        assert_eq!(tally.alive(), [2]);
        with_stack(SMALL, move || drop(refused));
        tally.assert_all_dropped_once(3);
    });
}

#[test]
fn entities_inside_each_others_values_end_on_a_small_stack() {
    alone(|| {
        let tally = Tally::default();
        let mut entity = chain(0, &tally);
        for _ in 0..fewer_if_slow(200_000) {
            entity = Entity::new(link(Before::Entity { _kept: entity }));
        }
        assert_eq!(tally.alive(), [0]);
        with_stack(SMALL, move || drop(entity));
        tally.assert_all_dropped_once(1);
    });
}

#[test]
fn a_chain_ends_where_somebody_still_holds_a_link() {
    alone(|| {
        let (tally, mut kept) = (Tally::default(), None);
        let entity = Entity::new(link(Before::Nothing));
        for nth in 0..1000 {
            let before = entity.snapshot();
            if nth == 500 {
                kept = Some(before.clone());
            }
            entity.replace(Link {
                _before: Before::Snapshot { _kept: before },
                _token: Some(tally.token()),
            });
        }
        snapcell::reclaim();
        drop(entity);
        assert_eq!(tally.alive(), (0..500).collect::<Vec<_>>());
        drop(kept);
        tally.assert_all_dropped_once(1000);
    });
}

// What payloads are like.

#[test]
fn a_value_of_no_size_is_committed_and_dropped_like_any_other() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    struct Nothing;
    impl Drop for Nothing {
        fn drop(&mut self) {
            DROPS.fetch_add(1, Ordering::Relaxed);
        }
    }
    alone(|| {
        let entity = logical(Nothing);
        let held = entity.snapshot();
        for version in 1..=1000 {
            assert_eq!(
                entity.replace(Nothing).stamp(),
                Stamp::new(version, version)
            );
        }
        snapcell::reclaim();
        assert_eq!(
            DROPS.load(Ordering::Relaxed),
            999,
            "all but the first and the last"
        );
        drop((held, entity));
        assert_eq!(DROPS.load(Ordering::Relaxed), 1001);

        let unit = logical(());
        unit.update(|()| ());
        assert_eq!(unit.snapshot().stamp(), Stamp::new(1, 1));
        unit.into_inner().unwrap();
    });
}

/// Follows a payload through all its places, and looks at its address and content everywhere.
fn assert_kept_in_place<T: Clone + PartialEq + Debug + Send + Sync + 'static>(
    make: impl Fn(u64) -> T + Sync,
) {
    let check = |value: &T, nth: u64| {
        let address = std::ptr::from_ref(value).addr();
        assert_eq!(address % align_of::<T>(), 0, "align {}", align_of::<T>());
        // Not by `assert_eq`: the payload may be large.
        assert!(*value == make(nth), "content of value {nth}");
    };
    let entity = Entity::new(make(0));
    let mut held = vec![entity.snapshot()];
    let mut reader = entity.reader();
    for nth in 1..=300 {
        let committed = match nth % 3 {
            0 => entity.replace(make(nth)),
            1 => entity.update(|value| {
                check(value, nth - 1);
                make(nth)
            }),
            _ => entity.try_commit_on(&entity.snapshot(), make(nth)).unwrap(),
        };
        check(&committed.current(), nth);
        check(&committed.previous(), nth - 1);
        drop(committed);
        entity.read(|value| check(value, nth));
        check(&reader.get().clone(), nth);
        if nth % 100 == 0 {
            held.push(entity.snapshot());
            elsewhere(|| {
                check(&entity.snapshot(), nth);
                drop(entity.clone());
            });
            snapcell::reclaim();
        }
    }
    for (snapshot, nth) in held.iter().zip([0, 100, 200, 300]) {
        check(snapshot, nth);
    }
    drop((held, reader));
    check(&entity.into_inner().map_err(drop).unwrap(), 300);
}

#[test]
fn over_aligned_values_are_aligned_everywhere() {
    macro_rules! aligned_to {
        ($($align:literal),*) => {$({
            #[derive(Clone, PartialEq, Debug)]
            #[repr(align($align))]
            struct Aligned(u64, u8);
            assert_kept_in_place(|nth| Aligned(nth, !(nth as u8)));

            #[derive(Clone, PartialEq, Debug)]
            #[repr(align($align))]
            struct Empty;
            assert_kept_in_place(|_| Empty);
        })*};
    }
    alone(|| {
        aligned_to!(1, 16, 32, 64, 4096);
        assert_kept_in_place(u128::from);
        assert_kept_in_place(|nth| [u128::from(nth); 9]);
    });
}

#[test]
fn values_of_every_size_are_kept_whole() {
    macro_rules! of_size {
        ($($bytes:expr),*) => {$(
            assert_kept_in_place(|nth| {
                let mut bytes = [nth as u8; $bytes];
                bytes[$bytes / 2] = (nth >> 8) as u8;
                bytes[$bytes - 1] = !(nth as u8);
                bytes
            });
        )*};
    }
    alone(|| {
        // Without optimization the largest are copied more often than fits on a test's own stack.
        with_stack(64 << 20, || {
            // Around a step of the size classes, the largest class, a page, and more than the largest.
            of_size!(1, 8, 9, 24, 25, 64, 1000, 4072, 4073, 4096, 5000, 65_536);
        });
    });
}

#[test]
fn a_value_of_a_mebibyte_is_kept_whole() {
    alone(|| {
        // On the stack it would be copied more often than a test's own stack is large.
        with_stack(64 << 20, || {
            let make = |nth: u64| {
                let mut bytes = [nth as u8; 1 << 20];
                bytes[(nth as usize * 7919) % bytes.len()] = !(nth as u8);
                bytes
            };
            let entity = Entity::new(make(0));
            let first = entity.snapshot();
            for nth in 1..=50 {
                entity.update(|before| {
                    assert!(*before == make(nth - 1));
                    make(nth)
                });
            }
            assert!(*first == make(0));
            assert!(*entity.snapshot() == make(50));
            drop(first);
            assert!(entity.into_inner().unwrap() == make(50));
        });
    });
}

#[test]
fn a_value_that_must_not_move_does_not_move_once_it_is_published() {
    struct Pinned {
        _pin: PhantomPinned,
    }
    alone(|| {
        let entity = Entity::new(Pinned {
            _pin: PhantomPinned,
        });
        let place = entity.read(|value| std::ptr::from_ref(value).addr());
        let held = entity.snapshot();
        entity.replace(Pinned {
            _pin: PhantomPinned,
        });
        snapcell::reclaim();
        drop(entity);
        assert_eq!(std::ptr::from_ref(&*held).addr(), place);
    });
}

// Memory.

#[test]
fn an_entity_takes_two_allocations() {
    alone(|| {
        elsewhere(|| {
            let _warm = Entity::new(0_u8);
            drop(snapcell::pin());
            let (allocations, entity) = allocations_in(|| Entity::new([1_u8; 1234]));
            assert_eq!(
                allocations, 2,
                "the node of the value, and the block behind the handles"
            );
            let (allocations, _) = allocations_in(|| {
                let other = entity.clone();
                let guard = snapcell::pin();
                (
                    other.load(&guard).snapshot(),
                    other.snapshot(),
                    entity.reader(),
                )
            });
            assert_eq!(allocations, 0, "reads, handles and readers take none");
        });
    });
}

/// Asserts that commits of a payload of so many bytes take no new memory, on a thread of their own.
fn assert_recycled<const BYTES: usize>() {
    // A build for the address sanitizer recycles nothing: it is to see each free.
    if cfg!(snapcell_sanitize) {
        return;
    }
    elsewhere(|| {
        let entity = Entity::new([0_u8; BYTES]);
        let commit = |times: usize| (0..times).for_each(|n| drop(entity.replace([n as u8; BYTES])));
        commit(5_000);
        let before = LIVE.load(Ordering::Relaxed);
        let (allocations, ()) = allocations_in(|| commit(10_000));
        // The epoch scheme takes some for each 256 commits.
        assert!(
            allocations <= 400,
            "{allocations} allocations in 10 000 commits of {BYTES} bytes"
        );
        let grown = LIVE.load(Ordering::Relaxed) - before;
        assert!(grown < 64 << 10, "{grown} bytes more than before");
    });
}

#[test]
fn commits_use_the_memory_of_what_they_replaced_again() {
    alone(|| {
        assert_recycled::<0>();
        assert_recycled::<8>();
        assert_recycled::<100>();
        assert_recycled::<1024>();
        assert_recycled::<4072>();
    });
}

#[test]
fn commits_use_the_memory_of_a_page_again() {
    alone(|| {
        assert_recycled::<4096>();
    });
}

/// Has a transaction leave something at the head of an entity that stands for what is current there.
type Leave = fn(&[Entity<u64>; 2]);

/// Replaces what is current there.
type Commit = fn(&Entity<u64>);

fn write<const N: usize>(entities: [&Entity<u64>; N]) {
    transaction(|tx| {
        entities.iter().for_each(|entity| tx.write(*entity, 2));
        Ok(())
    });
}

/// A node for what it has only read.
fn leave_a_proxy([entity, other]: &[Entity<u64>; 2]) {
    transaction(|tx| {
        tx.require(entity)?;
        tx.write(other, 1);
        Ok(())
    });
}

/// The node of an attempt that was aborted by what happened at the other entity, where it installs last.
fn leave_an_aborted_node([entity, other]: &[Entity<u64>; 2]) {
    let result = transaction_or_abort(|tx| {
        if tx.attempt() > 1 {
            return Err(Stop::Abort(()));
        }
        tx.write(entity, 1);
        tx.require(other)?;
        // Applied when both are prepared for.
        tx.fold(other, |n| {
            other.replace(n + 1);
            n + 1
        });
        Ok(())
    });
    assert_eq!(result, Err(()));
}

/// Two entities, in the order in which transactions install.
fn two_in_order() -> [Entity<u64>; 2] {
    let [first, second] = [0, 1].map(logical);
    let seen = RefCell::new(Vec::new());
    transaction(|tx| {
        let note = |n: &u64| {
            seen.borrow_mut().push(*n);
            *n
        };
        tx.fold(&first, note);
        tx.fold(&second, note);
        Ok(())
    });
    match seen.into_inner()[..] {
        [0, 1] => [first, second],
        _ => [second, first],
    }
}

/// None of it waits to be freed when it has been forgotten: only the memory tells.
#[test]
fn what_transactions_leave_at_heads_goes_back_when_it_is_replaced() {
    alone(|| {
        let ways: [(&str, Leave); 2] = [
            ("a proxy", leave_a_proxy),
            ("an aborted node", leave_an_aborted_node),
        ];
        let commits: [(&str, Commit); 3] = [
            ("a commit", |entity| drop(entity.replace(2))),
            ("a transaction over it alone", |entity| write([entity])),
            ("a transaction over two", |entity| {
                write([entity, &logical(0)])
            }),
        ];
        let rounds = fewer_if_slow(5_000);
        for (left, leave) in ways {
            for (replaced_by, commit) in commits {
                elsewhere(|| {
                    let both = two_in_order();
                    let live_after = |rounds| {
                        for _ in 0..rounds {
                            leave(&both);
                            commit(&both[0]);
                        }
                        snapcell::reclaim();
                        LIVE.load(Ordering::Relaxed)
                    };
                    let before = live_after(rounds);
                    let grown = live_after(rounds) - before;
                    // A header is 40 bytes.
                    assert!(
                        grown < 10 * rounds as isize,
                        "{left}, replaced by {replaced_by}: {grown} bytes more after {rounds} rounds"
                    );
                });
            }
        }
    });
}

#[test]
fn all_memory_of_ended_threads_goes_back() {
    alone(|| {
        let work = || {
            together(2, |_| {
                let entity = Entity::new([0_u64; 32]);
                let kept: Vec<_> = (0..2_000)
                    .map(|n| entity.replace([n; 32]).snapshot())
                    .collect();
                drop(entity);
                elsewhere(move || drop(kept));
            });
            snapcell::reclaim();
            LIVE.load(Ordering::Relaxed)
        };
        let before = work();
        let after = (0..20).map(|_| work()).min().unwrap();
        let more = after - before;
        // This thread keeps some of what it frees for the others, up to a mebibyte.
        assert!(
            more < (1 << 20) + (256 << 10),
            "{more} bytes more after 20 rounds of some 1 200 000"
        );
    });
}

#[test]
fn a_version_that_is_kept_takes_64_bytes() {
    alone(|| {
        elsewhere(|| {
            const VERSIONS: u64 = 1_000_000;
            let entity = Entity::builder(0_u64).retain(snapcell::Retain::All).build();
            let before = LIVE.load(Ordering::Relaxed);
            for _ in 0..VERSIONS {
                entity.update(|n| n + 1);
            }
            let grown = LIVE.load(Ordering::Relaxed) - before;
            let each = grown as f64 / VERSIONS as f64;
            // A node of 56, a word; and places in reserve.
            assert!(each < 65.0, "{each} bytes for each version");
            assert_eq!(entity.history().len() as u64, VERSIONS + 1);
        });
    });
}

#[test]
fn one_thread_makes_and_another_ends_and_neither_keeps_much() {
    alone(|| {
        const KIB: usize = 1024;
        let values = fewer_if_slow(40_000);
        let tally = Tally::default();
        let before = LIVE.load(Ordering::Relaxed);
        let entity = Entity::new(([0_u8; KIB], tally.token()));
        let (send, receive) = sync_channel::<Snapshot<([u8; KIB], Token)>>(64);
        let most = AtomicUsize::new(0);
        let finish = Barrier::new(2);
        let receive = Mutex::new(Some(receive));
        let send = Mutex::new(Some(send));
        let kept = together(2, |thread| {
            if thread == 0 {
                let send = send.lock().unwrap().take().unwrap();
                for nth in 1..=values {
                    // The producer drops none of its values: the consumer is the last to hold them.
                    let committed = entity.replace(([nth as u8; KIB], tally.token()));
                    let snapshot = committed.snapshot();
                    drop(committed);
                    send.send(snapshot).unwrap();
                    most.fetch_max(snapcell::reclamation_lag().nodes, Ordering::Relaxed);
                }
                drop(send);
            } else {
                let receive = receive.lock().unwrap().take().unwrap();
                let mut last = 0;
                for snapshot in receive {
                    assert_eq!(snapshot.0[7], snapshot.stamp().version() as u8);
                    assert_eq!(snapshot.stamp().version(), last + 1);
                    last += 1;
                }
                assert_eq!(last as usize, values);
            }
            // Both threads still have what they keep for later.
            finish.wait();
            let kept = LIVE.load(Ordering::Relaxed) - before;
            finish.wait();
            kept
        });
        // At most a mebibyte for each thread, what waits for its grace, and the tally itself.
        let bound = (2 << 20) + 2_000 * (KIB + 64) + 8 * values;
        assert!(
            kept[0] < bound as isize,
            "{} bytes are kept of {values} KiB that were made",
            kept[0]
        );
        let most = most.into_inner();
        assert!(most > 0 && most <= 2_000, "{most} nodes waited at once");
        snapcell::reclaim();
        assert_eq!(tally.alive(), [values]);
        drop(entity);
        tally.assert_all_dropped_once(values + 1);
    });
}

// Guards.

#[test]
fn nested_guards_protect_until_the_last_of_them_ends() {
    alone(|| {
        let tally = Tally::default();
        for inner_first in [true, false] {
            let entity = Entity::new(tally.token());
            let number = entity.snapshot().number();
            let outer = snapcell::pin();
            let inner = snapcell::pin();
            let loaded = entity.load(&outer);
            let deepest = snapcell::pin();
            entity.replace(tally.token());
            drop(deepest);
            snapcell::reclaim();
            assert_eq!(loaded.number(), number);
            if inner_first {
                drop(inner);
                snapcell::reclaim();
                assert_eq!(loaded.number(), number, "the outer one is still there");
                drop(outer);
            } else {
                let loaded = entity.load(&inner);
                drop(outer);
                snapcell::reclaim();
                assert_eq!(loaded.number(), number + 1);
                assert!(
                    tally.alive().contains(&number),
                    "the inner one is still there"
                );
                drop(inner);
            }
            snapcell::reclaim();
            assert_eq!(tally.alive(), [number + 1]);
            drop(entity);
        }
        tally.assert_all_dropped_once(4);
    });
}

#[test]
fn a_guard_that_a_panic_unwinds_holds_nothing_back() {
    alone(|| {
        let tally = Tally::default();
        let entity = Entity::new(tally.token());
        let message = panic_of(|| {
            let _outer = snapcell::pin();
            entity.read(|_| {
                entity.replace(tally.token());
                panic!("inside two guards")
            })
        });
        assert_eq!(message, "inside two guards");
        snapcell::reclaim();
        assert_eq!(tally.alive(), [1]);
    });
}

#[test]
fn an_outcome_of_a_commit_is_a_guard() {
    alone(|| {
        let tally = Tally::default();
        let entity = Entity::new(tally.token());
        let committed = entity.replace(tally.token());
        elsewhere(|| drop(entity.replace(tally.token())));
        snapcell::reclaim();
        assert_eq!(
            (committed.previous().number(), committed.current().number()),
            (0, 1)
        );
        assert_eq!(tally.alive(), [0, 1, 2]);
        drop(committed);
        snapcell::reclaim();
        assert_eq!(tally.alive(), [2]);
    });
}

// Ends of threads.

thread_local! {
    /// What a thread holds until its very end.
    static KEPT: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

/// Thread-locals end in the reverse order of their first use.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// What is kept ends while the crate's own thread-locals are there.
    KeptFirst,
    /// What is kept ends when the crate's own thread-locals are gone.
    CrateFirst,
    /// The thread makes no use of the crate before it keeps something.
    CrateUnused,
}

const ORDERS: [Order; 3] = [Order::KeptFirst, Order::CrateFirst, Order::CrateUnused];

/// Keeps what `make` returns until the very end of this thread.
fn keep_until_the_end<K: 'static>(order: Order, make: impl FnOnce() -> K) {
    let use_kept = || KEPT.with_borrow_mut(Vec::clear);
    let use_crate = || {
        let entity = Entity::new([0_u8; 40]);
        entity.replace([1; 40]);
        drop(snapcell::pin());
    };
    match order {
        Order::KeptFirst => {
            use_crate();
            use_kept();
        }
        Order::CrateFirst => {
            use_kept();
            use_crate();
        }
        Order::CrateUnused => use_kept(),
    }
    let kept = make();
    KEPT.with_borrow_mut(|all| all.push(Box::new(kept)));
}

/// Runs `make` on a new thread that keeps the result until its end, and waits for that.
fn end_with<K: 'static>(order: Order, make: impl FnOnce() -> K + Send) {
    elsewhere(|| keep_until_the_end(order, make));
}

/// Does something when it is dropped.
struct AtTheEnd<F: FnMut()>(F);

impl<F: FnMut()> Drop for AtTheEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn a_thread_may_end_with_a_guard_in_a_thread_local() {
    alone(|| {
        for order in ORDERS {
            let tally = Tally::default();
            let entity = Entity::new(tally.token());
            end_with(order, || {
                let guard = snapcell::pin();
                for _ in 0..600 {
                    entity.replace(tally.token());
                }
                (guard, snapcell::pin())
            });
            snapcell::reclaim();
            assert_eq!(
                tally.alive(),
                [600],
                "{order:?}: the guard ended with the thread"
            );
            drop(entity);
            tally.assert_all_dropped_once(601);
        }
    });
}

#[test]
fn a_thread_may_end_with_snapshots_readers_and_entities_in_a_thread_local() {
    alone(|| {
        for order in ORDERS {
            let tally = Tally::default();
            let entity = Entity::new(tally.token());
            end_with(order, || {
                let snapshot = entity.snapshot();
                entity.replace(tally.token());
                let reader = entity.reader();
                let part = entity.snapshot().project(|token| token);
                entity.replace(tally.token());
                let own = Entity::new(tally.token());
                own.replace(tally.token());
                (snapshot, reader, part, own, snapcell::pin())
            });
            snapcell::reclaim();
            assert_eq!(tally.alive(), [2], "{order:?}");
            drop(entity);
            tally.assert_all_dropped_once(5);
        }
    });
}

#[test]
fn a_thread_may_commit_while_it_ends() {
    alone(|| {
        for order in ORDERS {
            let tally = Tally::default();
            let entity = logical(tally.token());
            let (handle, tokens) = (entity.clone(), tally.clone());
            end_with(order, move || {
                AtTheEnd(move || {
                    for _ in 0..300 {
                        handle.replace(tokens.token());
                        let base = handle.snapshot();
                        let committed = handle.try_commit_on(&base, tokens.token());
                        assert_eq!(committed.map(|c| c.attempts()).ok(), Some(1));
                        handle.reader().get();
                        handle.read(|_| ());
                    }
                    snapcell::reclaim();
                    let _ = snapcell::reclamation_lag();
                })
            });
            assert_eq!(entity.snapshot().stamp(), Stamp::new(600, 600), "{order:?}");
            snapcell::reclaim();
            assert_eq!(tally.alive(), [600], "{order:?}");
            drop(entity);
            tally.assert_all_dropped_once(601);
        }
    });
}

#[test]
fn a_value_whose_destructor_commits_may_end_with_its_thread() {
    alone(|| {
        for order in ORDERS {
            let counter = logical(0);
            let handle = counter.clone();
            end_with(order, move || {
                let commit = move || drop(handle.update(|n| n + 1));
                let entity = Entity::new(AtTheEnd(commit.clone()));
                entity.replace(AtTheEnd(commit));
                entity
            });
            snapcell::reclaim();
            assert_eq!(*counter.snapshot(), 2, "{order:?}");
        }
    });
}

#[test]
fn a_chain_may_end_with_its_thread_on_a_small_stack() {
    alone(|| {
        for order in ORDERS {
            let tally = Tally::default();
            let entity = chain(fewer_if_slow(100_000), &tally);
            with_stack(SMALL, move || keep_until_the_end(order, || entity));
            tally.assert_all_dropped_once(1);
        }
    });
}

#[test]
fn an_update_made_while_a_thread_ends_finds_its_self_conflict_too() {
    alone(|| {
        for order in ORDERS {
            let entity = logical(1);
            let outcome = Arc::new(Mutex::new(None));
            let (handle, seen) = (entity.clone(), Arc::clone(&outcome));
            end_with(order, move || {
                AtTheEnd(move || {
                    let updated = handle.update_with(Retry::at_most(3), |n| {
                        handle.replace(50);
                        n + 1
                    });
                    let is_found = matches!(updated, Err(UpdateError::SelfConflict { .. }));
                    *seen.lock().unwrap() = Some(is_found);
                })
            });
            assert_eq!(*outcome.lock().unwrap(), Some(true), "{order:?}");
            assert_eq!(entity.snapshot().stamp().version(), 1, "{order:?}");
        }
    });
}

#[test]
fn thousands_of_short_lived_threads_leave_nothing_behind() {
    alone(|| {
        let tally = Tally::default();
        let entity = Entity::new(tally.token());
        let rounds = fewer_if_slow(1_500);
        for round in 0..rounds {
            together(2, |_| {
                for _ in 0..3 {
                    entity.replace(tally.token());
                }
            });
            // Their orphans are adopted while others still come.
            if round % 2 == 0 {
                entity.replace(tally.token());
            }
        }
        let commits = rounds * 6 + rounds.div_ceil(2);
        assert_eq!(entity.snapshot().stamp().version() as usize, commits);
        snapcell::reclaim();
        assert_eq!(tally.alive().len(), 1);
        assert_eq!(snapcell::reclamation_lag().nodes, 0);
        drop(entity);
        tally.assert_all_dropped_once(commits + 1);
    });
}

#[test]
fn threads_that_end_under_anothers_guard_leave_orphans_that_wait_for_it() {
    alone(|| {
        let tally = Tally::default();
        let entity = Entity::new(tally.token());
        let guard = snapcell::pin();
        let first = entity.load(&guard);
        for _ in 0..50 {
            elsewhere(|| (0..10).for_each(|_| drop(entity.replace(tally.token()))));
        }
        snapcell::reclaim();
        assert_eq!(snapcell::reclamation_lag().nodes, 500);
        assert_eq!((tally.alive().len(), first.number()), (501, 0));
        drop(guard);
        snapcell::reclaim();
        assert_eq!(tally.alive(), [500]);
    });
}

// Destructors that use the crate.

#[test]
fn a_destructor_may_commit_to_another_entity() {
    alone(|| {
        let counter = logical(0);
        let counts = || {
            let counter = counter.clone();
            AtTheEnd(move || drop(counter.update(|n| n + 1)))
        };
        let entity = Entity::new(counts());
        for _ in 0..2_000 {
            entity.replace(counts());
        }
        snapcell::reclaim();
        assert_eq!(*counter.snapshot(), 2_000);
        assert_eq!(
            snapcell::reclamation_lag().nodes,
            0,
            "those commits' own included"
        );
        drop(entity);
        assert_eq!(counter.snapshot().stamp(), Stamp::new(2_001, 2_001));
    });
}

#[test]
fn a_destructor_may_commit_to_the_entity_that_it_was_a_value_of() {
    struct Echo {
        entity: Entity<Option<Echo>>,
        left: u32,
        _token: Token,
        tally: Tally,
    }
    impl Echo {
        fn new(entity: &Entity<Option<Echo>>, left: u32, tally: &Tally) -> Self {
            Echo {
                entity: entity.clone(),
                left,
                _token: tally.token(),
                tally: tally.clone(),
            }
        }
    }
    impl Drop for Echo {
        fn drop(&mut self) {
            let next = self.left.checked_sub(1);
            let echo = next.map(|left| Echo::new(&self.entity, left, &self.tally));
            self.entity.replace(echo);
        }
    }

    alone(|| {
        let tally = Tally::default();
        let entity = logical(None);
        entity.replace(Some(Echo::new(&entity, 9, &tally)));
        for round in 1..=10_u64 {
            entity.replace(None);
            snapcell::reclaim();
            assert_eq!(
                tally.alive().len(),
                usize::from(round < 10),
                "the next echo"
            );
            assert_eq!(entity.snapshot().stamp().version(), 1 + 2 * round);
            assert_eq!(snapcell::reclamation_lag().nodes, 0);
        }
        assert!(entity.snapshot().is_none());
        tally.assert_all_dropped_once(10);
    });
}

#[test]
fn a_ring_stays_short_though_each_destructor_commits_several_times() {
    /// Commits to another entity when it ends.
    struct Noisy(Entity<u64>, usize);
    impl Drop for Noisy {
        fn drop(&mut self) {
            for _ in 0..self.1 {
                self.0.update(|n| n + 1);
            }
        }
    }
    alone(|| {
        for commits in [1, 2, 3, 10] {
            let count = logical(0);
            let entity = logical(Noisy(count.clone(), commits));
            let replaced = fewer_if_slow(100_000);
            // The least of the second half: a thread that ends elsewhere may be in the way for a
            // while, but what grows with every commit has no low point any more.
            let mut least = usize::MAX;
            for number in 0..replaced {
                entity.replace(Noisy(count.clone(), commits));
                if number >= replaced / 2 {
                    least = least.min(snapcell::reclamation_lag().nodes);
                }
            }
            let most = replaced / 20;
            assert!(
                least < most,
                "{commits} commits each: {least} nodes waited at least"
            );
            drop(entity);
            snapcell::reclaim();
            assert_eq!(*count.snapshot(), ((replaced + 1) * commits) as u64);
        }
    });
}

#[test]
fn orphans_are_not_released_in_one_commit() {
    alone(|| {
        let (tally, left) = (Tally::default(), 5_000);
        let guard = snapcell::pin();
        elsewhere(|| {
            let entity = logical(tally.token());
            for _ in 0..left {
                entity.replace(tally.token());
            }
        });
        drop(guard);
        let other = logical(0);
        let mut most = 0;
        for _ in 0..100_000 {
            let before = tally.alive().len();
            other.replace(1);
            most = most.max(before - tally.alive().len());
            if before == 0 {
                break;
            }
        }
        tally.assert_all_dropped_once(left + 1);
        assert!(most <= 64, "{most} in one commit");
    });
}

#[test]
fn a_destructor_may_commit_while_commits_drain() {
    alone(|| {
        let counter = logical(0_u64);
        let entity = Entity::new(None);
        let mut commits = 0;
        while *counter.snapshot() < 1_000 {
            let counter = counter.clone();
            entity.replace(Some(AtTheEnd(move || drop(counter.update(|n| n + 1)))));
            commits += 1;
            assert!(commits < 100_000, "commits did not drain");
            assert!(snapcell::reclamation_lag().nodes <= 4_000);
        }
        entity.replace(None);
        snapcell::reclaim();
        assert_eq!(*counter.snapshot(), commits);
    });
}

#[test]
fn a_destructor_may_end_entities_and_reclaim() {
    alone(|| {
        let tally = Tally::default();
        let nest = || {
            let inner = Entity::new(tally.token());
            inner.replace(tally.token());
            let old = inner.snapshot();
            inner.replace(tally.token());
            let reader = inner.reader();
            AtTheEnd(move || {
                let _ = (&inner, &old, &reader);
                snapcell::reclaim();
                let _ = snapcell::reclamation_lag();
                drop(snapcell::pin());
            })
        };
        let entity = Entity::new(nest());
        for _ in 0..300 {
            entity.replace(nest());
        }
        snapcell::reclaim();
        assert_eq!(
            tally.alive().len(),
            3 - 1,
            "of the last nest; its first value is free"
        );
        drop(entity);
        tally.assert_all_dropped_once(301 * 3);
    });
}

#[test]
fn a_destructor_may_take_the_value_out_of_another_entity() {
    struct Takes(Option<Entity<Token>>, Arc<Mutex<Vec<Token>>>);
    impl Drop for Takes {
        fn drop(&mut self) {
            let token = self.0.take().unwrap().into_inner().map_err(drop).unwrap();
            self.1.lock().unwrap().push(token);
        }
    }
    alone(|| {
        let tally = Tally::default();
        let saved = Arc::new(Mutex::new(Vec::new()));
        let entity = Entity::new(Takes(Some(Entity::new(tally.token())), Arc::clone(&saved)));
        for _ in 1..100 {
            entity.replace(Takes(Some(Entity::new(tally.token())), Arc::clone(&saved)));
        }
        drop(entity);
        snapcell::reclaim();
        assert_eq!(tally.alive().len(), 100);
        let mut numbers: Vec<_> = saved.lock().unwrap().iter().map(Token::number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
        saved.lock().unwrap().clear();
        tally.assert_all_dropped_once(100);
    });
}

#[test]
fn an_entity_inside_a_value_is_shared_by_the_versions_that_hold_it() {
    alone(|| {
        let tally = Tally::default();
        let inner = Entity::new((0, tally.token()));
        let outer = logical((String::from("a"), inner.clone()));
        drop(inner);
        let before = outer.snapshot();
        outer.update(|(_, inner)| {
            inner.update(|(n, _)| (n + 1, tally.token()));
            (String::from("b"), inner.clone())
        });
        assert_eq!(
            (before.1.snapshot().0, outer.snapshot().1.snapshot().0),
            (1, 1)
        );
        before.1.update(|(n, _)| (n + 1, tally.token()));
        assert_eq!(outer.snapshot().1.snapshot().0, 2);
        drop(outer);
        snapcell::reclaim();
        assert_eq!(tally.alive(), [2], "the snapshot keeps the inner entity");
        drop(before);
        tally.assert_all_dropped_once(3);
    });
}

#[test]
fn destructors_that_commit_run_on_many_threads_at_once() {
    alone(|| {
        const THREADS: usize = 4;
        let each = fewer_if_slow(3_000);
        let counter = Entity::new(0_usize);
        let entity = Entity::new(None);
        let start = Barrier::new(THREADS);
        let lost = AtomicBool::new(false);
        together(THREADS, |_| {
            for nth in 0..each {
                let counter = counter.clone();
                let value = AtTheEnd(move || drop(counter.update(|n| n + 1)));
                let mut value = Some(value);
                if nth == 0 {
                    // All of them on one snapshot: all but one lose, and go on with what won.
                    let base = entity.snapshot();
                    start.wait();
                    let Err(late) = entity.try_commit_on(&base, value.take()) else {
                        continue;
                    };
                    lost.store(true, Ordering::Relaxed);
                    value = late.into_proposed();
                }
                entity.replace(value);
            }
            snapcell::reclaim();
        });
        assert!(
            lost.into_inner(),
            "the threads did not get into each other's way"
        );
        assert_eq!(entity.snapshot().stamp().version() as usize, THREADS * each);
        entity.replace(None);
        snapcell::reclaim();
        assert_eq!(*counter.snapshot(), THREADS * each);
        assert_eq!(
            counter.snapshot().stamp().version() as usize,
            THREADS * each
        );
    });
}

#[test]
#[cfg(feature = "store")]
fn each_value_of_a_store_is_dropped_once() {
    alone(|| {
        let tally = Tally::default();
        let made = AtomicUsize::new(0);
        let token = || {
            made.fetch_add(1, Ordering::SeqCst);
            tally.token()
        };
        let mut builder = snapcell::Store::builder();
        let by_number = builder.index(|token: &Token| Some(token.number() % 3));
        let store = builder.build();
        let ids: Vec<_> = (0..6).map(|_| store.insert(token())).collect();
        for _ in 0..5 {
            for id in &ids {
                store.update(id, |_| token()).unwrap();
            }
        }
        let refused = store.insert_with(ids[0], token()).unwrap_err();
        drop(refused.into_proposed());
        let given_up: Result<(), ()> = snapcell::transaction_or_abort(|tx| {
            store.within(tx).insert(token())?;
            Err(snapcell::Stop::Abort(()))
        });
        given_up.unwrap_err();
        for id in &ids[..3] {
            store.remove(id).unwrap();
        }
        assert!(store.find(&by_number, &0).len() <= 3);
        store.validate().unwrap();
        drop((store, by_number));
        // What the map of ids holds back is freed by its own collector, when nobody looks.
        for _ in 0..1_000 {
            snapcell::reclaim();
        }
        tally.assert_all_dropped_once(made.load(Ordering::SeqCst));
    });
}

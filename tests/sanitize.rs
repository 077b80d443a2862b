//! A little of everything, by several threads, for the sanitizers to watch.
//!
//! A plain program: the thread sanitizer can't see how libtest hands its results over. In `cargo test`
//! it just runs. Under a sanitizer, on a nightly toolchain:
//!
//! ```text
//! cargo +nightly asan        memory that is used after its end, or given back twice
//! cargo +nightly lsan        memory that is never given back
//! cargo +nightly tsan        looks that nothing orders
//! ```
//! These builds can have a fault planted (`src/sync/fault.rs`), and then the sanitizer must object:
//! `SNAPCELL_FAULT=FreeAtOnce cargo +nightly asan` fails. `.ci/run` knows which one notices which.
//!
//! # What std does unseen
//! std itself is not built for the sanitizer, so the orders that its locks make in their slow paths are
//! invisible. So the threads here meet at flags of this file's own, and come to life one by one:
//! whatever is made once, or entered into a list, is so before others look.

use snapcell::{Clock, Entity, Projected, Snapshot};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::{env, panic, thread};

/// Threads of each part.
const THREADS: usize = 4;
/// Rounds of each thread: enough that every ring has many beacons.
const ROUNDS: u64 = 3_000;

fn main() {
    assert!(
        cfg!(snapcell_fault) || env::var_os("SNAPCELL_FAULT_BUILD").is_none(),
        "this build is without the flags that its alias gives; unset RUSTFLAGS"
    );
    // One pin and one commit before any thread: what is made once is made here.
    drop(snapcell::pin());
    Entity::new(0).replace(1);
    let parts: [(&str, fn()); 6] = [
        ("one entity, all calls", one_entity::<u64>),
        ("the same with text", one_entity::<String>),
        ("the same, aligned to a line", one_entity::<Line>),
        ("snapshots that change hands", snapshots_change_hands),
        ("threads that end early", threads_end_early),
        ("values that hold their past", values_hold_their_past),
    ];
    for (name, part) in parts {
        part();
        println!("{name}: done");
    }
    // The list of those who wait has a lock of std's: see above.
    if cfg!(all(snapcell_fault, not(snapcell_sanitize))) {
        println!("those who wait: left out, the thread sanitizer can't follow them");
    } else {
        those_who_wait();
        println!("those who wait: done");
    }
    snapcell::reclaim();
    let lag = snapcell::reclamation_lag();
    assert_eq!(lag.nodes, 0, "nobody is left, and yet {lag:?}");
}

/// Runs `work` on all threads at once. They start one by one, and end only when all are done, unless
/// `work` is over for good.
fn all_at_once(work: impl Fn(usize) + Sync) {
    let (ready, go) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|s| {
        let threads: Vec<_> = (0..THREADS)
            .map(|id| {
                let (ready_now, go, work) = (&ready, &go, &work);
                let thread = s.spawn(move || {
                    Entity::new(id).replace(id);
                    ready_now.fetch_add(1, SeqCst);
                    wait_until(|| go.load(SeqCst));
                    work(id);
                });
                wait_until(|| ready.load(SeqCst) > id);
                thread
            })
            .collect();
        go.store(true, SeqCst);
        for thread in threads {
            if let Err(panic) = thread.join() {
                panic::resume_unwind(panic);
            }
        }
    });
}

fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

/// A number in some shape.
trait Payload: Send + Sync + 'static {
    fn make(number: u64) -> Self;
    fn number(&self) -> u64;
}

impl Payload for u64 {
    fn make(number: u64) -> Self {
        number
    }

    fn number(&self) -> u64 {
        *self
    }
}

impl Payload for String {
    fn make(number: u64) -> Self {
        number.to_string()
    }

    fn number(&self) -> u64 {
        self.parse().expect("only numbers are written")
    }
}

/// Aligned to more than the pool's blocks: it comes from the allocator itself.
#[repr(align(128))]
struct Line([u64; 16]);

impl Payload for Line {
    fn make(number: u64) -> Self {
        Line([number; 16])
    }

    fn number(&self) -> u64 {
        let number = self.0[0];
        assert!(self.0.iter().all(|part| *part == number), "{:?}", self.0);
        number
    }
}

/// Half of the rounds are commits, by every call; the other half are reads, of every kind.
fn one_entity<P: Payload>() {
    let clock = if size_of::<P>() == 8 {
        Clock::logical()
    } else {
        Clock::monotonic()
    };
    let entity = Entity::builder(P::make(0)).clock(clock).build();
    let commits = AtomicUsize::new(0);
    let next = |value: &P| P::make(value.number() + 1);
    all_at_once(|id| {
        let mut reader = entity.reader();
        let mut kept: Option<Snapshot<P>> = None;
        let mut committed = 0;
        for round in id as u64..id as u64 + ROUNDS {
            match round % 8 {
                0 => {
                    let update = entity.update(next);
                    // Long enough for others to replace it, and to free what they can.
                    thread::yield_now();
                    assert_eq!(
                        update.current().number(),
                        update.previous().number() + 1,
                        "both sides of a commit stay while it is looked at"
                    );
                    committed += 1;
                }
                1 => {
                    let base = entity.snapshot();
                    let done = entity.try_commit(base.stamp(), next(&base)).is_ok();
                    committed += u64::from(done);
                }
                2 => {
                    let base = reader.get().clone();
                    match entity.try_commit_on(&base, next(&base)) {
                        Ok(_) => committed += 1,
                        Err(error) => kept = Some(error.current().clone()),
                    }
                }
                3 => {
                    let base = entity.snapshot();
                    let merged = entity
                        .commit_or_merge(&base, next(&base), |sides| Some(next(sides.theirs)));
                    committed += u64::from(merged.is_ok());
                }
                4 => assert!(reader.get().number() <= entity.read(P::number)),
                5 => {
                    let guard = snapcell::pin();
                    let seen = entity.load(&guard);
                    thread::yield_now();
                    kept = Some(seen.snapshot());
                    assert!(seen.number() <= entity.load(&guard).number());
                }
                6 => kept = Some(entity.snapshot()),
                _ => {
                    let old = kept.take();
                    assert!(old.is_none_or(|old| old.number() <= reader.get().number()));
                }
            }
        }
        commits.fetch_add(committed as usize, SeqCst);
    });
    let last = entity.snapshot();
    assert_eq!(
        last.number(),
        commits.load(SeqCst) as u64,
        "no change is lost"
    );
    assert_eq!(last.stamp().version(), last.number());
    // A value moves out only if nobody holds it, and `last` does.
    drop(entity.into_inner());
    assert!(last.number() > 0);
}

/// Snapshots, and parts of them, travel inside another entity, and end on whatever thread replaces
/// the one that carries them.
fn snapshots_change_hands() {
    type Pair = (String, Vec<u64>);
    struct Parcel {
        whole: Snapshot<Pair>,
        part: Projected<Pair, str>,
    }
    let pair = |number: u64| (number.to_string(), vec![number; 3]);
    let source = Entity::new(pair(0));
    let post: Entity<Option<Parcel>> = Entity::new(None);
    all_at_once(|_| {
        for _ in 0..ROUNDS / 4 {
            source.update(|(_, numbers)| pair(numbers[0] + 1));
            let whole = source.snapshot();
            let part = source.snapshot().project(|(text, _)| text.as_str());
            let posted = post.replace(Some(Parcel { whole, part }));
            let before = posted.previous().snapshot();
            drop(posted);
            if let Some(Parcel { whole, part }) = &*before {
                assert_eq!(whole.0.parse(), Ok(whole.1[0]));
                assert_eq!(part.parse(), Ok(part.whole().1[2]));
            }
        }
    });
    drop(post);
    assert!(source.into_inner().is_ok(), "nobody holds it any more");
}

/// Threads end with what they have retired still waiting, while others go on, and adopt it.
fn threads_end_early() {
    let entity = Entity::new(String::from("0"));
    let add = |text: &String| (text.parse::<u64>().expect("a number") + 1).to_string();
    for generation in 1..=4 {
        all_at_once(|id| {
            for _ in 0..[1, 10, 300, 1_000][id] {
                entity.update(add);
            }
            // An entity and a snapshot of it that both end here.
            let own = Entity::new(entity.snapshot());
            own.replace(entity.snapshot());
        });
        assert_eq!(entity.read(add), (generation * 1_311 + 1).to_string());
    }
}

/// Each value holds the snapshot that it follows, and all of them end at once.
fn values_hold_their_past() {
    struct Link {
        depth: u64,
        _past: Option<Snapshot<Link>>,
    }
    let first = Link {
        depth: 0,
        _past: None,
    };
    let entity = Entity::new(first);
    all_at_once(|_| {
        for _ in 0..ROUNDS {
            let past = entity.snapshot();
            let link = Link {
                depth: past.depth + 1,
                _past: Some(past.clone()),
            };
            if let Err(error) = entity.try_commit_on(&past, link) {
                assert!(error.current().depth >= past.depth, "links are only added");
            }
        }
    });
    assert!(
        entity.read(|link| link.depth) >= ROUNDS,
        "some thread always gets through"
    );
}

/// Threads wait for what others commit, watch it to its end, and are called back.
fn those_who_wait() {
    const COMMITS: u64 = 500;
    let entity = Entity::new(String::from("0"));
    let number = |text: &String| text.parse::<u64>().expect("a number");
    let callback = entity.on_commit(move |seen| assert!(number(seen) > 0));
    let mut watch = entity.watch();
    #[allow(
        clippy::disallowed_methods,
        reason = "it owns what it looks at, and is joined"
    )]
    let watcher = thread::spawn(move || {
        while watch.changed().wait().is_ok() {}
        number(watch.seen())
    });
    all_at_once(|id| {
        for goal in 1..=COMMITS {
            if id == 0 {
                entity.update(|text| (number(text) + 1).to_string());
            } else {
                let seen = entity.wait_for(|text| number(text) >= goal).wait();
                assert!(number(&seen) >= goal);
            }
        }
    });
    assert!(callback.stop().is_ok());
    drop(entity);
    assert_eq!(watcher.join().expect("it does not panic"), COMMITS);
}

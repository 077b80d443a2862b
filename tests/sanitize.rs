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
//! invisible. So the threads here meet at flags of this file's own, come to life one by one and end one by one:
//! whatever is made once, entered into a list or taken out of it, is so before others look.
//!
//! Nor does the sanitizer follow fences, and an `Arc` whose last count is gone has one: `support/tsan.txt` names the `Arc`
//! of which two threads may have the last two counts at once.

#[path = "support/payload.rs"]
mod payload;

use payload::Payload;
use snapcell::{
    Changes, Clock, Entity, Projected, Restart, Snapshot, Stop, Transact, Transaction, snapshot_of,
    transaction, transaction_or_abort, try_transaction,
};
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
    let parts: [(&str, fn()); 10] = [
        ("one entity, all calls", one_entity::<u64>),
        ("the same with text", one_entity::<String>),
        ("the same, aligned to a line", one_entity::<Line>),
        ("snapshots that change hands", snapshots_change_hands),
        ("threads that end early", threads_end_early),
        ("values that hold their past", values_hold_their_past),
        ("transactions, all calls", several_entities::<u64>),
        ("the same with text", several_entities::<String>),
        ("the same, aligned to a line", several_entities::<Line>),
        ("entities that end while others help", entities_come_and_go),
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
        transactions_that_wait();
        println!("transactions that wait: done");
    }
    snapcell::reclaim();
    let lag = snapcell::reclamation_lag();
    assert_eq!(lag.nodes, 0, "nobody is left, and yet {lag:?}");
}

/// Runs `work` on all threads at once. They start one by one, and end in the same order, each when the one before has
/// ended for good, and so while others may still be at work.
fn all_at_once(work: impl Fn(usize) + Sync) {
    let (ready, go, ended) = (
        AtomicUsize::new(0),
        AtomicBool::new(false),
        AtomicUsize::new(0),
    );
    thread::scope(|s| {
        let threads: Vec<_> = (0..THREADS)
            .map(|id| {
                let (ready_now, go, ended, work) = (&ready, &go, &ended, &work);
                let thread = s.spawn(move || {
                    Entity::new(id).replace(id);
                    ready_now.fetch_add(1, SeqCst);
                    wait_until(|| go.load(SeqCst));
                    work(id);
                    wait_until(|| ended.load(SeqCst) == id);
                });
                wait_until(|| ready.load(SeqCst) > id);
                thread
            })
            .collect();
        go.store(true, SeqCst);
        let mut panics = Vec::new();
        for thread in threads {
            panics.extend(thread.join().err());
            ended.fetch_add(1, SeqCst);
        }
        if let Some(panic) = panics.pop() {
            panic::resume_unwind(panic);
        }
    });
}

fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

/// Aligned to more than the pool's blocks: it comes from the allocator itself.
#[repr(align(128))]
struct Line([u64; 16]);

impl Payload for Line {
    fn make(number: u64) -> Self {
        Line(Payload::make(number))
    }

    fn number(&self) -> u64 {
        self.0.number()
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
    // Parcels that were replaced last may still wait for their grace.
    snapcell::reclaim();
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

/// Value and version of each entity count its commits, by whatever call: so a look at all of them tells at once whether
/// a transaction was made twice, or by half.
fn several_entities<P: Payload>() {
    const ENTITIES: usize = 5;
    let make = |n: usize| match n % 2 {
        0 => Entity::builder(P::make(0)).clock(Clock::logical()).build(),
        _ => Entity::new(P::make(0)),
    };
    let all: [Entity<P>; ENTITIES] = std::array::from_fn(make);
    let next = |value: &P| P::make(value.number() + 1);
    let (commits, hooks) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let look = |seen: &[Snapshot<P>]| {
        for seen in seen {
            assert_eq!(
                seen.number(),
                seen.stamp().version(),
                "each commit adds one"
            );
        }
    };
    all_at_once(|id| {
        let mut readers = all.each_ref().map(Entity::reader);
        let mut kept = Vec::new();
        let (mut committed, mut called) = (0, 0);
        for round in id..id + ROUNDS as usize / 2 {
            // Two to four of them, in one order or the other.
            let k = 2 + round % 3;
            let mut chosen: Vec<usize> = (0..k).map(|n| (round * 3 + id + n) % ENTITIES).collect();
            if round % 2 == 0 {
                chosen.reverse();
            }
            let few: Vec<&Entity<P>> = chosen.iter().map(|&n| &all[n]).collect();
            match round % 10 {
                0 => {
                    transaction(|tx| few.iter().try_for_each(|&e| tx.update(e, next)));
                    committed += k;
                }
                1 => {
                    transaction(|tx| {
                        let values: Result<Vec<&P>, Restart> =
                            few.iter().map(|&e| tx.read(e)).collect();
                        thread::yield_now();
                        for (&entity, value) in few.iter().zip(values?) {
                            // Written over, while the first one is lent.
                            tx.write(entity, P::make(7));
                            assert_eq!(tx.read(entity)?.number(), 7);
                            tx.write(entity, next(value));
                        }
                        Ok(())
                    });
                    committed += k;
                }
                2 => {
                    transaction(|tx| {
                        few.iter().for_each(|&e| tx.fold(e, next));
                        tx.after_commit(|| _ = hooks.fetch_add(1, SeqCst));
                        Ok(())
                    });
                    committed += k;
                    called += 1;
                }
                3 => {
                    // Some are only looked at.
                    transaction(|tx| {
                        tx.require(few[0])?;
                        tx.read(few[1])?.number();
                        few[2..].iter().try_for_each(|&e| tx.update(e, next))
                    });
                    committed += k - 2;
                }
                4 => {
                    let moment = snapshot_of(&few[..]);
                    look(&moment);
                    let changes = few.iter().zip(moment.iter());
                    let changes = changes.fold(Changes::new(), |changes, (&e, seen)| {
                        changes.write(e, seen.stamp(), next(seen))
                    });
                    thread::yield_now();
                    match try_transaction(changes) {
                        Ok(_) => committed += k,
                        Err(refused) => {
                            let mut changes = refused.into_changes();
                            let value = changes.take(few[0]).map(|value| value.number());
                            assert_eq!(value, Some(moment[0].number() + 1), "given back whole");
                        }
                    }
                }
                5 => {
                    let gives_up = transaction_or_abort::<(), _>(|tx| {
                        for &entity in &few {
                            tx.update(entity, next)?;
                        }
                        Err(Stop::Abort(()))
                    });
                    assert_eq!(gives_up, Err(()));
                }
                6 => {
                    // By handles of the transaction's own, undone, and done otherwise.
                    transaction(|tx| {
                        tx.or_else(
                            |tx| {
                                few.iter().for_each(|&e| tx.write(e.clone(), P::make(7)));
                                tx.retry()
                            },
                            |tx| few.iter().try_for_each(|&e| tx.update(e.clone(), next)),
                        )
                    });
                    committed += k;
                }
                7 => {
                    all[chosen[0]].update(next);
                    let base = all[chosen[1]].snapshot();
                    thread::yield_now();
                    let made = all[chosen[1]].try_commit_on(&base, next(&base)).is_ok();
                    committed += 1 + usize::from(made);
                }
                8 => {
                    look(&snapshot_of(&all[..]));
                    let guard = snapcell::pin();
                    let seen = all.each_ref().map(|entity| entity.load(&guard));
                    thread::yield_now();
                    kept = seen.map(|seen| seen.snapshot()).into();
                }
                _ => {
                    look(&kept);
                    let seen = readers.each_mut().map(|reader| reader.get().clone());
                    look(&seen);
                }
            }
        }
        commits.fetch_add(committed, SeqCst);
        hooks.fetch_sub(called, SeqCst);
    });
    let end = snapshot_of(&all[..]);
    look(&end);
    let versions: u64 = end.iter().map(|seen| seen.stamp().version()).sum();
    assert_eq!(versions, commits.into_inner() as u64, "no commit is lost");
    assert_eq!(hooks.into_inner(), 0, "each hook is called once");
    drop(end);
    for entity in all {
        assert!(entity.into_inner().is_ok(), "nobody holds it any more");
    }
}

/// Handles travel inside another entity. Whoever finds one changes it together with one of its own, and drops both,
/// though somebody else may be finishing a transaction over them.
fn entities_come_and_go() {
    type Text = Entity<String>;
    let post: [Entity<Option<Text>>; 2] = [Entity::new(None), Entity::new(None)];
    let hub = Entity::new(0_usize);
    let changes = AtomicUsize::new(0);
    let longer = |text: &String| format!("{text}.");
    all_at_once(|id| {
        for round in 0..ROUNDS as usize / 4 {
            let mine = Entity::new(format!("{id}/{round}"));
            let posted = post[round % 2].replace(Some(mine.clone()));
            let found = posted.previous().snapshot();
            drop(posted);
            let Some(theirs) = &*found else { continue };
            let kept = theirs.snapshot();
            transaction(|tx| {
                tx.update(theirs.clone(), longer)?;
                tx.fold(mine.clone(), longer);
                tx.fold(&hub, |n| n + 1);
                Ok(())
            });
            changes.fetch_add(1, SeqCst);
            assert!(kept.len() <= theirs.read(String::len));
            // Whether it is the last handle is up to the others.
            if let Ok(text) = mine.into_inner() {
                assert!(text.ends_with('.'));
            }
        }
    });
    assert_eq!(*hub.snapshot(), changes.into_inner());
}

/// Threads take what others put, over two places with room for one each.
fn transactions_that_wait() {
    const ITEMS: usize = 500;
    let places = [Entity::new(None), Entity::new(None)];
    fn put<'e>(
        tx: &Transaction<'e>,
        to: &'e Entity<Option<String>>,
        n: usize,
    ) -> Result<(), Restart> {
        match tx.read(to)? {
            Some(_) => tx.retry(),
            None => {
                tx.write(to, Some(n.to_string()));
                Ok(())
            }
        }
    }
    fn take<'e>(tx: &Transaction<'e>, from: &'e Entity<Option<String>>) -> Result<usize, Restart> {
        let Some(text) = tx.read(from)? else {
            return tx.retry();
        };
        let n = text.parse().expect("only numbers are put there");
        tx.write(from, None);
        Ok(n)
    }
    let sum = AtomicUsize::new(0);
    let [left, right] = &places;
    all_at_once(|id| {
        for n in 1..=ITEMS {
            if id % 2 == 0 {
                transaction(|tx| tx.or_else(|tx| put(tx, left, n), |tx| put(tx, right, n)));
            } else {
                let taken = Transact::new()
                    .run::<_, ()>(|tx| Ok(tx.or_else(|tx| take(tx, right), |tx| take(tx, left))?));
                sum.fetch_add(taken.expect("it waits until there is one"), SeqCst);
            }
        }
    });
    assert_eq!(sum.into_inner(), THREADS / 2 * ITEMS * (ITEMS + 1) / 2);
    assert!(places.iter().all(|place| place.read(Option::is_none)));
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

//! What a read and a commit cost alone, beside arc-swap.
//!
//! One thread, nobody else: the price of the machinery, without a race. Criterion runs one benchmark
//! to its end before the next, so figures of different rows were not measured in the same moment;
//! repeat a run before believing a small difference.
//!
//! Every row is checked before it is timed: a commit must leave the value that its number of
//! iterations makes, and a read must see the value that is there.

use arc_swap::{ArcSwap, Cache};
use criterion::{
    BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use snapcell::{Clock, Entity};
use std::hint::black_box;
use std::sync::Arc;

/// Commits made to check a row.
const CHECKED: u64 = 10_000;

/// What is kept in the entities: a counter, with more or less beside it.
trait Payload: Clone + Send + Sync + 'static {
    /// How the rows are called.
    const NAME: &'static str;

    /// A payload that counts from zero.
    fn zero() -> Self;

    /// The next one: a whole copy, with a larger count.
    fn next(&self) -> Self;

    /// The count.
    fn count(&self) -> u64;
}

impl Payload for u64 {
    const NAME: &'static str = "u64";

    fn zero() -> Self {
        0
    }

    #[inline]
    fn next(&self) -> Self {
        self + 1
    }

    #[inline]
    fn count(&self) -> u64 {
        *self
    }
}

impl<const N: usize> Payload for [u64; N] {
    const NAME: &'static str = match N {
        16 => "128 B",
        128 => "1 KiB",
        _ => panic!("give this size a name"),
    };

    fn zero() -> Self {
        [0; N]
    }

    #[inline]
    fn next(&self) -> Self {
        let mut next = *self;
        next[0] += 1;
        next
    }

    #[inline]
    fn count(&self) -> u64 {
        self[0]
    }
}

/// Times commits. `make` gives a subject to commit to, `commit` commits to it once, and `count` says
/// what is there in the end.
fn commits<S>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    make: impl Fn() -> S,
    commit: impl Fn(&mut S),
    count: impl Fn(&S) -> u64,
) {
    let mut checked = make();
    (0..CHECKED).for_each(|_| commit(&mut checked));
    assert_eq!(count(&checked), CHECKED, "{name}: each commit counts once");
    let mut subject = make();
    group.bench_function(name, |b| b.iter(|| commit(&mut subject)));
}

/// Times reads of a subject that counts seven.
fn reads<S>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut subject: S,
    read: impl Fn(&mut S) -> u64,
) {
    assert_eq!(read(&mut subject), 7, "{name}: a read sees what is there");
    group.bench_function(name, |b| b.iter(|| read(black_box(&mut subject))));
}

/// Seven commits from zero.
fn seven<P: Payload>() -> P {
    (0..7).fold(P::zero(), |payload, _| payload.next())
}

fn logical<P: Payload>() -> Entity<P> {
    Entity::builder(P::zero()).clock(Clock::logical()).build()
}

fn bench_commits<P: Payload>(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("commit {}", P::NAME));
    let update = |entity: &mut Entity<P>| {
        entity.update(P::next);
    };
    let count = |entity: &Entity<P>| {
        let now = entity.snapshot();
        assert_eq!(now.stamp().version(), now.count(), "versions count commits");
        now.count()
    };
    commits(
        &mut group,
        "update",
        || Entity::new(P::zero()),
        update,
        count,
    );
    commits(&mut group, "update, logical clock", logical, update, count);
    // What two counts would cost, did a commit return them in place of its guard.
    commits(
        &mut group,
        "update, logical clock, both snapshots kept",
        logical,
        |entity| {
            let committed = entity.update(P::next);
            black_box((committed.snapshot(), committed.previous().snapshot()));
        },
        count,
    );
    commits(
        &mut group,
        "try_commit, logical clock",
        || {
            let entity = logical::<P>();
            let first = entity.snapshot();
            (entity, first.stamp(), P::clone(&first))
        },
        |(entity, stamp, value)| {
            *value = value.next();
            match entity.try_commit(*stamp, value.clone()) {
                Ok(committed) => *stamp = committed.stamp(),
                Err(error) => panic!("nobody else commits: {error}"),
            }
        },
        |(entity, ..)| count(entity),
    );
    commits(
        &mut group,
        "arc_swap rcu",
        || ArcSwap::from_pointee(P::zero()),
        |cell| {
            cell.rcu(|value| P::next(value));
        },
        |cell| cell.load().count(),
    );
    group.finish();
}

fn bench_reads<P: Payload>(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("read {}", P::NAME));
    let entity = Entity::new(seven::<P>());
    let swap = Arc::new(ArcSwap::from_pointee(seven::<P>()));
    {
        let guard = snapcell::pin();
        reads(
            &mut group,
            "load, one guard",
            (&entity, &guard),
            |(entity, guard)| entity.load(guard).count(),
        );
    }
    reads(&mut group, "reader", entity.reader(), |reader| {
        reader.get().count()
    });
    reads(
        &mut group,
        "arc_swap cache",
        Cache::new(Arc::clone(&swap)),
        |cache| cache.load().count(),
    );
    reads(&mut group, "read", &entity, |entity| entity.read(P::count));
    reads(&mut group, "arc_swap load", &swap, |swap| {
        swap.load().count()
    });
    reads(&mut group, "snapshot", &entity, |entity| {
        entity.snapshot().count()
    });
    reads(&mut group, "arc_swap load_full", &swap, |swap| {
        swap.load_full().count()
    });
    group.finish();
}

/// Birth and end of an entity, beside those of an `ArcSwap`.
fn bench_births(c: &mut Criterion) {
    let mut group = c.benchmark_group("birth and end u64");
    assert_eq!(*Entity::new(7_u64).snapshot(), 7, "what is born is there");
    group.bench_function("entity", |b| {
        b.iter(|| Entity::new(black_box(7_u64)));
    });
    group.bench_function("entity, logical clock", |b| b.iter(logical::<u64>));
    group.bench_function("arc_swap", |b| {
        b.iter(|| ArcSwap::from_pointee(black_box(7_u64)));
    });
    group.finish();
}

fn all(c: &mut Criterion) {
    bench_reads::<u64>(c);
    bench_reads::<[u64; 16]>(c);
    bench_commits::<u64>(c);
    bench_commits::<[u64; 16]>(c);
    bench_commits::<[u64; 128]>(c);
    bench_births(c);
}

criterion_group!(benches, all);
criterion_main!(benches);

//! A run of real threads on one entity, and the laws that it may not break.
//!
//! Writers commit by every call that there is, readers look by every kind of read. A writer records
//! each of its commits: the version and time that it got, what it wrote, what it replaced. Readers
//! record what they saw. Afterwards the records are put together, and they must tell one story:
//!
//! 1. every version from 1 to the number of commits was committed exactly once;
//! 2. each commit replaced what the one before it wrote, so what was written minus what was replaced
//!    adds up to what is left: no change was lost, none counted twice;
//! 3. the time never went backwards, and counts versions under the logical clock;
//! 4. no reader saw a stamp go backwards, or a value that doesn't belong to its stamp, or one that
//!    changed while it was kept;
//! 5. after the last handle nothing waits to be freed, and each value was dropped exactly once.
//!
//! A broken law panics with a sentence that begins with `broken law`.

use super::payload::Payload;
use super::tracked::alone;
use snapcell::{
    Clock, CommitError, Committed, Entity, Reader, Retry, Snapshot, Stamp, UpdateError,
};
use std::collections::VecDeque;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, ScopedJoinHandle};

/// How a run is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    /// Threads that commit.
    pub(crate) writers: usize,
    /// Commits of all writers together.
    pub(crate) commits: u64,
    /// Whether three more threads look on, one for each kind of read.
    pub(crate) readers: bool,
    /// Whether no writer's thread ends before all writers are done. Otherwise the others adopt what it
    /// leaves while they commit.
    pub(crate) together: bool,
    /// Whether the clock is the logical one, or else the monotonic one.
    pub(crate) logical: bool,
    /// How often a writer gives its slice of time away between its read and its commit: never, or
    /// once in 256, 16, 1 commits.
    pub(crate) pressure: u32,
}

impl Config {
    /// How many of the commits this writer makes.
    fn share(&self, id: usize) -> u64 {
        let (writers, id) = (self.writers as u64, id as u64);
        self.commits / writers + u64::from(id < self.commits % writers)
    }
}

/// What came of a run that broke no law.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    /// Attempts that somebody else's commit made futile.
    pub(crate) conflicts: u64,
    /// Looks of readers.
    pub(crate) looks: u64,
}

/// Waits for the thread itself, its last words included: the end of a scope waits for closures only.
pub(crate) fn join<R>(thread: ScopedJoinHandle<'_, R>) -> R {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Makes a run, and checks every law.
pub(crate) fn run<P: Payload>(config: &Config) -> Report {
    alone(|| run_alone::<P>(config))
}

fn run_alone<P: Payload>(config: &Config) -> Report {
    let clock = if config.logical {
        Clock::logical()
    } else {
        Clock::monotonic()
    };
    let entity = &Entity::builder(P::make(FIRST)).clock(clock).build();
    let born = entity.snapshot().stamp();
    let start = &Barrier::new(config.writers);
    let done = &AtomicUsize::new(0);
    let over = &AtomicBool::new(false);
    let (histories, sightings) = thread::scope(|s| {
        // Whatever happens to a writer, readers end.
        let _ending = OnDrop(|| over.store(true, SeqCst));
        let kinds: &[fn(&Entity<P>, &AtomicBool) -> Sightings] = if config.readers {
            &[pinning_reader, keeping_reader, cached_reader]
        } else {
            &[]
        };
        let readers: Vec<_> = kinds
            .iter()
            .map(|read| s.spawn(|| read(entity, over)))
            .collect();
        let writers: Vec<_> = (0..config.writers)
            .map(|id| {
                s.spawn(move || {
                    let writer = Writer::new(entity, id, config.pressure);
                    start.wait();
                    let ending = OnDrop(|| _ = done.fetch_add(1, SeqCst));
                    let history = writer.commit(config.share(id));
                    drop(ending);
                    while config.together && done.load(SeqCst) < config.writers {
                        thread::yield_now();
                    }
                    history
                })
            })
            .collect();
        let histories: Vec<_> = writers.into_iter().map(join).collect();
        over.store(true, SeqCst);
        let sightings: Vec<_> = readers.into_iter().map(join).collect();
        (histories, sightings)
    });
    let report = Report {
        conflicts: histories.iter().map(|history| history.conflicts).sum(),
        looks: sightings.iter().map(|sightings| sightings.looks).sum(),
    };
    let records = histories.into_iter().flat_map(|history| history.records);
    let records: Vec<_> = records.collect();
    check_story(config, born, &entity.snapshot(), records, &sightings);
    report
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// The number of the first value.
const FIRST: u64 = 1_000_000_007;

fn check_story<P: Payload>(
    config: &Config,
    born: Stamp,
    last: &Snapshot<P>,
    mut records: Vec<Record>,
    sightings: &[Sightings],
) {
    let commits = config.commits;
    assert_eq!(records.len() as u64, commits, "each call commits once");
    let effects = records.iter().fold(0_u64, |sum, record| {
        sum.wrapping_add(record.written.wrapping_sub(record.replaced))
    });
    records.sort_by_key(|record| record.stamp);
    let first = Record {
        stamp: born,
        written: FIRST,
        replaced: FIRST,
    };
    let mut before = first;
    for (record, version) in records.iter().zip(1..) {
        assert_eq!(
            record.stamp.version(),
            version,
            "broken law: versions 1 to {commits} were not committed once each"
        );
        assert_eq!(
            record.replaced, before.written,
            "broken law: commit {version} replaced something else than the commit before it wrote"
        );
        assert!(
            record.stamp.time() >= before.stamp.time(),
            "broken law: the time went backwards"
        );
        assert!(
            !config.logical || record.stamp.time() == version,
            "broken law: the logical clock does not count versions"
        );
        before = *record;
    }
    assert_eq!(
        (last.stamp(), last.number()),
        (before.stamp, before.written),
        "broken law: what is left is not what the last commit wrote"
    );
    assert_eq!(
        last.number().wrapping_sub(FIRST),
        effects,
        "broken law: the effects do not add up to what is left"
    );
    for sight in sightings.iter().flat_map(|sightings| &sightings.sights) {
        let commit = match sight.stamp.version().checked_sub(1) {
            None => Some(&first),
            Some(place) => records.get(place as usize),
        };
        assert_eq!(
            Some((sight.stamp, sight.number)),
            commit.map(|commit| (commit.stamp, commit.written)),
            "broken law: a reader saw a stamp that nobody committed, or not the value of its stamp"
        );
    }
}

/// One commit.
#[derive(Clone, Copy, Debug)]
struct Record {
    stamp: Stamp,
    written: u64,
    replaced: u64,
}

/// All commits of one writer.
struct History {
    records: Vec<Record>,
    conflicts: u64,
}

struct Writer<'e, P: Payload> {
    entity: &'e Entity<P>,
    reader: Reader<P>,
    id: u64,
    pressure: u32,
    random: u64,
    history: History,
}

impl<'e, P: Payload> Writer<'e, P> {
    fn new(entity: &'e Entity<P>, id: usize, pressure: u32) -> Self {
        let id = id as u64;
        Writer {
            entity,
            reader: entity.reader(),
            id,
            pressure,
            random: 0x9e37_79b9_7f4a_7c15 ^ (id + 1),
            history: History {
                records: Vec::new(),
                conflicts: 0,
            },
        }
    }

    /// Makes so many commits, by calls that take turns at random.
    fn commit(mut self, commits: u64) -> History {
        self.history.records.reserve(commits as usize);
        for count in 0..commits {
            match self.draw() % 7 {
                0 => self.update(),
                1 => self.try_update(),
                2 => self.update_with_bound(),
                3 => self.try_commit(),
                4 => self.try_commit_on(),
                5 => self.commit_or_merge(),
                _ => self.replace(count),
            }
        }
        self.history
    }

    /// xorshift64: the same choices in every run.
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
    }

    /// Whether to let others get in between, this time.
    fn hesitate(&mut self) -> Hesitation {
        Hesitation(match self.pressure {
            0 => false,
            1 => self.draw().is_multiple_of(256),
            2 => self.draw().is_multiple_of(16),
            _ => true,
        })
    }

    fn record(&mut self, committed: Committed<'_, P>) {
        let (current, previous) = (committed.current(), committed.previous());
        assert_eq!(
            current.stamp().version(),
            previous.stamp().version() + 1,
            "broken law: a commit counts its predecessor's version up by one"
        );
        self.history.conflicts += u64::from(committed.attempts()) - 1;
        self.history.records.push(Record {
            stamp: current.stamp(),
            written: current.number(),
            replaced: previous.number(),
        });
    }

    /// A refused commit: only a conflict is a reason, and the value comes back as it was.
    fn refused(&mut self, error: CommitError<P>, proposed: u64) {
        assert!(error.is_conflict(), "no other reason to refuse: {error}");
        assert_ne!(error.expected(), error.current().stamp(), "{error}");
        error.current().number();
        assert_eq!(error.into_proposed().number(), proposed, "given back whole");
        self.history.conflicts += 1;
    }

    fn update(&mut self) {
        let hesitation = self.hesitate();
        self.record(self.entity.update(|value| {
            hesitation.pass();
            next(value)
        }));
    }

    fn try_update(&mut self) {
        let refused = self.entity.try_update(|_| Err("no"));
        assert!(matches!(refused, Err(UpdateError::Refused("no"))));
        let unchanged = self.entity.try_update::<()>(|_| Ok(None));
        assert!(unchanged.is_ok_and(|unchanged| !unchanged.is_committed()));
        let hesitation = self.hesitate();
        let updated = self.entity.try_update::<()>(|value| {
            hesitation.pass();
            Ok(Some(next(value)))
        });
        match updated {
            Ok(snapcell::Updated::Committed(committed)) => self.record(committed),
            other => panic!("the closure neither refuses nor keeps: {}", other.is_ok()),
        }
    }

    fn update_with_bound(&mut self) {
        let hesitation = self.hesitate();
        loop {
            let mut made = 0;
            let updated = self.entity.update_with(Retry::at_most(1), |value| {
                hesitation.pass();
                let next = next::<P>(value);
                made = next.number();
                next
            });
            match updated {
                Ok(committed) => return self.record(committed),
                Err(error) => {
                    assert!(error.is_exhausted(), "no other reason to fail: {error}");
                    let proposed = error.into_proposed().map(|proposed| proposed.number());
                    assert_eq!(proposed, Some(made), "given back whole");
                    self.history.conflicts += 2;
                }
            }
        }
    }

    fn try_commit(&mut self) {
        loop {
            let (stamp, proposed) = {
                let guard = snapcell::pin();
                let seen = self.entity.load(&guard);
                (seen.stamp(), next::<P>(&seen))
            };
            self.hesitate().pass();
            let number = proposed.number();
            match self.entity.try_commit(stamp, proposed) {
                Ok(committed) => return self.record(committed),
                Err(error) => self.refused(error, number),
            }
        }
    }

    fn try_commit_on(&mut self) {
        loop {
            let base = self.reader.get().clone();
            let proposed = next::<P>(&base);
            self.hesitate().pass();
            let number = proposed.number();
            match self.entity.try_commit_on(&base, proposed) {
                Ok(committed) => return self.record(committed),
                Err(error) => self.refused(error, number),
            }
        }
    }

    fn commit_or_merge(&mut self) {
        let base = self.entity.snapshot();
        let mine = next::<P>(&base);
        self.hesitate().pass();
        let committed = self.entity.commit_or_merge(&base, mine, |sides| {
            let number = sides.base.number();
            assert_eq!(sides.mine.number(), number.wrapping_add(1), "as proposed");
            Some(next(sides.theirs))
        });
        match committed {
            Ok(committed) => self.record(committed),
            Err(error) => panic!("the merge never gives up: {error}"),
        }
    }

    /// A number of this writer's own, that depends on nothing.
    fn replace(&mut self, count: u64) {
        let number = (self.id + 1) << 40 | count;
        self.record(self.entity.replace(P::make(number)));
    }
}

/// The value that follows.
fn next<P: Payload>(value: &P) -> P {
    P::make(value.number().wrapping_add(1))
}

/// A slice of time given away, or not.
#[derive(Clone, Copy)]
struct Hesitation(bool);

impl Hesitation {
    fn pass(self) {
        if self.0 {
            thread::yield_now();
        }
    }
}

/// A stamp and the number that a reader saw with it.
#[derive(Clone, Copy)]
struct Sight {
    stamp: Stamp,
    number: u64,
}

/// What one reader saw.
struct Sightings {
    looks: u64,
    last: Stamp,
    /// Not all of them: memory is for the commits.
    sights: Vec<Sight>,
}

impl Sightings {
    /// More than this a reader doesn't remember.
    const MOST: usize = 1 << 16;

    fn new() -> Self {
        Sightings {
            looks: 0,
            last: Stamp::new(0, 0),
            sights: Vec::new(),
        }
    }

    fn note(&mut self, stamp: Stamp, number: u64) {
        assert!(
            stamp >= self.last,
            "broken law: a reader saw {stamp} after {}",
            self.last
        );
        self.looks += 1;
        if (stamp > self.last || self.looks == 1) && self.sights.len() < Self::MOST {
            self.sights.push(Sight { stamp, number });
        }
        self.last = stamp;
    }

    /// Lets others have the processor now and then: there are fewer of them than threads.
    fn rest(&self) {
        if self.looks.is_multiple_of(64) {
            thread::yield_now();
        }
    }
}

/// Pins, looks some times, unpins.
fn pinning_reader<P: Payload>(entity: &Entity<P>, over: &AtomicBool) -> Sightings {
    let mut sightings = Sightings::new();
    while !over.load(SeqCst) {
        let guard = snapcell::pin();
        let first = entity.load(&guard);
        let number = first.number();
        sightings.note(first.stamp(), number);
        for _ in 1..16 {
            let seen = entity.load(&guard);
            sightings.note(seen.stamp(), seen.number());
        }
        assert_eq!(
            first.number(),
            number,
            "broken law: a value changed under a guard"
        );
        drop(guard);
        entity.read(P::number);
        sightings.rest();
    }
    sightings
}

/// Keeps the last few snapshots, and looks at each again before it gives it up.
fn keeping_reader<P: Payload>(entity: &Entity<P>, over: &AtomicBool) -> Sightings {
    let mut sightings = Sightings::new();
    let mut kept: VecDeque<(Snapshot<P>, Sight)> = VecDeque::new();
    while !over.load(SeqCst) {
        let snapshot = entity.snapshot();
        let (stamp, number) = (snapshot.stamp(), snapshot.number());
        sightings.note(stamp, number);
        kept.push_back((snapshot, Sight { stamp, number }));
        if kept.len() > 8
            && let Some((snapshot, sight)) = kept.pop_front()
        {
            assert_eq!(
                (snapshot.stamp(), snapshot.number()),
                (sight.stamp, sight.number),
                "broken law: a value changed while it was kept"
            );
        }
        sightings.rest();
    }
    sightings
}

/// Looks through a cached reader.
fn cached_reader<P: Payload>(entity: &Entity<P>, over: &AtomicBool) -> Sightings {
    let mut sightings = Sightings::new();
    let mut reader = entity.reader();
    while !over.load(SeqCst) {
        let seen = reader.get();
        let (stamp, number) = (seen.stamp(), seen.number());
        sightings.note(stamp, number);
        assert_eq!(reader.stamp(), stamp, "a reader remembers what it saw last");
        sightings.rest();
    }
    sightings
}

//! Real threads make random calls to one entity, and record what they return.
//!
//! The threads live for many rounds, one entity each, and meet at a gate before each round: a thread
//! that had to be started would be late for all that the others do. What a thread calls depends on the
//! seed alone, what comes of it on the machine. Sometimes a thread gives its slice of time away, between
//! two calls or in the middle of one, so that calls overlap on a single processor too.

use super::history::{History, Record};
use super::race::{BreakOnPanic, Gate, Timer};
use super::spec::Claim;
use super::worker::{Worker, number, replaced, seen};
use fastrand::Rng;
use snapcell::{Clock, Entity};
use std::array;
use std::fmt::Debug;
use std::io::{Write, stderr};
use std::ops::RangeInclusive;
use std::panic::resume_unwind;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// What is committed: a number, in one shape or another.
pub(crate) trait Payload: Debug + Send + Sync + 'static {
    fn make(number: u64) -> Self;

    /// The number of a whole value, or else [`TORN`].
    fn number(&self) -> u64;
}

/// The number of what nobody wrote: no claim with it is ever true.
pub(crate) const TORN: u64 = u64::MAX;

impl Payload for u64 {
    fn make(number: u64) -> Self {
        number
    }

    fn number(&self) -> u64 {
        *self
    }
}

/// 128 bytes. Pieces of two values don't fit together.
impl Payload for [u64; 16] {
    fn make(number: u64) -> Self {
        array::from_fn(|place| number.rotate_left(4 * place as u32) ^ place as u64)
    }

    fn number(&self) -> u64 {
        if *self == Self::make(self[0]) {
            self[0]
        } else {
            TORN
        }
    }
}

/// How histories are made.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) threads: usize,
    pub(crate) rounds: usize,
    /// How many steps a thread makes in a round, of one or two calls each.
    pub(crate) steps: RangeInclusive<usize>,
    /// How often a thread gives its slice of time away: where this is n, once in n times that it could.
    pub(crate) yields: u32,
    /// Whether threads also wait for changes.
    pub(crate) waits: bool,
    pub(crate) flaw: Flaw,
}

/// What is wrong with the object, on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// Every third time a cached reader answers from its cache without comparing.
    StaleReader,
    /// A commit compares the stamps first, and replaces the value then.
    CompareThenReplace,
    /// A commit that is refused shows the winner that the thread saw when it was refused before.
    OldWinner,
    /// An update is computed from a snapshot that was taken before, and lost updates are not noticed.
    UpdateInTwoSteps,
}

/// Makes a history of each round.
pub(crate) fn record<P: Payload>(setup: &Setup, seed: u64) -> Vec<History> {
    #[allow(
        clippy::disallowed_methods,
        reason = "the order of calls in real time is what is recorded, and must not come from the crate"
    )]
    let origin = Instant::now();
    let entities: &Vec<Entity<P>> = &(0..setup.rounds).map(make).collect();
    let mut host = Host::new(setup, entities, Timer::new(origin));
    let gate = &Gate::default();
    thread::scope(|s| {
        let work = |id| {
            move || {
                let _breaking = BreakOnPanic(gate);
                let round = |(round, entity)| {
                    let rng = Rng::with_seed(seed ^ ((round as u64) << 8 | id as u64)).fork();
                    let worker = Worker::new(setup, id, entity, Timer::new(origin), rng);
                    gate.pass(setup.threads * (round + 1));
                    worker.work()
                };
                entities.iter().enumerate().map(round).collect()
            }
        };
        let threads: Vec<_> = (0..setup.threads).map(|id| s.spawn(work(id))).collect();
        if setup.waits {
            host.keep_awake(gate, || threads.iter().all(ScopedJoinHandle::is_finished));
        }
        for thread in threads {
            let rounds: Vec<_> = thread.join().unwrap_or_else(|panic| resume_unwind(panic));
            host.collect(rounds);
        }
    });
    host.close()
}

/// The thread that makes the entities, and looks at each first and last.
struct Host<'e, P: Payload> {
    setup: &'e Setup,
    entities: &'e [Entity<P>],
    timer: Timer,
    made: u64,
    histories: Vec<History>,
}

impl<'e, P: Payload> Host<'e, P> {
    fn new(setup: &'e Setup, entities: &'e [Entity<P>], timer: Timer) -> Self {
        let mut host = Host {
            setup,
            entities,
            timer,
            made: 0,
            histories: Vec::new(),
        };
        for entity in entities {
            let birth = host.record("new", || Claim::Born(seen(&entity.snapshot())));
            host.histories.push(History {
                records: vec![birth],
            });
        }
        host
    }

    fn record(&mut self, call: &'static str, body: impl FnOnce() -> Claim) -> Record {
        let called = self.timer.now();
        let claim = body();
        Record {
            thread: self.setup.threads,
            call,
            called,
            returned: self.timer.now(),
            claim,
            attempts: 1,
        }
    }

    /// Commits whenever nobody moves on: then all who are left in the round may be waiting for a change.
    /// The pause only sets the pace. Whoever isn't woken by any number of commits never will be, and
    /// nothing but the end of the process can free it.
    fn keep_awake(&mut self, gate: &Gate, is_over: impl Fn() -> bool) {
        const MOST: u32 = 100_000;
        let mut before = 0;
        let mut in_vain = 0;
        while !is_over() {
            thread::park_timeout(Duration::from_micros(100));
            let arrived = gate.arrived();
            let round = (arrived / self.setup.threads).checked_sub(1);
            if let (true, Some(round)) = (arrived == before, round) {
                self.made += 1;
                let written = number(self.setup.threads, self.made);
                let entity = &self.entities[round];
                let record = self.record("replace", || {
                    replaced(&entity.replace(P::make(written)), None, written)
                });
                self.histories[round].records.push(record);
                in_vain += 1;
                if in_vain > MOST {
                    // The test runner would keep what `eprintln` says.
                    _ = writeln!(stderr(), "{MOST} commits woke nobody: a wake-up was lost");
                    std::process::abort();
                }
            } else {
                in_vain = 0;
            }
            before = arrived;
        }
    }

    fn collect(&mut self, rounds: Vec<Vec<Record>>) {
        for (history, records) in self.histories.iter_mut().zip(rounds) {
            history.records.extend(records);
        }
    }

    fn close(mut self) -> Vec<History> {
        for (round, entity) in self.entities.iter().enumerate() {
            let last = self.record("last look", || Claim::Is(seen(&entity.snapshot())));
            self.histories[round].records.push(last);
        }
        self.histories
    }
}

/// A new entity. Every third one counts commits instead of reading the time.
fn make<P: Payload>(round: usize) -> Entity<P> {
    let first = P::make(0);
    match round % 3 {
        0 => Entity::builder(first).clock(Clock::logical()).build(),
        _ => Entity::new(first),
    }
}

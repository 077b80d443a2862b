//! Threads, batches, attempts, and what is counted meanwhile.
//!
//! Threads take batches of operations from one counter. Nothing else is shared but the targets:
//! each thread keeps its own [`Tally`], and those meet when all is over. Everything is counted twice and
//! by different hands: by counters as it happens, and by one record per operation, from which the
//! tables are made and the targets replayed.

use crate::args::Arguments;
use crate::workload::{Operation, SplitMix64, State, Target, Tokens, User};
use indicatif::{ProgressBar, ProgressStyle};
use snapcell::{Entity, Lag, Retry, Stamp, UpdateError};
use std::io::{self, IsTerminal};
use std::ops::Range;
use std::panic;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// All that is known when a run is over.
pub(crate) struct Run {
    /// One for each thread that took part.
    pub(crate) tallies: Vec<Tally>,
    /// How many operations were handed out.
    pub(crate) submitted: u64,
    /// From the start until the last batch was handed out.
    pub(crate) submitting: Duration,
    /// From the start until the last operation ended.
    pub(crate) elapsed: Duration,
    /// What the targets were in the end.
    pub(crate) finals: Vec<(Stamp, State)>,
    /// What waited to be freed when the last thread had ended.
    pub(crate) lag: Lag,
    /// What waited after the targets had been dropped and everything freed that could be.
    pub(crate) lag_after_all: Lag,
    /// Values made and dropped while the threads ran.
    pub(crate) tokens: Tokens,
    /// The same after all.
    pub(crate) tokens_after_all: Tokens,
    pub(crate) destructor_panics: u64,
}

/// What one thread did.
pub(crate) struct Tally {
    pub(crate) thread: u32,
    pub(crate) counts: Counts,
    pub(crate) records: Vec<Record>,
    /// The time spent waiting between attempts. Within `update_with` nobody counts that.
    pub(crate) backing_off: Duration,
    /// When its last operation ended, if it came in time for one.
    pub(crate) ended: Option<Instant>,
    /// The first error that was no conflict.
    pub(crate) failure: Option<String>,
}

/// What became of operations, each term counted on its own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) committed: u64,
    /// Succeeded without a change. No operation of this workload does that.
    pub(crate) unchanged: u64,
    /// Their budget was used up.
    pub(crate) rejected: u64,
    /// Something else was wrong: a bug.
    pub(crate) failed: u64,
    /// Not begun, because an operation failed.
    pub(crate) cancelled: u64,
    /// Taken and not ended.
    pub(crate) unfinished: u64,
    pub(crate) attempts: u64,
    /// Attempts that lost to another commit.
    pub(crate) conflicts: u64,
}

impl Counts {
    /// Counts an operation that has ended.
    fn ended(&mut self, end: End, attempts: u32) {
        self.unfinished -= 1;
        self.attempts += u64::from(attempts);
        let lost = match end {
            End::Committed(_) => {
                self.committed += 1;
                attempts - 1
            }
            End::Rejected => {
                self.rejected += 1;
                attempts
            }
            End::Failed => {
                self.failed += 1;
                attempts.saturating_sub(1)
            }
        };
        self.conflicts += u64::from(lost);
    }

    pub(crate) fn plus(self, other: &Counts) -> Counts {
        Counts {
            committed: self.committed + other.committed,
            unchanged: self.unchanged + other.unchanged,
            rejected: self.rejected + other.rejected,
            failed: self.failed + other.failed,
            cancelled: self.cancelled + other.cancelled,
            unfinished: self.unfinished + other.unfinished,
            attempts: self.attempts + other.attempts,
            conflicts: self.conflicts + other.conflicts,
        }
    }
}

/// One operation that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) operation: u32,
    pub(crate) attempts: u32,
    pub(crate) end: End,
    /// From the taking of its batch to its first attempt.
    pub(crate) queued_ns: u64,
    /// From its first attempt to its end.
    pub(crate) latency_ns: u64,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Committed(Stamp),
    Rejected,
    Failed,
}

/// Runs the workload once.
pub(crate) fn run(arguments: &Arguments) -> Run {
    let before = Tokens::so_far();
    let panics_before = snapcell::destructor_panics();
    let arena = Arena::new(arguments);
    let start = now();
    let tallies = thread::scope(|scope| join(enlist(scope, &arena, 0)));
    let (submitted, last) = arena.dispenser.totals();
    let ended = tallies.iter().filter_map(|tally| tally.ended).max();
    let lag = snapcell::reclamation_lag();
    let tokens = Tokens::so_far().since(before);
    let finals = arena.close();
    snapcell::reclaim();
    Run {
        tallies,
        submitted,
        submitting: last.map_or(Duration::ZERO, |last| last - start),
        elapsed: ended.map_or(Duration::ZERO, |ended| ended - start),
        finals,
        lag,
        lag_after_all: snapcell::reclamation_lag(),
        tokens,
        tokens_after_all: Tokens::so_far().since(before),
        destructor_panics: (snapcell::destructor_panics() - panics_before) as u64,
    }
}

/// What all threads share.
struct Arena<'a> {
    arguments: &'a Arguments,
    targets: Vec<Entity<Target>>,
    dispenser: Dispenser,
    progress: Option<ProgressBar>,
}

impl<'a> Arena<'a> {
    fn new(arguments: &'a Arguments) -> Self {
        Arena {
            arguments,
            targets: (0..arguments.targets)
                .map(|_| Entity::new(Target::new()))
                .collect(),
            dispenser: Dispenser::new(arguments),
            progress: progress_bar(arguments),
        }
    }

    /// What the targets are in the end, and the end of the targets.
    fn close(self) -> Vec<(Stamp, State)> {
        if let Some(bar) = self.progress {
            bar.finish_and_clear();
        }
        let finish = |target: Entity<Target>| {
            let last = target.snapshot();
            (last.stamp(), last.state.clone())
        };
        self.targets.into_iter().map(finish).collect()
    }
}

/// A bar for those who watch. It moves with each batch, so that it costs an operation nothing.
fn progress_bar(arguments: &Arguments) -> Option<ProgressBar> {
    let template = "{bar:40} {human_pos}/{human_len} operations, {per_sec}, {elapsed}";
    io::stderr().is_terminal().then(|| {
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(u64::from(arguments.operations)).with_style(style)
    })
}

/// Hands out batches, and calls threads in: the ramp.
///
/// Thread i of n is called when i/n of the first quarter of the operations has been handed out. So
/// the load grows from one thread to all of them, and three quarters are run by all.
struct Dispenser {
    operations: u32,
    batch: u32,
    threads: u32,
    state: Mutex<Dispensed>,
}

#[derive(Default)]
struct Dispensed {
    operations: u32,
    /// Threads called in so far, the first one aside.
    called: u32,
    last: Option<Instant>,
    stopped: bool,
}

/// Some operations to run, and threads that are to join.
struct Batch {
    operations: Range<u32>,
    newcomers: Range<u32>,
    taken: Instant,
}

impl Dispenser {
    fn new(arguments: &Arguments) -> Self {
        Dispenser {
            operations: arguments.operations,
            batch: arguments.batch,
            threads: arguments.threads,
            state: Mutex::default(),
        }
    }

    fn take(&self) -> Option<Batch> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let left = self.operations - state.operations;
        if left == 0 || state.stopped {
            return None;
        }
        let (first, newest) = (state.operations, state.called);
        state.operations += left.min(self.batch);
        state.called = self.threads_after(state.operations) - 1;
        let taken = now();
        state.last = Some(taken);
        Some(Batch {
            operations: first..state.operations,
            newcomers: newest + 1..state.called + 1,
            taken,
        })
    }

    /// How many threads are to run after so many operations.
    fn threads_after(&self, operations: u32) -> u32 {
        let (handed_out, all) = (u64::from(operations), u64::from(self.operations));
        let threads = 1 + 4 * handed_out * u64::from(self.threads) / all;
        threads.min(u64::from(self.threads)) as u32
    }

    /// Hands out no more.
    fn stop(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.stopped = true;
    }

    /// How many operations were handed out, and when the last one was.
    fn totals(&self) -> (u64, Option<Instant>) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (u64::from(state.operations), state.last)
    }
}

/// Starts a thread, which starts and joins those that are called in by its batches. Whoever joins
/// it gets the tallies of all of them.
fn enlist<'scope>(
    scope: &'scope Scope<'scope, '_>,
    arena: &'scope Arena<'_>,
    thread: u32,
) -> ScopedJoinHandle<'scope, Vec<Tally>> {
    scope.spawn(move || {
        let mut worker = Worker::new(arena, thread);
        let mut newcomers = Vec::new();
        while let Some(batch) = arena.dispenser.take() {
            newcomers.extend(batch.newcomers.clone().map(|i| enlist(scope, arena, i)));
            worker.run(&batch);
        }
        let mut tallies = vec![worker.tally];
        // Joining waits for the very end of a thread, where it hands over what it has not freed.
        // The end of the scope would not.
        tallies.extend(newcomers.into_iter().flat_map(join));
        tallies
    })
}

fn join(handle: ScopedJoinHandle<'_, Vec<Tally>>) -> Vec<Tally> {
    handle
        .join()
        .unwrap_or_else(|payload| panic::resume_unwind(payload))
}

/// One thread at work.
struct Worker<'a> {
    arena: &'a Arena<'a>,
    jitter: SplitMix64,
    tally: Tally,
}

impl<'a> Worker<'a> {
    fn new(arena: &'a Arena<'a>, thread: u32) -> Self {
        let arguments = arena.arguments;
        Worker {
            arena,
            jitter: SplitMix64::seeded(!arguments.seed, u64::from(thread)),
            tally: Tally {
                thread,
                counts: Counts::default(),
                records: Vec::with_capacity((arguments.operations / arguments.threads) as usize),
                backing_off: Duration::ZERO,
                ended: None,
                failure: None,
            },
        }
    }

    fn run(&mut self, batch: &Batch) {
        let size = batch.operations.len() as u64;
        self.tally.counts.unfinished += size;
        let mut began = now();
        for id in batch.operations.clone() {
            if self.tally.failure.is_some() {
                self.tally.counts.unfinished -= 1;
                self.tally.counts.cancelled += 1;
                continue;
            }
            let (end, attempts) = self.execute(id);
            let ended = now();
            self.tally.counts.ended(end, attempts);
            self.tally.records.push(Record {
                operation: id,
                attempts,
                end,
                queued_ns: nanoseconds(began - batch.taken),
                latency_ns: nanoseconds(ended - began),
            });
            began = ended;
        }
        self.tally.ended = Some(began);
        if let Some(bar) = &self.arena.progress {
            bar.inc(size);
        }
    }

    /// Tries an operation until it commits or its budget is used up; says how often it tried.
    fn execute(&mut self, id: u32) -> (End, u32) {
        let arguments = self.arena.arguments;
        let operation = Operation::draw(arguments.seed, id, arguments.targets);
        let user = User {
            thread: self.tally.thread,
            operation: id,
        };
        let budget = arguments.budget(operation.priority);
        if arguments.work.is_zero() {
            self.update(&operation, user, budget)
        } else {
            self.read_wait_commit(&operation, user, budget)
        }
    }

    /// Without work, the crate's own loop does it all.
    fn update(&mut self, operation: &Operation, user: User, budget: u32) -> (End, u32) {
        let target = &self.arena.targets[operation.target];
        let mut made = 0;
        let updated = target.update_with(Retry::at_most(budget), |seen| {
            made += 1;
            seen.after(operation, user)
        });
        match updated {
            Ok(committed) => (End::Committed(committed.stamp()), committed.attempts()),
            Err(UpdateError::Exhausted { attempts, .. }) => (End::Rejected, attempts),
            Err(error) => (self.fail(error.to_string()), made),
        }
    }

    /// With work, read and commit are apart: a closure of an update runs under a guard, and if it
    /// slept there, nothing could be freed meanwhile.
    fn read_wait_commit(&mut self, operation: &Operation, user: User, budget: u32) -> (End, u32) {
        let target = &self.arena.targets[operation.target];
        let work = self.arena.arguments.work;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let seen = target.snapshot();
            pause(work);
            match target.try_commit_on(&seen, seen.after(operation, user)) {
                Ok(committed) => return (End::Committed(committed.stamp()), attempts),
                Err(error) if !error.is_conflict() => {
                    return (self.fail(error.to_string()), attempts);
                }
                Err(_) if attempts > budget => return (End::Rejected, attempts),
                Err(_) => {}
            }
            drop(seen);
            self.back_off(work, attempts);
        }
    }

    /// Stays away after a loss: half the work's time, doubled with each further loss up to a cap,
    /// and then by chance up to a half less, so that losers don't come back together.
    ///
    /// The cap is what lets 300 threads commit 300 operations of 5 ms, none with more than 15
    /// retries. Half of it makes a few more commits in a second, and rejects one in 150.
    fn back_off(&mut self, work: Duration, losses: u32) {
        const DOUBLINGS: u32 = 6;
        let most = work.saturating_mul(1 << (losses - 1).min(DOUBLINGS)) / 2;
        let half = nanoseconds(most / 2);
        let delay = Duration::from_nanos(half + self.jitter.below(half + 1));
        let start = now();
        pause(delay);
        self.tally.backing_off += start.elapsed();
    }

    #[cold]
    fn fail(&mut self, error: String) -> End {
        self.arena.dispenser.stop();
        self.tally.failure.get_or_insert(error);
        End::Failed
    }
}

/// Sleeps, or spins where a sleep could not be so short.
fn pause(time: Duration) {
    const SHORTEST_SLEEP: Duration = Duration::from_micros(200);
    if time >= SHORTEST_SLEEP {
        return thread::sleep(time);
    }
    let start = now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "latencies of a stress test are times of the machine, not of an injected clock"
)]
fn now() -> Instant {
    Instant::now()
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

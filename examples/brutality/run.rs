//! Submitters, batches, the pace, and what is seen when all is over.
//!
//! Submitters take batches from one counter, draw the operations, and see each of them to its end. Nothing else is shared
//! but the engine and the targets: each keeps books of its own, and those meet when all is over.

use crate::args::{Arguments, Backoff, Policy};
use crate::books::{Books, Course, Drawn, Entry, Meter, Way};
use crate::clock::Start;
use crate::door::{Door, Pending};
use crate::mix::{self, Check, Mix, Outcome};
use crate::workload::{SplitMix64, Tokens};
use indicatif::{ProgressBar, ProgressStyle};
use snapcell::{Class, ClassPolicy, Counts, Engine, Lag, Metrics, Policies, RetryPolicy, ShutDown};
use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::ops::Range;
use std::panic;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// All that is known when a run is over.
pub(crate) struct Run {
    pub(crate) kinds: &'static [&'static str],
    pub(crate) books: Books,
    /// How many operations were handed out to submitters.
    pub(crate) handed_out: u64,
    /// From the start until the last operation was submitted.
    pub(crate) submitting: Duration,
    /// From the start until the last operation ended.
    pub(crate) elapsed: Duration,
    pub(crate) start: Start,
    /// What scenarios have found.
    pub(crate) checks: Vec<Check>,
    /// What the engine says.
    pub(crate) counts: Counts,
    pub(crate) metrics: Metrics,
    pub(crate) unfinished: u64,
    pub(crate) is_clean: bool,
    pub(crate) waiting: usize,
    /// What the targets were in the end.
    pub(crate) outcome: Outcome,
    /// What waited to be freed when the last operation had ended.
    pub(crate) lag: Lag,
    /// What waited after targets and engine had been dropped and everything freed that could be.
    pub(crate) lag_after_all: Lag,
    /// Values made and dropped until the last operation had ended.
    pub(crate) tokens: Tokens,
    /// The same after all.
    pub(crate) tokens_after_all: Tokens,
    /// Operations whose closure somebody still has, after all.
    pub(crate) closures_left: u64,
    pub(crate) destructor_panics: u64,
}

/// An engine, as the arguments want it.
pub(crate) fn engine(arguments: &Arguments) -> Engine {
    let retry = arguments.retry();
    let reserving = |policy: RetryPolicy, after| match arguments.backoff {
        Backoff::Tuned => policy.reserving_after(after),
        Backoff::Reference => policy,
    };
    let mut policies = Policies::default();
    let classes = [
        (
            Class::STRUCTURAL,
            ClassPolicy::structural()
                .with_retry(reserving(retry, 0))
                .with_retries(arguments.structural_retries()),
        ),
        (
            Class::NORMAL,
            ClassPolicy::normal()
                .with_retry(retry)
                .with_retries(arguments.retries()),
        ),
        (
            Class::LOW,
            ClassPolicy::low()
                .with_retry(retry.never_reserving())
                .with_retries(arguments.low_retries()),
        ),
    ];
    for (class, policy) in classes {
        let _ = policies
            .set(class, policy)
            .expect("it is a class of the table");
    }
    Engine::builder()
        .workers(arguments.workers() as usize)
        .capacity(arguments.capacity as usize)
        .policy(arguments.policy.of_engine())
        .policies(policies)
        .build()
}

/// Runs the workload once.
pub(crate) fn run(arguments: &Arguments) -> Run {
    let before = Tokens::so_far();
    let panics_before = snapcell::destructor_panics();
    let mix = mix::of(arguments);
    let checks = mix.scenarios();
    let engine = engine(arguments);
    let arena = Arena {
        arguments,
        mix: &*mix,
        engine: &engine,
        start: Start::now(),
        dispenser: Dispenser::default(),
        progress: progress_bar(arguments),
    };
    let books = arena.submit_all();
    let start = arena.start;
    let handed_out = arena.dispenser.total();
    if let Some(bar) = &arena.progress {
        bar.finish_and_clear();
    }
    // All have ended; what is left to end is what their lanes and threads do afterwards.
    let drained = engine.shut_down(ShutDown::Finish, None);
    let lag = snapcell::reclamation_lag();
    let tokens = Tokens::so_far().since(before);
    let ended = books
        .entries
        .iter()
        .map(|entry| start.since(entry.ended))
        .max();
    let born = books
        .entries
        .iter()
        .map(|entry| start.since(entry.born))
        .max();
    let outcome = mix.judge(&books);
    let (kinds, waiting) = (mix.kinds(), mix.waiting(&engine));
    let (counts, metrics, is_clean) = (engine.counts(), engine.metrics(), engine.is_clean());
    let unfinished = engine.unfinished() + drained.map_or_else(|busy| busy.unfinished, |()| 0);
    drop((engine, mix));
    settle();
    Run {
        kinds,
        handed_out,
        submitting: born.unwrap_or_default(),
        elapsed: ended.unwrap_or_default(),
        start,
        checks,
        counts,
        metrics,
        unfinished,
        is_clean,
        waiting,
        outcome,
        books,
        lag,
        lag_after_all: snapcell::reclamation_lag(),
        tokens,
        tokens_after_all: Tokens::so_far().since(before),
        closures_left: Meter::alive(),
        destructor_panics: (snapcell::destructor_panics() - panics_before) as u64,
    }
}

/// Frees all that is left. The threads of the engine hand over what they haven't freed when they end, which is some time
/// after the engine was dropped; so it is looked for again, for a bounded time. What is left then is told.
fn settle() {
    const LONGEST: Duration = Duration::from_secs(10);
    let start = Start::now();
    loop {
        snapcell::reclaim();
        let tokens = Tokens::so_far();
        let is_settled = snapcell::reclamation_lag().nodes == 0
            && tokens.made == tokens.dropped
            && Meter::alive() == 0;
        if is_settled || start.elapsed() > LONGEST {
            return;
        }
        thread::yield_now();
    }
}

/// A bar for those who watch. It moves with each batch, so that it costs an operation nothing.
fn progress_bar(arguments: &Arguments) -> Option<ProgressBar> {
    let is_watched = io::stderr().is_terminal() && io::stdout().is_terminal();
    (is_watched && !arguments.json).then(|| {
        let (bar, template) = match arguments.duration {
            Some(_) => (
                ProgressBar::new_spinner(),
                "{spinner} {human_pos} operations, {per_sec}, {elapsed}",
            ),
            None => (
                ProgressBar::new(u64::from(arguments.operations())),
                "{bar:40} {human_pos}/{human_len} operations, {per_sec}, {elapsed}",
            ),
        };
        let style = ProgressStyle::with_template(template);
        bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    })
}

/// What all submitters share.
struct Arena<'a> {
    arguments: &'a Arguments,
    mix: &'a dyn Mix,
    engine: &'a Engine,
    start: Start,
    dispenser: Dispenser,
    progress: Option<ProgressBar>,
}

impl Arena<'_> {
    fn submit_all(&self) -> Books {
        thread::scope(|scope| {
            let submitters = (0..self.arguments.threads)
                .map(|thread| scope.spawn(move || Submitter::new(self, thread).work()));
            let submitters: Vec<_> = submitters.collect();
            let mut books = Books::default();
            for submitter in submitters {
                // Joining waits for the very end of a thread, where it hands over what it has not freed. The end of the
                // scope would not.
                let joined = submitter.join();
                books.add(joined.unwrap_or_else(|payload| panic::resume_unwind(payload)));
            }
            books
        })
    }

    /// The next batch, when it is due.
    fn take(&self) -> Option<Range<u32>> {
        let arguments = self.arguments;
        let batch = self.dispenser.take(arguments, self.start.elapsed())?;
        if let Some(rate) = arguments.rate {
            let due = f64::from(batch.start) / f64::from(rate);
            self.start.sleep_until(Duration::from_secs_f64(due));
        }
        Some(batch)
    }
}

/// Hands out batches: how many operations have been.
#[derive(Default)]
struct Dispenser(Mutex<u32>);

impl Dispenser {
    fn take(&self, arguments: &Arguments, elapsed: Duration) -> Option<Range<u32>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = arguments.operations() - *state;
        let is_late = arguments.duration.is_some_and(|duration| {
            // What is not due before the end isn't begun.
            let due = arguments
                .rate
                .map_or(0.0, |rate| f64::from(*state) / f64::from(rate));
            elapsed >= duration || due >= duration.as_secs_f64()
        });
        if left == 0 || is_late {
            return None;
        }
        let first = *state;
        *state += left.min(arguments.batch());
        Some(first..*state)
    }

    /// How many operations were handed out.
    fn total(&self) -> u64 {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        u64::from(*state)
    }
}

/// How many operations a submitter has under way at most, but for one batch.
const WINDOW: usize = 1_024;

/// One thread that submits.
struct Submitter<'a> {
    arena: &'a Arena<'a>,
    thread: u32,
    pending: VecDeque<Pending>,
    books: Books,
}

impl<'a> Submitter<'a> {
    fn new(arena: &'a Arena<'a>, thread: u32) -> Self {
        Submitter {
            arena,
            thread,
            pending: VecDeque::new(),
            books: Books::default(),
        }
    }

    fn work(mut self) -> Books {
        while let Some(batch) = self.arena.take() {
            let size = batch.len() as u64;
            self.submit(batch);
            match self.arena.arguments.policy {
                // As the original does. Otherwise several batches would be one round, of which one wins.
                Policy::Winner => self.enter_all(),
                _ => self.enter_those_that_ended(),
            }
            if let Some(bar) = &self.arena.progress {
                bar.inc(size);
            }
        }
        self.enter_all();
        self.books
    }

    fn submit(&mut self, batch: Range<u32>) {
        let arena = self.arena;
        let mut door = Door::new(arena.engine, arena.arguments.batch());
        for id in batch {
            let drawn = arena.mix.draw(id);
            let meter = Arc::new(Meter::new());
            match drawn.way {
                Way::InTurn => arena.mix.submit(&drawn, self.thread, &meter, &mut door),
                _ => self.do_at_once(drawn, &meter),
            }
        }
        let (pending, refused) = door.close();
        self.cancel_some(&pending);
        self.pending.extend(pending);
        for drawn in refused {
            self.enter_refusal(drawn);
        }
    }

    fn cancel_some(&self, pending: &[Pending]) {
        let arguments = self.arena.arguments;
        let is_chosen = |pending: &&Pending| {
            let seed = arguments.seed.rotate_right(16);
            let mut random = SplitMix64::seeded(seed, pending.drawn().id.into());
            random.below(100) < u64::from(arguments.cancel)
        };
        pending.iter().filter(is_chosen).for_each(Pending::cancel);
    }

    fn do_at_once(&mut self, drawn: Drawn, meter: &Arc<Meter>) {
        let arena = self.arena;
        let born = arena.start.reading();
        let answer = arena.mix.at_once(&drawn, self.thread, meter, arena.engine);
        let course = Course {
            born,
            started: (meter.runs() > 0).then_some(born),
            ended: arena.start.reading(),
            retries: None,
            effective: drawn.priority,
            expected: drawn.priority,
        };
        let entry = Entry::new(drawn, self.thread, &answer, meter, course);
        self.books.entries.push(entry);
        self.books.complain(answer.complaint);
    }

    fn enter_refusal(&mut self, drawn: Drawn) {
        let now = self.arena.start.reading();
        self.books
            .entries
            .push(Entry::refused(drawn, self.thread, now));
    }

    /// Waits for all that is under way.
    fn enter_all(&mut self) {
        while let Some(next) = self.pending.pop_front() {
            self.enter(next);
        }
    }

    fn enter_those_that_ended(&mut self) {
        while self.pending.len() > WINDOW || self.pending.front().is_some_and(Pending::is_done) {
            if let Some(next) = self.pending.pop_front() {
                self.enter(next);
            }
        }
    }

    fn enter(&mut self, pending: Pending) {
        let (entry, complaint) = pending.end(self.thread);
        self.books.entries.push(entry);
        self.books.complain(complaint);
    }
}

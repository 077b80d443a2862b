//! Who is measured when: contenders take turns within each repeat.
//!
//! The mood of a machine swings by more than what contenders differ in, and it swings for seconds. So
//! each repeat measures all contenders of a case, one shortly after the other, and ratios are formed
//! within a repeat.

use crate::results::{Case, Metric, Row};
use std::io::{self, IsTerminal, Write};
use std::process;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// How long a contender may take for its turn, which is a few seconds at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Repeats of each case; with none, contenders are only checked.
    pub(crate) repeats: usize,
    /// How long a contender runs in a repeat.
    pub(crate) slice: Duration,
    /// How long one runs that is to fill memory.
    pub(crate) long_slice: Duration,
    /// How many values are weighed.
    pub(crate) many: usize,
}

/// What a contender was measured at: a figure for each metric of its case.
pub(crate) type Sample = Vec<f64>;

/// Who takes part in a case.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// Whether its results are right, before they are timed.
    pub(crate) check: Box<dyn Fn() -> Result<(), String>>,
    /// Measures for a slice of time, and checks what came of it.
    pub(crate) measure: Box<dyn FnMut(Duration) -> Result<Sample, String>>,
}

/// Checks the contenders of a case, warms them up, and measures them in turns.
///
/// Who fails a check is left out, and its name is among the failures.
pub(crate) fn measure(
    plan: &Plan,
    name: impl Into<String>,
    metrics: &'static [Metric],
    reference: &'static str,
    contenders: Vec<Contender>,
) -> Case {
    let mut case = Case {
        name: name.into(),
        metrics,
        reference,
        rows: Vec::new(),
        failures: Vec::new(),
    };
    tell(&case.name);
    let running = thread::scope(|scope| {
        let (turn, turns) = mpsc::channel();
        let name = case.name.clone();
        scope.spawn(move || lose_patience(&name, &turns));
        take_turns(plan, contenders, &mut case, &turn)
    });
    case.rows = running
        .into_iter()
        .map(|(contender, samples)| Row {
            contender: contender.name,
            samples,
        })
        .collect();
    tell("");
    case
}

/// Measures in turns, and says whose turn it is.
fn take_turns(
    plan: &Plan,
    contenders: Vec<Contender>,
    case: &mut Case,
    turn: &Sender<&'static str>,
) -> Vec<(Contender, Vec<Sample>)> {
    let announce = |contender: &Contender| turn.send(contender.name).expect("it is listened to");
    let mut running = Vec::new();
    for mut contender in contenders {
        announce(&contender);
        let mut ready = (contender.check)();
        if ready.is_ok() && plan.repeats > 0 {
            ready = (contender.measure)(plan.slice / 4).map(drop);
        }
        match ready {
            Ok(()) => running.push((contender, Vec::with_capacity(plan.repeats))),
            Err(failure) => case.fail(contender.name, &failure),
        }
    }
    for _ in 0..plan.repeats {
        running.retain_mut(|(contender, samples)| {
            announce(contender);
            match (contender.measure)(plan.slice) {
                Ok(sample) => samples.push(sample),
                Err(failure) => {
                    case.fail(contender.name, &failure);
                    return false;
                }
            }
            true
        });
    }
    running
}

/// Ends the process when a contender doesn't end: a wake-up or an update that is lost must not look like
/// a bench that takes long.
fn lose_patience(case: &str, turns: &Receiver<&'static str>) {
    let mut contender = "nobody";
    loop {
        match turns.recv_timeout(PATIENCE) {
            Ok(next) => contender = next,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                eprintln!("\ncompare: CHECK FAILED: {case}, {contender}: it doesn't end");
                process::exit(1);
            }
        }
    }
}

/// Tells whoever sits at a terminal what is being measured.
fn tell(case: &str) {
    let mut terminal = io::stderr();
    if terminal.is_terminal() {
        // Whoever can't be told misses nothing else.
        _ = write!(terminal, "\r\x1b[K{case}");
    }
}

/// What lets threads start together, and ends them.
pub(crate) struct Gate {
    start: Barrier,
    is_over: AtomicBool,
}

impl Gate {
    /// Waits until all threads are ready.
    pub(crate) fn pass(&self) {
        self.start.wait();
    }

    /// Whether the slice of time isn't over. Look rarely: it is a load of something shared.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }
}

/// Runs the workers on threads of their own, from one moment on, for a slice of time; returns what
/// they return, and how long it was.
///
/// Each worker must pass the gate once.
pub(crate) fn together<W, R>(slice: Duration, workers: Vec<W>) -> (Vec<R>, Duration)
where
    W: FnOnce(&Gate) -> R + Send,
    R: Send,
{
    let gate = Gate {
        start: Barrier::new(workers.len() + 1),
        is_over: AtomicBool::new(false),
    };
    thread::scope(|scope| {
        let gate = &gate;
        let threads: Vec<_> = workers
            .into_iter()
            .map(|worker| scope.spawn(move || worker(gate)))
            .collect();
        gate.pass();
        let start = now();
        thread::sleep(slice);
        gate.is_over.store(true, Ordering::Relaxed);
        let elapsed = start.elapsed();
        // By hand: a scope ends before what is local to its threads does.
        let results = threads
            .into_iter()
            .map(|thread| thread.join().expect("a worker doesn't panic"))
            .collect();
        (results, elapsed)
    })
}

/// The time.
#[allow(
    clippy::disallowed_methods,
    reason = "a bench measures the machine's time"
)]
#[inline]
pub(crate) fn now() -> Instant {
    Instant::now()
}

//! What a model is, and how it is run.
//!
//! A model is a small concurrent program that returns what it observed, as a text. Under loom it
//! runs in every interleaving, and the set of its outcomes must *equal* the one derived by hand; as
//! an ordinary test it runs on real threads many times, and each outcome must be *one of* them.
//! After each execution everything is reclaimed, and each value must have been dropped exactly once.
//!
//! Under loom it is also counted what transactions did to each other (`Coverage`): a model that is about
//! helping says so, and fails if nobody ever helped.

use snapcell::internals::{Fault, Weakening};
use snapcell::{Changes, Entity, Stamp, try_transaction};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

#[cfg(snapcell_model)]
pub(crate) use loom::thread::JoinHandle;
#[cfg(not(snapcell_model))]
pub(crate) use std::thread::JoinHandle;

/// A model, as data: the fault replay walks over all of them.
pub(crate) struct Model {
    /// The name of its test.
    pub(crate) name: &'static str,
    /// loom's bound of preemptions. `None`: every interleaving.
    pub(crate) bound: Option<usize>,
    /// The planted faults that it notices.
    pub(crate) kills: &'static [Fault],
    /// What must have happened in some execution, or else it has shown nothing.
    pub(crate) covers: &'static [Coverage],
    /// What must not have happened in any.
    pub(crate) never: &'static [Coverage],
    /// Everything that may be observed.
    pub(crate) outcomes: &'static [&'static str],
    /// The program.
    pub(crate) body: fn(&World) -> String,
}

/// What transactions may do to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(snapcell_model),
    allow(dead_code, reason = "it is counted under loom only")
)]
pub(crate) enum Coverage {
    /// Somebody drives another one's transaction to its end.
    Help,
    /// And puts a node at a head for it.
    HelperInstall,
    /// A transaction is aborted of which others could see a node.
    PublishedAbort,
    /// A node gets to a head after the verdict. Never, in any model.
    LateInstall,
}

/// Defines a model with its test. `covers` and `never` may be left out.
macro_rules! model {
    (
        $(#[$doc:meta])*
        $name:ident {
            bound: $bound:expr,
            kills: [$($fault:ident),* $(,)?],
            $(covers: [$($covered:ident),* $(,)?],)?
            $(never: [$($excluded:ident),* $(,)?],)?
            outcomes: [$($outcome:expr),* $(,)?],
        }
        $body:expr
    ) => {
        $(#[$doc])*
        #[test]
        fn $name() {
            $crate::support::check(&$name::MODEL);
        }

        pub(crate) mod $name {
            #[allow(unused_imports, reason = "not every model names everything of its file")]
            use super::*;

            pub(crate) const MODEL: $crate::support::Model = $crate::support::Model {
                name: module_path!(),
                bound: $bound,
                kills: &[$(snapcell::internals::Fault::$fault),*],
                covers: &[$($($crate::support::Coverage::$covered),*)?],
                never: &[$($($crate::support::Coverage::$excluded),*)?],
                outcomes: &[$($outcome),*],
                body: $body,
            };
        }
    };
}
pub(crate) use model;

impl Model {
    /// The name as the test runner has it.
    pub(crate) fn test_name(&self) -> &'static str {
        self.name
            .split_once("::")
            .expect("a module path starts with the crate")
            .1
    }
}

/// The values of one execution: how many were made and dropped.
#[derive(Clone, Default)]
pub(crate) struct World(Arc<Ledger>);

#[derive(Default)]
struct Ledger {
    made: AtomicUsize,
    dropped: AtomicUsize,
}

impl World {
    /// A value that is followed.
    pub(crate) fn value(&self, number: u32) -> Value {
        self.0.made.fetch_add(1, SeqCst);
        Value {
            number: Tracked::new(number),
            world: self.clone(),
        }
    }

    /// An entity of such a value. The logical clock keeps executions alike.
    pub(crate) fn entity(&self, number: u32) -> Entity<Value> {
        Entity::builder(self.value(number))
            .clock(snapcell::Clock::logical())
            .build()
    }

    /// Entities with these values, in the order in which every transaction installs its nodes. That is the
    /// order of their addresses, which are not the same in each execution.
    ///
    /// The threads share their handles, since every count of a handle makes a model many times larger. What
    /// happens when handles end is for other models.
    pub(crate) fn entities<const N: usize>(&self, numbers: [u32; N]) -> Entities<N> {
        Arc::new(self.in_order(numbers.map(|number| self.entity(number))))
    }

    /// The same entities, in that order.
    pub(crate) fn in_order<const N: usize>(
        &self,
        mut entities: [Entity<Value>; N],
    ) -> [Entity<Value>; N] {
        for end in (1..N).rev() {
            for second in 1..=end {
                if !self.is_installed_first(&entities[second - 1], &entities[second]) {
                    entities.swap(second - 1, second);
                }
            }
        }
        entities
    }

    /// Starts a thread of a model that looks at such entities.
    pub(crate) fn spawn<const N: usize, R: Send + 'static>(
        &self,
        entities: &Entities<N>,
        f: impl FnOnce(&World, &[Entity<Value>; N]) -> R + Send + 'static,
    ) -> JoinHandle<R> {
        let (world, entities) = (self.clone(), Arc::clone(entities));
        spawn(move || f(&world, &entities))
    }

    /// Asks for changes that are refused at both, which is said of the one that is looked at first.
    fn is_installed_first(&self, one: &Entity<Value>, other: &Entity<Value>) -> bool {
        let never = Stamp::new(u64::MAX, 0);
        let changes =
            Changes::new()
                .write(one, never, self.value(0))
                .write(other, never, self.value(0));
        try_transaction(changes).is_err_and(|refused| refused.is_about(one))
    }

    /// How many values were dropped so far.
    pub(crate) fn dropped(&self) -> usize {
        self.0.dropped.load(SeqCst)
    }

    /// Asserts that so many values have been dropped by now. On real threads other tests may be
    /// pinned for a moment, and hold back what nobody holds back in a model.
    pub(crate) fn assert_dropped(&self, number: usize) {
        #[cfg(not(snapcell_model))]
        for _ in 0..1_000_000 {
            if self.dropped() >= number {
                break;
            }
            snapcell::reclaim();
            std::thread::yield_now();
        }
        assert_eq!(
            self.dropped(),
            number,
            "each value is dropped once, and in time"
        );
    }

    /// Reclaims everything and closes the ledger.
    fn close(&self) {
        snapcell::reclaim();
        self.assert_dropped(self.0.made.load(SeqCst));
        #[cfg(snapcell_model)]
        assert_eq!(
            snapcell::reclamation_lag(),
            snapcell::Lag::default(),
            "the gauges add up"
        );
    }
}

/// Entities that the threads of a model share.
pub(crate) type Entities<const N: usize> = Arc<[Entity<Value>; N]>;

/// A value whose reads and end loom follows.
pub(crate) struct Value {
    number: Tracked,
    world: World,
}

impl Value {
    /// Reads it.
    pub(crate) fn number(&self) -> u32 {
        self.number.read()
    }
}

/// Another value, which is followed as well.
impl Clone for Value {
    fn clone(&self) -> Self {
        self.world.value(self.number())
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.number.end();
        self.world.0.dropped.fetch_add(1, SeqCst);
    }
}

#[cfg(snapcell_model)]
struct Tracked(loom::cell::UnsafeCell<u32>);

#[cfg(snapcell_model)]
impl Tracked {
    fn new(number: u32) -> Self {
        Tracked(loom::cell::UnsafeCell::new(number))
    }

    fn read(&self) -> u32 {
        // SAFETY: loom panics if somebody writes meanwhile.
        self.0.with(|number| unsafe { *number })
    }

    fn end(&mut self) {
        // A second panic would abort, without a word about the first one.
        if !std::thread::panicking() {
            self.0.with_mut(|_| ());
        }
    }
}

#[cfg(snapcell_model)]
// SAFETY: loom runs all threads of a model on one; it is loom that finds the races.
unsafe impl Sync for Tracked {}

#[cfg(not(snapcell_model))]
struct Tracked(u32);

#[cfg(not(snapcell_model))]
impl Tracked {
    fn new(number: u32) -> Self {
        Tracked(number)
    }

    fn read(&self) -> u32 {
        self.0
    }

    fn end(&mut self) {}
}

/// Starts a thread of a model. What ends with the thread ends before it can be joined.
pub(crate) fn spawn<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
    #[cfg(snapcell_model)]
    return loom::thread::spawn(move || {
        let result = f();
        snapcell::internals::leave();
        result
    });
    #[cfg(not(snapcell_model))]
    #[allow(
        clippy::disallowed_methods,
        reason = "as with loom, threads of a model own what they look at, and are joined"
    )]
    return std::thread::spawn(f);
}

/// Runs `f` as on a thread that ends right after. In a model that costs no thread.
pub(crate) fn on_a_thread_that_ends(f: impl FnOnce() + Send + 'static) {
    #[cfg(snapcell_model)]
    {
        f();
        snapcell::internals::leave();
    }
    #[cfg(not(snapcell_model))]
    spawn(f).join().expect("it does not panic");
}

/// Runs a model, and prints what it took.
pub(crate) fn check(model: &Model) {
    assert!(
        cfg!(snapcell_model) || std::env::var_os("SNAPCELL_MODEL").is_none(),
        "this is the model command without the model cfg: RUSTFLAGS (or CARGO_TARGET_…_RUSTFLAGS) in the \
         environment replaces the flags of the alias; unset it"
    );
    if let Ok(fault) = std::env::var("SNAPCELL_FAULT") {
        let known = Fault::ALL.iter().any(|known| format!("{known:?}") == fault)
            || Weakening::all().any(|known| known.to_string() == fault);
        assert!(
            known,
            "SNAPCELL_FAULT={fault} names neither a fault nor a weaker ordering"
        );
    }
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let executions = Arc::new(AtomicUsize::new(0));
    let coverage = Arc::new(Counts::default());
    let body = model.body;
    #[allow(
        clippy::disallowed_methods,
        reason = "the time is printed, and decides nothing"
    )]
    let start = std::time::Instant::now();
    explore(model.bound, {
        let (seen, executions) = (Arc::clone(&seen), Arc::clone(&executions));
        let coverage = Arc::clone(&coverage);
        move || {
            let world = World::default();
            let outcome = body(&world);
            world.close();
            coverage.add();
            seen.lock().expect("nobody panics here").insert(outcome);
            executions.fetch_add(1, SeqCst);
        }
    });
    let seen = seen.lock().expect("nobody panics here");
    let expected: BTreeSet<String> = model
        .outcomes
        .iter()
        .map(|&outcome| outcome.to_owned())
        .collect();
    // The test runner has printed the name.
    println!(
        "{} executions, {}, {:.2} s, {} of {} outcomes{}",
        executions.load(SeqCst),
        match model.bound {
            _ if !cfg!(snapcell_model) => "threads".to_owned(),
            Some(bound) => format!("bound {bound}"),
            None => "unbounded".to_owned(),
        },
        start.elapsed().as_secs_f64(),
        seen.len(),
        expected.len(),
        coverage.shown(),
    );
    let unexpected: Vec<_> = seen.difference(&expected).collect();
    assert!(
        unexpected.is_empty(),
        "{}: not derived by hand: {unexpected:#?}",
        model.name
    );
    if cfg!(snapcell_model) {
        let missing: Vec<_> = expected.difference(&seen).collect();
        assert!(
            missing.is_empty(),
            "{}: derived by hand, but never seen: {missing:#?}",
            model.name
        );
        coverage.check(model);
    }
}

/// How often each [`Coverage`] happened, in all executions of a model.
#[derive(Default)]
struct Counts([AtomicUsize; 4]);

impl Counts {
    /// Adds those of the execution that ends.
    fn add(&self) {
        #[cfg(snapcell_model)]
        for (count, more) in self.0.iter().zip(snapcell::internals::coverage()) {
            count.fetch_add(more, SeqCst);
        }
        // At once, so that loom shows the execution.
        assert_eq!(
            self.of(Coverage::LateInstall),
            0,
            "nothing is installed after the verdict"
        );
    }

    fn of(&self, coverage: Coverage) -> usize {
        self.0[coverage as usize].load(SeqCst)
    }

    /// Those that are not zero, as an addition to a line.
    fn shown(&self) -> String {
        [
            Coverage::Help,
            Coverage::HelperInstall,
            Coverage::PublishedAbort,
        ]
        .map(|coverage| match self.of(coverage) {
            0 => String::new(),
            count => format!(", {count} × {coverage:?}"),
        })
        .concat()
    }

    /// Asserts that a model has seen what it is about. With a fault planted that is no matter: a fault that
    /// is noticed by this alone would not be noticed.
    fn check(&self, model: &Model) {
        for &excluded in model.never {
            assert_eq!(
                self.of(excluded),
                0,
                "{}: {excluded:?} never happens",
                model.name
            );
        }
        if std::env::var_os("SNAPCELL_FAULT").is_none() {
            for &covered in model.covers {
                assert!(
                    self.of(covered) > 0,
                    "{}: {covered:?} never happened, so nothing was shown",
                    model.name
                );
            }
        }
    }
}

#[cfg(snapcell_model)]
fn explore(bound: Option<usize>, execution: impl Fn() + Send + Sync + 'static) {
    for limit in [
        "LOOM_MAX_PREEMPTIONS",
        "LOOM_MAX_DURATION",
        "LOOM_MAX_PERMUTATIONS",
        "LOOM_MAX_BRANCHES",
    ] {
        assert!(
            std::env::var_os(limit).is_none(),
            "{limit} would cut every model short; unset it"
        );
    }
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bound;
    builder.max_branches = 10_000;
    builder.check(move || {
        snapcell::internals::begin();
        execution();
        snapcell::internals::end();
    });
}

#[cfg(not(snapcell_model))]
fn explore(_bound: Option<usize>, execution: impl Fn() + Send + Sync + 'static) {
    for _ in 0..200 {
        execution();
    }
}

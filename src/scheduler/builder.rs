//! An engine in the making: what it may be told, and what it is by default.
#![forbid(unsafe_code)]

use super::class::Policies;
use super::engine::Engine;
use super::policy::Policy;
use super::shared::{Settings, Shared};
use crate::clock::Clock;
use std::time::Duration;

/// An engine in the making.
///
/// # Examples
/// Every knob at once:
/// ```
/// use snapcell::{Clock, Engine, Policies, Policy};
/// use std::time::Duration;
///
/// let engine = Engine::builder()
///     .workers(4)
///     .clock(Clock::monotonic())
///     .policies(Policies::default())
///     .policy(Policy::Fold)
///     .capacity(1_000)
///     .quantum(Duration::from_micros(100))
///     .share(16)
///     .registry(10_000)
///     .metrics(true)
///     .build();
/// assert!(engine.is_clean());
/// ```
#[derive(Debug)]
#[must_use = "a builder builds nothing until `build` is called"]
pub struct EngineBuilder(Settings);

impl Default for EngineBuilder {
    fn default() -> Self {
        EngineBuilder(Settings {
            workers: crate::sync::processors(),
            clock: Clock::default(),
            policies: Policies::default(),
            policy: Policy::default(),
            capacity: 65_536,
            quantum: Duration::from_micros(100),
            share: 0,
            registry: None,
            // Models count what they are about.
            metrics: !cfg!(any(snapcell_model, snapcell_shuttle)),
        })
    }
}

impl EngineBuilder {
    /// How many threads serve lanes, and prepare. They are started when they are needed for the first time.
    ///
    /// As many lanes make progress at once, and as many operations are prepared; so where closures wait, for
    /// a disk or another machine, it should be more than there are processors. Default: one for each processor.
    ///
    /// 0: no threads. Then the work is done by whoever calls [`Engine::serve`], or waits for a ticket, or polls one. One
    /// thread, which runs nothing, wakes tasks whose retry is due.
    pub fn workers(mut self, workers: usize) -> Self {
        self.0.workers = workers;
        self
    }

    /// Where the times of operations come from. Default: [`Clock::monotonic`]. A logical clock stands still: then
    /// operations don't age.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.0.clock = clock;
        self
    }

    /// The policies of all classes. Default: those of [`Policies::default`].
    pub fn policies(mut self, policies: Policies) -> Self {
        self.0.policies = policies;
        self
    }

    /// What becomes of operations that want the same entity. Default: [`Policy::InOrder`].
    /// Entities that are to have different policies belong to different engines.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.0.policy = policy;
        self
    }

    /// How many operations may wait for one entity. When as many do, the youngest of the least important ones is
    /// rejected to make room for one that is more important; otherwise that one isn't taken. Default: 65 536.
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.0.capacity = capacity;
        self
    }

    /// For how long a thread serves one lane while others are ready. Default: 100 µs.
    pub fn quantum(mut self, quantum: Duration) -> Self {
        self.0.quantum = quantum;
        self
    }

    /// Each so many-th operation of a lane is the oldest, whatever its priority: so all make some progress,
    /// even if there is always something of priority 10. Default: 0, which is never.
    pub fn share(mut self, picks: u32) -> Self {
        self.0.share = picks;
        self
    }

    /// Keeps a registry of operations, for [`Engine::operations`] and [`Engine::resolve`]: of those that haven't ended,
    /// and of so many that have. When more have ended the oldest are let go of; exactly these below 1 024, and
    /// about these from there on. Default: none.
    ///
    /// It costs each operation that is submitted 300 to 500 ns (2-core AMD EPYC that others used as well, 26 November
    /// 2026; 800 where 100 000 are kept), and a row that is kept some 400 bytes. A row keeps neither the closure nor the
    /// entity alive.
    pub fn registry(mut self, kept: usize) -> Self {
        self.0.registry = Some(kept);
        self
    }

    /// Whether more than totals is counted: each kind of operation by itself, how long they take, and what is done in
    /// each lane. See [`Metrics`](crate::Metrics). Default: yes.
    pub fn metrics(mut self, metrics: bool) -> Self {
        self.0.metrics = metrics;
        self
    }

    /// The engine.
    #[must_use]
    pub fn build(self) -> Engine {
        Engine::new_of(Shared::new(self.0))
    }
}

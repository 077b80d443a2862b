//! When an engine isn't well: what is measured, and compared with thresholds.
//!
//! A threshold is the largest number that is all right. Rates are compared as whole numbers, so that a rate of exactly
//! 10 % isn't above 10 %, and no threshold is invalid.
#![forbid(unsafe_code)]

use super::super::engine::Engine;
use super::super::status::State;
use super::event::{Event, What};
use super::query::Operations;
use super::registry::Among;
use crate::cell::{Lag, reclamation_lag};
use std::fmt;
use std::time::Duration;

/// What is still all right. Each is the largest number, or the longest time, that is.
///
/// # Examples
/// Every knob at once, with what it is by default:
/// ```
/// use snapcell::Thresholds;
/// use std::time::Duration;
///
/// let thresholds = Thresholds::new()
///     .kept(1_000)
///     .oldest(Duration::from_secs(24 * 60 * 60))
///     .failure_percent(10)
///     .waiting(10_000)
///     .conflict_percent(50)
///     .depth(5)
///     .lag_nodes(1_000_000)
///     .lag_bytes(1 << 30);
/// assert_eq!(thresholds, Thresholds::default());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "thresholds do nothing until something is compared with them"]
pub struct Thresholds {
    kept: usize,
    oldest: Duration,
    failure_percent: u32,
    waiting: usize,
    conflict_percent: u32,
    depth: u32,
    lag_nodes: usize,
    lag_bytes: usize,
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds {
            kept: 1_000,
            oldest: Duration::from_secs(24 * 60 * 60),
            failure_percent: 10,
            waiting: 10_000,
            conflict_percent: 50,
            depth: 5,
            lag_nodes: 1_000_000,
            lag_bytes: 1 << 30,
        }
    }
}

impl Thresholds {
    /// Those of the default.
    pub fn new() -> Self {
        Thresholds::default()
    }

    /// How many operations that have ended are kept. More: degraded. Default: 1 000.
    pub fn kept(mut self, operations: usize) -> Self {
        self.kept = operations;
        self
    }

    /// How long ago the first of those has ended. Longer: degraded. Default: 24 hours.
    pub fn oldest(mut self, age: Duration) -> Self {
        self.oldest = age;
        self
    }

    /// How many of a hundred that have ended have failed; those that the scheduler has rejected, or somebody
    /// cancelled, are no failures. More: unhealthy. Default: 10.
    pub fn failure_percent(mut self, percent: u32) -> Self {
        self.failure_percent = percent;
        self
    }

    /// How many wait for their turn, staged ones included. More: degraded. Default: 10 000.
    pub fn waiting(mut self, operations: usize) -> Self {
        self.waiting = operations;
        self
    }

    /// How often an attempt was lost, for a hundred operations that have ended. More: degraded. Default: 50.
    pub fn conflict_percent(mut self, percent: u32) -> Self {
        self.conflict_percent = percent;
        self
    }

    /// Of how many others an operation that hasn't ended is part. More: degraded. Default: 5.
    pub fn depth(mut self, operations: u32) -> Self {
        self.depth = operations;
        self
    }

    /// How many snapshots [wait to be freed](crate::reclamation_lag), in the whole process. More: degraded. Default:
    /// 1 000 000.
    pub fn lag_nodes(mut self, nodes: usize) -> Self {
        self.lag_nodes = nodes;
        self
    }

    /// How many bytes these are. More: degraded. Default: 2^30.
    pub fn lag_bytes(mut self, bytes: usize) -> Self {
        self.lag_bytes = bytes;
        self
    }

    /// What isn't all right, the worst first.
    fn compare(&self, measured: &Measured) -> Vec<Finding> {
        let is_above = |part: u64, whole: u64, percent: u32| {
            u128::from(part) * 100 > u128::from(whole) * u128::from(percent)
        };
        let mut findings = Vec::new();
        let mut find = |is_so: bool, finding: Finding| {
            if is_so {
                findings.push(finding);
            }
        };
        find(measured.is_shut_down, Finding::ShutDown);
        let Measured {
            failed,
            ended,
            conflicts,
            waiting,
            lag,
            ..
        } = *measured;
        let limit = self.failure_percent;
        let failures = Finding::Failures {
            failed,
            ended,
            limit,
        };
        find(is_above(failed, ended, limit), failures);
        let limit = self.waiting;
        find(waiting > limit, Finding::Waiting { waiting, limit });
        let limit = self.conflict_percent;
        let often = Finding::Conflicts {
            conflicts,
            ended,
            limit,
        };
        // Before anything has ended there is no rate.
        find(ended > 0 && is_above(conflicts, ended, limit), often);
        if let Some(kept) = measured.kept {
            let limit = self.kept;
            find(kept > limit, Finding::Kept { kept, limit });
        }
        if let Some(age) = measured.oldest {
            let limit = self.oldest;
            find(age > limit, Finding::Oldest { age, limit });
        }
        if let Some(depth) = measured.depth {
            let limit = self.depth;
            find(depth > limit, Finding::Depth { depth, limit });
        }
        let is_late = lag.nodes > self.lag_nodes || lag.bytes > self.lag_bytes;
        find(is_late, Finding::Lag(lag));
        findings
    }
}

/// How well an engine is. The later is the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum HealthState {
    /// Nothing is beyond its threshold.
    Healthy,
    /// It works, but somebody should look.
    Degraded,
    /// Too much fails.
    Unhealthy,
    /// It is shut down.
    Down,
}

impl fmt::Display for HealthState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HealthState::Healthy => "healthy",
            HealthState::Degraded => "degraded",
            HealthState::Unhealthy => "unhealthy",
            HealthState::Down => "down",
        })
    }
}

/// Something that is beyond its threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// The engine takes no operations.
    ShutDown,
    /// Too many have failed.
    Failures {
        /// How many.
        failed: u64,
        /// Of how many that have ended.
        ended: u64,
        /// How many of a hundred are all right.
        limit: u32,
    },
    /// Too many wait.
    Waiting {
        /// How many.
        waiting: usize,
        /// How many are all right.
        limit: usize,
    },
    /// Attempts are lost too often.
    Conflicts {
        /// How often.
        conflicts: u64,
        /// How many operations have ended.
        ended: u64,
        /// How many for a hundred that have ended are all right.
        limit: u32,
    },
    /// Too many are kept that have ended.
    Kept {
        /// How many.
        kept: usize,
        /// How many are all right.
        limit: usize,
    },
    /// One is kept too long.
    Oldest {
        /// How long ago it has ended.
        age: Duration,
        /// How long is all right.
        limit: Duration,
    },
    /// One is part of too many others.
    Depth {
        /// Of how many.
        depth: u32,
        /// How many are all right.
        limit: u32,
    },
    /// Too much waits to be freed.
    Lag(Lag),
}

impl Finding {
    /// How bad it is.
    #[must_use]
    pub fn state(&self) -> HealthState {
        match self {
            Finding::ShutDown => HealthState::Down,
            Finding::Failures { .. } => HealthState::Unhealthy,
            _ => HealthState::Degraded,
        }
    }

    /// What it is, without numbers.
    #[must_use]
    pub fn what(&self) -> &'static str {
        match self {
            Finding::ShutDown => "the engine is shut down",
            Finding::Failures { .. } => "too many operations fail",
            Finding::Waiting { .. } => "too many operations wait",
            Finding::Conflicts { .. } => "attempts are lost too often",
            Finding::Kept { .. } => "too many operations are kept",
            Finding::Oldest { .. } => "an operation is kept too long",
            Finding::Depth { .. } => "an operation is part of too many others",
            Finding::Lag(_) => "too much waits to be freed",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what())?;
        match self {
            Finding::ShutDown => Ok(()),
            Finding::Failures {
                failed,
                ended,
                limit,
            } => write!(f, ": {failed} of {ended}, more than {limit} %"),
            Finding::Waiting { waiting, limit } => write!(f, ": {waiting}, more than {limit}"),
            Finding::Conflicts {
                conflicts,
                ended,
                limit,
            } => write!(f, ": {conflicts} times for {ended}, more than {limit} %"),
            Finding::Kept { kept, limit } => write!(f, ": {kept}, more than {limit}"),
            Finding::Oldest { age, limit } => write!(f, ": {age:?}, more than {limit:?}"),
            Finding::Depth { depth, limit } => write!(f, ": {depth}, more than {limit}"),
            Finding::Lag(lag) => write!(f, ": {} snapshots, {} bytes", lag.nodes, lag.bytes),
        }
    }
}

/// What was measured. `None`: not known, since there is no [registry](crate::EngineBuilder::registry).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Measured {
    /// Whether the engine is shut down.
    pub is_shut_down: bool,
    /// How many operations have failed since the engine was made.
    pub failed: u64,
    /// How many have ended.
    pub ended: u64,
    /// How often an attempt was lost.
    pub conflicts: u64,
    /// How many wait for their turn, staged ones included.
    pub waiting: usize,
    /// How many are kept that have ended.
    pub kept: Option<usize>,
    /// How long ago the first of these has ended; 0 if there is none.
    pub oldest: Option<Duration>,
    /// Of how many others one that hasn't ended is part, at most.
    pub depth: Option<u32>,
    /// What waits to be freed, in the whole process.
    pub lag: Lag,
}

/// How well an engine is, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// When, on the engine's clock.
    pub at: Duration,
    /// How well it is: as bad as the worst finding.
    pub state: HealthState,
    /// What is beyond its threshold, the worst first.
    pub findings: Vec<Finding>,
    /// What was measured.
    pub measured: Measured,
}

/// A line for the state, and one for each reason.
impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.state)?;
        for finding in &self.findings {
            write!(f, "\n{finding}")?;
        }
        let rows = [
            ("how many operations are kept", self.measured.kept.is_none()),
            ("for how long", self.measured.oldest.is_none()),
            ("how many they are part of", self.measured.depth.is_none()),
        ];
        let mut unknown = rows.iter().filter(|(_, is_unknown)| *is_unknown);
        if let Some((first, _)) = unknown.next() {
            write!(f, "\nnot known without a registry: {first}")?;
        }
        unknown.try_for_each(|(next, _)| write!(f, ", {next}"))
    }
}

impl Engine {
    /// Looks whether the engine is well. Each finding is told as an [event](crate::Event), an
    /// [alert](crate::What::Alert) or a [stalled reclamation](crate::What::ReclamationStalled), each time.
    ///
    /// # Complexity
    /// It looks at all lanes, at all threads that use the engine or have committed, and, with a registry, at all
    /// operations that haven't ended. Not for each operation; once a second is fine.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Engine, Entity, HealthState, Operation, Thresholds};
    ///
    /// let engine = Engine::builder().workers(0).registry(1_000).build();
    /// let stock = Entity::new(10);
    /// let _ticket = engine.submit(Operation::update(&stock, |n| n - 1))?;
    /// assert_eq!(engine.health(&Thresholds::default()).state, HealthState::Healthy);
    /// let health = engine.health(&Thresholds::new().waiting(0));
    /// assert_eq!(health.to_string(), "degraded\ntoo many operations wait: 1, more than 0");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn health(&self, thresholds: &Thresholds) -> Health {
        let shared = &self.shared;
        let operations = Operations::of(shared);
        let sizes = operations.as_ref().map(|known| known.registry.sizes());
        let depth = operations.as_ref().map(|known| {
            let rows = known.rows(Among::Unfinished, |_| true);
            let under_way = rows.iter().filter(|row| row.state <= State::Executing);
            under_way.map(|row| row.depth).max().unwrap_or(0)
        });
        let lanes = shared.lanes.entries();
        let counts = self.counts();
        // Afterwards, so that nothing has ended later than now.
        let at = Duration::from_nanos(shared.ledger.now());
        let age = |end: Option<Duration>| end.map_or(Duration::ZERO, |end| at.saturating_sub(end));
        let measured = Measured {
            is_shut_down: self.is_shut_down(),
            failed: counts.failed,
            ended: counts.ended(),
            conflicts: counts.conflicts,
            waiting: lanes.iter().map(|(_, lane)| lane.waiting()).sum(),
            kept: sizes.map(|sizes| sizes.ended),
            oldest: sizes.map(|sizes| age(sizes.oldest)),
            depth,
            lag: reclamation_lag(),
        };
        let findings = thresholds.compare(&measured);
        for finding in &findings {
            let what = match finding {
                Finding::Lag(lag) => What::ReclamationStalled(*lag),
                other => What::Alert(other.what()),
            };
            if shared.ledger.feed.wants(what.kind()) {
                shared.ledger.feed.tell(&Event::at(at, what));
            }
        }
        let worst = findings.iter().map(Finding::state).max();
        Health {
            at,
            state: worst.unwrap_or(HealthState::Healthy),
            findings,
            measured,
        }
    }
}

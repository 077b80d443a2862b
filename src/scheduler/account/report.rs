//! What is said of many operations: how many there are of which kind, and which are stuck.
#![forbid(unsafe_code)]

use super::super::priority::Priority;
use super::super::status::State;
use super::super::trace::Trace;
use super::query::Operations;
use super::registry::Among;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hash;
use std::time::Duration;

/// How many operations there are: those that haven't ended, and those that are kept.
///
/// [`Engine::counts`](crate::Engine::counts) tells how many there have been since the engine was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// How many there are.
    pub total: u64,
    /// How many of them are in which state.
    pub by_state: BTreeMap<State, u64>,
    /// How many are called so.
    pub by_name: BTreeMap<&'static str, u64>,
    /// How many are of the class of this name. That of a class that the engine doesn't know any more is its number.
    pub by_class: BTreeMap<String, u64>,
    /// How many are as important as this: by their own priority, or a higher one of who depends on them.
    pub by_priority: BTreeMap<Priority, u64>,
    /// How many were let go of to make room for others, since the engine was made. They are not among the others.
    pub forgotten: u64,
}

impl Statistics {
    /// How many are in a state.
    #[must_use]
    pub fn of(&self, state: State) -> u64 {
        self.by_state.get(&state).copied().unwrap_or(0)
    }
}

/// A line for each of what is counted.
impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn row<K: fmt::Display>(
            f: &mut fmt::Formatter<'_>,
            what: &str,
            counts: &BTreeMap<K, u64>,
        ) -> fmt::Result {
            write!(f, "\n{what}:")?;
            let mut sign = "";
            for (key, count) in counts {
                write!(f, "{sign} {count} {key}")?;
                sign = ",";
            }
            Ok(())
        }
        write!(f, "{} operations", self.total)?;
        if self.forgotten > 0 {
            write!(f, ", and {} let go of", self.forgotten)?;
        }
        if self.total == 0 {
            return Ok(());
        }
        row(f, "by state", &self.by_state)?;
        row(f, "by name", &self.by_name)?;
        row(f, "by class", &self.by_class)?;
        let priorities = self.by_priority.iter();
        let priorities = priorities.map(|(priority, count)| (format!("of {priority}"), *count));
        row(f, "by priority", &priorities.rev().collect())
    }
}

/// Counts one more.
fn count<K: Ord + Hash>(counts: &mut BTreeMap<K, u64>, key: K) {
    *counts.entry(key).or_insert(0) += 1;
}

/// Which operations wait or run for longer than they should.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stuck {
    /// For longer than this.
    pub longer_than: Duration,
    /// Those that run first, and of each kind the longest first.
    pub operations: Vec<StuckOperation>,
}

/// One that is stuck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StuckOperation {
    /// What it is, and how far.
    pub row: Trace,
    /// For how long it has been running, since it began for the first time; or, if it is pending, for how long it has been there.
    pub since: Duration,
}

/// A line for each.
impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longer_than = self.longer_than;
        if self.operations.is_empty() {
            return write!(f, "nothing is stuck for longer than {longer_than:?}");
        }
        let many = self.operations.len();
        write!(f, "{many} stuck for longer than {longer_than:?}:")?;
        for StuckOperation { row, since } in &self.operations {
            write!(
                f,
                "\n{} {}, {} for {since:?}, priority {}, tried again {} of {} times, target {}",
                row.name, row.id, row.state, row.priority, row.retries, row.budget, row.target
            )?;
            if let Some(parent) = row.parent {
                write!(f, ", part of {parent}")?;
            }
        }
        Ok(())
    }
}

impl Operations<'_> {
    /// How many there are of which kind.
    ///
    /// # Complexity
    /// It looks at everything.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Engine, Entity, Operation, State};
    ///
    /// let engine = Engine::builder().workers(0).registry(1_000).build();
    /// let stock = Entity::new(10);
    /// let _ticket = engine.submit(Operation::update(&stock, |n| n - 1).named("order"))?;
    /// let statistics = engine.operations().expect("there is a registry").statistics();
    /// assert_eq!((statistics.total, statistics.of(State::Pending)), (1, 1));
    /// assert_eq!(statistics.by_name["order"], 1);
    /// assert_eq!(statistics.by_class["normal"], 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let policies = self.shared.policies.get();
        let mut statistics = Statistics {
            forgotten: self.registry.sizes().forgotten,
            ..Statistics::default()
        };
        for row in self.rows(Among::All, |_| true) {
            statistics.total += 1;
            count(&mut statistics.by_state, row.state);
            count(&mut statistics.by_name, row.name);
            count(&mut statistics.by_priority, row.priority);
            let class = policies.get(row.class).map(|policy| policy.name());
            let class = class.map_or_else(|| row.class.index().to_string(), str::to_owned);
            count(&mut statistics.by_class, class);
        }
        statistics
    }

    /// What has been running for longer than this, on the engine's clock, or has been there for longer and is pending.
    ///
    /// # Complexity
    /// It looks at everything that hasn't ended.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Clock, Engine, Entity, ManualClock, Operation};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let engine = Engine::builder().workers(0).clock(Clock::manual(&clock)).registry(1_000).build();
    /// let ticket = engine.submit(Operation::update(&Entity::new(1), |n| n + 1))?;
    /// let operations = engine.operations().expect("there is a registry");
    /// clock.advance(Duration::from_secs(5));
    /// assert!(operations.stuck(Duration::from_secs(5)).operations.is_empty());
    /// let stuck = operations.stuck(Duration::from_secs(4));
    /// assert_eq!(stuck.operations[0].row.id, ticket.id());
    /// assert!(stuck.to_string().contains("pending for 5s"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stuck(&self, longer_than: Duration) -> Stuck {
        let rows = self.rows(Among::Unfinished, |_| true);
        // Afterwards, so that nothing has begun later than now.
        let now = Duration::from_nanos(self.shared.ledger.now());
        let stuck = |row: Trace| {
            let begun = match row.state {
                State::Pending => Some(row.times.born),
                // It has none yet if it has begun this very moment.
                State::Executing => row.times.started,
                _ => None,
            };
            let since = now.saturating_sub(begun?);
            (since > longer_than).then_some(StuckOperation { row, since })
        };
        let mut operations: Vec<_> = rows.into_iter().filter_map(stuck).collect();
        operations.sort_unstable_by_key(|stuck| {
            let is_pending = stuck.row.state == State::Pending;
            (is_pending, std::cmp::Reverse(stuck.since), stuck.row.id)
        });
        Stuck {
            longer_than,
            operations,
        }
    }
}

//! Which operations that have ended are let go of.
//!
//! They lie in the order of their ends, so those that are old enough are at the front, and nothing else is looked at.
#![forbid(unsafe_code)]

use super::query::Operations;
use std::fmt;
use std::time::Duration;

/// Whether something is only counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DryRun {
    /// Nothing is removed.
    Yes,
    /// What is counted is removed.
    No,
}

/// What a clean-up has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cleaned {
    /// How many operations there were, those included that hadn't ended.
    pub total: usize,
    /// How many of them were removed, or would have been.
    pub cleaned: usize,
    /// How many of them were left, or would have been.
    pub kept: usize,
    /// For how long they were to be kept after their end.
    pub retention: Duration,
    /// Whether they were only counted.
    pub dry_run: DryRun,
}

impl fmt::Display for Cleaned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let removed = match self.dry_run {
            DryRun::Yes => "would be removed",
            DryRun::No => "removed",
        };
        write!(
            f,
            "{} of {} operations {removed}, that ended more than {:?} ago; {} kept",
            self.cleaned, self.total, self.retention, self.kept
        )
    }
}

/// Why nothing was cleaned up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CleanUpError {
    /// What has ended this very moment must not be removed.
    #[error("the retention must be longer than 0")]
    NoRetention,
}

impl Operations<'_> {
    /// Removes what has ended longer ago than `retention`, on the engine's clock, from everywhere. What hasn't ended
    /// is kept in any case.
    ///
    /// # Errors
    /// [`CleanUpError::NoRetention`], if the retention is 0. Nothing was removed.
    ///
    /// # Complexity
    /// As much as is counted or removed. While a shard is cleaned, those that end in it wait.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Clock, DryRun, Engine, Entity, ManualClock, Operation};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let engine = Engine::builder().clock(Clock::manual(&clock)).registry(1_000).build();
    /// engine.submit(Operation::update(&Entity::new(1), |n| n + 1))?.wait()?;
    /// let day = Duration::from_secs(24 * 60 * 60);
    /// clock.advance(2 * day);
    /// let operations = engine.operations().expect("there is a registry");
    /// assert_eq!(operations.clean_up(day, DryRun::Yes)?.cleaned, 1);
    /// assert_eq!(operations.len(), 1);
    /// assert_eq!(operations.clean_up(day, DryRun::No)?.cleaned, 1);
    /// assert!(operations.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clean_up(&self, retention: Duration, dry_run: DryRun) -> Result<Cleaned, CleanUpError> {
        if retention.is_zero() {
            return Err(CleanUpError::NoRetention);
        }
        let now = Duration::from_nanos(self.shared.ledger.now());
        let oldest = now.saturating_sub(retention);
        let (cleaned, total) = match dry_run {
            DryRun::Yes => self.registry.ended_before(oldest),
            DryRun::No => self.registry.forget_before(oldest),
        };
        Ok(Cleaned {
            total,
            cleaned,
            kept: total - cleaned,
            retention,
            dry_run,
        })
    }
}

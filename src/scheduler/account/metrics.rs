//! The figures of an engine as plain data, and as a report.
#![forbid(unsafe_code)]

use super::event::TargetId;
use super::histogram::Spread;
use super::tally::{Counts, Kind, Sums};
use crate::cell::Lag;
use std::fmt;
use std::time::Duration;

/// What an engine has done, as plain data: by [`Engine::metrics`](crate::Engine::metrics).
///
/// `Display` prints it as a report; with the feature `serde` it can be stored; [`merge`](Metrics::merge) adds up those
/// of several engines.
///
/// # What adds up
/// Whenever the engine is idle: `submitted` is the sum of all ends, in all and for each kind; `conflicts` is `absorbed`
/// plus `escaped`; the sum of `attempts` is the number of ends. At any other moment what was submitted is at least what
/// has ended. What is read while others are at work is of one moment for each number, not for all of them.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Metrics {
    /// When this was read, on the engine's clock.
    pub at: Duration,
    /// How many operations there were, and how they ended.
    pub counts: Counts,
    /// The same for each kind of operation, by class and name.
    pub kinds: Vec<KindMetrics>,
    /// What was done in each lane, the busiest first. Lanes that nobody uses any more are let go, and are not in here.
    pub targets: Vec<TargetMetrics>,
    /// What has been replaced and waits to be freed, in the whole process.
    pub lag_snapshots: u64,
    /// Its size in bytes.
    pub lag_bytes: u64,
    /// How many events there was no room for where handlers are called.
    pub events_dropped: u64,
}

/// What an engine has done with operations of one class and name.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct KindMetrics {
    /// The name of the class.
    pub class: String,
    /// What the operations are called.
    pub name: String,
    /// How many there were, and how they ended.
    pub counts: Counts,
    /// Conflicts of those that succeeded after all.
    pub absorbed: u64,
    /// Conflicts of those that did not.
    pub escaped: u64,
    /// How many have succeeded at the first attempt.
    pub first_tries: u64,
    /// How many ended after so many attempts: none, one, and so on. The last one, if there are 33, stands for 32 and more.
    pub attempts: Vec<u64>,
    /// How often one made way for a more important one, after a lost attempt, or while it stepped back for what is reserved.
    pub preemptions: u64,
    /// How often one has reserved its target.
    pub reservations: u64,
    /// How many reservations were over, or taken over, before their holder was done.
    pub reservations_lapsed: u64,
    /// How often one has stepped back for a reservation.
    pub steps_back: u64,
    /// How long they waited for their turn. Of what was submitted. The first phase of an operation in two belongs to this.
    pub queueing: Spread,
    /// How long they took in all. Of what was submitted.
    pub latency: Spread,
}

/// What was done in the lane of one target. A new entity may be where one was that is gone, and goes on with its figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct TargetMetrics {
    /// Which, as [`TargetId`] shows it.
    pub target: u64,
    /// How many operations were begun in their turn.
    pub begun: u64,
    /// How often an attempt on it lost, in its lane or beside it.
    pub conflicts: u64,
    /// How many wait for their turn.
    pub waiting: u64,
    /// How many did at most.
    pub most_waiting: u64,
}

impl TargetMetrics {
    pub(in super::super) fn new(target: usize) -> Self {
        TargetMetrics {
            target: target as u64,
            ..TargetMetrics::default()
        }
    }

    /// Whether this is the target with that id.
    #[must_use]
    pub fn is(&self, target: TargetId) -> bool {
        self.target == target.0 as u64
    }
}

impl KindMetrics {
    pub(in super::super) fn new(class: &str, kind: Kind, sums: Sums) -> Self {
        let mut attempts = sums.attempts;
        attempts.truncate(
            attempts
                .iter()
                .rposition(|&count| count > 0)
                .map_or(0, |last| last + 1),
        );
        KindMetrics {
            class: class.to_owned(),
            name: kind.name.to_owned(),
            counts: sums.counts,
            absorbed: sums.absorbed,
            escaped: sums.escaped,
            first_tries: sums.first_tries,
            attempts,
            preemptions: sums.preempted,
            reservations: sums.reserved,
            reservations_lapsed: sums.lapsed,
            steps_back: sums.stepped_back,
            queueing: sums.queueing,
            latency: sums.latency,
        }
    }

    /// The share of attempts that were made in vain. 0, if there were none.
    #[must_use]
    pub fn wasted(&self) -> f64 {
        let lost = self.counts.conflicts;
        let good = self.counts.succeeded() + self.counts.failed;
        share(lost, lost + good)
    }

    /// What was counted since an earlier reading. Longest times are those of all.
    #[must_use]
    pub fn since(&self, earlier: &KindMetrics) -> KindMetrics {
        let mut since = self.clone();
        since.counts = self.counts.since(&earlier.counts);
        let counts = [
            (&mut since.absorbed, earlier.absorbed),
            (&mut since.escaped, earlier.escaped),
            (&mut since.first_tries, earlier.first_tries),
            (&mut since.preemptions, earlier.preemptions),
            (&mut since.reservations, earlier.reservations),
            (&mut since.reservations_lapsed, earlier.reservations_lapsed),
            (&mut since.steps_back, earlier.steps_back),
        ];
        let attempts = since
            .attempts
            .iter_mut()
            .zip(earlier.attempts.iter().copied());
        for (now, then) in counts.into_iter().chain(attempts) {
            *now = now.saturating_sub(then);
        }
        since.queueing = self.queueing.since(&earlier.queueing);
        since.latency = self.latency.since(&earlier.latency);
        since
    }

    /// Adds others to these. The class and the name stay.
    pub fn merge(&mut self, other: &KindMetrics) {
        self.counts.merge(&other.counts);
        self.absorbed += other.absorbed;
        self.escaped += other.escaped;
        self.first_tries += other.first_tries;
        if self.attempts.len() < other.attempts.len() {
            self.attempts.resize(other.attempts.len(), 0);
        }
        for (mine, theirs) in self.attempts.iter_mut().zip(&other.attempts) {
            *mine += theirs;
        }
        self.preemptions += other.preemptions;
        self.reservations += other.reservations;
        self.reservations_lapsed += other.reservations_lapsed;
        self.steps_back += other.steps_back;
        self.queueing.merge(&other.queueing);
        self.latency.merge(&other.latency);
    }
}

impl Metrics {
    /// Those of all operations of each class, whatever their names.
    #[must_use]
    pub fn classes(&self) -> Vec<KindMetrics> {
        let mut classes: Vec<KindMetrics> = Vec::new();
        for kind in &self.kinds {
            match classes.iter_mut().find(|class| class.class == kind.class) {
                Some(class) => class.merge(kind),
                None => classes.push(KindMetrics {
                    name: "all".to_owned(),
                    ..kind.clone()
                }),
            }
        }
        classes
    }

    /// Those of all operations.
    #[must_use]
    pub fn total(&self) -> KindMetrics {
        let mut total = KindMetrics {
            class: "all".to_owned(),
            name: "all".to_owned(),
            ..KindMetrics::default()
        };
        for kind in &self.kinds {
            total.merge(kind);
        }
        total
    }

    /// How evenly the targets were served to which something was submitted: Jain's index of what was begun in their lanes, from 1 divided by their number,
    /// if one got all, to 1, if all got the same. `None`, if nothing was begun.
    #[must_use]
    pub fn fairness(&self) -> Option<f64> {
        let wanted = self.targets.iter();
        let wanted = wanted.filter(|target| target.begun + target.waiting > 0);
        let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for begun in wanted.map(|target| target.begun as f64) {
            count += 1.0;
            sum += begun;
            squares += begun * begun;
        }
        (squares > 0.0).then(|| sum * sum / (count * squares))
    }

    /// What was counted since an earlier reading of the same engine, or the same sum of engines. What is no count is as it
    /// is now.
    #[must_use]
    pub fn since(&self, earlier: &Metrics) -> Metrics {
        let mut since = self.clone();
        since.counts = self.counts.since(&earlier.counts);
        since.events_dropped = self.events_dropped.saturating_sub(earlier.events_dropped);
        for kind in &mut since.kinds {
            let same = |then: &&KindMetrics| then.class == kind.class && then.name == kind.name;
            if let Some(then) = earlier.kinds.iter().find(same) {
                *kind = kind.since(then);
            }
        }
        for target in &mut since.targets {
            let same = |then: &&TargetMetrics| then.target == target.target;
            if let Some(then) = earlier.targets.iter().find(same) {
                target.begun = target.begun.saturating_sub(then.begun);
                target.conflicts = target.conflicts.saturating_sub(then.conflicts);
            }
        }
        since
    }

    /// Whether all adds up that has to whenever the engine is idle.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        let kind_adds_up = |kind: &KindMetrics| {
            let counts = &kind.counts;
            counts.submitted == counts.ended()
                && counts.conflicts == kind.absorbed + kind.escaped
                && kind.attempts.iter().sum::<u64>() == counts.ended()
                && kind.first_tries <= counts.succeeded()
        };
        let mut sum = Counts::default();
        for kind in &self.kinds {
            sum.merge(&kind.counts);
        }
        self.counts.submitted == self.counts.ended()
            && (self.kinds.is_empty()
                || (sum == self.counts && self.kinds.iter().all(kind_adds_up)))
    }

    /// Adds those of another engine to these. If one of the two has totals only, what [adds up](Metrics::adds_up) for each
    /// kind doesn't in the sum. Targets of different processes may happen to have the same id, and are added then.
    pub fn merge(&mut self, other: &Metrics) {
        self.at = self.at.max(other.at);
        self.counts.merge(&other.counts);
        for theirs in &other.kinds {
            let same =
                |mine: &&mut KindMetrics| mine.class == theirs.class && mine.name == theirs.name;
            match self.kinds.iter_mut().find(same) {
                Some(mine) => mine.merge(theirs),
                None => self.kinds.push(theirs.clone()),
            }
        }
        for theirs in &other.targets {
            match self
                .targets
                .iter_mut()
                .find(|mine| mine.target == theirs.target)
            {
                Some(mine) => {
                    mine.begun += theirs.begun;
                    mine.conflicts += theirs.conflicts;
                    mine.waiting += theirs.waiting;
                    mine.most_waiting = mine.most_waiting.max(theirs.most_waiting);
                }
                None => self.targets.push(*theirs),
            }
        }
        // Of the whole process: the same in both, but for the moment.
        self.lag_snapshots = self.lag_snapshots.max(other.lag_snapshots);
        self.lag_bytes = self.lag_bytes.max(other.lag_bytes);
        self.events_dropped += other.events_dropped;
    }

    pub(in super::super) fn with_lag(mut self, lag: Lag) -> Self {
        self.lag_snapshots = lag.nodes as u64;
        self.lag_bytes = lag.bytes as u64;
        self
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// So many targets are shown in a report.
const SHOWN: usize = 10;

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.counts)?;
        for kind in &self.kinds {
            writeln!(f, "{kind}")?;
        }
        for target in self.targets.iter().take(SHOWN) {
            writeln!(
                f,
                "target {:x}: {} begun in turn, {} conflicts, {} waiting, at most {}",
                target.target, target.begun, target.conflicts, target.waiting, target.most_waiting
            )?;
        }
        if self.targets.len() > SHOWN {
            writeln!(f, "and {} more targets", self.targets.len() - SHOWN)?;
        }
        if let Some(fairness) = self.fairness() {
            writeln!(f, "fairness between targets {fairness:.3}")?;
        }
        write!(
            f,
            "{} snapshots, {} bytes, wait to be freed; {} events had no room",
            self.lag_snapshots, self.lag_bytes, self.events_dropped
        )
    }
}

impl fmt::Display for KindMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, {}: {}", self.name, self.class, self.counts)?;
        writeln!(
            f,
            "  {} at the first try; conflicts {} absorbed, {} escaped; {:.1} % of attempts wasted; {} preemptions",
            self.first_tries,
            self.absorbed,
            self.escaped,
            100.0 * self.wasted(),
            self.preemptions
        )?;
        let attempts = self
            .attempts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0);
        let attempts: Vec<_> = attempts
            .map(|(number, count)| format!("{number}: {count}"))
            .collect();
        writeln!(f, "  attempts {}", attempts.join(", "))?;
        if self.reservations + self.steps_back > 0 {
            writeln!(
                f,
                "  {} reservations, of which {} lapsed; stepped back {} times",
                self.reservations, self.reservations_lapsed, self.steps_back
            )?;
        }
        writeln!(f, "  queueing {}", self.queueing)?;
        write!(f, "  latency  {}", self.latency)
    }
}

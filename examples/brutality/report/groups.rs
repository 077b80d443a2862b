//! Operations that have something in common, and what their times were like.

use super::{is_first_try, latency, ratio};
use crate::books::{Books, Entry, Sums, Way};
use crate::clock::nanoseconds;
use crate::run::Run;
use serde::Serialize;
use snapcell::{Policies, Protection};
use std::collections::BTreeMap;
use std::time::Duration;

/// Operations that have something in common.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) submitted: u64,
    pub(super) committed: u64,
    pub(super) unchanged: u64,
    pub(super) rejected: u64,
    pub(super) failed: u64,
    pub(super) lost_attempts: u64,
    pub(super) first_tries: u64,
    pub(super) mean_attempts: f64,
    pub(super) most_attempts: u32,
    pub(super) queueing_ns: Times,
    pub(super) latency_ns: Times,
}

#[derive(Debug, Serialize)]
pub(super) struct TargetRow {
    pub(super) version: u64,
    pub(super) submitted: u64,
    pub(super) committed: u64,
    pub(super) rejected: u64,
    pub(super) lost_attempts: u64,
    pub(super) queueing_p95_ns: u64,
    pub(super) state: String,
}

/// What times were like, in nanoseconds.
#[derive(Debug, Default, Serialize)]
pub(super) struct Times {
    pub(super) mean: u64,
    pub(super) p50: u64,
    pub(super) p95: u64,
    pub(super) p99: u64,
    pub(super) max: u64,
}

impl Group {
    pub(super) fn new(name: String, members: &[&Entry]) -> Self {
        let books = Books {
            entries: members.iter().map(|entry| **entry).collect(),
            ..Books::default()
        };
        let Sums {
            submitted,
            committed,
            unchanged,
            rejected,
            failed,
            lost_attempts,
            ..
        } = books.sums(|_| true);
        let begun = || members.iter().filter(|entry| entry.attempts > 0);
        let attempts = begun().map(|entry| u64::from(entry.attempts));
        Group {
            name,
            submitted,
            committed,
            unchanged,
            rejected,
            failed,
            lost_attempts,
            first_tries: books.count(is_first_try),
            mean_attempts: ratio(attempts.sum(), begun().count() as u64),
            most_attempts: begun().map(|entry| entry.attempts).max().unwrap_or(0),
            queueing_ns: Times::of(members.iter().filter_map(|entry| entry.queueing())),
            latency_ns: Times::of(members.iter().filter_map(|entry| latency(entry))),
        }
    }
}

/// A group for each key that there is, in their order.
pub(super) fn groups<K: Ord>(
    books: &Books,
    key: impl Fn(&Entry) -> K,
    name: impl Fn(&K) -> String,
) -> Vec<Group> {
    let mut members: BTreeMap<K, Vec<&Entry>> = BTreeMap::new();
    for entry in &books.entries {
        members.entry(key(entry)).or_default().push(entry);
    }
    let groups = members
        .iter()
        .map(|(key, members)| Group::new(name(key), members));
    groups.collect()
}

/// The name of a class and a priority, the most important first.
pub(crate) fn class_key(entry: &Entry) -> (std::cmp::Reverse<u8>, usize) {
    let priority = entry.drawn.priority.get();
    (std::cmp::Reverse(priority), entry.drawn.class.index())
}

pub(crate) fn class_name((priority, class): &(std::cmp::Reverse<u8>, usize)) -> String {
    let policies = Policies::default();
    let policy = policies
        .iter()
        .nth(*class)
        .map(|(_, policy)| policy.name().to_owned());
    format!("{} {}", policy.unwrap_or_default(), priority.0)
}

pub(super) fn classes(books: &Books) -> Vec<Group> {
    groups(books, class_key, class_name)
}

pub(super) fn kinds(run: &Run) -> Vec<Group> {
    groups(
        &run.books,
        |entry| entry.drawn.kind,
        |kind| run.kinds[*kind].to_owned(),
    )
}

pub(super) fn ways(books: &Books) -> Vec<Group> {
    groups(
        books,
        |entry| way_name(entry.drawn.way),
        |name| (*name).to_owned(),
    )
}

pub(super) fn way_name(way: Way) -> &'static str {
    match way {
        Way::InTurn => "in turn",
        Way::AtOnce => "at once",
        Way::Past => "past the engine",
        Way::Protected(Protection::None) => "protected: no",
        Way::Protected(Protection::Staged) => "protected: staged",
        Way::Protected(Protection::Optimistic) => "protected: occ",
        Way::Protected(Protection::Both) => "protected: both",
    }
}

pub(super) fn targets(run: &Run) -> Vec<TargetRow> {
    let rows = run
        .outcome
        .targets
        .iter()
        .enumerate()
        .map(|(index, target)| {
            let sums = run.books.sums(|entry| entry.drawn.target == index);
            let of_it = run
                .books
                .entries
                .iter()
                .filter(|entry| entry.drawn.target == index);
            TargetRow {
                version: target.version,
                submitted: sums.submitted,
                committed: sums.committed,
                rejected: sums.rejected,
                lost_attempts: sums.lost_attempts,
                queueing_p95_ns: Times::of(of_it.filter_map(Entry::queueing)).p95,
                state: target.state.clone(),
            }
        });
    rows.collect()
}

/// The least over the most.
pub(super) fn fairness(shares: impl Iterator<Item = u64> + Clone) -> f64 {
    ratio(shares.clone().min().unwrap_or(0), shares.max().unwrap_or(0))
}

pub(super) fn submitter_fairness(books: &Books) -> f64 {
    let mut shares: BTreeMap<u32, u64> = BTreeMap::new();
    for entry in &books.entries {
        *shares.entry(entry.thread).or_default() += u64::from(entry.has_succeeded());
    }
    fairness(shares.values().copied())
}

impl Times {
    pub(super) fn of(times: impl Iterator<Item = Duration>) -> Self {
        let mut times: Vec<u64> = times.map(nanoseconds).collect();
        times.sort_unstable();
        let sum: u64 = times.iter().sum();
        Times {
            mean: sum.checked_div(times.len() as u64).unwrap_or(0),
            p50: percentile(&times, 50),
            p95: percentile(&times, 95),
            p99: percentile(&times, 99),
            max: percentile(&times, 100),
        }
    }
}

/// Of sorted times, the smallest one that so many percent don't exceed.
pub(super) fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

//! How several operations of a lane are published by one commit.
//!
//! Whoever serves the lane gathers those that can take part, in their order, has each change the same copy of the value,
//! and publishes that. If somebody was faster all begin again; if together they have made what can't be published, each is
//! run by itself.
#![forbid(unsafe_code)]

use super::account::tally::Incident;
use super::body::{Fold, Published, Step};
use super::claiming::Claiming;
use super::lane::Lane;
use super::queue::Order;
use super::record::Work;
use super::retry::Next;
use super::serve::{Held, SHORT, higher};
use super::shared::Shared;
use crate::raw::quietly;
use std::sync::Arc;
use std::time::Duration;

/// How many operations are published by one commit at most.
pub(super) const MOST: usize = 256;

impl Shared {
    /// Runs several operations on one copy of the value, and publishes that by one commit.
    pub(super) fn run_folded(
        self: &Arc<Self>,
        lane: &Lane,
        held: &mut Held<'_>,
        first: Arc<dyn Work>,
        mut fold: Box<dyn Fold>,
        interval: u64,
    ) {
        let mut group = vec![first];
        let order = Order {
            interval,
            share: self.share,
        };
        let mut alone = None;
        while group.len() < MOST
            && let Some((work, level)) = held.state().pick(order)
        {
            if !self.claim(lane, held, &work, level, self.ledger.now()) {
                continue;
            }
            if !work.folds() {
                alone = Some(work);
                break;
            }
            group.push(work);
        }
        // The first of them has the claim; should it end before the others, the next one has its own.
        'all: while let Some(leader) = group.first().cloned() {
            let mut claim = Claiming::of(lane, &self.ledger, leader.header());
            while group.first().is_some_and(|work| Arc::ptr_eq(work, &leader)) {
                if self.fold_once(lane, held, &mut group, &mut *fold, &mut claim) {
                    break 'all;
                }
            }
        }
        if let Some(work) = alone {
            self.run_alone(&work, None);
        }
    }

    /// Attempts all of them once, as one commit. Whether that was made. If not, who has ended, or waits for its turn
    /// again, isn't in the group any more.
    fn fold_once(
        self: &Arc<Self>,
        lane: &Lane,
        held: &mut Held<'_>,
        group: &mut Vec<Arc<dyn Work>>,
        fold: &mut dyn Fold,
        claim: &mut Claiming<'_>,
    ) -> bool {
        // All of them stay away for others as the first one would, and reserve the target if one of them does; the
        // first one, for their first attempt, as all begin alike then.
        let status = group[0].status();
        let has_lost = group.iter().any(|work| work.status().retries() > 0);
        let asked = if has_lost { &group[..] } else { &group[..1] };
        let reserves = asked
            .iter()
            .any(|work| work.header().reserves(work.status().retries()));
        while !claim.respect(self, || group[0].header().id, status.priority(), reserves) {
            let news = held.take();
            self.admit(lane, held, news);
            // It is served next, so they don't have it wait.
            if higher(held, status.priority()).is_some() {
                break;
            }
        }
        fold.begin();
        let mut steps = Vec::with_capacity(group.len());
        for work in &*group {
            steps.push(work.step(work, fold));
        }
        match fold.publish() {
            Published::Done => {
                let changes = steps.iter().filter(|step| matches!(step, Step::Changed));
                if changes.count() > 1 {
                    self.ledger
                        .tally
                        .note(&group[0].header().kind, Incident::Fold);
                }
                for (work, step) in group.iter().zip(steps) {
                    work.folded(fold, step, &self.ledger);
                }
                return true;
            }
            Published::Lost => {
                quietly(|| drop(steps));
                for work in &*group {
                    work.lost(None, &self.ledger);
                }
                let contention = group.len();
                let next: Vec<_> = group
                    .iter()
                    .map(|work| self.next(work, contention))
                    .collect();
                // The first of them decides how long all wait. If that is long, others may have the lane meanwhile.
                let first = next.iter().find(|next| !next.is_over()).copied();
                let away = first.map_or(Duration::ZERO, |next| next.delay());
                if away >= SHORT {
                    claim.leave();
                }
                let mut waits = first;
                let mut next = next.into_iter();
                group.retain(|work| match next.next() {
                    Some(next) if next.is_over() => self.try_again(work, next),
                    // Each for as long as its own policy says, which knows its patience.
                    Some(next) if away >= SHORT => {
                        self.put_aside(work.clone(), next.delay().max(SHORT));
                        false
                    }
                    Some(_) => self.try_again(work, waits.take().unwrap_or(Next::Now)),
                    None => true,
                });
            }
            // Together they have made what can't be published. Each by itself, then.
            Published::Refused => {
                quietly(|| drop(steps));
                for work in group.drain(..) {
                    self.run_alone(&work, None);
                }
            }
        }
        false
    }
}

//! Who stays of those that want the same target, decided on demand.
//!
//! Any thread may end an operation that is pending, by an exchange of its status; its lane gives its place back when it
//! comes by. So nobody needs the lane to decide.
#![forbid(unsafe_code)]

use super::super::engine::Engine;
use super::super::id::OperationId;
use super::super::outcome::Reason;
use super::super::record::Work;
use super::super::status::State;
use super::event::TargetId;
use super::query::Operations;
use super::registry::{Among, Found};
use crate::cell::Entity;
use std::cmp::Reverse;
use std::sync::Arc;

/// Who has won, and who has lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resolved {
    /// Those that ran already, which nobody ends; the earliest first.
    pub executing: Vec<OperationId>,
    /// The one that goes next. `None`: none was pending.
    pub winner: Option<OperationId>,
    /// Those that were rejected, the earliest first.
    pub lost: Vec<OperationId>,
}

/// The engine doesn't know its operations: it has no [registry](crate::EngineBuilder::registry).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the engine has no registry of its operations")]
pub struct NoRegistry;

impl Engine {
    /// Has one of the operations that wait for this entity win, and rejects the others: the most important one wins, by
    /// its own priority or a higher one of who depends on it, and of several the earliest. What runs goes on.
    ///
    /// [`Policy::WinnerTakesAll`](crate::Policy::WinnerTakesAll) does this with each round of a lane, whereas this may be
    /// done at any time, with any policy. An operation on several entities takes part, if this is one of them.
    ///
    /// It is decided by what is seen: what is submitted, begins, or gets more important meanwhile may be left, or lose
    /// all the same. The losers' tickets get [`Reason::Lost`].
    ///
    /// # Errors
    /// [`NoRegistry`]. Nothing has happened.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Engine, Entity, Operation, Priority};
    ///
    /// let engine = Engine::builder().workers(0).registry(1_000).build();
    /// let stock = Entity::new(10);
    /// let low = engine.submit(Operation::update(&stock, |n| n - 1).priority(Priority::LOW))?;
    /// let high = engine.submit(Operation::update(&stock, |n| n - 5).priority(Priority::HIGH))?;
    /// let resolved = engine.resolve(&stock)?;
    /// assert_eq!((resolved.winner, resolved.lost), (Some(high.id()), vec![low.id()]));
    /// assert_eq!(*high.wait()?, 5);
    /// assert!(low.wait().unwrap_err().rejection().is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resolve<T: Send + Sync + 'static, E: 'static>(
        &self,
        entity: &Entity<T, E>,
    ) -> Result<Resolved, NoRegistry> {
        let operations = Operations::of(&self.shared).ok_or(NoRegistry)?;
        let rivals = Among::Rivals(TargetId::of(entity));
        let mut resolved = Resolved::default();
        let (mut pending, mut executing, mut losers) = (Vec::new(), Vec::new(), Vec::new());
        let age_of = |work: &Arc<dyn Work>| (work.header().born, work.header().id);
        for found in operations.registry.select(rivals, |_| false) {
            let Found::Unfinished(work) = found else {
                continue;
            };
            let status = work.status();
            match status.state() {
                State::Pending => pending.push((status.priority(), work)),
                State::Executing => executing.push(age_of(&work)),
                _ => {}
            }
        }
        let best = pending.iter().max_by_key(|(priority, work)| {
            let header = work.header();
            (*priority, Reverse(header.born), Reverse(header.id))
        });
        if let Some((priority, work)) = best {
            let (priority, winner) = (*priority, work.header().id);
            resolved.winner = Some(winner);
            for (_, work) in &pending {
                let id = work.header().id;
                if id == winner {
                    continue;
                }
                let lost = work.rejection(Reason::Lost { winner, priority });
                if work.end_pending(lost, &self.shared.ledger) {
                    losers.push(age_of(work));
                } else if !work.status().state().is_final() {
                    executing.push(age_of(work));
                }
            }
        }
        for (aged, ids) in [
            (&mut executing, &mut resolved.executing),
            (&mut losers, &mut resolved.lost),
        ] {
            aged.sort_unstable();
            ids.extend(aged.iter().map(|(_, id)| *id));
        }
        Ok(resolved)
    }
}

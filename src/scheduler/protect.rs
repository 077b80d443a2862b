//! A function that is protected by what the scheduler has, in one call.
#![forbid(unsafe_code)]

use super::body::{self, Attempt, Body, Complaint};
use super::class::Class;
use super::engine::Engine;
use super::operation::Operation;
use super::outcome::{OperationError, Reason, Rejection};
use crate::cell::{Entity, Snapshot};
use std::convert::Infallible;

/// From what a change is protected: from others that are more important, from others that are faster, or both.
///
/// | protection | it is run | when others were faster |
/// |---|---|---|
/// | [`None`](Protection::None) | at once, on this thread, past the engine | it is rejected |
/// | [`Staged`](Protection::Staged) | in its turn, by the engine | it is rejected |
/// | [`Optimistic`](Protection::Optimistic) | at once, on this thread | it is tried again, as its class says |
/// | [`Both`](Protection::Both), the default | in its turn, by the engine | it is tried again, as its class says |
///
/// Operations that take their turn are in each other's way as little as anything can be, so under `Staged` only who
/// commits past their lane is faster than they.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protection {
    /// A plain commit of what was computed, if nobody was faster. The engine doesn't count it.
    None,
    /// In its turn, without retries.
    Staged,
    /// As [`Engine::run`].
    Optimistic,
    /// As [`Engine::submit`], and then waiting for it.
    #[default]
    Both,
}

impl Engine {
    /// Replaces the value of an entity by what `f` makes of it, protected as `protection` says, and waits until that is
    /// done.
    ///
    /// # Errors
    /// How it ended, if it did not succeed. Who was overtaken more often than allowed is
    /// [exhausted](crate::Reason::Exhausted).
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Class, Engine, Entity, Protection};
    ///
    /// let engine = Engine::new();
    /// let stock = Entity::new(10);
    /// for protection in [Protection::None, Protection::Staged, Protection::Optimistic, Protection::Both] {
    ///     engine.protect(Class::NORMAL, protection, &stock, |n| n + 1)?;
    /// }
    /// assert_eq!(*stock.snapshot(), 14);
    /// # Ok::<(), snapcell::OperationError<std::convert::Infallible>>(())
    /// ```
    pub fn protect<T, E>(
        &self,
        class: Class,
        protection: Protection,
        entity: &Entity<T, E>,
        f: impl Fn(&T) -> T + Send + Sync + 'static,
    ) -> Result<Snapshot<T>, OperationError<Infallible>>
    where
        T: Send + Sync + 'static,
        E: Complaint,
    {
        self.protect_operation(protection, Operation::update(entity, f).class(class))
    }

    /// As [`protect`](Engine::protect), but `f` may refuse by an error of its own, or leave the value as it is, by
    /// `Ok(None)`.
    ///
    /// # Errors
    /// As [`protect`](Engine::protect); what `f` refuses by is [`Refused`](OperationError::Refused).
    pub fn try_protect<T, E, F>(
        &self,
        class: Class,
        protection: Protection,
        entity: &Entity<T, E>,
        f: impl Fn(&T) -> Result<Option<T>, F> + Send + Sync + 'static,
    ) -> Result<Snapshot<T>, OperationError<F>>
    where
        T: Send + Sync + 'static,
        E: Complaint,
        F: Send + 'static,
    {
        self.protect_operation(protection, Operation::try_update(entity, f).class(class))
    }

    fn protect_operation<B: Body>(
        &self,
        protection: Protection,
        operation: Operation<B>,
    ) -> Result<B::Output, OperationError<B::Error>> {
        match protection {
            Protection::None => self.attempt_once(&operation),
            Protection::Staged => self.submit_and_wait(operation.retries(0)),
            Protection::Optimistic => self.run(&operation),
            Protection::Both => self.submit_and_wait(operation),
        }
    }

    fn submit_and_wait<B: Body>(
        &self,
        operation: Operation<B>,
    ) -> Result<B::Output, OperationError<B::Error>> {
        match self.submit(operation) {
            Ok(ticket) => ticket.wait(),
            Err(refused) => Err(OperationError::NotTaken(refused.why())),
        }
    }

    fn attempt_once<B: Body>(
        &self,
        operation: &Operation<B>,
    ) -> Result<B::Output, OperationError<B::Error>> {
        let terms = self.shared.terms(&operation.wish);
        let priority = terms.map_err(OperationError::NotTaken)?.priority;
        match body::guarded(|| operation.body.attempt()) {
            Attempt::Committed(output) | Attempt::Unchanged(output) => Ok(output),
            Attempt::Failed(error) => Err(error),
            Attempt::Lost(_) => Err(OperationError::Rejected(Rejection {
                reason: Reason::Exhausted { retries: 0 },
                priority,
                attempts: 1,
            })),
        }
    }
}

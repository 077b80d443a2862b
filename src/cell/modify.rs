//! An update in place: the closure changes a clone that lies in the new node already.
//!
//! A closure that returns a value has it moved into the node, and a large one is copied twice: into
//! the closure's own variable, and from there. Here it is copied once. The loop is that of
//! `update.rs`.
#![forbid(unsafe_code)]

use super::commit::Committed;
use super::entity::Entity;
use super::update::{Retry, UpdateError, Updated};
use crate::raw::{Seen, Vacant};

impl<T: Clone + Send + Sync + 'static> Entity<T> {
    /// Replaces the current value by a clone of it that `f` has changed, again until nobody was
    /// faster.
    ///
    /// As [`update`](Entity::update), for values of which a small part changes: the clone is made in
    /// the node, and stays there. Each attempt has a clone of its own.
    ///
    /// # Linearization
    /// The compare-and-exchange that succeeded.
    /// # Progress
    /// As [`update`](Entity::update).
    /// # Panics
    /// As [`update`](Entity::update).
    /// # Complexity
    /// An attempt: as [`update`](Entity::update), and one clone of the value.
    ///
    /// # Examples
    /// ```
    /// let table = snapcell::Entity::new([0_u64; 128]);
    /// table.modify(|t| t[7] += 1);
    /// assert_eq!(table.snapshot()[7], 1);
    /// ```
    #[inline(always)]
    pub fn modify(&self, mut f: impl FnMut(&mut T)) -> Committed<'_, T> {
        let draft = |seen: Seen<'_, T>, place| {
            let mut draft = Vacant::new().fill(place, || seen.value().clone());
            f(draft.value_mut());
            Ok(Some(draft))
        };
        let result = self.drive(Retry::unbounded(), draft);
        // Not after the return: were its destructor to panic then, the result would be leaked, and
        // its guard with it.
        drop(f);
        match result {
            Ok(Updated::Committed(committed)) => committed,
            Ok(Updated::Unchanged(_)) => unreachable!("each attempt has a draft"),
            Err(error) => UpdateError::<T>::raise(&error),
        }
    }
}

impl<T: Clone + Send + Sync + 'static, E: 'static> Entity<T, E> {
    /// As [`modify`](Entity::modify), but `f` may refuse with an error of its own, or say that
    /// nothing has changed.
    ///
    /// `f` returns `Ok(true)` to commit what it made of the clone, `Ok(false)` to leave things as they
    /// are, or an error.
    ///
    /// # Linearization
    /// As [`try_update`](Entity::try_update).
    /// # Progress
    /// As [`update`](Entity::update).
    /// # Errors
    /// As [`try_update`](Entity::try_update).
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Entity, UpdateError};
    ///
    /// let members = Entity::new(vec!["ann"]);
    /// let join = |name| {
    ///     members.try_modify(|m| {
    ///         if m.len() == 2 {
    ///             return Err("full");
    ///         }
    ///         let is_new = !m.contains(&name);
    ///         if is_new {
    ///             m.push(name);
    ///         }
    ///         Ok(is_new)
    ///     })
    /// };
    /// assert!(!join("ann").unwrap().is_committed());
    /// assert!(join("bob").unwrap().is_committed());
    /// assert!(matches!(join("eve"), Err(UpdateError::Refused("full"))));
    /// assert_eq!(*members.snapshot(), ["ann", "bob"]);
    /// ```
    #[inline]
    pub fn try_modify<F>(
        &self,
        mut f: impl FnMut(&mut T) -> Result<bool, F>,
    ) -> Result<Updated<'_, T>, UpdateError<T, F, E>> {
        let draft = |seen: Seen<'_, T>, place| {
            let mut draft = Vacant::new().fill(place, || seen.value().clone());
            Ok(f(draft.value_mut())?.then_some(draft))
        };
        let result = self.drive(Retry::unbounded(), draft);
        // As in `modify`.
        drop(f);
        result
    }
}

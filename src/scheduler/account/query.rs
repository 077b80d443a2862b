//! What may be asked of the operations of an engine.
//!
//! A query looks by the index that fits it best (target, part of, name), and compares the rest. What an index finds
//! need not be compared by what it was found by.
#![forbid(unsafe_code)]

use super::super::class::Class;
use super::super::engine::Engine;
use super::super::id::OperationId;
use super::super::priority::Priority;
use super::super::shared::Shared;
use super::super::status::State;
use super::super::trace::Trace;
use super::event::TargetId;
use super::registry::{Among, Found, Registry};
use crate::cell::Entity;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::{Bound, RangeBounds};

/// Which operations are looked for: all, unless something is said.
///
/// # Examples
/// Everything at once:
/// ```
/// use snapcell::{Class, Engine, Entity, Operation, Priority, Query, State};
///
/// let engine = Engine::builder().workers(0).registry(1_000).build();
/// let stock = Entity::new(10);
/// let parent = engine.submit(Operation::update(&stock, |n| n + 0))?;
/// let order = Operation::update(&stock, |n| n - 1).named("order").within(&parent.context());
/// let ticket = engine.submit(order)?;
/// let query = Query::new()
///     .state(State::Pending)
///     .name("order")
///     .class(Class::NORMAL)
///     .target(&stock)
///     .priority(Priority::LOW..=Priority::HIGH)
///     .part_of(parent.id());
/// let found = engine.operations().expect("there is a registry").find(&query);
/// assert_eq!(found.len(), 1);
/// assert_eq!(found[0].id, ticket.id());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a query finds nothing until it is asked"]
pub struct Query {
    state: Option<State>,
    name: Option<String>,
    class: Option<Class>,
    target: Option<TargetId>,
    priority: (Bound<Priority>, Bound<Priority>),
    part_of: Option<OperationId>,
}

impl Default for Query {
    fn default() -> Self {
        Query {
            state: None,
            name: None,
            class: None,
            target: None,
            priority: (Bound::Unbounded, Bound::Unbounded),
            part_of: None,
        }
    }
}

impl Query {
    /// All operations.
    pub fn new() -> Self {
        Query::default()
    }

    /// Those in this state.
    pub fn state(mut self, state: State) -> Self {
        self.state = Some(state);
        self
    }

    /// Those that are [called](crate::Operation::named) so.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Those of this class.
    pub fn class(mut self, class: Class) -> Self {
        self.class = Some(class);
        self
    }

    /// Those on this entity, alone or among others. A new entity may be where one was that is gone; then those on that one
    /// are found, too.
    pub fn target<T: Send + Sync + 'static, E: 'static>(mut self, entity: &Entity<T, E>) -> Self {
        self.target = Some(TargetId::of(entity));
        self
    }

    /// Those that are as important as this: their own priority, or a higher one of who depends on them. An empty range
    /// finds nothing.
    pub fn priority(mut self, range: impl RangeBounds<Priority>) -> Self {
        self.priority = (range.start_bound().cloned(), range.end_bound().cloned());
        self
    }

    /// Those that are part of this one, or of a part of it, and so on. Not itself. What is part of one that is forgotten
    /// isn't found.
    pub fn part_of(mut self, whole: OperationId) -> Self {
        self.part_of = Some(whole);
        self
    }

    /// Whether it asks for this, but for what its index finds.
    fn wants(&self, row: &Trace) -> bool {
        self.state.is_none_or(|state| state == row.state)
            && self.class.is_none_or(|class| class == row.class)
            && self.priority.contains(&row.priority)
            && self.name.as_ref().is_none_or(|name| name == row.name)
    }
}

/// The operations of an engine with a [registry](crate::EngineBuilder::registry): those that haven't ended, and of the
/// others those that are kept.
///
/// What is asked for is given as plain rows, which keep nothing alive and don't change. What is
/// [run](crate::Engine::run) on its caller's thread has no row, since nobody could ask for it.
///
/// | question | looks at |
/// |---|---|
/// | [`get`](Operations::get), [`chain`](Operations::chain) | one row for each answer |
/// | [`children`](Operations::children), [`conflicting`](Operations::conflicting) | those of one index entry |
/// | [`find`](Operations::find) by target, part of, or name | those of one index entry |
/// | [`stuck`](Operations::stuck) | what hasn't ended |
/// | [`clean_up`](Operations::clean_up) | what is old enough |
/// | [`statistics`](Operations::statistics), any other [`find`](Operations::find) | everything |
///
/// # Consistency
/// Each operation is found once, before its end or after it, whatever happens meanwhile. Each answer of several is found
/// one shard after the other, so it is not what was at one instant. Whoever has
/// waited for an operation finds its end. Of something that is ended just now the time of that may be missing.
///
/// # Progress
/// Blocking: a short lock of one of some shards at a time, in which no operation and nothing of anybody else's runs.
/// What is submitted or ends meanwhile waits for that, if it belongs there.
pub struct Operations<'e> {
    pub(super) shared: &'e Shared,
    pub(super) registry: &'e Registry,
}

impl Engine {
    /// What is known of its operations. `None`: it has no [registry](crate::EngineBuilder::registry).
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Engine, Entity, Operation, State};
    ///
    /// let engine = Engine::builder().registry(1_000).build();
    /// let stock = Entity::new(10);
    /// let ticket = engine.submit(Operation::update(&stock, |n| n - 1))?;
    /// let id = ticket.id();
    /// ticket.wait()?;
    /// let operations = engine.operations().expect("there is a registry");
    /// assert_eq!(operations.get(id).map(|row| row.state), Some(State::Succeeded));
    /// assert!(Engine::new().operations().is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn operations(&self) -> Option<Operations<'_>> {
        Operations::of(&self.shared)
    }
}

impl<'e> Operations<'e> {
    pub(super) fn of(shared: &'e Shared) -> Option<Self> {
        let registry = shared.ledger.registry.as_ref()?;
        Some(Operations { shared, registry })
    }

    /// The operation of this id. `None`: there is none, or it has ended and isn't kept any more.
    #[must_use]
    pub fn get(&self, id: OperationId) -> Option<Trace> {
        self.registry.get(id).map(|found| found.row())
    }

    /// Those that a query asks for, the earliest first.
    ///
    /// # Complexity
    /// By target, part of, or name: those that one index names; otherwise all.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Engine, Entity, Operation, Query, State};
    ///
    /// let engine = Engine::builder().workers(0).registry(1_000).build();
    /// let stock = Entity::new(10);
    /// let _ticket = engine.submit(Operation::update(&stock, |n| n - 1).named("order"))?;
    /// let operations = engine.operations().expect("there is a registry");
    /// let orders = Query::new().name("order");
    /// assert_eq!(operations.find(&orders.clone().state(State::Pending)).len(), 1);
    /// engine.serve();
    /// assert_eq!(operations.find(&orders.state(State::Succeeded)).len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn find(&self, query: &Query) -> Vec<Trace> {
        let wanted = |row: &Trace| query.wants(row);
        let mut rows = match (query.target, query.part_of, &query.name) {
            (Some(target), whole, _) => {
                let rows = self.rows(Among::Target(target), wanted);
                match whole {
                    Some(whole) => self.only_parts(rows, whole),
                    None => rows,
                }
            }
            (None, Some(whole), _) => {
                let mut rows = self.parts(whole);
                rows.retain(wanted);
                rows
            }
            (None, None, Some(name)) => self.rows(Among::Name(name), wanted),
            (None, None, None) => self.rows(Among::All, wanted),
        };
        rows.sort_unstable_by_key(|row| (row.times.born, row.id));
        rows
    }

    /// The operation, what it is part of, and so on to the outermost.
    ///
    /// # Errors
    /// [`ChainError`], if it, or something that it is part of, isn't known, or not any more.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{ChainError, Engine, Entity, Operation};
    ///
    /// let engine = Engine::builder().workers(0).registry(1_000).build();
    /// let stock = Entity::new(10);
    /// let whole = engine.submit(Operation::update(&stock, |n| n - 1))?;
    /// let part = engine.submit(Operation::update(&stock, |n| n - 1).within(&whole.context()))?;
    /// let operations = engine.operations().expect("there is a registry");
    /// let chain = operations.chain(part.id())?;
    /// assert!(chain.iter().map(|row| row.id).eq([part.id(), whole.id()]));
    /// assert_eq!(operations.children(whole.id())[0].id, part.id());
    ///
    /// let other = Engine::builder().registry(1_000).build();
    /// let unknown = other.operations().expect("there is a registry").chain(part.id());
    /// assert_eq!(unknown, Err(ChainError::Unknown(part.id())));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn chain(&self, id: OperationId) -> Result<Vec<Trace>, ChainError> {
        let first = self.get(id).ok_or(ChainError::Unknown(id))?;
        let mut next = first.parent;
        let mut chain = vec![first];
        while let Some(parent) = next {
            let child = chain[chain.len() - 1].id;
            let row = self.get(parent);
            let row = row.ok_or(ChainError::ParentGone { child, parent })?;
            next = row.parent;
            chain.push(row);
        }
        Ok(chain)
    }

    /// Those that are part of this one, and of nothing between; the earliest first. Also when this one isn't kept any
    /// more.
    #[must_use]
    pub fn children(&self, id: OperationId) -> Vec<Trace> {
        let mut rows = self.rows(Among::Parents(&[id]), |_| true);
        rows.sort_unstable_by_key(|row| (row.times.born, row.id));
        rows
    }

    /// Those on this entity, alone or among others, that wait for their turn or run; the earliest first.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Engine, Entity, Operation};
    ///
    /// let engine = Engine::builder().workers(0).registry(1_000).build();
    /// let stock = Entity::new(10);
    /// let _ticket = engine.submit(Operation::update(&stock, |n| n - 1))?;
    /// let operations = engine.operations().expect("there is a registry");
    /// assert_eq!(operations.conflicting(&stock).len(), 1);
    /// engine.serve();
    /// assert!(operations.conflicting(&stock).is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn conflicting<T: Send + Sync + 'static, E: 'static>(
        &self,
        entity: &Entity<T, E>,
    ) -> Vec<Trace> {
        let is_under_way = |row: &Trace| !row.state.is_final();
        let mut rows = self.rows(Among::Rivals(TargetId::of(entity)), is_under_way);
        rows.sort_unstable_by_key(|row| (row.times.born, row.id));
        rows
    }

    /// How many operations that have ended are kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.registry.sizes().ended
    }

    /// How many there are, those included that haven't ended.
    #[must_use]
    pub fn len(&self) -> usize {
        let sizes = self.registry.sizes();
        sizes.unfinished + sizes.ended
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether every index agrees with the operations. It always does; tests ask.
    ///
    /// # Complexity
    /// It looks at everything.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.registry.is_consistent()
    }

    /// The rows that are wanted of those among which to look.
    pub(super) fn rows(&self, among: Among<'_>, wanted: impl Fn(&Trace) -> bool) -> Vec<Trace> {
        let found = self.registry.select(among, &wanted);
        let rows = found.iter().map(Found::row);
        rows.filter(wanted).collect()
    }

    /// All parts of an operation, level by level.
    fn parts(&self, whole: OperationId) -> Vec<Trace> {
        let mut parts = Vec::new();
        let mut level = vec![whole];
        while !level.is_empty() {
            let next = self.rows(Among::Parents(&level), |_| true);
            level = next.iter().map(|row| row.id).collect();
            parts.extend(next);
        }
        parts
    }

    /// Those of these rows that are part of an operation.
    fn only_parts(&self, mut rows: Vec<Trace>, whole: OperationId) -> Vec<Trace> {
        if rows.is_empty() {
            return rows;
        }
        let parts = self.parts(whole);
        let parts: BTreeSet<_> = parts.iter().map(|row| row.id).collect();
        rows.retain(|row| parts.contains(&row.id));
        rows
    }
}

impl fmt::Debug for Operations<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = self.registry.sizes();
        f.debug_struct("Operations")
            .field("unfinished", &sizes.unfinished)
            .field("kept", &sizes.ended)
            .finish_non_exhaustive()
    }
}

/// Why there is no chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// There is no such operation, or it has ended and isn't kept any more.
    #[error("{0} isn't known")]
    Unknown(OperationId),
    /// It is there, but not what it is part of: that has ended and isn't kept any more.
    #[error("{parent}, which {child} is part of, isn't kept any more")]
    ParentGone {
        /// Which one is there.
        child: OperationId,
        /// Which one isn't.
        parent: OperationId,
    },
}

//! A store in the making: which ids, which indexes, what its entities have in common.
#![forbid(unsafe_code)]

use super::directory::Directory;
use super::index::{Follow, Index, Key};
use super::standing::Standing;
use super::version::Template;
use super::{Inner, Store};
use crate::cell::Retain;
use crate::clock::Clock;
use crate::sync::map::Map;
use std::fmt;
use std::sync::Arc;

/// Which ids a store gives to what is inserted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdKind {
    /// [`EntityId::new`](crate::EntityId::new): in the order of their making.
    #[default]
    Ordered,
    /// [`EntityId::random`](crate::EntityId::random): nobody can guess them.
    Random,
}

/// A store in the making.
///
/// # Examples
/// Every knob at once:
/// ```
/// use snapcell::{Clock, IdKind, Retain, Store};
///
/// let builder = Store::builder().ids(IdKind::Random).clock(Clock::logical());
/// let mut builder = builder.retain(Retain::last(10));
/// let by_word = builder.index(|text: &String| text.split(' ').map(String::from).collect::<Vec<_>>());
/// let texts = builder.build();
/// let id = texts.insert("to be or not to be".to_string());
/// assert!(texts.find(&by_word, &"not".to_string()).contains(&id));
/// ```
#[must_use = "a builder builds nothing until `build` is called"]
pub struct StoreBuilder<T: Send + Sync + 'static> {
    pub(super) indexes: Vec<Box<dyn Follow<T>>>,
    pub(super) ids: IdKind,
    pub(super) template: Template,
}

impl<T: Send + Sync + 'static> StoreBuilder<T> {
    /// Which ids are given to what is inserted. Default: [`IdKind::Ordered`].
    pub fn ids(mut self, kind: IdKind) -> Self {
        self.ids = kind;
        self
    }

    /// Which versions of its entities the store keeps. Default: [`Retain::Latest`].
    pub fn retain(mut self, retain: Retain) -> Self {
        self.template.retain = retain;
        self
    }

    /// Where the times of the stamps come from. Default: [`Clock::monotonic`], the one of all entities, which
    /// needs no memory in each.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.template.clock = Some(clock);
        self
    }

    /// Declares an index: `keys` returns the keys of a value, none, one (an `Option`), or several. It must
    /// return the same for the same value each time. It is the store that keeps the index in step; the
    /// handle is for looks.
    ///
    /// # Complexity
    /// A commit that changes keys is a transaction of the entity and the bucket of each key that comes or
    /// goes. Others compute the keys of both values, and no more.
    pub fn index<K: Key, I: IntoIterator<Item = K>>(
        &mut self,
        keys: impl Fn(&T) -> I + Send + Sync + 'static,
    ) -> Index<T, K> {
        let index = Index::new(keys);
        self.indexes.push(Box::new(index.clone()));
        index
    }

    /// The store.
    pub fn build(self) -> Store<T> {
        let lineages = Index::new(Standing::joined);
        if let Some(clock) = &self.template.clock {
            lineages.keep_time(clock);
            self.indexes.iter().for_each(|index| index.keep_time(clock));
        }
        Store(Arc::new(Inner {
            nodes: Directory::new(),
            indexes: self.indexes,
            standings: Map::new(),
            lineages,
            ids: self.ids,
            template: self.template,
        }))
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for StoreBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreBuilder")
            .field("indexes", &self.indexes.len())
            .field("ids", &self.ids)
            .field("template", &self.template)
            .finish_non_exhaustive()
    }
}

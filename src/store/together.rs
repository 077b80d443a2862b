//! Large trees, looked at by several threads.
//!
//! The walk is the one of `build`: whoever has begun it lays out the nodes, in the same order. Others look at
//! those that are laid out, in parts, a part at a time, and note what they name. So what comes of it is the
//! same, errors and panics included: a part ends where it finds nothing or where a value panics, and the walk
//! goes on from there by itself, or with that panic, if it gets there at all.
#![forbid(unsafe_code)]

use super::Inner;
use super::build::{Known, PART, Seen, Walk, fetch, is_still, look};
use super::children::{Children, Edge};
use super::crew::{Crew, Panic};
use super::id::EntityId;
use super::layout::TreeError;
use super::tree::Value;
use super::version::Version;
use crate::cell::pin;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

/// Nodes that are to be looked at, for which others are asked to help. With fewer, of a tree of ten thousand,
/// two threads took a little longer than one.
pub(super) const WIDE: usize = 24 * PART;

/// What was found at some nodes that follow each other.
struct Part<T: Send + Sync + 'static> {
    /// How many there are. Of those that are missing below, the first isn't there or has panicked.
    len: usize,
    seen: Vec<Seen<T>>,
    versions: Vec<Version<T>>,
    /// What they name, and of each where in there that ends.
    named: Vec<(Edge, EntityId)>,
    ends: Vec<usize>,
    is_known: bool,
    panic: Option<Panic>,
}

impl<T: Children + Send + Sync + 'static> Part<T> {
    fn look(store: &Inner<T>, known: &Known<T>, ids: &[EntityId]) -> Self {
        let mut part = Part {
            len: ids.len(),
            seen: Vec::with_capacity(ids.len()),
            versions: Vec::with_capacity(ids.len()),
            named: Vec::with_capacity(ids.len()),
            ends: Vec::with_capacity(ids.len()),
            is_known: true,
            panic: None,
        };
        let _guard = pin();
        fetch(store, ids.iter());
        let looked = catch_unwind(AssertUnwindSafe(|| {
            for id in ids.iter().copied() {
                let Some((node, version, is_known)) = look(store, known, id) else {
                    break;
                };
                let named = &mut part.named;
                version.children(&mut |edge, id| named.push((edge, id)));
                part.ends.push(part.named.len());
                let stamp = version.stamp();
                part.seen.push(Seen { id, node, stamp });
                part.versions.push(version);
                part.is_known &= is_known;
            }
        }));
        part.panic = looked.err();
        part
    }
}

impl<T: Children + Send + Sync + 'static> Walk<T> {
    /// Goes on as long as there is enough for several. `false`: there is nobody else.
    pub(super) fn go_together(&mut self, store: &Arc<Inner<T>>) -> Result<bool, TreeError> {
        let (shared, known) = (Arc::clone(store), Arc::clone(&self.known));
        let look = move |ids: Vec<EntityId>| Part::look(&shared, &known, &ids);
        let Some(crew) = Crew::new(look) else {
            return Ok(false);
        };
        let mut given = self.layout.looked();
        loop {
            while self.layout.len() - given >= PART {
                let ids = self.layout.ids(given..given + PART);
                crew.push(ids.copied().collect());
                given += PART;
            }
            match crew.next() {
                Some(part) => self.put(store, part)?,
                None => return Ok(true),
            }
        }
    }

    fn put(&mut self, store: &Inner<T>, part: Part<T>) -> Result<(), TreeError> {
        self.is_known &= part.is_known;
        self.seen.push(part.seen);
        let rest = part.len - part.versions.len();
        self.layout.fetch(part.named.iter().map(|(_, id)| id));
        let mut named = part.named.into_iter();
        let mut from = 0;
        for (version, end) in part.versions.into_iter().zip(part.ends) {
            let kids = named.by_ref().take(end - from);
            self.layout.put_open(Value::Stored(version), kids)?;
            from = end;
        }
        if let Some(panic) = part.panic {
            resume_unwind(panic);
        }
        for _ in 0..rest {
            self.step(store)?;
        }
        Ok(())
    }

    /// As [`is_still`](Walk::is_still).
    pub(super) fn is_still_together(&mut self) -> Option<bool> {
        let look = |part: Vec<Seen<T>>| (is_still(&part), part);
        let crew = Crew::new(look)?;
        for part in std::mem::take(&mut self.seen) {
            crew.push(part);
        }
        let mut is_still = true;
        while let Some((still, part)) = crew.next() {
            is_still &= still;
            self.seen.push(part);
        }
        Some(is_still)
    }
}

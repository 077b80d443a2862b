//! The unsafe core: nodes, the head that points to one, and how both are reclaimed.
//!
//! This is where all unsafe code lives. What the floor above sees of it are
//! owned or borrowed values that can't be misused: a [`Draft`] is a node that nobody else knows, a
//! [`Seen`] is one that a guard protects, a [`Held`] one that a count keeps.

mod alternative;
#[cfg(feature = "scheduler")]
mod answer;
#[cfg(feature = "store")]
mod arena;
mod attempt;
mod backlog;
mod block;
mod crier;
mod drive;
mod end;
#[cfg(feature = "scheduler")]
mod exclusive;
#[cfg(feature = "scheduler")]
mod frames;
#[cfg(feature = "store")]
mod free;
mod grace;
mod head;
#[cfg(feature = "scheduler")]
mod in_place;
#[cfg(feature = "scheduler")]
mod inbox;
mod kept;
mod log;
mod node;
mod op;
mod ops;
mod place;
mod pool;
mod project;
mod proxy;
pub(crate) mod reclaim;
mod retired;
pub(crate) mod rings;
mod shelf;
mod slots;
mod verdict;
mod waits;
mod word;

#[cfg(feature = "scheduler")]
pub(crate) use answer::{Answer, RESERVED_BITS};
#[cfg(feature = "store")]
pub(crate) use arena::{Arena, Lent, Vacancy};
pub(crate) use attempt::Attempted;
pub(crate) use block::{Handle, Waitable, Watcher};
pub(crate) use end::{caught_panics, quietly};
#[cfg(feature = "scheduler")]
pub(crate) use exclusive::Exclusive;
#[cfg(feature = "scheduler")]
pub(crate) use frames::{Frames, Loan};
pub(crate) use head::{Head, Publication};
#[cfg(feature = "scheduler")]
pub(crate) use in_place::shared;
#[cfg(feature = "scheduler")]
pub(crate) use inbox::{Batch, Baton, Held as HeldLane, Inbox, Link, Linked, Pushed};
pub(crate) use kept::{Kept, Recorder};
pub(crate) use log::{Log, Overtaken, Target};
pub(crate) use node::{Draft, Held, Place, Seen, Vacant};
pub(crate) use project::Projection;
pub(crate) use waits::Waits;

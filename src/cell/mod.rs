//! The safe face of one head.
//!
//! | file | what a user sees of it |
//! |---|---|
//! | `entity` | the handle: birth, reads, end |
//! | `commit` | one change, if nobody was faster: `try_commit`, `replace`, `commit_or_merge` |
//! | `update` | a change that is computed again until it commits |
//! | `modify` | the same, in place: the closure changes a clone |
//! | `snapshot` | what a read gives: kept, borrowed, or a part |
//! | `reader` | a read that costs nothing while nothing changes |
//! | `wait` | waiting for a snapshot, on a thread or in a task |
//! | `watch` | a subscription that knows what was seen |
//! | `callback` | a closure that is called after commits |
//! | `transaction` | several entities at one instant: what its closure reads and writes by |
//! | `target`, `restart` | how it is given an entity, and why it ends without a result |
//! | `transact` | how that is run: again until it commits, within limits, on a thread or in a task |
//! | `changes` | the same with values that were computed before, in one attempt |
//! | `moment` | several entities at one instant, looked at only |
//! | `history` | what an entity was, by version, stamp and time |
//! | `past` | what is kept of that, without holes |
//! | `arena` | entities side by side, found by number and name (optional) |
//! | `guard` | pins, and what waits for them |
//! | `backoff` | how long the loser of a race stays away |
#![forbid(unsafe_code)]

#[cfg(feature = "store")]
mod arena;
mod backoff;
mod callback;
mod changes;
mod commit;
mod entity;
mod guard;
mod history;
mod modify;
mod moment;
mod past;
mod reader;
mod restart;
mod snapshot;
mod target;
mod transact;
mod transaction;
mod update;
mod wait;
mod watch;

#[cfg(feature = "store")]
pub(crate) use crate::raw::Lent;
#[cfg(feature = "store")]
pub use arena::ArenaParts;
#[cfg(feature = "store")]
pub(crate) use arena::{EntityArena, Vacancy};
#[cfg(any(feature = "store", feature = "scheduler"))]
pub(crate) use backoff::Backoff;
pub use callback::Callback;
pub use changes::{ChangeRefusal, Changes, Refused, Transacted, try_transaction};
pub use commit::{CommitError, Committed, Merge, Refusal};
pub use entity::{Builder, Entity, Invalid};
pub use guard::{Guard, Lag, destructor_panics, pin, reclaim, reclamation_lag};
pub use history::{History, Missing};
#[cfg(feature = "store")]
pub(crate) use moment::is_unchanged;
pub use moment::{Entities, Moment, snapshot_as_of, snapshot_of};
pub use past::Retain;
pub use reader::Reader;
pub use restart::{Restart, Restarts, Stop};
pub use snapshot::{Loaded, Projected, Snapshot};
pub use target::Target;
pub use transact::{Transact, Transacting, TransactionError, transaction, transaction_or_abort};
pub use transaction::Transaction;
pub use update::{Retry, UpdateError, Updated};
pub use wait::{TimedOut, Waiting};
pub use watch::{Closed, Watch};

//! The models: small programs in every interleaving, or in every one with so many preemptions where that
//! is too many, with exactly the outcomes derived by hand.
//!
//! `cargo loom` runs them under loom, `cargo test` on real threads, and `cargo loom-faults` once for
//! each planted fault and each weaker ordering that they claim to notice.
//!
//! | file | what it is about |
//! |---|---|
//! | `gate` | that loom sees anything at all |
//! | `commit` | writers against each other, once |
//! | `update` | writers that try again, or merge |
//! | `read` | readers under a guard against writers |
//! | `count` | holders against the end of a grace, and against each other |
//! | `reader` | cached readers against replacement and reuse of addresses |
//! | `ring` | what is retired, and when it is ripe |
//! | `pool` | memory that comes back |
//! | `exit` | threads that end |
//! | `end` | the end of an entity |
//! | `wait` | those who wait against commits, each other, and the end |
//! | `transaction` | transactions against commits, looks and each other |
//! | `history` | commits and transactions against those who look back |
//! | `moment` | snapshots of several entities against commits and transactions |
//! | `closure` | closures of transactions, which read as well |
//! | `transaction_life` | transactions against the end of entities, and memory that is used again |
//! | `transaction_wait` | those who wait against transactions, and transactions that wait |
//! | `store` | entities by id, and indexes that follow (feature `store`) |
//! | `scheduler_reservation` | who should be left alone at an entity (feature `scheduler`) |
//! | `lane` | what is put into a lane, and who has it (feature `scheduler`) |
//! | `operation` | how operations end, and who learns of it (feature `scheduler`) |
//! | `faults` | the replay |
//! | `support/alone` | each model in a process of its own |

#[path = "support/alone.rs"]
mod alone;
#[cfg(feature = "store")]
mod arena;
mod closure;
mod commit;
mod count;
mod end;
mod exit;
mod faults;
mod gate;
mod history;
#[cfg(feature = "scheduler")]
mod lane;
mod moment;
#[cfg(feature = "scheduler")]
mod operation;
mod pool;
mod read;
mod reader;
mod ring;
#[cfg(feature = "scheduler")]
mod scheduler_reservation;
#[cfg(feature = "store")]
mod store;
mod support;
mod transaction;
mod transaction_life;
mod transaction_wait;
mod update;
mod wait;

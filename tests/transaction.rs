//! Several entities at one instant: what each call of a transaction promises, alone and with others in its
//! way, on threads and in tasks; what is given back when nothing is made; whom a panic hits; and when values
//! end. Many threads at once are in `transaction_stress.rs`.
//!
//! Others get in the way where it is wanted: a closure commits on another thread, and waits for that
//! (`overtake`). So what happens is the same in each run.

#[path = "transaction/alternatives.rs"]
mod alternatives;
#[path = "support/bomb.rs"]
mod bomb;
#[path = "transaction/changes.rs"]
mod changes;
#[path = "transaction/closure.rs"]
mod closure;
#[path = "transaction/conflicts.rs"]
mod conflicts;
#[path = "transaction/ends.rs"]
mod ends;
#[path = "transaction/hooks.rs"]
mod hooks;
#[path = "transaction/moment.rs"]
mod moment;
#[path = "transaction/neighbours.rs"]
mod neighbours;
#[path = "transaction/panics.rs"]
mod panics;
#[path = "support/planned.rs"]
mod planned;
#[path = "transaction/programs.rs"]
mod programs;
mod support;
#[path = "transaction/traits.rs"]
mod traits;
#[path = "transaction/waiting.rs"]
mod waiting;

use bomb::caught_in;
use planned::{PLANNED, plan, silence_what_is_planned};
use snapcell::{Clock, Entity, Restart, Transact, TransactionError};
use std::cell::{Cell, RefCell};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;
use support::elsewhere;

/// Longer than any of these tests takes, on a busy machine too.
const HANGS: Duration = Duration::from_secs(300);

/// As [`support::alone`], without the noise of panics that are planned. Aborts if `body` never ends.
fn alone(body: impl FnOnce() + Send) {
    silence_what_is_planned();
    watched(Box::new(body));
}

/// The part of it that is the same for each test, and so is compiled once.
fn watched(body: Box<dyn FnOnce() + Send + '_>) {
    support::alone(|| {
        let name = thread::current().name().unwrap_or("a test").to_owned();
        let (_ended, end) = channel::<()>();
        let watchdog = move || {
            if end.recv_timeout(HANGS) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{name} hangs: a wake-up was lost, or a transaction runs for ever");
                std::process::abort();
            }
        };
        thread::Builder::new().spawn(watchdog).unwrap();
        body();
    });
}

/// Fewer where every access is checked.
const fn fewer_if_slow(number: usize) -> usize {
    if cfg!(snapcell_sanitize) {
        number / 20
    } else {
        number
    }
}

/// An entity with times that can be told in advance.
fn logical<T: Send + Sync + 'static>(value: T) -> Entity<T> {
    Entity::builder(value).clock(Clock::logical()).build()
}

fn version<T: Send + Sync + 'static, E: 'static>(entity: &Entity<T, E>) -> u64 {
    entity.snapshot().stamp().version()
}

/// The values of entities.
fn values<T: Copy + Send + Sync + 'static>(entities: &[Entity<T>]) -> Vec<T> {
    entities.iter().map(|entity| *entity.snapshot()).collect()
}

/// Another thread commits, and is done when this returns.
fn overtake<T: Send + Sync + 'static>(entity: &Entity<T>, value: T) {
    elsewhere(|| entity.replace(value).stamp());
}

/// A validator's entity.
fn percent(value: u8) -> Entity<u8, &'static str> {
    Entity::builder(value)
        .validate(|p| {
            if *p <= 100 {
                Ok(())
            } else {
                Err("more than all")
            }
        })
        .try_build()
        .unwrap()
}

/// Runs it with this many retries at most. What it returns, and how often the closure ran.
fn bounded<'e, R>(
    retries: u32,
    mut body: impl FnMut(&snapcell::Transaction<'e>) -> Result<R, Restart>,
) -> (Result<R, TransactionError<()>>, u32) {
    let mut runs = 0;
    let result = Transact::new()
        .retries(snapcell::Retry::at_most(retries))
        .run(|tx| {
            runs += 1;
            body(tx).map_err(snapcell::Stop::Restart)
        });
    (result, runs)
}

/// These entities, in the order in which every transaction installs what it writes. That order is nobody's
/// business but these tests': whoever wants to be in the way behind the second of three has to know it.
fn in_order<T: Clone + Send + Sync + 'static>(entities: Vec<Entity<T>>) -> Vec<Entity<T>> {
    let order = RefCell::new(Vec::new());
    let note = |index| {
        let order = &order;
        move |value: &T| {
            order.borrow_mut().push(index);
            value.clone()
        }
    };
    snapcell::transaction(|tx| {
        order.borrow_mut().clear();
        for (index, entity) in entities.iter().enumerate() {
            tx.fold(entity, note(index));
        }
        Ok(())
    });
    let order = order.into_inner();
    assert_eq!(order.len(), entities.len(), "each is folded once");
    let mut entities: Vec<_> = entities.into_iter().map(Some).collect();
    order
        .into_iter()
        .map(|index| entities[index].take().expect("each once"))
        .collect()
}

/// A closure that does something the first time only.
fn once(body: impl FnOnce()) -> impl Fn() {
    let body = Cell::new(Some(body));
    move || {
        if let Some(body) = body.take() {
            body();
        }
    }
}

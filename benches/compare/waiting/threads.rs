//! Two threads that block for each other.

use super::{CHECKED, ONE_WAY, one_way};
use crate::results::Case;
use crate::runner::{self, Contender, Plan, Sample, now};
use snapcell::{Entity, Stamp, Watch};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::sync::watch;

/// What the last number says: that no more will come.
const END: u64 = u64::MAX;

/// One way: numbers that grow, of which the other side waits for the next.
trait Way: Send + Sync + 'static {
    const NAME: &'static str;

    /// What the side that waits keeps.
    type Waiter<'a>: Send;

    fn new() -> Self;
    fn waiter(&self) -> Self::Waiter<'_>;
    fn send(&self, number: u64);

    /// Blocks until there is another number, and returns it.
    fn receive(waiter: &mut Self::Waiter<'_>) -> u64;
}

pub(super) fn case(plan: &Plan) -> Case {
    let contenders = vec![
        contender::<Changing>(),
        contender::<Watching>(),
        contender::<watch::Sender<u64>>(),
        contender::<Signal>(),
    ];
    runner::measure(
        plan,
        "u64, two threads",
        ONE_WAY,
        "tokio watch changed",
        contenders,
    )
}

fn contender<W: Way>() -> Contender {
    Contender {
        name: W::NAME,
        check: Box::new(|| ping_pong::<W>(Duration::ZERO, CHECKED).map(drop)),
        measure: Box::new(|slice| ping_pong::<W>(slice, 1)),
    }
}

/// Until the slice of time is over, and at least so often.
fn ping_pong<W: Way>(slice: Duration, least: u64) -> Result<Sample, String> {
    let (there, back) = (W::new(), W::new());
    let (mut arrives, mut returns) = (there.waiter(), back.waiter());
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut seen = 0;
            loop {
                match W::receive(&mut arrives) {
                    END => return seen,
                    number => seen = number,
                }
                back.send(seen);
            }
        });
        let start = now();
        let mut round = 0;
        while round < least || start.elapsed() < slice {
            round += 1;
            there.send(round);
            if W::receive(&mut returns) != round {
                break;
            }
        }
        let elapsed = start.elapsed();
        there.send(END);
        let seen = other.join().expect("the other side doesn't panic");
        one_way(elapsed, round, seen)
    })
}

/// `changed`, with the stamp that was seen last.
struct Changing(Entity<u64>);

impl Way for Changing {
    const NAME: &'static str = "snapcell changed";
    type Waiter<'a> = (&'a Entity<u64>, Stamp);

    fn new() -> Self {
        Changing(Entity::new(0))
    }

    fn waiter(&self) -> Self::Waiter<'_> {
        (&self.0, self.0.snapshot().stamp())
    }

    fn send(&self, number: u64) {
        _ = self.0.update(|_| number);
    }

    fn receive((entity, stamp): &mut Self::Waiter<'_>) -> u64 {
        let seen = entity.changed(*stamp).wait();
        *stamp = seen.stamp();
        *seen
    }
}

/// `Watch::changed`.
struct Watching(Entity<u64>);

impl Way for Watching {
    const NAME: &'static str = "snapcell Watch changed";
    type Waiter<'a> = Watch<u64>;

    fn new() -> Self {
        Watching(Entity::new(0))
    }

    fn waiter(&self) -> Watch<u64> {
        self.0.watch()
    }

    fn send(&self, number: u64) {
        _ = self.0.update(|_| number);
    }

    fn receive(watch: &mut Watch<u64>) -> u64 {
        watch.changed().wait().map_or(END, |seen| *seen)
    }
}

/// A thread that waits blocks on the future, by the smallest executor there is.
impl Way for watch::Sender<u64> {
    const NAME: &'static str = "tokio watch changed";
    type Waiter<'a> = watch::Receiver<u64>;

    fn new() -> Self {
        watch::Sender::new(0)
    }

    fn waiter(&self) -> watch::Receiver<u64> {
        self.subscribe()
    }

    fn send(&self, number: u64) {
        self.send_replace(number);
    }

    fn receive(receiver: &mut watch::Receiver<u64>) -> u64 {
        match pollster::block_on(receiver.changed()) {
            Ok(()) => *receiver.borrow_and_update(),
            Err(_) => END,
        }
    }
}

/// A number under a lock, and who waits for it.
struct Signal {
    number: Mutex<u64>,
    changed: Condvar,
}

impl Way for Signal {
    const NAME: &'static str = "std Mutex + Condvar";
    type Waiter<'a> = (&'a Signal, u64);

    fn new() -> Self {
        Signal {
            number: Mutex::new(0),
            changed: Condvar::new(),
        }
    }

    fn waiter(&self) -> Self::Waiter<'_> {
        (self, 0)
    }

    fn send(&self, number: u64) {
        *self.number.lock().unwrap_or_else(PoisonError::into_inner) = number;
        self.changed.notify_one();
    }

    fn receive((signal, seen): &mut Self::Waiter<'_>) -> u64 {
        let lock = signal.number.lock();
        let lock = lock.unwrap_or_else(PoisonError::into_inner);
        let number = signal.changed.wait_while(lock, |number| number == seen);
        *seen = *number.unwrap_or_else(PoisonError::into_inner);
        *seen
    }
}

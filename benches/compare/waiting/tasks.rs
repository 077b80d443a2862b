//! Two tasks that await each other.

use super::{CHECKED, ONE_WAY, one_way};
use crate::results::Case;
use crate::runner::{self, Contender, Plan, Sample, now};
use snapcell::{Entity, Watch};
use std::future::Future;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// What the last number says: that no more will come.
const END: u64 = u64::MAX;

/// One way: numbers that grow, of which the other side awaits the next.
trait Way: Send + Sync + 'static {
    const NAME: &'static str;

    /// What the side that waits keeps.
    type Waiter: Send + 'static;

    fn new() -> Self;
    fn waiter(&self) -> Self::Waiter;
    fn send(&self, number: u64);

    /// Ready as soon as there is another number, with it.
    fn receive(waiter: &mut Self::Waiter) -> impl Future<Output = u64> + Send;
}

pub(super) fn case(plan: &Plan) -> Case {
    let contenders = vec![
        contender::<Entity<u64>>(),
        contender::<Watching>(),
        contender::<watch::Sender<u64>>(),
    ];
    runner::measure(
        plan,
        "u64, two tasks",
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

fn runtime() -> Result<Runtime, String> {
    let runtime = Builder::new_multi_thread().worker_threads(2).build();
    runtime.map_err(|error| format!("no runtime: {error}"))
}

/// Until the slice of time is over, and at least so often.
fn ping_pong<W: Way>(slice: Duration, least: u64) -> Result<Sample, String> {
    let (there, back) = (W::new(), W::new());
    let (mut arrives, mut returns) = (there.waiter(), back.waiter());
    let runtime = runtime()?;
    let other = runtime.spawn(async move {
        let mut seen = 0;
        loop {
            match W::receive(&mut arrives).await {
                END => return seen,
                number => seen = number,
            }
            back.send(seen);
        }
    });
    let own = runtime.spawn(async move {
        let start = now();
        let mut round = 0;
        while round < least || start.elapsed() < slice {
            round += 1;
            there.send(round);
            if W::receive(&mut returns).await != round {
                break;
            }
        }
        let elapsed = start.elapsed();
        there.send(END);
        // Not before the other side has seen the end.
        (elapsed, round, there)
    });
    let (own, seen) = runtime.block_on(async { (own.await, other.await) });
    let (elapsed, round, _) = own.map_err(|error| error.to_string())?;
    one_way(elapsed, round, seen.map_err(|error| error.to_string())?)
}

/// `changed`, with the snapshot that was seen last.
impl Way for Entity<u64> {
    const NAME: &'static str = "snapcell changed";
    type Waiter = (Entity<u64>, snapcell::Stamp);

    fn new() -> Self {
        Entity::new(0)
    }

    fn waiter(&self) -> Self::Waiter {
        (self.clone(), self.snapshot().stamp())
    }

    fn send(&self, number: u64) {
        _ = self.update(|_| number);
    }

    async fn receive((entity, stamp): &mut Self::Waiter) -> u64 {
        let seen = entity.changed(*stamp).await;
        *stamp = seen.stamp();
        *seen
    }
}

/// `Watch::changed`.
struct Watching(Entity<u64>);

impl Way for Watching {
    const NAME: &'static str = "snapcell Watch changed";
    type Waiter = Watch<u64>;

    fn new() -> Self {
        Watching(Entity::new(0))
    }

    fn waiter(&self) -> Watch<u64> {
        self.0.watch()
    }

    fn send(&self, number: u64) {
        _ = self.0.update(|_| number);
    }

    async fn receive(watch: &mut Watch<u64>) -> u64 {
        watch.changed().await.map_or(END, |seen| *seen)
    }
}

impl Way for watch::Sender<u64> {
    const NAME: &'static str = "tokio watch changed";
    type Waiter = watch::Receiver<u64>;

    fn new() -> Self {
        watch::Sender::new(0)
    }

    fn waiter(&self) -> watch::Receiver<u64> {
        self.subscribe()
    }

    fn send(&self, number: u64) {
        self.send_replace(number);
    }

    async fn receive(receiver: &mut watch::Receiver<u64>) -> u64 {
        match receiver.changed().await {
            Ok(()) => *receiver.borrow_and_update(),
            Err(_) => END,
        }
    }
}

//! A commit before a crowd of tasks that wait for something else.

use super::COMMIT;
use crate::results::Case;
use crate::runner::{self, Contender, Plan, Sample, now};
use crate::table;
use snapcell::Entity;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use tokio::sync::watch;

/// How many wait.
pub(super) const CROWDS: [usize; 4] = [0, 1, 100, 10_000];

/// What a crowd can wait for.
trait Awaited: 'static {
    const NAME: &'static str;

    fn new() -> Self;

    /// Waits for a value that never comes.
    fn wait(&self) -> Pin<Box<dyn Future<Output = ()>>>;

    /// Counts one further.
    fn update(&self);
    fn count(&self) -> u64;
}

pub(super) fn case(plan: &Plan, crowd: usize) -> Case {
    let plural = if crowd == 1 { "" } else { "s" };
    let name = format!("u64, {} waiter{plural}", table::count(crowd as u64));
    let contenders = vec![
        contender::<Entity<u64>>(crowd),
        contender::<watch::Sender<u64>>(crowd),
    ];
    runner::measure(plan, name, COMMIT, "tokio watch", contenders)
}

fn contender<A: Awaited>(crowd: usize) -> Contender {
    Contender {
        name: A::NAME,
        check: Box::new(move || measure::<A>(crowd, Duration::ZERO).map(drop)),
        measure: Box::new(move |slice| measure::<A>(crowd, slice)),
    }
}

impl Awaited for Entity<u64> {
    const NAME: &'static str = "snapcell";

    fn new() -> Self {
        Entity::new(0)
    }

    fn wait(&self) -> Pin<Box<dyn Future<Output = ()>>> {
        let entity = self.clone();
        Box::pin(async move { drop(entity.wait_for(|value| *value == u64::MAX).await) })
    }

    fn update(&self) {
        _ = self.update(|value| value + 1);
    }

    fn count(&self) -> u64 {
        self.read(|value| *value)
    }
}

impl Awaited for watch::Sender<u64> {
    const NAME: &'static str = "tokio watch";

    fn new() -> Self {
        watch::Sender::new(0)
    }

    fn wait(&self) -> Pin<Box<dyn Future<Output = ()>>> {
        let mut receiver = self.subscribe();
        Box::pin(async move { _ = receiver.wait_for(|value| *value == u64::MAX).await })
    }

    fn update(&self) {
        self.send_modify(|value| *value += 1);
    }

    fn count(&self) -> u64 {
        *self.borrow()
    }
}

/// A task that waits, and whether it was woken since it was polled.
struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    woken: Arc<Woken>,
    waker: Waker,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Task {
    fn new(future: Pin<Box<dyn Future<Output = ()>>>) -> Self {
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        Task {
            future,
            woken,
            waker,
        }
    }

    /// Polls it if it was woken, and returns whether it was.
    fn poll(&mut self) -> Result<bool, String> {
        if !self.woken.0.swap(false, Ordering::Relaxed) {
            return Ok(false);
        }
        let mut context = Context::from_waker(&self.waker);
        match self.future.as_mut().poll(&mut context) {
            Poll::Pending => Ok(true),
            Poll::Ready(()) => Err("what never comes came".to_owned()),
        }
    }
}

/// Polls who was woken, until nobody is, and returns how many polls that took.
fn settle(tasks: &mut [Task]) -> Result<usize, String> {
    let mut polls = 0;
    loop {
        let before = polls;
        for task in &mut *tasks {
            polls += usize::from(task.poll()?);
        }
        if polls == before {
            return Ok(polls);
        }
    }
}

/// Commits, one at a time, each when all wait again.
fn measure<A: Awaited>(crowd: usize, slice: Duration) -> Result<Sample, String> {
    let awaited = A::new();
    let mut tasks: Vec<Task> = (0..crowd).map(|_| Task::new(awaited.wait())).collect();
    settle(&mut tasks)?;
    let start = now();
    let (mut commits, mut committing) = (0, Duration::ZERO);
    while commits == 0 || start.elapsed() < slice {
        let before = now();
        awaited.update();
        committing += before.elapsed();
        commits += 1;
        // Somebody else may still be waking them. If it were nobody, this would be the contender that
        // doesn't end.
        let mut polls = settle(&mut tasks)?;
        while polls < crowd {
            std::thread::yield_now();
            polls += settle(&mut tasks)?;
        }
    }
    if awaited.count() != commits {
        return Err(format!(
            "{commits} updates left a count of {}",
            awaited.count()
        ));
    }
    Ok(vec![committing.as_nanos() as f64 / commits as f64])
}

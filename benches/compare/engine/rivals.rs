//! Whoever takes operations and runs them elsewhere: the engine and its rivals.
//!
//! Operation number n makes v + 1 of target n, modulo their number.

use super::WORKERS;
use super::slot::Slot;
use crossbeam_channel::{Receiver, Sender, bounded};
use rayon_core::{ThreadPool, ThreadPoolBuilder};
use snapcell::{Body, Engine, Entity, Operation, Policy, Priority, Snapshot, Ticket};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::Range;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use tokio::runtime::{self, Runtime};
use tokio::task;

/// How many operations the channel of an actor holds.
const CAPACITY: usize = 4_096;

/// How many operations are published by one commit at most, as in the engine.
const FOLD: usize = 256;

/// Who runs operations.
pub(super) trait Rival: Sync + Sized + 'static {
    const NAME: &'static str;

    /// What whoever has submitted an operation waits for.
    type Ticket: Send;

    fn new(targets: usize) -> Self;
    fn submit(&self, number: u64) -> Self::Ticket;

    /// Submits several at the same moment, if that can be done.
    fn submit_all(&self, numbers: Range<u64>, tickets: &mut VecDeque<Self::Ticket>) {
        tickets.extend(numbers.map(|number| self.submit(number)));
    }

    /// Waits for the answer: the number that the operation has made.
    fn wait(ticket: Self::Ticket) -> u64;

    /// What became of the targets, when all tickets were waited for. `Err`: its own books don't add up.
    fn end(self) -> Result<Vec<u64>, String>;
}

/// Which of `len` targets an operation has.
fn place(number: u64, len: usize) -> usize {
    (number % len as u64) as usize
}

fn plus_one(value: &u64) -> u64 {
    value + 1
}

/// The engine. `FOLDS`: by what policy. `RANKED`: whether operations differ in priority.
pub(super) struct Ours<const FOLDS: bool, const RANKED: bool> {
    engine: Engine,
    entities: Vec<Entity<u64>>,
}

/// Of ten operations.
const RANKS: [Priority; 10] = {
    use Priority as P;
    [
        P::NORMAL,
        P::HIGH,
        P::NORMAL,
        P::NORMAL,
        P::HIGH,
        P::NORMAL,
        P::CRITICAL,
        P::NORMAL,
        P::HIGH,
        P::NORMAL,
    ]
};

impl<const FOLDS: bool, const RANKED: bool> Ours<FOLDS, RANKED> {
    fn priority(number: u64) -> Priority {
        if RANKED {
            RANKS[place(number, RANKS.len())]
        } else {
            Priority::NORMAL
        }
    }
}

impl<const FOLDS: bool, const RANKED: bool> Rival for Ours<FOLDS, RANKED> {
    const NAME: &'static str = match (FOLDS, RANKED) {
        (false, true) => "snapcell in order",
        (false, false) => "snapcell in order, one priority",
        (true, true) => "snapcell fold",
        (true, false) => "snapcell fold, one priority",
    };
    type Ticket = Ticket<Snapshot<u64>, Infallible>;

    fn new(targets: usize) -> Self {
        let policy = if FOLDS { Policy::Fold } else { Policy::InOrder };
        Ours {
            engine: Engine::builder().workers(WORKERS).policy(policy).build(),
            entities: (0..targets).map(|_| Entity::new(0)).collect(),
        }
    }

    fn submit(&self, number: u64) -> Self::Ticket {
        let entity = &self.entities[place(number, self.entities.len())];
        let operation = Operation::update(entity, plus_one).priority(Self::priority(number));
        self.engine.submit(operation).expect("there is room for it")
    }

    fn submit_all(&self, numbers: Range<u64>, tickets: &mut VecDeque<Self::Ticket>) {
        let mut stage = self.engine.stage();
        tickets.extend(numbers.map(|number| {
            let entity = &self.entities[place(number, self.entities.len())];
            let operation = Operation::update(entity, plus_one).priority(Self::priority(number));
            stage.add(operation).expect("there is room for it")
        }));
        stage.resolve();
    }

    fn wait(ticket: Self::Ticket) -> u64 {
        *ticket.wait().expect("nothing stops it")
    }

    fn end(self) -> Result<Vec<u64>, String> {
        super::settled(&self.engine)?;
        Ok(self
            .entities
            .iter()
            .map(|entity| *entity.snapshot())
            .collect())
    }
}

/// The engine, and operations that it is told are short.
pub(super) struct Short<const FOLDS: bool>(Ours<FOLDS, true>);

impl<const FOLDS: bool> Short<FOLDS> {
    fn operation(
        &self,
        number: u64,
    ) -> Operation<impl Body<Output = Snapshot<u64>, Error = Infallible> + use<FOLDS>> {
        let entities = &self.0.entities;
        let operation = Operation::update(&entities[place(number, entities.len())], plus_one);
        operation
            .priority(Ours::<FOLDS, true>::priority(number))
            .short()
    }
}

impl<const FOLDS: bool> Rival for Short<FOLDS> {
    const NAME: &'static str = if FOLDS {
        "snapcell fold, short ones"
    } else {
        "snapcell in order, short ones"
    };
    type Ticket = Ticket<Snapshot<u64>, Infallible>;

    fn new(targets: usize) -> Self {
        Short(Ours::new(targets))
    }

    fn submit(&self, number: u64) -> Self::Ticket {
        let submitted = self.0.engine.submit(self.operation(number));
        submitted.expect("there is room for it")
    }

    fn submit_all(&self, numbers: Range<u64>, tickets: &mut VecDeque<Self::Ticket>) {
        let all = self
            .0
            .engine
            .submit_all(numbers.map(|number| self.operation(number)));
        tickets.extend(
            all.into_iter()
                .map(|ticket| ticket.expect("there is room for it")),
        );
    }

    fn wait(ticket: Self::Ticket) -> u64 {
        Ours::<FOLDS, true>::wait(ticket)
    }

    fn end(self) -> Result<Vec<u64>, String> {
        self.0.end()
    }
}

/// What an actor gets.
struct Change {
    change: fn(&u64) -> u64,
    answer: Arc<Slot>,
}

impl Change {
    fn new() -> (Self, Arc<Slot>) {
        let answer = Slot::new();
        let change = Change {
            change: plus_one,
            answer: answer.clone(),
        };
        (change, answer)
    }

    fn run(self, entity: &Entity<u64>) {
        let mut made = 0;
        _ = entity.update(|value| {
            made = (self.change)(value);
            made
        });
        self.answer.fill(made);
    }
}

/// A thread for each target, and how it is reached.
struct Threads<M> {
    doors: Vec<Sender<M>>,
    threads: Vec<JoinHandle<u64>>,
}

impl<M: Send + 'static> Threads<M> {
    fn new(targets: usize, live: fn(Receiver<M>, &Entity<u64>)) -> Self {
        let (mut doors, mut threads) = (Vec::new(), Vec::new());
        for _ in 0..targets {
            let (door, messages) = bounded(CAPACITY);
            doors.push(door);
            let thread = thread::Builder::new().spawn(move || {
                let entity = Entity::new(0);
                live(messages, &entity);
                *entity.snapshot()
            });
            threads.push(thread.expect("the system has a thread for it"));
        }
        Threads { doors, threads }
    }

    fn send(&self, number: usize, message: M) {
        let sent = self.doors[number].send(message);
        assert!(sent.is_ok(), "an actor lives as long as its door");
    }

    fn end(self) -> Vec<u64> {
        drop(self.doors);
        let ends = self.threads.into_iter().map(JoinHandle::join);
        ends.map(|end| end.expect("an actor doesn't panic"))
            .collect()
    }
}

/// Takes one operation after the other, or, if it `FOLDS`, as many as there are.
pub(super) struct Actor<const FOLDS: bool>(Threads<Change>);

fn take_turns(messages: Receiver<Change>, entity: &Entity<u64>) {
    for change in messages {
        change.run(entity);
    }
}

fn take_several(messages: Receiver<Change>, entity: &Entity<u64>) {
    let (mut changes, mut answers) = (Vec::with_capacity(FOLD), Vec::with_capacity(FOLD));
    while let Ok(first) = messages.recv() {
        changes.push(first);
        changes.extend(messages.try_iter().take(FOLD - 1));
        _ = entity.update(|value| {
            answers.clear();
            changes.iter().fold(*value, |value, change| {
                let value = (change.change)(&value);
                answers.push(value);
                value
            })
        });
        for (change, answer) in changes.drain(..).zip(&answers) {
            change.answer.fill(*answer);
        }
    }
}

impl<const FOLDS: bool> Rival for Actor<FOLDS> {
    const NAME: &'static str = if FOLDS { "actor, folds" } else { super::ACTOR };
    type Ticket = Arc<Slot>;

    fn new(targets: usize) -> Self {
        Actor(Threads::new(
            targets,
            if FOLDS { take_several } else { take_turns },
        ))
    }

    fn submit(&self, number: u64) -> Arc<Slot> {
        let (change, answer) = Change::new();
        self.0.send(place(number, self.0.doors.len()), change);
        answer
    }

    fn wait(ticket: Arc<Slot>) -> u64 {
        ticket.wait()
    }

    fn end(self) -> Result<Vec<u64>, String> {
        Ok(self.0.end())
    }
}

/// Takes several operations by one message.
pub(super) struct Batches(Threads<Vec<Change>>);

impl Rival for Batches {
    const NAME: &'static str = "actor, batches";
    type Ticket = Arc<Slot>;

    fn new(targets: usize) -> Self {
        Batches(Threads::new(targets, |messages, entity| {
            for change in messages.into_iter().flatten() {
                change.run(entity);
            }
        }))
    }

    fn submit(&self, number: u64) -> Arc<Slot> {
        let (change, answer) = Change::new();
        self.0.send(place(number, self.0.doors.len()), vec![change]);
        answer
    }

    fn submit_all(&self, numbers: Range<u64>, tickets: &mut VecDeque<Arc<Slot>>) {
        let targets = self.0.doors.len();
        let each = (numbers.end - numbers.start) as usize / targets + 1;
        let mut batches: Vec<_> = (0..targets).map(|_| Vec::with_capacity(each)).collect();
        for number in numbers {
            let (change, answer) = Change::new();
            batches[place(number, targets)].push(change);
            tickets.push_back(answer);
        }
        for (target, batch) in batches.into_iter().enumerate() {
            self.0.send(target, batch);
        }
    }

    fn wait(ticket: Arc<Slot>) -> u64 {
        ticket.wait()
    }

    fn end(self) -> Result<Vec<u64>, String> {
        Ok(self.0.end())
    }
}

/// Numbers, each behind a lock.
struct Locked(Vec<Arc<Mutex<u64>>>);

impl Locked {
    fn new(targets: usize) -> Self {
        Locked((0..targets).map(|_| Arc::default()).collect())
    }

    fn of(&self, number: u64) -> Arc<Mutex<u64>> {
        self.0[place(number, self.0.len())].clone()
    }

    fn count(number: &Mutex<u64>) -> u64 {
        let mut number = number.lock().unwrap_or_else(PoisonError::into_inner);
        *number = plus_one(&number);
        *number
    }

    fn end(&self) -> Vec<u64> {
        let numbers = self.0.iter().map(|number| number.lock());
        let numbers = numbers.map(|number| number.unwrap_or_else(PoisonError::into_inner));
        numbers.map(|number| *number).collect()
    }
}

/// Jobs of a pool of rayon's.
pub(super) struct Jobs {
    pool: ThreadPool,
    numbers: Locked,
}

impl Rival for Jobs {
    const NAME: &'static str = "rayon spawn + Mutex";
    type Ticket = Arc<Slot>;

    fn new(targets: usize) -> Self {
        let pool = ThreadPoolBuilder::new().num_threads(WORKERS).build();
        Jobs {
            pool: pool.expect("the system has threads for it"),
            numbers: Locked::new(targets),
        }
    }

    fn submit(&self, number: u64) -> Arc<Slot> {
        let answer = Slot::new();
        let (number, slot) = (self.numbers.of(number), answer.clone());
        self.pool.spawn(move || slot.fill(Locked::count(&number)));
        answer
    }

    fn wait(ticket: Arc<Slot>) -> u64 {
        ticket.wait()
    }

    fn end(self) -> Result<Vec<u64>, String> {
        Ok(self.numbers.end())
    }
}

/// Tasks of tokio's.
pub(super) struct Tasks {
    runtime: Runtime,
    numbers: Locked,
}

impl Rival for Tasks {
    const NAME: &'static str = "tokio spawn + Mutex";
    type Ticket = task::JoinHandle<u64>;

    fn new(targets: usize) -> Self {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .build();
        Tasks {
            runtime: runtime.expect("the system has threads for it"),
            numbers: Locked::new(targets),
        }
    }

    fn submit(&self, number: u64) -> task::JoinHandle<u64> {
        let number = self.numbers.of(number);
        self.runtime.spawn(async move { Locked::count(&number) })
    }

    fn wait(ticket: task::JoinHandle<u64>) -> u64 {
        let mut ticket = pin!(ticket);
        // Most are done when they are waited for, and need nobody to block.
        let done = match ticket
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(done) => done,
            Poll::Pending => pollster::block_on(ticket),
        };
        done.expect("a task doesn't panic")
    }

    fn end(self) -> Result<Vec<u64>, String> {
        Ok(self.numbers.end())
    }
}

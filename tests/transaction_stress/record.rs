//! Real threads change and look at several entities in every way that is one instant, and record what they saw.
//!
//! Each value is a number that nobody else writes. A transaction knows which versions it has read, and so which ones
//! it makes of these. What it folds it knows by the number that the fold was applied to last, and of what it writes
//! blindly the stamp is told by `Transacted`.
//!
//! Not among them are plain loads of one entity: readers of different entities may see independent commits in
//! opposite orders, as the documentation says.

use super::history::{History, Record, State, UNKNOWN};
use super::race::{BreakOnPanic, Gate, Timer};
use fastrand::Rng;
use snapcell::{
    Changes, Clock, Committed, Entity, Restart, Snapshot, Stop, Transaction, snapshot_of,
    transaction, transaction_or_abort, try_transaction,
};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::panic::resume_unwind;
use std::thread;
use std::time::Instant;

/// How histories are made.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) threads: usize,
    pub(crate) entities: usize,
    pub(crate) rounds: usize,
    /// Calls of each thread in a round.
    pub(crate) steps: RangeInclusive<usize>,
    /// Where a thread could give its slice of time away, it does once in so many times.
    pub(crate) yields: u32,
    pub(crate) flaw: Flaw,
}

/// What is wrong with the object, on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// What a transaction has written is committed one after the other.
    OneByOne,
    /// What a transaction reads is looked at before it, and not again.
    ReadBefore,
    /// A look at several entities is a look at each.
    LookOneByOne,
}

/// Makes a history of each round.
pub(crate) fn record(setup: &Setup, seed: u64) -> Vec<History> {
    #[allow(
        clippy::disallowed_methods,
        reason = "the order of calls in real time is what is recorded, and must not come from the crate"
    )]
    let origin = Instant::now();
    let worlds: Vec<World> = (0..setup.rounds)
        .map(|round| (0..setup.entities).map(|n| make(round + n)).collect())
        .collect();
    let mut timer = Timer::new(origin);
    let (born, all_born) = (timer.now(), timer.now());
    let mut histories: Vec<History> = worlds
        .iter()
        .map(|world| {
            let first = world.iter().map(|entity| seen(&entity.snapshot()));
            let birth = Record {
                thread: setup.threads,
                call: "new",
                called: born,
                returned: all_born,
                reads: BTreeMap::new(),
                writes: first.enumerate().collect(),
                attempts: 1,
            };
            History {
                records: vec![birth],
            }
        })
        .collect();
    let gate = Gate::default();
    thread::scope(|s| {
        let (gate, worlds) = (&gate, &worlds);
        let work = |id: usize| {
            move || {
                let _breaking = BreakOnPanic(gate);
                let round = |(round, world): (usize, &World)| {
                    let mut worker = Worker {
                        setup,
                        id,
                        world,
                        timer: Timer::new(origin),
                        rng: Rng::with_seed(seed ^ ((round as u64) << 8 | id as u64)).fork(),
                        made: (round as u64) << 32,
                        records: Vec::new(),
                    };
                    gate.pass(setup.threads * (round + 1));
                    worker.work();
                    worker.records
                };
                worlds.iter().enumerate().map(round).collect::<Vec<_>>()
            }
        };
        let threads: Vec<_> = (0..setup.threads).map(|id| s.spawn(work(id))).collect();
        for thread in threads {
            let rounds = thread.join().unwrap_or_else(|panic| resume_unwind(panic));
            for (history, records) in histories.iter_mut().zip(rounds) {
                history.records.extend(records);
            }
        }
    });
    for (history, world) in histories.iter_mut().zip(&worlds) {
        let called = timer.now();
        let last = snapshot_of(&world[..]);
        history.records.push(Record {
            thread: setup.threads,
            call: "last look",
            called,
            returned: timer.now(),
            reads: last.iter().map(seen).enumerate().collect(),
            writes: BTreeMap::new(),
            attempts: 1,
        });
    }
    histories
}

/// The entities of one history.
type World = Vec<Entity<u64>>;

/// Every third one counts commits instead of reading the time.
fn make(n: usize) -> Entity<u64> {
    match n % 3 {
        0 => Entity::builder(0).clock(Clock::logical()).build(),
        _ => Entity::new(0),
    }
}

fn seen(snapshot: &Snapshot<u64>) -> State {
    State {
        version: snapshot.stamp().version(),
        number: **snapshot,
    }
}

/// A thread in a round.
struct Worker<'e> {
    setup: &'e Setup,
    id: usize,
    world: &'e World,
    timer: Timer,
    rng: Rng,
    made: u64,
    records: Vec<Record>,
}

/// What a closure has seen and written, as far as it knows.
#[derive(Clone, Default)]
struct Sheet {
    reads: BTreeMap<usize, State>,
    writes: BTreeMap<usize, State>,
}

impl Sheet {
    /// Reads an entity, with its version.
    fn read<'e>(
        &mut self,
        tx: &Transaction<'e>,
        world: &'e World,
        at: usize,
        way: u8,
    ) -> Result<(), Restart> {
        // The stamp first, or last.
        let number = |tx: &Transaction<'e>| match way {
            0 | 1 => tx.get(&world[at]),
            _ => tx.read(&world[at]).copied(),
        };
        let state = if way.is_multiple_of(2) {
            let version = tx.require(&world[at])?.version();
            State {
                version,
                number: number(tx)?,
            }
        } else {
            let number = number(tx)?;
            let version = tx.require(&world[at])?.version();
            State { version, number }
        };
        self.reads.insert(at, state);
        Ok(())
    }

    fn write(&mut self, at: usize, number: u64) {
        let version = self.reads[&at].version + 1;
        self.writes.insert(at, State { version, number });
    }
}

impl<'e> Worker<'e> {
    fn work(&mut self) {
        let steps = self.rng.usize(self.setup.steps.clone());
        for _ in 0..steps {
            self.pause();
            match self.rng.u8(..14) {
                0..=3 => self.read_and_write(),
                4 => self.read_only(),
                5 => self.give_up(),
                6 => self.fold(),
                7 => self.change(),
                8 => self.replace_blindly(),
                9 | 10 => self.look(),
                11 => self.update(),
                12 => self.replace(),
                _ => self.alternative(),
            }
        }
    }

    fn pauses(&mut self) -> bool {
        self.rng.u32(..self.setup.yields) == 0
    }

    fn pause(&mut self) {
        if self.pauses() {
            thread::yield_now();
        }
    }

    fn new_number(&mut self) -> u64 {
        self.made += 1;
        (self.id as u64 + 1) << 56 | self.made
    }

    /// Some entities, each once, in any order.
    fn choose(&mut self) -> Vec<usize> {
        let mut all: Vec<usize> = (0..self.world.len()).collect();
        self.rng.shuffle(&mut all);
        all.truncate(self.rng.usize(1..=self.world.len()));
        all
    }

    fn note(&mut self, call: &'static str, called: u64, sheet: Sheet, attempts: u32) {
        let returned = self.timer.now();
        let Sheet { reads, writes } = sheet;
        self.records.push(Record {
            thread: self.id,
            call,
            called,
            returned,
            reads,
            writes,
            attempts,
        });
    }

    /// Reads some, and writes some of these.
    fn read_and_write(&mut self) {
        if self.setup.flaw == Flaw::OneByOne {
            return self.one_by_one();
        }
        if self.setup.flaw == Flaw::ReadBefore {
            return self.read_before();
        }
        let chosen = self.choose();
        let number = self.new_number();
        let plan: Vec<_> = chosen
            .iter()
            .map(|&at| (at, self.rng.u8(..4), self.rng.bool(), self.pauses()))
            .collect();
        let world = self.world;
        let called = self.timer.now();
        let (sheet, attempts) = transaction(|tx| {
            let mut sheet = Sheet::default();
            for &(at, way, writes, pauses) in &plan {
                sheet.read(tx, world, at, way)?;
                if pauses {
                    thread::yield_now();
                }
                if writes {
                    match way {
                        0 => tx.update(&world[at], |_| number)?,
                        1 => tx.write(world[at].clone(), number),
                        _ => tx.write(&world[at], number),
                    }
                    assert_eq!(tx.get(&world[at]), Ok(number), "an own write");
                    sheet.write(at, number);
                }
            }
            Ok((sheet, tx.attempt()))
        });
        self.note("transaction", called, sheet, attempts);
    }

    /// The flaw: each by itself.
    fn one_by_one(&mut self) {
        let (chosen, number) = (self.choose(), self.new_number());
        let called = self.timer.now();
        let mut sheet = Sheet::default();
        for &at in &chosen {
            let made = self.world[at].replace(number);
            let before = made.previous();
            sheet.reads.insert(at, seen(&before.snapshot()));
            sheet.write(at, number);
            drop(made);
            if self.rng.u32(..self.setup.yields) == 0 {
                thread::yield_now();
            }
        }
        self.note("one by one", called, sheet, 1);
    }

    /// The flaw: writes one entity by what was read of all others before.
    fn read_before(&mut self) {
        let (chosen, number) = (self.choose(), self.new_number());
        let world = self.world;
        let called = self.timer.now();
        let (&written, read) = chosen.split_first().expect("at least one is chosen");
        let others: Vec<_> = read
            .iter()
            .map(|&at| (at, seen(&world[at].snapshot())))
            .collect();
        self.pause();
        let (mut sheet, attempts) = transaction(|tx| {
            let mut sheet = Sheet::default();
            sheet.read(tx, world, written, 0)?;
            tx.write(&world[written], number);
            sheet.write(written, number);
            Ok((sheet, tx.attempt()))
        });
        sheet.reads.extend(others);
        self.note("read before", called, sheet, attempts);
    }

    fn read_only(&mut self) {
        let chosen: Vec<_> = self
            .choose()
            .into_iter()
            .map(|at| (at, self.rng.u8(..4)))
            .collect();
        let (world, pauses) = (self.world, self.pauses());
        let called = self.timer.now();
        let (sheet, attempts) = transaction(|tx| {
            let mut sheet = Sheet::default();
            for &(at, way) in &chosen {
                sheet.read(tx, world, at, way)?;
                if pauses {
                    thread::yield_now();
                }
            }
            Ok((sheet, tx.attempt()))
        });
        self.note("transaction that only reads", called, sheet, attempts);
    }

    /// What it was computed from was there at one moment.
    fn give_up(&mut self) {
        let chosen = self.choose();
        let (world, pauses) = (self.world, self.pauses());
        let called = self.timer.now();
        let result = transaction_or_abort(|tx| {
            let mut sheet = Sheet::default();
            for &at in &chosen {
                sheet.read(tx, world, at, 0)?;
                tx.write(&world[at], u64::MAX);
                if pauses {
                    thread::yield_now();
                }
            }
            Err::<(), _>(Stop::Abort((sheet, tx.attempt())))
        });
        let Err((sheet, attempts)) = result else {
            panic!("it always gives up")
        };
        self.note("transaction that gives up", called, sheet, attempts);
    }

    /// Reads one, writes another one, and folds a third one: what it was applied to is what was there.
    fn fold(&mut self) {
        let (chosen, number) = (self.choose(), self.new_number());
        let (folded, others) = chosen.split_first().expect("at least one is chosen");
        let (folded, world) = (*folded, self.world);
        let applied_to = Cell::new(0);
        let pauses = self.pauses();
        let called = self.timer.now();
        let (sheet, attempts) = transaction(|tx| {
            let mut sheet = Sheet::default();
            tx.fold(&world[folded], |before| {
                applied_to.set(*before);
                number
            });
            for &at in others {
                sheet.read(tx, world, at, 0)?;
                if pauses {
                    thread::yield_now();
                }
                tx.write(&world[at], number);
                sheet.write(at, number);
            }
            Ok((sheet, tx.attempt()))
        });
        // The version is found out when all is over: by who wrote that number.
        self.note("fold", called, sheet, attempts);
        let record = self.records.last_mut().expect("it was just noted");
        let unknown = |number| State {
            version: UNKNOWN,
            number,
        };
        record.reads.insert(folded, unknown(applied_to.get()));
        record.writes.insert(folded, unknown(number));
    }

    /// Changes that were computed from a look at several entities.
    fn change(&mut self) {
        let (chosen, number) = (self.choose(), self.new_number());
        let few: Vec<_> = chosen.iter().map(|&at| &self.world[at]).collect();
        let base = snapshot_of(&few[..]);
        let writes: Vec<bool> = chosen.iter().map(|_| self.rng.bool()).collect();
        self.pause();
        let mut sheet = Sheet::default();
        let mut changes = Changes::new();
        for ((&at, base), &writes) in chosen.iter().zip(base.iter()).zip(&writes) {
            let entity = &self.world[at];
            sheet.reads.insert(at, seen(base));
            if writes {
                changes = changes.write(entity, base.stamp(), number);
                sheet.write(at, number);
            } else {
                changes = changes.require(entity, base.stamp());
            }
        }
        let called = self.timer.now();
        match try_transaction(changes) {
            Ok(made) => {
                for (at, state) in &sheet.writes {
                    let version = made.stamp(&self.world[*at]).map(|stamp| stamp.version());
                    assert_eq!(version, Some(state.version));
                }
                self.note("try_transaction", called, sheet, made.attempts());
            }
            Err(refused) => {
                let about = chosen[refused.index()];
                assert!(refused.is_about(&self.world[about]));
                assert_ne!(refused.expected(), refused.found());
            }
        }
    }

    fn replace_blindly(&mut self) {
        let (chosen, number) = (self.choose(), self.new_number());
        let changes = chosen.iter().fold(Changes::new(), |changes, &at| {
            changes.replace(&self.world[at], number)
        });
        let called = self.timer.now();
        let made = try_transaction(changes).expect("nothing is expected");
        let returned = self.timer.now();
        let mut sheet = Sheet::default();
        for at in chosen {
            let stamp = made.stamp(&self.world[at]).expect("it was written");
            let version = stamp.version();
            sheet.writes.insert(at, State { version, number });
        }
        self.note("try_transaction, blindly", called, sheet, made.attempts());
        self.records.last_mut().expect("it was just noted").returned = returned;
    }

    fn look(&mut self) {
        let chosen = self.choose();
        let few: Vec<_> = chosen.iter().map(|&at| &self.world[at]).collect();
        let called = self.timer.now();
        if self.setup.flaw == Flaw::LookOneByOne {
            let mut sheet = Sheet::default();
            for (&at, entity) in chosen.iter().zip(&few) {
                sheet.reads.insert(at, seen(&entity.snapshot()));
                if self.rng.u32(..self.setup.yields) == 0 {
                    thread::yield_now();
                }
            }
            return self.note("one look each", called, sheet, 1);
        }
        let (moment, attempts) = if few.len() == 2 {
            let moment = snapshot_of((few[0], few[1]));
            let attempts = moment.attempts();
            let (first, second) = moment.into_inner();
            (vec![first, second], attempts)
        } else {
            let moment = snapshot_of(&few[..]);
            let attempts = moment.attempts();
            (moment.into_inner(), attempts)
        };
        let reads = chosen
            .iter()
            .copied()
            .zip(moment.iter().map(seen))
            .collect();
        let writes = BTreeMap::new();
        self.note("snapshot_of", called, Sheet { reads, writes }, attempts);
    }

    fn note_commit(
        &mut self,
        call: &'static str,
        at: usize,
        called: u64,
        made: &Committed<'_, u64>,
    ) {
        let mut sheet = Sheet::default();
        sheet.reads.insert(at, seen(&made.previous().snapshot()));
        sheet.write(at, *made.current());
        self.note(call, called, sheet, made.attempts());
    }

    fn update(&mut self) {
        let (at, number, pauses) = (
            self.rng.usize(..self.world.len()),
            self.new_number(),
            self.pauses(),
        );
        let entity = &self.world[at];
        let called = self.timer.now();
        let made = entity.update(|_| {
            if pauses {
                thread::yield_now();
            }
            number
        });
        self.note_commit("update", at, called, &made);
    }

    fn replace(&mut self) {
        let (at, number) = (self.rng.usize(..self.world.len()), self.new_number());
        let entity = &self.world[at];
        let called = self.timer.now();
        let made = entity.replace(number);
        self.note_commit("replace", at, called, &made);
    }

    /// What the first alternative has read counts, and not what it has written.
    fn alternative(&mut self) {
        let (first, second) = (self.choose(), self.choose());
        let (number, pauses, world) = (self.new_number(), self.pauses(), self.world);
        let called = self.timer.now();
        let (sheet, attempts) = transaction(|tx| {
            let sheet = RefCell::new(Sheet::default());
            tx.or_else(
                |tx| {
                    for &at in &first {
                        sheet.borrow_mut().read(tx, world, at, 0)?;
                        tx.write(&world[at], u64::MAX);
                    }
                    if pauses {
                        thread::yield_now();
                    }
                    tx.retry()
                },
                |tx| {
                    for &at in &second {
                        sheet.borrow_mut().read(tx, world, at, 1)?;
                        tx.write(&world[at], number);
                        sheet.borrow_mut().write(at, number);
                    }
                    Ok(())
                },
            )?;
            Ok((sheet.into_inner(), tx.attempt()))
        });
        self.note("or_else", called, sheet, attempts);
    }
}

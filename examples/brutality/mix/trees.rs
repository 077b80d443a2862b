//! The dynamic test: six kinds of operation on trees in a store. 30 % give all nodes of a tree a new version, 25 % modify
//! a leaf, 20 % have a leaf borrow from a source that all share, 15 % change two leaves and all above them, 5 % promote
//! a new entity, and 5 % take a node out of a tree and detach it.
//!
//! Each tree has a log, an entity whose lane the operations on the tree take their turns in; so its version tells how
//! many there were. A modification is one transaction of the leaf and the log. What is more than that, the forest does in a
//! commit of its own: an operation does it once, however often its closure runs, and tries again by itself where others
//! were faster, for each of which somebody has succeeded. Operations beside the lanes do the same without the log.

mod job;
mod judge;

use super::hot::{chance, stamp_of, way};
use super::{Mix, Outcome, class_of};
use crate::args::{Arguments, Policy};
use crate::books::{Answer, Books, Drawn, End, Entry, Meter, Way, Why};
use crate::door::Door;
use crate::laws::Law;
use crate::workload::{SplitMix64, Token};
use job::{Doc, Effect, Job, LEAVES, Plot, SECTIONS, Trouble, plant};
use snapcell::{
    Engine, Entity, EntityId, Forest, Merge, Operation, OperationError, Priority, Retain, Unknown,
};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

const KINDS: [&str; 6] = [
    "version", "modify", "borrow", "complex", "promote", "detach",
];
const SOURCES: usize = 5;

/// How many operations a tree has had in its lane.
#[derive(Clone)]
struct Log {
    entries: u64,
    _token: Token,
}

impl Log {
    fn of(entries: u64) -> Self {
        Log {
            entries,
            _token: Token::new(),
        }
    }
}

type Done = Arc<OnceLock<Result<Effect, Trouble>>>;

pub(crate) struct Trees {
    arguments: Arguments,
    forest: Forest<Doc>,
    plots: Vec<Plot>,
    logs: Vec<Entity<Log>>,
    sources: Vec<EntityId>,
    done: Mutex<Vec<(u32, Done)>>,
}

impl Trees {
    pub(crate) fn new(arguments: &Arguments) -> Self {
        let forest = Forest::builder().retain(Retain::All).forest();
        let plots = (0..arguments.targets()).map(|_| plant(&forest)).collect();
        let sources = (0..SOURCES).map(|number| {
            let doc = Doc {
                amount: number as u64,
                ..Doc::new(Vec::new())
            };
            let source = forest.insert(doc);
            forest.promote(&source).expect("it is new");
            source
        });
        Trees {
            arguments: arguments.clone(),
            plots,
            logs: (0..arguments.targets())
                .map(|_| Entity::new(Log::of(0)))
                .collect(),
            sources: sources.collect(),
            forest: forest.clone(),
            done: Mutex::default(),
        }
    }

    fn job(&self, drawn: &Drawn) -> Job {
        let mut random = SplitMix64::seeded(self.arguments.seed.rotate_left(32), drawn.id.into());
        let mut below = |bound: usize| random.below(bound as u64) as usize;
        let plot = &self.plots[drawn.target];
        let leaf = below(SECTIONS * LEAVES);
        let other = (leaf + 1 + below(SECTIONS * LEAVES - 1)) % (SECTIONS * LEAVES);
        Job {
            kind: drawn.kind,
            plot: plot.clone(),
            leaf: plot.leaves[leaf],
            other: plot.leaves[other],
            section: plot.sections[below(SECTIONS)],
            source: self.sources[below(SOURCES)],
            amount: 1 + below(100) as u64,
        }
    }

    /// Does a job once, whoever asks.
    fn doing(
        &self,
        drawn: &Drawn,
        meter: &Arc<Meter>,
    ) -> impl Fn() -> Result<(), Trouble> + Clone + Send + Sync + use<> {
        let done = Done::default();
        let mut all = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((drawn.id, done.clone()));
        let (job, forest) = (self.job(drawn), self.forest.clone());
        let (meter, work) = (meter.clone(), self.arguments.work);
        move || {
            meter.run(work, || {
                let effect = done.get_or_init(|| job.run(&forest));
                effect.as_ref().map(|_| ()).map_err(Trouble::clone)
            })
        }
    }

    /// A leaf and the log, in one transaction.
    fn submit_modification(&self, drawn: &Drawn, meter: &Arc<Meter>, door: &mut Door<'_>) {
        let (job, forest) = (self.job(drawn), self.forest.clone());
        let (noted, work) = (meter.clone(), self.arguments.work);
        let log = self.logs[drawn.target].clone();
        let modification = Operation::transaction((log,), move |tx, (log,)| {
            noted.run(work, || {
                let store = forest.within(tx);
                store.update(&job.leaf, |doc| doc.with_amount(doc.amount + job.amount))?;
                let entries = tx.read(log)?.entries + 1;
                tx.write(log, Log::of(entries));
                noted.changes(entries);
                Ok::<_, snapcell::Stop<Unknown>>(())
            })
        });
        door.submit(drawn, meter, modification, |()| None);
    }
}

impl Mix for Trees {
    fn kinds(&self) -> &'static [&'static str] {
        &KINDS
    }

    fn draw(&self, id: u32) -> Drawn {
        const CYCLE: [Priority; 4] = [
            Priority::LOW,
            Priority::NORMAL,
            Priority::HIGH,
            Priority::CRITICAL,
        ];
        let mut random = SplitMix64::seeded(self.arguments.seed, id.into());
        let kind = match random.below(100) {
            0..30 => 0,
            30..55 => 1,
            55..75 => 2,
            75..90 => 3,
            90..95 => 4,
            _ => 5,
        };
        let priority = CYCLE[id as usize % CYCLE.len()];
        // All of a batch are about one tree.
        let batch = id / self.arguments.batch();
        let mut of_batch = SplitMix64::seeded(self.arguments.seed ^ 1, batch.into());
        let is_beside = way(&self.arguments, &mut chance(&self.arguments, id)) != Way::InTurn;
        Drawn {
            id,
            kind,
            target: of_batch.below(self.plots.len() as u64) as usize,
            class: class_of(priority),
            priority,
            way: if is_beside { Way::Past } else { Way::InTurn },
            is_part: false,
        }
    }

    fn submit(&self, drawn: &Drawn, _: u32, meter: &Arc<Meter>, door: &mut Door<'_>) {
        if drawn.kind == 1 {
            return self.submit_modification(drawn, meter, door);
        }
        let (doing, log) = (self.doing(drawn, meter), &self.logs[drawn.target]);
        let noted = meter.clone();
        let entry = move |log: &Log| {
            doing()?;
            noted.changes(log.entries + 1);
            Ok::<_, Trouble>(Some(Log::of(log.entries + 1)))
        };
        if self.arguments.policy != Policy::Merge {
            let operation = Operation::try_update(log, entry);
            return door.submit(drawn, meter, operation, stamp_of);
        }
        let noted = meter.clone();
        let merge = move |logs: Merge<'_, Log>| {
            let more = logs.mine.entries - logs.base.entries;
            let next = noted.merge(|| Log::of(logs.theirs.entries + more));
            noted.changes(next.entries);
            Some(next)
        };
        door.submit(
            drawn,
            meter,
            Operation::merging(log, entry, merge),
            stamp_of,
        );
    }

    fn at_once(&self, drawn: &Drawn, _: u32, meter: &Arc<Meter>, _: &Engine) -> Answer {
        let done = self.doing(drawn, meter)();
        meter.changes(0);
        match done {
            Ok(()) => Answer::of(Ok::<_, OperationError<Infallible>>(()), meter, |()| None),
            Err(trouble) => Answer::of(
                Err::<(), _>(OperationError::Refused(trouble)),
                meter,
                |()| None,
            ),
        }
    }

    fn waiting(&self, engine: &Engine) -> usize {
        self.logs.iter().map(|log| engine.waiting(log)).sum()
    }

    fn judge(&self, books: &Books) -> Outcome {
        let entries: HashMap<u32, &Entry> = books
            .entries
            .iter()
            .map(|entry| (entry.drawn.id, entry))
            .collect();
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        // What is to be merged is computed before it is known whether it is still wanted, and there is time and room for it.
        let may_have = |end: End| {
            let is_late = matches!(
                end,
                End::Rejected(Why::Expired | Why::Evicted) | End::Cancelled
            );
            is_late && self.arguments.policy == Policy::Merge
        };
        let has_ended_well = |id: &u32| {
            entries
                .get(id)
                .is_some_and(|entry| entry.has_succeeded() || may_have(entry.end))
        };
        let mut all = Effect::default();
        let (mut in_vain, mut trouble) = (0, Vec::new());
        for (id, done) in done.iter() {
            match done.get() {
                Some(Ok(effect)) => {
                    in_vain += u64::from(!has_ended_well(id));
                    all.add(effect);
                }
                Some(Err(error)) => trouble.push(error.to_string()),
                None => {}
            }
        }
        // Those that are one transaction with the log leave no word but that they are committed.
        let modifications = entries.values().filter(|entry| {
            entry.drawn.kind == 1 && entry.drawn.way == Way::InTurn && entry.is_committed()
        });
        for entry in modifications {
            let leaf = self.job(&entry.drawn).leaf;
            all.versions.push(leaf);
            all.edits.push(leaf);
        }
        let mut laws = self.of_logs(books);
        laws.extend([
            Law::none("operations that had an effect and didn't succeed", in_vain),
            Law::none("operations that met what can't be", trouble.len() as u64),
        ]);
        laws.extend(self.of_forest(&all));
        Outcome {
            targets: self.rows(),
            laws,
            values: None,
            conflicts: all.conflicts,
            complaints: trouble.into_iter().take(5).collect(),
        }
    }
}

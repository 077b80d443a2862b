//! The dynamic test: six kinds of operation on trees in a store. 30 % give all nodes of a tree a new version, 25 % modify
//! a leaf, 20 % have a leaf borrow from a source that all share, 15 % change two leaves and all above them, 5 % promote
//! a new entity, and 5 % take a node out of a tree and detach it.
//!
//! Each tree has a log, an entity whose lane the operations on the tree take their turns in; so its version tells how
//! many there were. A modification is one transaction of the leaf and the log. What is more than that, the forest does in a
//! commit of its own: an operation does it once, however often its closure runs, and tries again by itself where others
//! were faster, for each of which somebody has succeeded. Operations beside the lanes do the same without the log.

use super::hot::{chance, stamp_of, way};
use super::{Mix, Outcome, class_of};
use crate::args::{Arguments, Policy};
use crate::books::{Answer, Books, Drawn, End, Entry, Meter, Way, Why};
use crate::door::Door;
use crate::laws::{self, Law};
use crate::workload::{SplitMix64, Token};
use snapcell::{
    Attribute, Attributes, Children, Edge, Engine, Entity, EntityId, Forest, Merge, Operation,
    OperationError, Priority, Retain, Source, Tree, Unknown, VersionError,
};
use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

const KINDS: [&str; 6] = [
    "version", "modify", "borrow", "complex", "promote", "detach",
];
const SECTIONS: usize = 3;
const LEAVES: usize = 2;
const SOURCES: usize = 5;
const ATTRIBUTE: &str = "amount";

/// A node.
#[derive(Clone, PartialEq)]
struct Doc {
    amount: u64,
    /// How often it was changed. Its version also counts when it got a new one for the sake of another node.
    edits: u64,
    children: Vec<EntityId>,
    token: Token,
}

impl Doc {
    fn new(children: Vec<EntityId>) -> Self {
        Doc {
            amount: 0,
            edits: 0,
            children,
            token: Token::new(),
        }
    }

    fn with_amount(&self, amount: u64) -> Self {
        Doc {
            amount,
            edits: self.edits + 1,
            ..self.clone()
        }
    }

    fn with_children(&self, children: Vec<EntityId>) -> Self {
        Doc {
            edits: self.edits + 1,
            children,
            ..self.clone()
        }
    }
}

impl Children for Doc {
    fn children(&self, each: &mut dyn FnMut(Edge, EntityId)) {
        for (index, id) in self.children.iter().enumerate() {
            each(Edge::list("children", index), *id);
        }
    }
}

impl Attributes for Doc {
    type Value = u64;

    fn attribute(&self, name: &str) -> Option<Attribute<u64>> {
        (name == ATTRIBUTE).then_some(Attribute::Scalar(self.amount))
    }

    fn with_attribute(&self, name: &str, value: Attribute<u64>) -> Option<Self> {
        match (name, value) {
            (ATTRIBUTE, Attribute::Scalar(amount)) => Some(self.with_amount(amount)),
            _ => None,
        }
    }
}

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

/// Something that can't be: a bug.
#[derive(Clone, Debug)]
struct Trouble(String);

impl Trouble {
    fn from(error: &dyn Error) -> Self {
        Trouble(error.to_string())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an operation has done to the forest.
#[derive(Clone, Debug, Default)]
struct Effect {
    /// Which entities have got a new version, once for each, and which were changed.
    versions: Vec<EntityId>,
    edits: Vec<EntityId>,
    /// Which have come into the world as roots, or have become such.
    roots: Vec<EntityId>,
    /// How often others were faster.
    conflicts: u64,
}

/// One tree: where its nodes are.
#[derive(Clone)]
struct Plot {
    root: EntityId,
    sections: [EntityId; SECTIONS],
    leaves: [EntityId; SECTIONS * LEAVES],
}

/// What an operation is to do, drawn by its number.
#[derive(Clone)]
struct Job {
    kind: usize,
    plot: Plot,
    leaf: EntityId,
    other: EntityId,
    section: EntityId,
    source: EntityId,
    amount: u64,
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

/// A root, sections below it, and leaves below those.
fn plant(forest: &Forest<Doc>) -> Plot {
    let leaves = std::array::from_fn(|_| forest.insert(Doc::new(Vec::new())));
    let sections = std::array::from_fn(|section| {
        let of_it = &leaves[section * LEAVES..(section + 1) * LEAVES];
        forest.insert(Doc::new(of_it.to_vec()))
    });
    let root = forest.insert(Doc::new(sections.to_vec()));
    forest.promote(&root).expect("it is nobody's child");
    Plot {
        root,
        sections,
        leaves,
    }
}

impl Job {
    fn run(&self, forest: &Forest<Doc>) -> Result<Effect, Trouble> {
        let mut effect = Effect::default();
        match self.kind {
            0 => self.version(forest, &mut effect),
            1 => self.modify(forest, &mut effect),
            2 => self.borrow(forest, &mut effect),
            3 => self.complex(forest, &mut effect),
            4 => promote(forest, &mut effect),
            _ => self.detach(forest, &mut effect),
        }?;
        Ok(effect)
    }

    /// All nodes get a new version.
    fn version(&self, forest: &Forest<Doc>, effect: &mut Effect) -> Result<(), Trouble> {
        loop {
            let tree = forest
                .tree(&self.plot.root)
                .map_err(|error| Trouble::from(&error))?;
            match forest.version_all(&tree) {
                Ok(_) => {
                    effect.versions.extend(tree.iter().map(|node| node.id));
                    return Ok(());
                }
                Err(error) => again(&error, effect)?,
            }
        }
    }

    /// The leaf alone.
    fn modify(&self, forest: &Forest<Doc>, effect: &mut Effect) -> Result<(), Trouble> {
        forest
            .update(&self.leaf, |doc| doc.with_amount(doc.amount + self.amount))
            .map_err(|error| Trouble::from(&error))?;
        effect.versions.push(self.leaf);
        effect.edits.push(self.leaf);
        Ok(())
    }

    fn borrow(&self, forest: &Forest<Doc>, effect: &mut Effect) -> Result<(), Trouble> {
        forest
            .borrow(&self.leaf, ATTRIBUTE, &self.source, ATTRIBUTE)
            .map_err(|error| Trouble::from(&error))?;
        effect.versions.push(self.leaf);
        effect.edits.push(self.leaf);
        Ok(())
    }

    /// Two leaves, and all above them.
    fn complex(&self, forest: &Forest<Doc>, effect: &mut Effect) -> Result<(), Trouble> {
        let leaves = [self.leaf, self.other];
        self.edit(forest, effect, |tree| {
            let mut edit = tree.edit();
            for leaf in leaves {
                let doc = tree.get(&leaf).expect("no operation takes a leaf away");
                edit.set(leaf, doc.with_amount(doc.amount + self.amount));
            }
            edit.finish()
        })?;
        effect.edits.extend(leaves);
        Ok(())
    }

    /// A twig is grown, cut off, and becomes a root.
    fn detach(&self, forest: &Forest<Doc>, effect: &mut Effect) -> Result<(), Trouble> {
        let (section, twig) = (self.section, EntityId::new());
        let children = |tree: &Tree<Doc>| {
            let section = tree
                .get(&section)
                .expect("no operation takes a section away");
            section.children.clone()
        };
        self.edit(forest, effect, |tree| {
            let mut edit = tree.edit();
            let (old, mut all) = (tree.get(&section).expect("it is there"), children(tree));
            all.push(twig);
            edit.set(twig, Doc::new(Vec::new()));
            edit.set(section, old.with_children(all));
            edit.finish()
        })?;
        // It is born at version 0, which is none that it gets.
        effect.versions.retain(|id| *id != twig);
        self.edit(forest, effect, |tree| {
            let mut edit = tree.edit();
            let (old, mut all) = (tree.get(&section).expect("it is there"), children(tree));
            all.retain(|id| *id != twig);
            edit.set(section, old.with_children(all));
            edit.finish()
        })?;
        forest
            .detach(&twig)
            .map_err(|error| Trouble::from(&error))?;
        effect.edits.extend([section, section]);
        effect.versions.push(twig);
        effect.roots.push(twig);
        Ok(())
    }

    /// Edits the tree until nobody is faster.
    fn edit(
        &self,
        forest: &Forest<Doc>,
        effect: &mut Effect,
        edit: impl Fn(&Tree<Doc>) -> Result<Tree<Doc>, snapcell::TreeError>,
    ) -> Result<(), Trouble> {
        loop {
            let tree = forest
                .tree(&self.plot.root)
                .map_err(|error| Trouble::from(&error))?;
            let edited = edit(&tree).map_err(|error| Trouble::from(&error))?;
            match forest.version(&edited) {
                Ok(versioned) if versioned.is_unchanged() => {
                    return Err(Trouble(
                        "an edit that changes something changed nothing".into(),
                    ));
                }
                Ok(_) => {
                    let diff = edited.diff(&tree);
                    effect.versions.extend(diff.modified());
                    return Ok(());
                }
                Err(error) => again(&error, effect)?,
            }
        }
    }
}

/// A new entity becomes a root.
fn promote(forest: &Forest<Doc>, effect: &mut Effect) -> Result<(), Trouble> {
    let id = forest.insert(Doc::new(Vec::new()));
    forest.promote(&id).map_err(|error| Trouble::from(&error))?;
    effect.roots.push(id);
    Ok(())
}

/// Counts a conflict, after which the operation is tried again; nothing else is expected.
fn again(error: &VersionError, effect: &mut Effect) -> Result<(), Trouble> {
    if !error.is_conflict() {
        return Err(Trouble::from(error));
    }
    effect.conflicts += 1;
    Ok(())
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

impl Effect {
    fn add(&mut self, other: &Effect) {
        self.versions.extend(&other.versions);
        self.edits.extend(&other.edits);
        self.roots.extend(&other.roots);
        self.conflicts += other.conflicts;
    }
}

impl Trees {
    /// Each operation that took its turn is one entry of its log.
    fn of_logs(&self, books: &Books) -> Vec<Law> {
        let logs: Vec<_> = self.logs.iter().map(Entity::snapshot).collect();
        let numbers = |target: usize| {
            let of_it = |entry: &&Entry| {
                entry.is_committed()
                    && entry.drawn.way == Way::InTurn
                    && entry.drawn.target == target
            };
            let entries = books.entries.iter().filter(of_it);
            let mut numbers: Vec<_> = entries.map(|entry| entry.modification).collect();
            numbers.sort_unstable();
            numbers
        };
        let all = logs.len() as u64;
        let indexed: Vec<_> = logs.iter().enumerate().collect();
        let mut laws = vec![
            Law::new(
                "sum of effects = commits, by the logs",
                books.count(|entry| entry.is_committed() && entry.drawn.way == Way::InTurn),
                logs.iter().map(|log| log.entries).sum(),
            ),
            Law::new(
                "logs whose entries are numbered 1, 2, 3 …",
                all,
                laws::count(&indexed, |(target, log)| {
                    numbers(*target).into_iter().eq(1..=log.entries)
                }),
            ),
        ];
        if self.arguments.policy != Policy::Fold {
            laws.push(Law::new(
                "logs whose version is the number of their entries",
                all,
                laws::count(&logs, |log| log.stamp().version() == log.entries),
            ));
        }
        laws
    }

    /// What is in the forest is what was done to it.
    fn of_forest(&self, all: &Effect) -> Vec<Law> {
        let forest = &self.forest;
        let mut counts: HashMap<EntityId, (u64, u64)> = HashMap::new();
        for id in &all.versions {
            counts.entry(*id).or_default().0 += 1;
        }
        for id in &all.edits {
            counts.entry(*id).or_default().1 += 1;
        }
        let docs: Vec<_> = forest.iter().collect();
        let counted = |id: EntityId| counts.get(&id).copied().unwrap_or_default();
        let many = docs.len() as u64;
        let has_line = |id: EntityId, last: u64| {
            let Ok(history) = forest.history(&id) else {
                return false;
            };
            history
                .map(|version| version.stamp().version())
                .eq(0..=last)
        };
        let is_sourced = |leaf: &EntityId| match forest.sources(leaf) {
            Ok(sources) => match sources.get(ATTRIBUTE) {
                Some(Source::Scalar(origin)) => self.sources.contains(&origin.id),
                Some(_) => false,
                None => true,
            },
            Err(_) => false,
        };
        let leaves: Vec<_> = self.plots.iter().flat_map(|plot| plot.leaves).collect();
        vec![
            Law::new(
                "sum of versions = new versions that operations gave",
                all.versions.len() as u64,
                docs.iter().map(|doc| doc.stamp().version()).sum(),
            ),
            Law::new(
                "entities whose version is the number of those that operations gave them",
                many,
                laws::count(&docs, |doc| doc.stamp().version() == counted(doc.id()).0),
            ),
            Law::new(
                "entities that were changed as often as operations did",
                many,
                laws::count(&docs, |doc| doc.edits == counted(doc.id()).1),
            ),
            Law::new(
                "entities whose history is versions 0, 1, 2 … to the last",
                many,
                laws::count(&docs, |doc| has_line(doc.id(), doc.stamp().version())),
            ),
            Law::new(
                "roots: the trees, the sources, what was promoted or detached",
                (self.plots.len() + SOURCES + all.roots.len()) as u64,
                forest.roots().len() as u64,
            ),
            Law::new(
                "entities: those of the trees, the sources, and what was born",
                (self.plots.len() * (1 + SECTIONS + SECTIONS * LEAVES) + SOURCES + all.roots.len())
                    as u64,
                many,
            ),
            Law::new(
                "leaves that borrowed from a source, or not at all",
                leaves.len() as u64,
                laws::count(&leaves, is_sourced),
            ),
            Law::new(
                "the forest says that everything fits together",
                1,
                u64::from(forest.validate().is_ok()),
            ),
        ]
    }

    fn rows(&self) -> Vec<super::Target> {
        let row = |(plot, log): (&Plot, &Entity<Log>)| {
            let nodes = self.forest.tree(&plot.root).map_or(0, |tree| tree.len());
            let root = self
                .forest
                .get(&plot.root)
                .map_or(0, |root| root.stamp().version());
            super::Target {
                version: log.snapshot().stamp().version(),
                state: format!("{nodes} nodes, the root at version {root}"),
            }
        };
        self.plots.iter().zip(&self.logs).map(row).collect()
    }
}

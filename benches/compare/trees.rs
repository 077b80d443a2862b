//! What trees cost: to build, to compare, to version.

use crate::results::{Answer, Better, Case, Metric};
use crate::runner::{self, Contender, Plan, now};
use crate::table;
use snapcell::{Children, Edge, EntityId, Forest, Tree, Versioned};
use std::cell::RefCell;
use std::hint::black_box;
use std::rc::Rc;
use std::time::Duration;

const TIME: &[Metric] = &[Metric {
    name: "time",
    unit: "µs",
    better: Better::Less,
}];

/// Children of a node.
const WIDTH: usize = 10;

/// Made to check a contender.
const CHECKED: usize = 101;

pub(crate) fn answer(plan: &Plan) -> Answer {
    let mut cases = Vec::new();
    // The last one takes long to build, so it has a size by the plan.
    for size in [1, 101, 10_000, plan.many] {
        // Where contenders are only checked, one size is as good as the other.
        if plan.repeats > 0 || size == CHECKED {
            cases.push(case(plan, size));
        }
    }
    cases.push(history(plan));
    Answer {
        question: "tree",
        title: "What do trees cost: to build, to compare, to version?",
        notes: &[
            "Each node has ten children, in a list, and a number. To build is to look at all nodes at one moment. To version is \
             to edit a tree, to compare it with what is in the store, and to commit the changed nodes and those above.",
            "With the feature `rayon`, for which `--features rayon` has to be given, there are two rows for a build: on all \
             processors, as it is then, and in a pool of one thread.",
            "A change is another number of a node at the bottom; of one in a hundred is one in a hundred nodes, spread.",
            "No other crate is compared with. What was to be faster, in another language, took 2.5 ms to build 101 nodes, and \
             0.76 ms for a version of one node with 20 versions behind it, 14.8 ms with 1 000.",
        ],
        cases,
    }
}

#[derive(Clone, PartialEq)]
struct Node {
    number: u64,
    kids: Vec<EntityId>,
}

impl Children for Node {
    fn children(&self, each: &mut dyn FnMut(Edge, EntityId)) {
        for (index, id) in self.kids.iter().enumerate() {
            each(Edge::list("kids", index), *id);
        }
    }
}

/// A tree in a store.
struct Wood {
    forest: Forest<Node>,
    /// The tree of the last version.
    tree: Tree<Node>,
    /// All nodes, the root first, a parent before its children.
    ids: Vec<EntityId>,
    /// Numbers that nobody has had.
    next: u64,
    #[cfg(feature = "rayon")]
    alone: rayon_core::ThreadPool,
}

type Result<T> = std::result::Result<T, String>;

fn said(error: impl ToString) -> String {
    error.to_string()
}

impl Wood {
    fn new(size: usize) -> Result<Self> {
        let forest = Forest::new();
        let ids: Vec<EntityId> = (1..=size as u128).map(EntityId::from_bits).collect();
        for (at, id) in ids.iter().enumerate().rev() {
            let first = (at * WIDTH + 1).min(size);
            let last = (at * WIDTH + WIDTH + 1).min(size);
            let kids = ids[first..last].to_vec();
            let node = Node { number: 0, kids };
            forest.insert_with(*id, node).map_err(said)?;
        }
        forest.promote(&ids[0]).map_err(said)?;
        let tree = forest.tree(&ids[0]).map_err(said)?;
        Ok(Wood {
            forest,
            tree,
            ids,
            next: 1,
            #[cfg(feature = "rayon")]
            alone: rayon_core::ThreadPoolBuilder::new()
                .num_threads(1)
                .build()
                .map_err(said)?,
        })
    }

    /// So many changes, spread, the last node among them.
    fn edit(&mut self, changes: usize) -> Result<Tree<Node>> {
        let mut edit = self.tree.edit();
        for change in 0..changes {
            let id = self.ids[self.ids.len() - 1 - change * self.ids.len() / changes];
            let mut node = self.tree.get(&id).ok_or("a node is gone")?.clone();
            node.number = self.next;
            edit.set(id, node);
        }
        self.next += 1;
        edit.finish().map_err(said)
    }

    fn version(&mut self, edited: &Tree<Node>) -> Result<()> {
        match self.forest.version(edited).map_err(said)? {
            Versioned::Committed(tree) => self.tree = tree,
            Versioned::Unchanged => return Err("nothing was committed".to_owned()),
        }
        Ok(())
    }

    fn build(&self) -> Result<()> {
        let tree = self.forest.tree(&self.ids[0]).map_err(said)?;
        is(tree.len(), self.ids.len())
    }

    /// What a row does once.
    fn step(&mut self, what: What) -> Result<()> {
        let changes = what.changes(self.ids.len());
        match what {
            What::Build => self.build(),
            #[cfg(feature = "rayon")]
            What::BuildAlone => self.alone.install(|| self.build()),
            What::Diff(_) => {
                let edited = self.edit(changes)?;
                let diff = black_box(edited.diff(&self.tree));
                is(diff.changed().len(), changes)
            }
            What::Version(_) => {
                let edited = self.edit(changes)?;
                self.version(&edited)
            }
        }
    }
}

fn is(found: usize, wanted: usize) -> Result<()> {
    match found == wanted {
        true => Ok(()),
        false => Err(format!("{found}, not {wanted}")),
    }
}

#[derive(Clone, Copy)]
enum What {
    Build,
    /// In a pool of one thread.
    #[cfg(feature = "rayon")]
    BuildAlone,
    Diff(Many),
    Version(Many),
}

#[derive(Clone, Copy)]
enum Many {
    One,
    Percent,
}

impl What {
    fn changes(self, size: usize) -> usize {
        match self {
            What::Build => 0,
            #[cfg(feature = "rayon")]
            What::BuildAlone => 0,
            What::Diff(Many::One) | What::Version(Many::One) => 1,
            What::Diff(Many::Percent) | What::Version(Many::Percent) => (size / 100).max(1),
        }
    }
}

const ROWS: &[(&str, What)] = &[
    ("snapcell, build", What::Build),
    #[cfg(feature = "rayon")]
    ("snapcell, build, one thread", What::BuildAlone),
    ("snapcell, edit and diff, 1 change", What::Diff(Many::One)),
    ("snapcell, edit and diff, 1 %", What::Diff(Many::Percent)),
    (
        "snapcell, edit and version, 1 change",
        What::Version(Many::One),
    ),
    (
        "snapcell, edit and version, 1 %",
        What::Version(Many::Percent),
    ),
];

fn case(plan: &Plan, size: usize) -> Case {
    let wood: Rc<RefCell<Option<Wood>>> = Rc::default();
    let contenders = ROWS.iter().map(|&(name, what)| {
        let wood = Rc::clone(&wood);
        Contender {
            name,
            check: Box::new(move || {
                let mut wood = Wood::new(CHECKED)?;
                wood.step(what)?;
                wood.forest.validate().map_err(said)
            }),
            measure: Box::new(move |slice| {
                let mut wood = wood.borrow_mut();
                if wood.is_none() {
                    *wood = Some(Wood::new(size)?);
                }
                let wood = wood.as_mut().expect("it was made just now");
                let each = timed(slice, || wood.step(what))?;
                Ok(vec![each])
            }),
        }
    });
    let plural = if size == 1 { "" } else { "s" };
    let name = format!("{} node{plural}", table::count(size as u64));
    runner::measure(plan, name, TIME, "", contenders.collect())
}

/// Microseconds of each call, of as many as fit into the slice, one at least.
fn timed(slice: Duration, mut step: impl FnMut() -> Result<()>) -> Result<f64> {
    let (start, mut calls) = (now(), 0);
    loop {
        step()?;
        calls += 1;
        let elapsed = start.elapsed();
        if elapsed >= slice {
            return Ok(elapsed.as_secs_f64() * 1e6 / f64::from(calls));
        }
    }
}

/// Versions of one change among 101 nodes: those about the twentieth, and those about the thousandth.
fn history(plan: &Plan) -> Case {
    let rows = [("snapcell, the 20th", 20), ("snapcell, the 1 000th", 1_000)];
    let contenders = rows.map(|(name, nth)| Contender {
        name,
        check: Box::new(|| Ok(())),
        measure: Box::new(move |_| {
            let mut times = Vec::new();
            for _ in 0..8 {
                let mut wood = Wood::new(CHECKED)?;
                for _ in 0..nth - 10 {
                    wood.step(What::Version(Many::One))?;
                }
                let start = now();
                for _ in 0..20 {
                    wood.step(What::Version(Many::One))?;
                }
                times.push(start.elapsed().as_secs_f64() * 1e6 / 20.0);
            }
            times.sort_by(f64::total_cmp);
            Ok(vec![times[times.len() / 2]])
        }),
    });
    let name = "101 nodes, versions of one change";
    runner::measure(plan, name, TIME, "snapcell, the 20th", contenders.into())
}

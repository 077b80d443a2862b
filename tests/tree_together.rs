//! Large trees out of a store, by several threads: the same as by one, whatever is wrong with them.
#![cfg(all(feature = "store", feature = "rayon"))]

use rayon_core::{ThreadPool, ThreadPoolBuilder};
use snapcell::{Children, Edge, EntityId, Forest, Repetition, Stamp, Tree, TreeError, transaction};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

/// What happens when a value is asked for its children.
#[derive(Default)]
struct Asked {
    /// Of the node with this number, when it is armed.
    panics_at: AtomicU64,
    is_armed: AtomicBool,
    by: Mutex<HashSet<ThreadId>>,
}

#[derive(Clone)]
struct Node {
    number: u64,
    data: u64,
    kids: Vec<EntityId>,
    asked: Arc<Asked>,
}

impl Children for Node {
    fn children(&self, each: &mut dyn FnMut(Edge, EntityId)) {
        for (index, id) in self.kids.iter().enumerate() {
            // Half of them are named when it panics.
            if self.asked.is_armed.load(Ordering::Relaxed) {
                let panics = self.asked.panics_at.load(Ordering::Relaxed) == self.number;
                assert!(!panics || index < self.kids.len() / 2, "at {}", self.number);
            }
            each(Edge::list("kids", index), *id);
        }
        if self.asked.is_armed.load(Ordering::Relaxed) {
            let panics = self.asked.panics_at.load(Ordering::Relaxed) == self.number;
            assert!(!panics, "at {}", self.number);
            if self.number.is_multiple_of(256) {
                self.asked.by.lock().unwrap().insert(thread::current().id());
            }
        }
    }
}

fn id(number: u64) -> EntityId {
    EntityId::from_bits(u128::from(number) + 1)
}

fn pool(threads: usize) -> ThreadPool {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build();
    pool.expect("threads can be started")
}

/// Entities with these children each, by number. The first is the root.
fn forest_of(kids: &[Vec<u64>]) -> (Forest<Node>, Arc<Asked>) {
    let forest = Forest::new();
    let asked = Arc::new(Asked::default());
    asked.panics_at.store(u64::MAX, Ordering::Relaxed);
    for (number, kids) in kids.iter().enumerate() {
        let number = number as u64;
        let node = Node {
            number,
            data: 1,
            kids: kids.iter().copied().map(id).collect(),
            asked: Arc::clone(&asked),
        };
        forest.insert_with(id(number), node).map_err(drop).unwrap();
    }
    (forest, asked)
}

/// Each node has so many children, but the last ones.
fn even(nodes: u64, width: u64) -> Vec<Vec<u64>> {
    let kids = |at: u64| (at * width + 1)..(at * width + width + 1).min(nodes);
    (0..nodes).map(|at| kids(at).collect()).collect()
}

type Row = (
    EntityId,
    Option<Edge>,
    usize,
    Option<Stamp>,
    Option<EntityId>,
);

fn rows(tree: &Tree<Node>) -> Vec<Row> {
    let nodes = tree.iter();
    let row = nodes.map(|node| {
        let parent = tree.parent(&node.id);
        (node.id, node.edge.cloned(), node.depth, node.stamp, parent)
    });
    row.collect()
}

/// A tree, what is wrong with it, or the panic.
fn outcome(
    forest: &Forest<Node>,
    pool: &ThreadPool,
) -> Result<Result<Vec<Row>, TreeError>, String> {
    let built = pool.install(|| catch_unwind(AssertUnwindSafe(|| forest.tree(&id(0)))));
    match built {
        Ok(built) => Ok(built.map(|tree| {
            let rows = rows(&tree);
            assert_eq!((tree.len(), tree.edges() + 1), (rows.len(), rows.len()));
            assert_eq!(rows.iter().map(|row| row.2).max(), Some(tree.depth()));
            rows
        })),
        Err(panic) => Err(*panic.downcast::<String>().expect("it has a text")),
    }
}

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % below
    }
}

#[test]
fn several_threads_find_what_one_finds() {
    let (one, many) = (pool(1), pool(4));
    let mut found = HashSet::new();
    for seed in 0..48 {
        let mut dice = Dice(seed);
        for _ in 0..8 {
            dice.roll(2);
        }
        let nodes = 16_000 + dice.roll(16_000);
        // Wide at once, slowly, or first a chain.
        let chain = [0, 0, 300][dice.roll(3) as usize];
        let width = [3, 40, 900, 30_000][dice.roll(4) as usize];
        let mut kids = vec![Vec::new(); nodes as usize];
        for node in 1..nodes {
            let parent = match node <= chain {
                true => node - 1,
                false => chain + (node - chain - 1) / width,
            };
            kids[parent as usize].push(node);
        }
        let is_panicking = dice.roll(4) == 0;
        for _ in 0..dice.roll(4) {
            let at = dice.roll(nodes) as usize;
            let named = match dice.roll(4) {
                0 => nodes + dice.roll(10),
                1 => at as u64,
                2 => kids[at].first().copied().unwrap_or(0),
                _ => dice.roll(nodes),
            };
            let place = dice.roll(kids[at].len() as u64 + 1) as usize;
            kids[at].insert(place, named);
        }
        let (forest, asked) = forest_of(&kids);
        if is_panicking {
            asked.panics_at.store(dice.roll(nodes), Ordering::Relaxed);
        }
        asked.is_armed.store(true, Ordering::Relaxed);
        let alone = outcome(&forest, &one);
        for _ in 0..3 {
            assert!(
                outcome(&forest, &many) == alone,
                "seed {seed}: {:?}",
                alone.map(|it| it.err())
            );
        }
        found.insert(match alone {
            Err(_) => "panic",
            Ok(Ok(_)) => "tree",
            Ok(Err(TreeError::Unknown { .. })) => "unknown",
            Ok(Err(TreeError::Repeated(repeated))) => match repeated.how {
                Repetition::Itself => "itself",
                Repetition::Cycle => "cycle",
                Repetition::Twice => "twice",
                Repetition::Diamond => "diamond",
            },
            Ok(Err(other)) => panic!("{other}"),
        });
    }
    assert_eq!(found.len(), 7, "all of it happened: {found:?}");
}

#[test]
fn threads_of_the_pool_take_part() {
    let (forest, asked) = forest_of(&even(60_000, 40));
    let many = pool(4);
    asked.is_armed.store(true, Ordering::Relaxed);
    let seen = || asked.by.lock().unwrap().len();
    for _ in 0..1_000 {
        // Whether or not the caller is one of them.
        many.install(|| forest.tree(&id(0))).unwrap();
        if seen() > 1 {
            break;
        }
    }
    assert!(seen() > 1, "nobody has helped, a thousand times");

    asked.by.lock().unwrap().clear();
    let one = pool(1);
    one.install(|| forest.tree(&id(0))).unwrap();
    assert_eq!(seen(), 1, "a pool of one is asked for nothing");
}

#[test]
fn a_panic_of_a_value_reaches_the_caller_and_changes_nothing() {
    let (forest, asked) = forest_of(&even(40_000, 30));
    let many = pool(4);
    let before = outcome(&forest, &many).unwrap().unwrap();
    for at in [0, 5, 1_000, 20_000, 39_999] {
        asked.panics_at.store(at, Ordering::Relaxed);
        asked.is_armed.store(true, Ordering::Relaxed);
        assert_eq!(outcome(&forest, &many).unwrap_err(), format!("at {at}"));
        asked.is_armed.store(false, Ordering::Relaxed);
        assert!(outcome(&forest, &many).unwrap().unwrap() == before);
    }
    forest.store().validate().unwrap();
}

#[test]
fn a_large_tree_is_of_one_moment_while_others_change_it() {
    // Two nodes exchange data, and one is a child of the first or of the last one of the root's children.
    const NODES: u64 = 20_001;
    const LAST: u64 = NODES - 1;
    /// As many changes come in the way of one look at the tree. Nothing makes whoever never pauses wait for a look at so
    /// many: where it has a processor for itself, all of them could come too late.
    const CHANGES: u64 = 500;
    let mut kids = vec![Vec::new(); NODES as usize];
    kids[0] = (1..LAST).collect();
    kids[1] = vec![LAST];
    let (forest, _) = forest_of(&kids);
    let many = pool(3);
    let is_over = AtomicBool::new(false);
    let (commits, trees) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut moments = HashSet::new();
    thread::scope(|s| {
        s.spawn(|| {
            let mut dice = Dice(1);
            while !is_over.load(Ordering::Relaxed) {
                if commits.load(Ordering::Relaxed) >= CHANGES * (1 + trees.load(Ordering::Relaxed))
                {
                    thread::yield_now();
                    continue;
                }
                let (from, to) = (1 + dice.roll(LAST - 1), 1 + dice.roll(LAST - 1));
                transaction(|tx| {
                    let forest = forest.within(tx);
                    let change = |at: u64, by: u64| {
                        let data = |node: &Node| Node {
                            data: node.data.wrapping_add(by),
                            ..node.clone()
                        };
                        forest
                            .update(&id(at), data)
                            .map_err(|_| tx.retry::<()>().unwrap_err())
                    };
                    change(from, u64::MAX)?;
                    change(to, 1)?;
                    let (old, new) = match forest.look(&id(1))?.expect("it stays").kids.is_empty() {
                        true => (LAST - 1, 1),
                        false => (1, LAST - 1),
                    };
                    for (at, kids) in [(old, vec![]), (new, vec![id(LAST)])] {
                        let node = |node: &Node| Node {
                            kids: kids.clone(),
                            ..node.clone()
                        };
                        forest
                            .update(&id(at), node)
                            .map_err(|_| tx.retry::<()>().unwrap_err())?;
                    }
                    Ok(())
                });
                commits.fetch_add(1, Ordering::Relaxed);
                // Others have to get somewhere, too, on few processors.
                thread::yield_now();
            }
        });
        let over = Over(&is_over);
        for _ in 0..2_000 {
            let tree = many.install(|| forest.tree(&id(0))).unwrap();
            trees.fetch_add(1, Ordering::Relaxed);
            assert_eq!(tree.len() as u64, NODES);
            let sum = tree
                .iter()
                .fold(0_u64, |sum, node| sum.wrapping_add(node.value.data));
            assert_eq!(sum, NODES);
            let parent = tree.parent(&id(LAST)).unwrap();
            moments.insert((parent, tree.stamp(&parent)));
            if moments.len() >= 20 {
                break;
            }
        }
        drop(over);
    });
    assert!(
        moments.len() >= 20,
        "hardly anything has changed: {}",
        moments.len()
    );
    assert!(commits.load(Ordering::Relaxed) > 0);
    forest.store().validate().unwrap();
}

/// Ends the others when it is dropped, by a panic as well.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_tree_is_built_within_closures_and_under_locks_on_threads_of_the_pool() {
    let mut kids = even(30_000, 100);
    // Two that are no part of the tree.
    kids.extend([vec![], vec![]]);
    let (forest, _) = forest_of(&kids);
    let (counter, other) = (id(30_000), id(30_001));
    let (many, lock) = (pool(3), Mutex::new(0));
    many.scope(|s| {
        for job in 0..48 {
            let (forest, lock) = (&forest, &lock);
            s.spawn(move |_| {
                let size = || forest.tree(&id(0)).unwrap().len() as u64;
                let add = |node: &Node| Node {
                    data: node.data + size() / 30_000,
                    ..node.clone()
                };
                // Were another job run in the midst of this one, it would commit to what this one computes,
                // or wait for the lock that this one has.
                match job % 3 {
                    0 => drop(forest.update(&counter, add).unwrap()),
                    1 => transaction(|tx| {
                        let forest = forest.within(tx);
                        let added = forest.update(&other, add);
                        added.map_err(|_| tx.retry::<()>().unwrap_err())
                    }),
                    _ => *lock.lock().unwrap() += size() / 30_000,
                }
            });
        }
    });
    assert_eq!(forest.get(&counter).unwrap().data, 17);
    assert_eq!(forest.get(&other).unwrap().data, 17);
    assert_eq!(*lock.lock().unwrap(), 16);
}

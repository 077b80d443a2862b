//! What a store gets done beside maps, by id.

mod bare;
mod lives;
mod maps;
mod moves;
mod weight;
mod work;

use crate::results::{Answer, Better, Metric};
use crate::runner::Plan;
use crate::table;
use bare::Bare;
use maps::{Dash, Foreign, Locked, Map, Papaya, Scc, Taken};
use snapcell::{EntityId, Store};
use std::cell::RefCell;
use std::rc::Rc;

pub(crate) use weight::child;

pub(crate) const QUESTION: &str = "store";

/// Who the others are compared with.
const REFERENCE: &str = "DashMap";

const OPERATIONS: &[Metric] = &[Metric {
    name: "operations",
    unit: "M/s",
    better: Better::More,
}];

/// What fits into a cache, and what doesn't. The last size is the plan's.
const SIZES: [usize; 3] = [64, 1_000, 100_000];
const THREADS: [usize; 3] = [1, 2, 4];

/// So many are made to check a contender.
const CHECKED: usize = 1_000;

pub(crate) fn answer(plan: &Plan) -> Answer {
    let mut cases = Vec::new();
    for size in SIZES.into_iter().chain([plan.many]) {
        // Where contenders are only checked, one size is as good as the other.
        if plan.repeats == 0 && size != CHECKED {
            continue;
        }
        let stocks = Stocks::new(size);
        for reads in [100, 90, 0] {
            cases.extend(THREADS.map(|threads| work::case(plan, &stocks, reads, threads)));
        }
        cases.extend(THREADS.map(|threads| lives::case(plan, &stocks, threads)));
        drop(stocks);
        let stocks = moves::Stocks::new(size);
        for change in [moves::Change::Count, moves::Change::Group] {
            cases.extend(THREADS.map(|threads| moves::case(plan, &stocks, change, threads)));
        }
    }
    cases.extend(weight::case(plan));
    Answer {
        question: QUESTION,
        title: "What does a store get done beside maps, by id?",
        notes: &[
            "All have ids as keys, a u64 for each. A store makes its ids, of version 7, which say where in it an entity lies. The others, and the \
             store of the row that says so, are given ids of 128 random bits, and hash them with foldhash. All begin empty and grow.",
            "An operation takes an id, and reads its u64 or makes it v + 1. The ids are drawn beforehand, all equally likely.",
            "papaya's own update copies the value into a new entry. Its pin serves 64 operations; a store pins for each.",
            "The limit is what snapshots alone take: a word for each counter, at its number, leads to 32 bytes with a stamp, a count and the \
             value. An operation pins; an update makes a new one, exchanges the word, and uses the old one again after a grace.",
            "What is inserted has an id that was never there, and is removed a thousand insertions later; the number of all stays \
             what it is but for these. Each is timed in bursts of 64, and is a rate of all threads together.",
            "By group: the group that a counter is in is in the high bits of its value, and there is an index by it, of 64 counters for each group. \
             In two DashMaps nobody can look at one instant.",
            "Memory is what so many add to the resident memory of a process, divided by their number.",
        ],
        cases,
    }
}

/// How a case is called.
fn name(size: usize, what: &str, threads: usize) -> String {
    let size = table::count(size as u64);
    let plural = if threads == 1 { "" } else { "s" };
    format!("{size} entities, {what}, {threads} thread{plural}")
}

/// So many ids, which are the same each time.
fn ids(size: usize) -> impl Iterator<Item = EntityId> {
    let mut random = fastrand::Rng::with_seed(1);
    (0..size).map(move |_| fresh(&mut random))
}

/// An id that was never there, as good as certainly.
fn fresh(random: &mut fastrand::Rng) -> EntityId {
    EntityId::from_bits(random.u128(..))
}

/// A map that the cases of one size share, with its books.
struct Stock<M>(Rc<RefCell<Option<Books<M>>>>);

struct Books<M> {
    map: M,
    ids: Vec<EntityId>,
    updates: u64,
}

impl<M> Clone for Stock<M> {
    fn clone(&self) -> Self {
        Stock(Rc::clone(&self.0))
    }
}

impl<M> Default for Stock<M> {
    fn default() -> Self {
        Stock(Rc::default())
    }
}

impl<M: Map> Books<M> {
    fn new(size: usize) -> Self {
        let mut ids = Vec::with_capacity(size);
        Books {
            map: fill(size, |id| ids.push(id)),
            ids,
            updates: 0,
        }
    }

    /// Whether there are so many, and each update was counted.
    fn add_up(&self) -> Result<(), String> {
        let burst = self.map.burst();
        let read = |id: &EntityId| M::read(&burst, *id).ok_or_else(|| format!("{id} is not there"));
        let total: u64 = self.ids.iter().map(read).sum::<Result<u64, _>>()?;
        let updates = self.updates;
        if total != updates {
            return Err(format!("{updates} updates left counts of {total}"));
        }
        Ok(())
    }
}

/// A map of so many, whose ids are told.
fn fill<M: Map>(size: usize, mut tell: impl FnMut(EntityId)) -> M {
    let map = M::default();
    for id in ids(size) {
        tell(M::begin(&map.burst(), id).expect("the ids differ"));
    }
    map
}

/// The maps of one size, filled by whoever is first.
struct Stocks {
    size: usize,
    store: Stock<Store<u64>>,
    foreign: Stock<Foreign>,
    taken: Stock<Taken>,
    dash: Stock<Dash>,
    scc: Stock<Scc>,
    papaya: Stock<Papaya>,
    locked: Stock<Locked>,
    bare: Stock<Bare>,
}

impl Stocks {
    fn new(size: usize) -> Self {
        Stocks {
            size,
            store: Stock::default(),
            foreign: Stock::default(),
            taken: Stock::default(),
            dash: Stock::default(),
            scc: Stock::default(),
            papaya: Stock::default(),
            locked: Stock::default(),
            bare: Stock::default(),
        }
    }
}

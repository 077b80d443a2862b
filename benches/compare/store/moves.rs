//! Updates beside an index: of what it doesn't look at, and of the key.

use super::maps::{GROUP, Grouped, Indexed, Together, Twice, Unindexed};
use super::{Books, CHECKED, OPERATIONS, Stock, ids, name};
use crate::results::Case;
use crate::runner::{self, Contender, Gate, Plan, together};
use crate::stores::BURST;
use snapcell::EntityId;
use std::rc::Rc;
use std::time::Duration;

/// Who the others are compared with: what an index costs is what is asked.
const REFERENCE: &str = Unindexed::NAME;

/// Counters in a group, and the least number of groups.
const IN_GROUP: usize = 64;
const GROUPS: usize = 8;

/// The maps of one size, filled by whoever is first.
pub(super) struct Stocks {
    size: usize,
    indexed: Stock<Indexed>,
    unindexed: Stock<Unindexed>,
    twice: Stock<Twice>,
    together: Stock<Together>,
}

impl Stocks {
    pub(super) fn new(size: usize) -> Self {
        Stocks {
            size,
            indexed: Stock::default(),
            unindexed: Stock::default(),
            twice: Stock::default(),
            together: Stock::default(),
        }
    }
}

/// What an update changes.
#[derive(Clone, Copy)]
pub(super) enum Change {
    /// The count: the key stays.
    Count,
    /// The group as well: the key changes.
    Group,
}

pub(super) fn case(plan: &Plan, stocks: &Stocks, change: Change, threads: usize) -> Case {
    let what = match change {
        Change::Count => "by group, which stays",
        Change::Group => "by group, which changes",
    };
    let setting = Rc::new(Setting {
        size: stocks.size,
        change,
        drawn: (0..threads).map(|seed| draw(stocks.size, seed)).collect(),
    });
    let contenders = vec![
        contender(&stocks.indexed, &setting),
        contender(&stocks.unindexed, &setting),
        contender(&stocks.twice, &setting),
        contender(&stocks.together, &setting),
    ];
    let name = name(stocks.size, what, threads);
    runner::measure(plan, name, OPERATIONS, REFERENCE, contenders)
}

/// What is to be done.
struct Setting {
    size: usize,
    change: Change,
    /// Who is updated, by number, for each thread.
    drawn: Vec<Vec<u32>>,
}

fn draw(size: usize, seed: usize) -> Vec<u32> {
    const NUMBER: usize = 1 << 16;
    let mut random = fastrand::Rng::with_seed(seed as u64 + 2);
    (0..NUMBER).map(|_| random.u32(..size as u32)).collect()
}

fn groups(size: usize) -> u64 {
    (size / IN_GROUP).max(GROUPS) as u64
}

fn contender<M: Grouped>(stock: &Stock<M>, setting: &Rc<Setting>) -> Contender {
    let (checked, measured) = (Rc::clone(setting), Rc::clone(setting));
    let stock = stock.clone();
    Contender {
        name: M::NAME,
        check: Box::new(move || {
            let size = checked.size.min(CHECKED);
            let drawn = (0..checked.drawn.len()).map(|seed| draw(size, seed));
            let setting = Setting {
                size,
                change: checked.change,
                drawn: drawn.collect(),
            };
            let mut books = new::<M>(size);
            books.updates = run(&books, &setting, Duration::ZERO)?.0;
            add_up(&books)?;
            is_found(&books)
        }),
        measure: Box::new(move |slice| {
            let mut stock = stock.0.borrow_mut();
            let books = stock.get_or_insert_with(|| new(measured.size));
            let (updates, elapsed) = run(books, &measured, slice)?;
            books.updates += updates;
            add_up(books)?;
            Ok(vec![updates as f64 * 1e3 / elapsed.as_nanos() as f64])
        }),
    }
}

fn new<M: Grouped>(size: usize) -> Books<M> {
    let map = M::new();
    let counters = ids(size).zip((0..groups(size)).cycle());
    let ids = counters.map(|(id, group)| map.begin(id, group)).collect();
    let updates = 0;
    Books { map, ids, updates }
}

/// Whether each update was counted.
fn add_up<M: Grouped>(books: &Books<M>) -> Result<(), String> {
    let count = |value: u64| value & ((1 << GROUP) - 1);
    let counts = books.ids.iter().map(|id| books.map.read(*id).map(count));
    let total = counts.sum::<Option<u64>>();
    match total {
        Some(total) if total == books.updates => Ok(()),
        _ => Err(format!("{} updates left {total:?}", books.updates)),
    }
}

/// Whether each is found in its group, and nothing else is.
fn is_found<M: Grouped>(books: &Books<M>) -> Result<(), String> {
    let (map, size) = (&books.map, books.ids.len());
    let mut numbers = vec![0; groups(size) as usize];
    for &id in &books.ids {
        let group = map.read(id).ok_or("an entity is gone")? >> GROUP;
        numbers[group as usize] += 1;
        if !map.find(group, id).1 {
            return Err(format!("{id} is not found in its group"));
        }
    }
    for (&id, (group, number)) in books.ids.iter().zip((0..).zip(numbers)) {
        let found = map.find(group, id).0;
        if found != number {
            return Err(format!("{found} are found in a group of {number}"));
        }
    }
    Ok(())
}

/// Has each thread update until the slice of time is over, and a burst in any case.
fn run<M: Grouped>(
    books: &Books<M>,
    setting: &Setting,
    slice: Duration,
) -> Result<(u64, Duration), String> {
    let id = |number: &u32| books.ids[*number as usize];
    let drawn = setting.drawn.iter();
    let drawn: Vec<Vec<_>> = drawn.map(|drawn| drawn.iter().map(id).collect()).collect();
    let workers = drawn
        .iter()
        .map(|drawn| move |gate: &Gate| go(&books.map, setting, drawn, gate));
    let (done, elapsed) = together(slice, workers.collect());
    let done = done.into_iter().sum::<Option<u64>>();
    Ok((done.ok_or("an entity was not there")?, elapsed))
}

/// How many updates were made, if each found its entity.
fn go<M: Grouped>(map: &M, setting: &Setting, drawn: &[EntityId], gate: &Gate) -> Option<u64> {
    let (change, groups) = (setting.change, groups(setting.size));
    let next = move |value: u64| match change {
        Change::Count => value + 1,
        Change::Group => {
            let group = ((value >> GROUP) + 1) % groups;
            group << GROUP | (value + 1) & ((1 << GROUP) - 1)
        }
    };
    let (mut done, mut is_right) = (0, true);
    gate.pass();
    for burst in drawn.chunks(BURST).cycle() {
        for id in burst {
            is_right &= map.update(*id, next);
        }
        done += burst.len() as u64;
        if !gate.is_open() {
            break;
        }
    }
    is_right.then_some(done)
}

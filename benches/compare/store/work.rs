//! Reads and updates by id.

use super::maps::Map;
use super::{Books, CHECKED, OPERATIONS, REFERENCE, Stock, Stocks, name};
use crate::results::Case;
use crate::runner::{self, Contender, Gate, Plan, together};
use crate::stores::BURST;
use snapcell::EntityId;
use std::hint::black_box;
use std::rc::Rc;
use std::time::Duration;

/// Operations of a thread, which it goes through again and again: enough to come by most entities.
const LEAST: usize = 1 << 14;
const MOST: usize = 1 << 20;

pub(super) fn case(plan: &Plan, stocks: &Stocks, reads: u8, threads: usize) -> Case {
    let what = match reads {
        0 => "updates".to_owned(),
        100 => "reads".to_owned(),
        _ => format!("{reads} % reads"),
    };
    let work = Rc::new(Work::new(stocks.size, reads, threads));
    let mut contenders = vec![
        contender(&stocks.store, &work),
        contender(&stocks.foreign, &work),
    ];
    if reads == 100 {
        contenders.push(contender(&stocks.taken, &work));
    }
    contenders.extend([
        contender(&stocks.dash, &work),
        contender(&stocks.scc, &work),
        contender(&stocks.papaya, &work),
        contender(&stocks.locked, &work),
        contender(&stocks.bare, &work),
    ]);
    let name = name(stocks.size, &what, threads);
    runner::measure(plan, name, OPERATIONS, REFERENCE, contenders)
}

/// What is done once, to an entity by its id, or in the plan by its number.
#[derive(Clone, Copy)]
struct Operation<I> {
    id: I,
    is_read: bool,
}

/// What each thread is to do.
pub(super) struct Work {
    size: usize,
    checked: Vec<Vec<Operation<u32>>>,
    measured: Vec<Vec<Operation<u32>>>,
}

/// The same, by id.
fn by_id(plan: &[Vec<Operation<u32>>], ids: &[EntityId]) -> Vec<Vec<Operation<EntityId>>> {
    let operation = |planned: &Operation<u32>| Operation {
        id: ids[planned.id as usize],
        is_read: planned.is_read,
    };
    plan.iter()
        .map(|plan| plan.iter().map(operation).collect())
        .collect()
}

impl Work {
    fn new(size: usize, reads: u8, threads: usize) -> Self {
        let draw = |size: usize| -> Vec<_> {
            let number = (2 * size).next_power_of_two().clamp(LEAST, MOST);
            let operations = |seed| -> Vec<_> {
                let mut random = fastrand::Rng::with_seed(seed as u64 + 2);
                let operation = |_| Operation {
                    id: random.u32(..size as u32),
                    is_read: random.u8(..100) < reads,
                };
                (0..number).map(operation).collect()
            };
            (0..threads).map(operations).collect()
        };
        Work {
            size,
            checked: draw(size.min(CHECKED)),
            measured: draw(size),
        }
    }
}

fn contender<M: Map>(stock: &Stock<M>, work: &Rc<Work>) -> Contender {
    let (checked, measured) = (Rc::clone(work), Rc::clone(work));
    let stock = stock.clone();
    Contender {
        name: M::NAME,
        check: Box::new(move || {
            let size = checked.size.min(CHECKED);
            let mut books = Books::<M>::new(size);
            let operations = by_id(&checked.checked, &books.ids);
            books.updates = run(&books.map, &operations, Duration::ZERO)?.0.updates;
            books.add_up()?;
            ends(&books)
        }),
        measure: Box::new(move |slice| {
            let mut stock = stock.0.borrow_mut();
            let books = stock.get_or_insert_with(|| Books::new(measured.size));
            let operations = by_id(&measured.measured, &books.ids);
            let (done, elapsed) = run(&books.map, &operations, slice)?;
            if done.updates > 0 {
                books.updates += done.updates;
                books.add_up()?;
            }
            Ok(vec![
                done.operations as f64 * 1e3 / elapsed.as_nanos() as f64,
            ])
        }),
    }
}

/// Checks that an id is taken once, and that what is removed is gone.
fn ends<M: Map>(books: &Books<M>) -> Result<(), String> {
    let burst = books.map.burst();
    for (at, id) in books.ids.iter().copied().enumerate() {
        let is_gone = at % 2 == 0 && M::remove(&burst, id);
        if M::read(&burst, id).is_some() == is_gone || M::update(&burst, id) == is_gone {
            return Err(format!("{id} is there, or is not"));
        }
        if is_gone != M::insert(&burst, id) && is_gone {
            return Err(format!("{id} can't come again"));
        }
    }
    Ok(())
}

/// What was done.
#[derive(Default)]
struct Done {
    operations: u64,
    updates: u64,
    is_wrong: bool,
}

/// Has each thread go through its operations until the slice of time is over, and a burst of them in any
/// case.
fn run<M: Map>(
    map: &M,
    operations: &[Vec<Operation<EntityId>>],
    slice: Duration,
) -> Result<(Done, Duration), String> {
    let workers = operations
        .iter()
        .map(|operations| move |gate: &Gate| go(map, operations, gate));
    let (done, elapsed) = together(slice, workers.collect());
    let sum = |sum: Done, done: Done| Done {
        operations: sum.operations + done.operations,
        updates: sum.updates + done.updates,
        is_wrong: sum.is_wrong | done.is_wrong,
    };
    let done = done.into_iter().fold(Done::default(), sum);
    match done.is_wrong {
        true => Err("an entity was not there".to_owned()),
        false => Ok((done, elapsed)),
    }
}

fn go<M: Map>(map: &M, operations: &[Operation<EntityId>], gate: &Gate) -> Done {
    let mut done = Done::default();
    gate.pass();
    for burst in operations.chunks(BURST).cycle() {
        let shared = map.burst();
        for operation in burst {
            if operation.is_read {
                let seen = black_box(M::read(&shared, operation.id));
                done.is_wrong |= seen.is_none();
            } else {
                done.is_wrong |= !M::update(&shared, operation.id);
                done.updates += 1;
            }
        }
        done.operations += burst.len() as u64;
        if !gate.is_open() {
            break;
        }
    }
    done
}

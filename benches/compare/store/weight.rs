//! How much memory an entity takes.

use super::maps::{Dash, Foreign, Grouped, Indexed, Locked, Map, Papaya, Scc};
use super::{Books, QUESTION, REFERENCE, fill, ids};
use crate::memory;
use crate::process;
use crate::results::Case;
use crate::runner::{self, Contender, Plan, Sample};
use crate::table;
use snapcell::{EntityId, Store};

/// Weighs so many.
type Weigh = fn(u64) -> Result<Sample, String>;

/// Who takes part.
const CONTENDERS: &[(&str, Weigh)] = &[
    ("snapcell Store", weigh::<Store<u64>>),
    ("snapcell Store, ids from elsewhere", weigh::<Foreign>),
    ("snapcell Store, one index", weigh_indexed),
    ("DashMap", weigh::<Dash>),
    ("scc HashMap", weigh::<Scc>),
    ("papaya", weigh::<Papaya>),
    ("std RwLock<HashMap>", weigh::<Locked>),
];

/// Made to check a contender.
const CHECKED: u64 = 10_000;

/// No case where this system doesn't tell.
pub(super) fn case(plan: &Plan) -> Option<Case> {
    if !process::can_measure() {
        return None;
    }
    let many = plan.many as u64;
    let contenders = CONTENDERS.iter().map(|&(name, _)| Contender {
        name,
        check: Box::new(|| process::measure(QUESTION, name, CHECKED).map(drop)),
        measure: Box::new(move |_| process::measure(QUESTION, name, many)),
    });
    let name = format!("{} entities, memory", table::count(many));
    let contenders = contenders.collect();
    Some(runner::measure(
        plan,
        name,
        memory::METRICS,
        REFERENCE,
        contenders,
    ))
}

/// Measures one of them.
pub(crate) fn child(contender: &str, many: u64) -> Result<Sample, String> {
    let found = CONTENDERS.iter().find(|(name, _)| *name == contender);
    let (_, weigh) = found.ok_or_else(|| format!("there is no {contender:?}"))?;
    weigh(many)
}

fn weigh<M: Map>(many: u64) -> Result<Sample, String> {
    let size = many as usize;
    // What the first one brings along for all.
    drop(Books::<M>::new(1));
    let mut ids = room(size);
    let mut places = ids.iter_mut();
    let tell = |id| *places.next().expect("there is room for each") = id;
    let (sample, map) = memory::grown(many, || fill::<M>(size, tell))?;
    let updates = 0;
    Books { map, ids, updates }.add_up()?;
    Ok(sample)
}

/// Room for ids, which is there before anything is weighed.
fn room(size: usize) -> Vec<EntityId> {
    ids(size).collect()
}

/// As many groups as elsewhere.
fn weigh_indexed(many: u64) -> Result<Sample, String> {
    let groups = many.div_ceil(64);
    let fill = |room: &mut [EntityId]| {
        let map = Indexed::new();
        let size = room.len();
        for ((id, at), place) in ids(size).zip(0..).zip(room) {
            *place = map.begin(id, at % groups);
        }
        map
    };
    drop(fill(&mut room(1)));
    let mut ids = room(many as usize);
    let (sample, map) = memory::grown(many, || fill(&mut ids))?;
    let is_right = |(id, at): (EntityId, u64)| map.find(at % groups, id).1;
    match ids.iter().copied().zip(0..many).all(is_right) {
        true => Ok(sample),
        false => Err("an entity is not in its group".to_owned()),
    }
}

//! Recorded histories of several entities, and two judges of them that know nothing of each other.
//!
//! A record says of one call which versions it has read and which it has made, all at one moment between its call
//! and its return. A history is *strictly serializable* if all its records can be put in one order in which each
//! reads what is there then, and in which none comes before one that had returned when it was called.
//!
//! # By a search
//! As Wing and Gong do: exact for every object, in exponential time where it must be.
//!
//! # By a graph
//! The versions of an entity are numbered by its commits, so which record made a version is known, and who comes
//! before whom:
//!
//! | edge | from | to |
//! |---|---|---|
//! | write to read | who made version v | who read v |
//! | write to write | who made v | who made v + 1 |
//! | read to write | who read v | who made v + 1 |
//! | real time | who had returned | who was called after that |
//!
//! *The history is strictly serializable exactly if this graph has no cycle, and each version that was read or made is
//! made once.* If there is an order, all edges go forward in it: a read of v stands after the write of v and before
//! that of v + 1. If there is no cycle, put the records in any order that the edges allow. Each entity's versions are
//! made in order there, each read of v stands between the write of v and the next one, so each reads what is there.
//!
//! Real time alone would be an edge for each pair. So there is a node for each moment at which something returned,
//! in a chain: a record leads to the moment of its return, and the last moment before a call leads to that record.
//!
//! # Time
//! As in `linearizability/history.rs`: `Instant`, which writes nothing that others see; equal times overlap.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Display};
use todc_utils::{Action, History as Actions, Specification, WGLChecker};

/// A state of an entity: its version, and the number that nobody else wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct State {
    pub(crate) version: u64,
    pub(crate) number: u64,
}

/// What one call says of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) thread: usize,
    pub(crate) call: &'static str,
    pub(crate) called: u64,
    pub(crate) returned: u64,
    /// What was current, by entity. What it has written and read is here as well.
    pub(crate) reads: BTreeMap<usize, State>,
    /// What is current from then on.
    pub(crate) writes: BTreeMap<usize, State>,
    /// Attempts, as far as the call tells.
    pub(crate) attempts: u32,
}

/// All calls. The first record makes version 0 of every entity.
#[derive(Clone)]
pub(crate) struct History {
    pub(crate) records: Vec<Record>,
}

/// Why a history is not strictly serializable.
#[derive(Debug)]
pub(crate) struct Violation {
    why: String,
    /// Who contradict each other.
    pub(crate) records: Vec<Record>,
}

/// The version of what is known by its number only, until it is looked up.
pub(crate) const UNKNOWN: u64 = u64::MAX;

impl History {
    /// Looks up the versions of what is known by number: a fold knows what it was applied to, and makes the next one.
    pub(crate) fn look_up(&mut self) -> Result<(), Violation> {
        let mut known: HashMap<(usize, u64), u64> = HashMap::new();
        for record in &self.records {
            for (&entity, made) in &record.writes {
                if made.version != UNKNOWN {
                    known.insert((entity, made.number), made.version);
                }
            }
        }
        let mut unknown: Vec<(usize, usize)> = Vec::new();
        for (at, record) in self.records.iter().enumerate() {
            let reads = record.reads.iter();
            unknown.extend(
                reads
                    .filter(|(_, seen)| seen.version == UNKNOWN)
                    .map(|(&entity, _)| (at, entity)),
            );
        }
        while !unknown.is_empty() {
            let before = unknown.len();
            unknown.retain(|&(at, entity)| {
                let record = &mut self.records[at];
                let seen = record.reads.get_mut(&entity).expect("it is there");
                let Some(&version) = known.get(&(entity, seen.number)) else {
                    return true;
                };
                seen.version = version;
                let made = record
                    .writes
                    .get_mut(&entity)
                    .expect("what is folded is made");
                made.version = version + 1;
                known.insert((entity, made.number), made.version);
                false
            });
            if unknown.len() == before {
                return Err(Violation {
                    why: String::from("it was applied to what nobody wrote"),
                    records: unknown
                        .iter()
                        .map(|&(at, _)| self.records[at].clone())
                        .collect(),
                });
            }
        }
        Ok(())
    }

    pub(crate) fn judge_by_graph(&self) -> Result<(), Violation> {
        let makers = self.makers()?;
        let graph = Graph::new(self, &makers)?;
        match graph.cycle() {
            None => Ok(()),
            Some(cycle) => Err(Violation {
                why: String::from("each comes before the next one, and the last before the first"),
                records: cycle.iter().map(|&at| self.records[at].clone()).collect(),
            }),
        }
    }

    /// Who made which version of which entity.
    fn makers(&self) -> Result<HashMap<(usize, u64), usize>, Violation> {
        let mut makers = HashMap::new();
        for (at, record) in self.records.iter().enumerate() {
            for (&entity, state) in &record.writes {
                if let Some(other) = makers.insert((entity, state.version), at) {
                    return Err(Violation {
                        why: format!("both made version {} of {entity}", state.version),
                        records: [other, at].map(|at| self.records[at].clone()).into(),
                    });
                }
            }
        }
        Ok(makers)
    }

    pub(crate) fn judge_by_search(&self) -> bool {
        let mut edges: Vec<(u64, Edge, usize)> = Vec::new();
        for (at, record) in self.records.iter().enumerate() {
            edges.push((record.called, Edge::Call, at));
            edges.push((record.returned, Edge::Return, at));
        }
        edges.sort_unstable();
        let action = |(_, edge, at): (u64, Edge, usize)| {
            // Each on a thread of its own: only times order them.
            let record = Some(self.records[at].clone());
            match edge {
                Edge::Call => (at, Action::Call(record)),
                Edge::Return => (at, Action::Response(record)),
            }
        };
        let actions = edges.into_iter().map(action).collect();
        WGLChecker::<Entities>::is_linearizable(Actions::from_actions(actions))
    }
}

/// At the same time all calls come before all returns, so that equal times overlap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Edge {
    Call,
    Return,
}

/// What one thread alone would see: the states of all entities.
struct Entities;

impl Specification for Entities {
    type State = BTreeMap<usize, State>;
    type Operation = Option<Record>;

    fn init() -> Self::State {
        BTreeMap::new()
    }

    fn apply(record: &Option<Record>, state: &Self::State) -> (bool, Self::State) {
        let record = record.as_ref().expect("each call is recorded");
        let reads = record
            .reads
            .iter()
            .all(|(entity, seen)| state.get(entity) == Some(seen));
        let follows = |(entity, made): (&usize, &State)| match state.get(entity) {
            None => made.version == 0,
            Some(before) => made.version == before.version + 1,
        };
        if !reads || !record.writes.iter().all(follows) {
            return (false, state.clone());
        }
        let mut next = state.clone();
        next.extend(&record.writes);
        (true, next)
    }
}

/// Records first, and then the moments of all returns, in order.
struct Graph {
    records: usize,
    edges: Vec<Vec<u32>>,
}

impl Graph {
    fn new(history: &History, makers: &HashMap<(usize, u64), usize>) -> Result<Self, Violation> {
        let records = &history.records;
        let mut returns: Vec<u64> = records.iter().map(|record| record.returned).collect();
        returns.sort_unstable();
        returns.dedup();
        let mut edges = vec![Vec::new(); records.len() + returns.len()];
        let mut edge = |from: usize, to: usize| {
            if from != to {
                edges[from].push(to as u32);
            }
        };
        for moment in 1..returns.len() {
            edge(records.len() + moment - 1, records.len() + moment);
        }
        for (at, record) in records.iter().enumerate() {
            let moment = returns.partition_point(|time| *time < record.returned);
            edge(at, records.len() + moment);
            // Only an earlier return counts as before the call.
            if let Some(before) = returns
                .partition_point(|time| *time < record.called)
                .checked_sub(1)
            {
                edge(records.len() + before, at);
            }
            for (&entity, seen) in &record.reads {
                let Some(&maker) = makers.get(&(entity, seen.version)) else {
                    return Err(Violation {
                        why: format!("nobody made what was read of {entity}"),
                        records: vec![record.clone()],
                    });
                };
                if records[maker].writes[&entity] != *seen {
                    return Err(Violation {
                        why: format!("another value of {entity} than the one that was written"),
                        records: [maker, at].map(|at| records[at].clone()).into(),
                    });
                }
                if maker == at {
                    return Err(Violation {
                        why: format!("it read of {entity} what it made itself"),
                        records: vec![record.clone()],
                    });
                }
                edge(maker, at);
                if let Some(&next) = makers.get(&(entity, seen.version + 1)) {
                    edge(at, next);
                }
            }
            for (&entity, made) in &record.writes {
                let Some(before) = made.version.checked_sub(1) else {
                    continue;
                };
                let Some(&maker) = makers.get(&(entity, before)) else {
                    return Err(Violation {
                        why: format!("a version of {entity} is left out before this"),
                        records: vec![record.clone()],
                    });
                };
                edge(maker, at);
            }
        }
        let records = records.len();
        Ok(Graph { records, edges })
    }

    /// The records of some cycle, in order. Depth first, without recursion.
    fn cycle(&self) -> Option<Vec<usize>> {
        #[derive(Clone, Copy, PartialEq)]
        enum Visit {
            Not,
            UnderWay,
            Over,
        }
        let mut visits = vec![Visit::Not; self.edges.len()];
        for start in 0..self.edges.len() {
            if visits[start] != Visit::Not {
                continue;
            }
            visits[start] = Visit::UnderWay;
            let mut path = vec![(start, 0)];
            while let Some((node, next)) = path.last_mut() {
                let node = *node;
                let Some(&to) = self.edges[node].get(*next) else {
                    visits[node] = Visit::Over;
                    path.pop();
                    continue;
                };
                *next += 1;
                let to = to as usize;
                match visits[to] {
                    Visit::Over => {}
                    Visit::Not => {
                        visits[to] = Visit::UnderWay;
                        path.push((to, 0));
                    }
                    Visit::UnderWay => {
                        let nodes = path.iter().map(|(node, _)| *node);
                        let cycle = nodes.skip_while(|node| *node != to);
                        return Some(cycle.filter(|node| *node < self.records).collect());
                    }
                }
            }
        }
        None
    }
}

impl Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:", self.why)?;
        let mut records = self.records.iter();
        records.try_for_each(|record| writeln!(f, "  {record}"))
    }
}

impl Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record {
            thread,
            call,
            called,
            returned,
            ..
        } = self;
        write!(f, "{called:>9} to {returned:>9}, thread {thread}: {call}:")?;
        for (entity, State { version, number }) in &self.reads {
            write!(f, " read {entity}@{version}={number:x}")?;
        }
        for (entity, State { version, number }) in &self.writes {
            write!(f, " made {entity}@{version}={number:x}")?;
        }
        Ok(())
    }
}

/// Every call, in order.
impl Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut records: Vec<_> = self.records.iter().collect();
        records.sort_by_key(|record| record.called);
        records
            .iter()
            .try_for_each(|record| writeln!(f, "{record}"))
    }
}

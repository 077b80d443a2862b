//! Ways to tamper with a history, for the judges to notice.
//!
//! Each takes a history that is strictly serializable, and changes it so that it certainly is not, or leaves it alone
//! where it has nothing to work on. Why it certainly is not stands with each.

use super::history::{History, Record, State};
use fastrand::Rng;
use std::collections::{BTreeMap, HashMap};

type Way = fn(&mut History, &mut Rng) -> Option<()>;

/// All ways to make a history wrong, by name.
pub(crate) const WAYS: &[(&str, Way)] = &[
    ("a read is stale", stale_read),
    ("a read sees what is written later", early_read),
    ("half of a transaction is seen", half_seen),
    ("a value is seen that nobody wrote", strange_value),
    ("two commits make the same version", made_twice),
    ("a commit is forgotten", forgotten),
    ("two transactions miss each other's writes", write_skew),
    (
        "two looks see two commits in opposite orders",
        opposite_looks,
    ),
];

fn any<T>(rng: &mut Rng, items: impl IntoIterator<Item = T>) -> Option<T> {
    let mut items: Vec<T> = items.into_iter().collect();
    (!items.is_empty()).then(|| items.swap_remove(rng.usize(..items.len())))
}

/// Which record made which version of which entity, and what it wrote.
struct Makers(HashMap<(usize, u64), (usize, State)>);

impl Makers {
    fn of(history: &History) -> Self {
        let all = history.records.iter().enumerate();
        let writes = all.flat_map(|(at, record)| {
            let writes = record.writes.iter();
            writes.map(move |(&entity, &made)| ((entity, made.version), (at, made)))
        });
        Makers(writes.collect())
    }

    fn get(&self, entity: usize, version: u64) -> Option<(usize, State)> {
        self.0.get(&(entity, version)).copied()
    }
}

/// Reads of records that write nothing of that entity: whatever they say of it, no version gets lost.
fn pure_reads(history: &History) -> Vec<(usize, usize, State)> {
    let all = history.records.iter().enumerate();
    all.flat_map(|(at, record)| {
        let reads = record.reads.iter();
        reads
            .filter(|(entity, _)| !record.writes.contains_key(entity))
            .map(move |(&entity, &state)| (at, entity, state))
    })
    .collect()
}

/// The version was replaced, by a call that had returned, before the read was called.
fn stale_read(history: &mut History, rng: &mut Rng) -> Option<()> {
    let makers = Makers::of(history);
    let mut choices = Vec::new();
    for (at, entity, state) in pure_reads(history) {
        for version in 0..state.version {
            let (next, _) = makers.get(entity, version + 1)?;
            if history.records[next].returned < history.records[at].called {
                choices.push((at, entity, makers.get(entity, version)?.1));
            }
        }
    }
    let (at, entity, state) = any(rng, choices)?;
    history.records[at].reads.insert(entity, state);
    Some(())
}

/// Whoever makes it is called after the read has returned.
fn early_read(history: &mut History, rng: &mut Rng) -> Option<()> {
    let mut choices = Vec::new();
    for (at, entity, _) in pure_reads(history) {
        for record in &history.records {
            if let Some(&made) = record.writes.get(&entity)
                && record.called > history.records[at].returned
            {
                choices.push((at, entity, made));
            }
        }
    }
    let (at, entity, state) = any(rng, choices)?;
    history.records[at].reads.insert(entity, state);
    Some(())
}

/// Of two entities that one call has made together, one is seen as it was made, the other as it was before.
fn half_seen(history: &mut History, rng: &mut Rng) -> Option<()> {
    let makers = Makers::of(history);
    let mut choices = Vec::new();
    for (at, entity, state) in pure_reads(history) {
        let Some((maker, _)) = makers.get(entity, state.version) else {
            continue;
        };
        if maker == at || state.version == 0 {
            continue;
        }
        let reader = &history.records[at];
        for (&other, made) in &history.records[maker].writes {
            if other != entity
                && reader.reads.contains_key(&other)
                && !reader.writes.contains_key(&other)
            {
                choices.push((at, other, makers.get(other, made.version - 1)?.1));
            }
        }
    }
    let (at, entity, state) = any(rng, choices)?;
    history.records[at].reads.insert(entity, state);
    Some(())
}

/// No call has written it.
fn strange_value(history: &mut History, rng: &mut Rng) -> Option<()> {
    let (at, entity, state) = any(rng, pure_reads(history))?;
    let number = state.number ^ 1 << 50;
    history.records[at]
        .reads
        .insert(entity, State { number, ..state });
    Some(())
}

/// Versions are made one after the other.
fn made_twice(history: &mut History, rng: &mut Rng) -> Option<()> {
    let all = history.records.iter().enumerate();
    let writes = all.flat_map(|(at, record)| {
        let writes = record.writes.iter().filter(|(_, made)| made.version > 1);
        writes.map(move |(&entity, &made)| (at, entity, made))
    });
    let (at, entity, made) = any(rng, writes.collect::<Vec<_>>())?;
    let version = made.version - 1;
    history.records[at]
        .writes
        .insert(entity, State { version, ..made });
    Some(())
}

/// The next version is made of it, or the last look sees it.
fn forgotten(history: &mut History, rng: &mut Rng) -> Option<()> {
    let all = history.records.iter().enumerate();
    let writers = all.filter(|(at, record)| *at > 0 && !record.writes.is_empty());
    let at = any(rng, writers.map(|(at, _)| at).collect::<Vec<_>>())?;
    history.records.remove(at);
    Some(())
}

/// Of two calls, each reads what the other one makes, as it was before: whichever comes first, the other one should
/// have seen what it made.
fn write_skew(history: &mut History, rng: &mut Rng) -> Option<()> {
    let mut choices = Vec::new();
    let records = &history.records;
    for (x, first) in records.iter().enumerate().skip(1) {
        for (y, second) in records.iter().enumerate().skip(x + 1) {
            let own = |mine: &Record, other: &Record| {
                let only = mine
                    .writes
                    .iter()
                    .find(|(e, _)| !other.writes.contains_key(e));
                only.map(|(&entity, made)| (entity, made.version - 1))
            };
            if let (Some(a), Some(b)) = (own(first, second), own(second, first)) {
                choices.push((x, b));
                choices.push((y, a));
            }
        }
    }
    if choices.is_empty() {
        return None;
    }
    let makers = Makers::of(history);
    // Both of a pair.
    let pair = rng.usize(..choices.len() / 2) * 2;
    for &(at, (entity, version)) in &choices[pair..pair + 2] {
        let state = makers.get(entity, version)?.1;
        history.records[at].reads.insert(entity, state);
    }
    Some(())
}

/// Two commits of different entities; two looks that each see one of them, and not the other.
fn opposite_looks(history: &mut History, rng: &mut Rng) -> Option<()> {
    let mut commits = Vec::new();
    for record in history.records.iter().skip(1) {
        let (&entity, made) = match record.writes.first_key_value() {
            Some(only) if record.writes.len() == 1 => only,
            _ => continue,
        };
        commits.push((entity, *made));
    }
    let (a, new_a) = any(rng, commits.iter().copied())?;
    let (b, new_b) = any(rng, commits.iter().copied().filter(|(b, _)| *b != a))?;
    let makers = Makers::of(history);
    let old_a = makers.get(a, new_a.version - 1)?.1;
    let old_b = makers.get(b, new_b.version - 1)?.1;
    let end = history.records.iter().map(|record| record.returned).max()?;
    for (number, reads) in [[(a, new_a), (b, old_b)], [(a, old_a), (b, new_b)]]
        .into_iter()
        .enumerate()
    {
        // During all that was called, so that no time contradicts either.
        history.records.push(Record {
            thread: 1_000 + number,
            call: "look",
            called: 0,
            returned: end,
            reads: BTreeMap::from(reads),
            writes: BTreeMap::new(),
            attempts: 1,
        });
    }
    Some(())
}

/// Changes something, for better or worse.
pub(crate) fn disturb(history: &mut History, rng: &mut Rng) {
    if rng.bool() {
        // Some other version of something that is read.
        let Some((at, entity, _)) = any(rng, pure_reads(history)) else {
            return;
        };
        let makers = history
            .records
            .iter()
            .filter_map(|record| record.writes.get(&entity));
        if let Some(state) = any(rng, makers.copied().collect::<Vec<_>>()) {
            history.records[at].reads.insert(entity, state);
        }
        return;
    }
    // Other times.
    let at = rng.usize(1..history.records.len());
    let end = history.records.iter().map(|record| record.returned).max();
    let record = &mut history.records[at];
    let end = end.unwrap_or(record.returned);
    let span = (record.returned - record.called) * 3;
    record.called = record.called.saturating_sub(rng.u64(0..=span)).max(3);
    record.returned = (record.called + rng.u64(1..=span.max(1)))
        .min(end)
        .max(record.called + 1);
}

//! What has happened in the histories: whoever was never overtaken has shown nothing.

use super::history::{Edge, History, Record};
use super::spec::Claim;
use std::collections::BTreeMap;
use std::fmt::{self, Display};

/// What must have happened, each at least once, for a test to count.
const REQUIRED: &[&str] = &[
    "calls that began while another was under way",
    "reads that saw a write that began after them",
    "reads that saw a state that was replaced before they ended",
    "exchanges that were lost and tried again",
    "read",
    "load",
    "snapshot",
    "get, the same state as before",
    "get, another state than before",
    "is_stale: yes",
    "is_stale: no",
    "has_conflict: yes",
    "has_conflict: no",
    "try_commit: published",
    "try_commit: overtaken",
    "try_commit_on: published",
    "try_commit_on: overtaken",
    "update: published",
    "update_with: published",
    "update_with: overtaken",
    "try_update: published",
    "try_update, unchanged",
    "replace: published",
    "commit_or_merge: published",
    "commit_or_merge, merged: published",
    "commit_or_merge, given up: overtaken",
    "waits that were ended by a write that began after them",
    "changed: overtaken",
    "changed, at once: overtaken",
    "changed, at once: no",
    "changed, polled: overtaken",
    "changed, polled: no",
    "wait_for: overtaken",
    "wait_for_map",
    "watch.get",
    "watch.has_changed: yes",
    "watch.has_changed: no",
    "watch.changed: overtaken",
];

/// How often each thing happened.
#[derive(Default)]
pub(crate) struct Coverage {
    histories: usize,
    counts: BTreeMap<String, u64>,
}

impl Coverage {
    fn count(&mut self, what: &str) {
        match self.counts.get_mut(what) {
            Some(count) => *count += 1,
            None => _ = self.counts.insert(what.to_owned(), 1),
        }
    }

    /// Counts what happened in a history that is known to be linearizable.
    pub(crate) fn add(&mut self, history: &History) {
        self.histories += 1;
        self.add_calls(history);
        self.add_overlaps(history);
    }

    fn add_calls(&mut self, history: &History) {
        let mut cached = BTreeMap::new();
        for Record {
            thread,
            call,
            claim,
            attempts,
            ..
        } in &history.records
        {
            let outcome = match claim {
                Claim::Is(state) if *call == "get" => {
                    match cached
                        .insert(*thread, *state)
                        .is_none_or(|last| last == *state)
                    {
                        true => ", the same state as before",
                        false => ", another state than before",
                    }
                }
                Claim::Born(_) | Claim::Is(_) | Claim::HasNumber(_) => "",
                Claim::Still(_) => ": no",
                Claim::Changed(_) => ": yes",
                Claim::Overtaken { .. } => ": overtaken",
                Claim::Replaced { .. } => ": published",
            };
            self.count(&format!("{call}{outcome}"));
            // A merge is the second attempt of its call, whether or not it lost an exchange before.
            if *attempts > 1 + u32::from(call.starts_with("commit_or_merge")) {
                self.count("exchanges that were lost and tried again");
            }
        }
    }

    fn add_overlaps(&mut self, history: &History) {
        let mut under_way = 0;
        for (_, edge, _) in history.edges() {
            match edge {
                Edge::Call => {
                    if under_way > 0 {
                        self.count("calls that began while another was under way");
                    }
                    under_way += 1;
                }
                Edge::Return => under_way -= 1,
            }
        }
        let write_of = |record: &Record| Some((record.claim.publishes()?.version(), *record));
        let writes: BTreeMap<_, _> = history.records.iter().filter_map(write_of).collect();
        for record in &history.records {
            let Some(state) = record.claim.reads() else {
                continue;
            };
            let write = |version| writes.get(&version);
            if write(state.version()).is_some_and(|write| write.called > record.called) {
                self.count(match record.call {
                    "changed" | "wait_for" | "watch.changed" => {
                        "waits that were ended by a write that began after them"
                    }
                    _ => "reads that saw a write that began after them",
                });
            }
            if write(state.version() + 1).is_some_and(|next| next.returned < record.returned) {
                self.count("reads that saw a state that was replaced before they ended");
            }
        }
    }

    /// What must have happened, and has not.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let is_missing = |what: &&&str| !self.counts.contains_key(**what);
        REQUIRED.iter().filter(is_missing).copied().collect()
    }
}

impl Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} histories", self.histories)?;
        let mut counts = self.counts.iter();
        counts.try_for_each(|(what, count)| writeln!(f, "{count:>9} {what}"))
    }
}

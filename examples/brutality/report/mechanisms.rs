//! What a run has brought about, and what follows from that and the laws: the verdict.

use super::{Attempts, Performance, text};
use crate::args::Arguments;
use crate::books::{End, Way, Why};
use crate::laws::Law;
use crate::run::Run;
use serde::Serialize;
use std::collections::BTreeSet;

/// Something that a run may or may not bring about. If it doesn't, the run says nothing about it.
#[derive(Debug, Serialize)]
pub(super) struct Mechanism {
    pub(super) name: &'static str,
    pub(super) fired: u64,
    pub(super) required: bool,
}

impl Mechanism {
    pub(super) fn is_missing(&self) -> bool {
        self.required && self.fired == 0
    }
}

pub(super) fn mechanisms(arguments: &Arguments, run: &Run, attempts: &Attempts) -> Vec<Mechanism> {
    let books = &run.books;
    let rejected = |why| books.count(|entry| entry.end == End::Rejected(why));
    let way = |way| books.count(|entry| entry.drawn.way == way);
    let fired = |name, fired| Mechanism {
        name,
        fired,
        required: false,
    };
    let values_of_losers = attempts.lost;
    vec![
        Mechanism {
            name: "conflict: an attempt lost, and was found out",
            fired: attempts.conflicts(),
            required: arguments.require_conflicts,
        },
        fired(
            "retry: an operation that lost succeeded later",
            books.count(|entry| entry.has_succeeded() && entry.lost() > 0),
        ),
        // Never required: that a budget suffices is the aim.
        fired("exhaustion: a budget was used up", rejected(Why::Exhausted)),
        fired(
            "round: an operation lost to one that is more important, or earlier",
            rejected(Why::Lost),
        ),
        fired(
            "fold: several operations were published by one commit",
            attempts.folds,
        ),
        fired("merge: two changes were made one", attempts.merges),
        fired(
            "patience: an operation waited too long",
            rejected(Why::Expired),
        ),
        fired(
            "eviction: an operation made room for one that is more important",
            rejected(Why::Evicted),
        ),
        fired(
            "cancellation: an operation was ended before it began, or between attempts",
            books.count(|entry| entry.end == End::Cancelled),
        ),
        fired(
            "overload: an operation was not taken",
            books.count(|entry| entry.end == End::NotTaken),
        ),
        fired(
            "inheritance: a part was as important as the whole",
            books.count(|entry| entry.effective > entry.drawn.priority),
        ),
        fired(
            "refusal: a closure refused",
            books.count(|entry| entry.end == End::Refused),
        ),
        fired("lanes: an operation took its turn", way(Way::InTurn)),
        fired("beside: an operation was run at once", way(Way::AtOnce)),
        fired(
            "outsiders: an operation went past the engine",
            books.count(|entry| !entry.drawn.way.is_counted()),
        ),
        fired(
            "reclamation during the run: a replaced value was freed",
            run.tokens.dropped.saturating_sub(values_of_losers),
        ),
    ]
}

/// What the laws say, and the exit code.
pub(super) fn verdict(
    laws: &[Law],
    mechanisms: &[Mechanism],
    performance: &Performance,
    attempts: &Attempts,
) -> (String, u8) {
    let broken: BTreeSet<&str> = laws
        .iter()
        .filter(|law| !law.holds)
        .map(|law| law.law)
        .collect();
    if !broken.is_empty() {
        let (some, all) = (broken.len(), laws.len());
        let list = Vec::from_iter(broken).join("; ");
        return (format!("{some} of {all} laws do NOT hold: {list}"), 1);
    }
    if mechanisms.iter().any(Mechanism::is_missing) {
        let text = "the laws hold, but conflicts were required and none occurred";
        return (text.into(), 2);
    }
    let all = laws.len();
    let rejected = match performance.rejected {
        0 => String::from("no operation was rejected"),
        many => {
            let why = performance.rejected_why.iter();
            let why: Vec<_> = why
                .map(|(why, many)| format!("{} {why}", text::grouped(*many)))
                .collect();
            format!(
                "{} of {} operations were rejected ({})",
                text::grouped(many),
                text::grouped(performance.submitted),
                why.join(", ")
            )
        }
    };
    let text = match attempts.conflicts() {
        0 => format!(
            "all {all} laws hold, but no attempt ever lost to another: this run says nothing about conflicts; {rejected}"
        ),
        many => format!(
            "all {all} laws hold, over {} conflicts; {rejected}",
            text::grouped(many)
        ),
    };
    (text, 0)
}

//! What a scheduler costs, and what it gets done beside actors, pools and tasks.

mod brutality;
mod layers;
mod rivals;
mod slot;
mod streams;
mod waits;

use crate::results::{Answer, Better, Metric};
use crate::runner::Plan;
use snapcell::{Counts, Engine, ShutDown};
use std::time::Duration;

/// Who the others are compared with.
const ACTOR: &str = "actor";

/// The threads of an engine, a pool or a runtime. An actor has one for each target.
const WORKERS: usize = 2;

const fn metric(name: &'static str, unit: &'static str, better: Better) -> Metric {
    Metric { name, unit, better }
}

pub(crate) fn answer(plan: &Plan) -> Answer {
    let mut cases = vec![layers::case(plan)];
    cases.extend(streams::cases(plan));
    cases.extend([brutality::case(plan), waits::case(plan)]);
    Answer {
        question: "scheduler",
        title: "What does a scheduler cost, and what does it get done beside actors, pools and tasks?",
        notes: &[
            "An operation makes v + 1 of a u64. Of ten, six are of priority 5, three of 8, and one of 10, where nothing else is said.",
            "Alone: one thread of the caller. Served here: the engine has no threads, so whoever waits serves. Elsewhere: it has two.",
            "A stream is submitted by one or two threads, each of which has up to 4 096 operations under way, learns of the end of each \
             by a ticket, and waits for the older half when there are so many. Engine, pool and runtime have two threads.",
            "Short ones are operations that say that they are short: whoever submits one does it, unless something waits for its target. In \
             batches, and where they are folded, 64 are submitted by one call.",
            "An actor is a thread for each target, with a bounded channel of crossbeam's of 4 096, which commits to an entity as the \
             engine does. It gets a function pointer, and a slot for the answer: a number, and who waits for it. It has no priorities.",
            "The pool is rayon's, with a std Mutex for each target, and such a slot. A task of tokio's locks such a Mutex, and its handle \
             is the ticket.",
            "In batches: 64 operations, spread over the targets. The engine gets ordinary ones by a stage, short ones by one call, the others one by one; `actor, batches` \
             gets one message for each target. `actor, folds` takes up to 256 from its channel and publishes them by one commit.",
            "Brutality is the workload of the example of this name: 1.6 KB in each of three targets, four kinds of operations, six in ten of \
             priority 5, three of 8, one of 10, nothing done but what they change. 512 are under way for each submitter. By updates it goes past the engine.",
            "Operations that wait do so for 5 ms, one after the other for each target: 600 a second can be done. What is prepared waits \
             beside others, 64 at once.",
        ],
        cases,
    }
}

/// The counts of an engine whose tickets were all waited for. It may still be about to count the last of them.
fn settled(engine: &Engine) -> Result<Counts, String> {
    let patience = Duration::from_secs(10);
    let settled = engine.shut_down(ShutDown::Finish, Some(patience));
    settled.map_err(|error| error.to_string())?;
    let counts = engine.counts();
    match counts.committed == counts.submitted {
        true => Ok(counts),
        false => Err(counts.to_string()),
    }
}

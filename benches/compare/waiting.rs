//! How soon somebody who waits runs, and what those who wait cost a writer.

mod crowd;
mod tasks;
mod threads;

use crate::results::{Answer, Better, Metric};
use crate::runner::{Plan, Sample};
use std::time::Duration;

const ONE_WAY: &[Metric] = &[Metric {
    name: "one way",
    unit: "ns",
    better: Better::Less,
}];

const COMMIT: &[Metric] = &[Metric {
    name: "commit",
    unit: "ns",
    better: Better::Less,
}];

/// There and back again so often, to check a contender.
const CHECKED: u64 = 1_000;

pub(crate) fn answer(plan: &Plan) -> Answer {
    let mut cases = vec![threads::case(plan), tasks::case(plan)];
    cases.extend(crowd::CROWDS.map(|crowd| crowd::case(plan, crowd)));
    Answer {
        question: "waiting",
        title: "How soon does a waiter run, and what does it cost the writer?",
        notes: &[
            "Ping-pong: each of two answers the other's change by one of its own. One way is half of there and back: \
             from the update to the waiter that runs.",
            "Blocked threads wake each other through the system; tasks stay within tokio's runtime of two threads.",
            "A commit before waiters wakes those that its library wakes at once. They look, don't find what they wait for, \
             and wait again before the next commit; that is not in the figure, two readings of the clock are.",
        ],
        cases,
    }
}

/// What a ping-pong that lasted so long gives, if both sides say the same.
fn one_way(elapsed: Duration, rounds: u64, seen: u64) -> Result<Sample, String> {
    if rounds != seen {
        return Err(format!("{rounds} were sent, and {seen} were seen"));
    }
    Ok(vec![elapsed.as_nanos() as f64 / (2 * rounds) as f64])
}

//! Who waits how long when there is more to do than can be done.

mod overload;
mod reserved;

use crate::results::{Answer, Better, Metric};
use crate::runner::{Plan, now};
use std::time::Duration;

const fn metric(name: &'static str, unit: &'static str, better: Better) -> Metric {
    Metric { name, unit, better }
}

pub(crate) fn answer(plan: &Plan) -> Answer {
    let mut cases = overload::cases(plan, 1);
    cases.extend(overload::cases(plan, 3));
    cases.push(reserved::case(plan));
    Answer {
        question: "fairness",
        title: "Who waits how long when there is more to do than can be done?",
        notes: &[
            "An operation works for 20 to 50 µs, 35 on average, and the engine has one thread: so its capacity is 28 571 operations a second, \
             however many targets there are.",
            "Operations come when they come, whether or not others are done: another thread submits them, at random moments. Those \
             of priority 10 are half of the capacity at each load; at a load of 0.5 there are no others. Of the others three in ten are of priority 8, six of 5, one of 2.",
            "The waits are those from being submitted to the beginning, of the operations that began. The longest is from being \
             submitted to the end, of all that were taken. Rejected are those that were refused, evicted, or expired, of all that came. All but those of \
             priority 10 expire after 100 ms.",
            "Long beside short: one thread runs operations of priority 10 that work for 20 µs, another short ones of priority 2, both \
             on one entity, by `Engine::run`.",
        ],
        cases,
    }
}

/// Keeps a processor busy for so long.
fn work(long: Duration) {
    let start = now();
    while start.elapsed() < long {
        std::hint::spin_loop();
    }
}

//! That loom sees anything at all.
//!
//! loom 0.7 remembers only the last access of a word when it looks for races. Here the writer's own
//! load hides the race of its compare-exchange with the reader's load, and without the gate beside
//! the head loom runs one interleaving and stops.

use crate::support::model;

model! {
    /// One thread loads and compare-exchanges, the other loads.
    /// Invariant: both orders are seen.
    load_against_exchange {
        bound: None,
        kills: [NoGate],
        outcomes: ["before", "after"],
    }
    |world| {
        let entity = world.entity(0);
        let writer = {
            let (entity, value) = (entity.clone(), world.value(1));
            crate::support::spawn(move || drop(entity.replace(value)))
        };
        let seen = entity.read(|value| value.number());
        writer.join().unwrap();
        String::from(if seen == 0 { "before" } else { "after" })
    }
}

//! Threads that end.

use crate::support::{model, on_a_thread_that_ends, spawn};

model! {
    /// A thread replaces a value and ends; a reader may still be looking at it, and then makes its
    /// ring an orphan by unpinning; a commit elsewhere adopts it.
    /// Invariant: the value ends after the reader's look, and does end.
    adopted_by_a_writer {
        bound: None,
        kills: [ExitForgetsRing],
        outcomes: ["0, kept", "0, ended", "1, kept", "1, ended"],
    }
    |world| {
        let entity = world.entity(0);
        let reader = {
            let entity = entity.clone();
            spawn(move || entity.read(|value| value.number()))
        };
        on_a_thread_that_ends({
            let (entity, value) = (entity.clone(), world.value(1));
            move || drop(entity.replace(value))
        });
        drop(world.entity(7).replace(world.value(8)));
        let ended = world.dropped() >= 2;
        let seen = reader.join().unwrap();
        format!("{seen}, {}", if ended { "ended" } else { "kept" })
    }
}

model! {
    /// Two threads commit and end at the same time.
    /// Invariant: what both have retired ends, once.
    two_threads_end {
        bound: Some(3),
        kills: [ExitForgetsRing, RetireTwice],
        outcomes: ["2"],
    }
    |world| {
        let entity = world.entity(0);
        let threads = [1, 2].map(|_| {
            let (entity, world) = (entity.clone(), world.clone());
            spawn(move || drop(entity.update(|value| world.value(value.number() + 1))))
        });
        for thread in threads {
            thread.join().unwrap();
        }
        entity.read(|value| value.number()).to_string()
    }
}

model! {
    /// A thread that has replaced two values ends, while another one looks at the gauges. Somebody is pinned,
    /// so nothing is freed meanwhile.
    /// Invariant: what is known to be retired is counted, with the thread or elsewhere.
    what_ends_is_counted {
        bound: None,
        kills: [HandOverUncounted],
        outcomes: ["once", "twice"],
    }
    |world| {
        let entity = world.entity(0);
        let guard = snapcell::pin();
        drop(entity.replace(world.value(1)));
        let looker = spawn(snapcell::reclamation_lag);
        on_a_thread_that_ends({
            let (entity, value) = (entity.clone(), world.value(2));
            move || drop(entity.replace(value))
        });
        let seen = looker.join().unwrap();
        drop(guard);
        let outcome = match (seen.nodes, seen.bytes) {
            (0, _) | (_, 0) => "missed",
            (1 | 2, _) => "once",
            (_, _) => "twice",
        };
        outcome.to_owned()
    }
}

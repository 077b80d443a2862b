//! What is retired, and when it is ripe.

use crate::support::{model, spawn};

model! {
    /// A reader looks under a guard that a beacon waits for, so that its unpinning marks the
    /// writer's ring, and the writer's next commits release what is marked.
    /// Invariant: the value ends after the reader's look.
    another_thread_marks {
        bound: None,
        kills: [FreeAtOnce, RecycleWithoutGrace, ReleaseHeadAtOnce],
        outcomes: ["0, kept", "0, ended", "1, kept", "1, ended"],
    }
    |world| {
        let entity = world.entity(0);
        let reader = {
            let entity = entity.clone();
            spawn(move || entity.read(|value| value.number()))
        };
        drop(entity.replace(world.value(1)));
        // A commit elsewhere, which only releases what is ripe.
        drop(world.entity(7).replace(world.value(8)));
        let ended = world.dropped() >= 2;
        let seen = reader.join().unwrap();
        format!("{seen}, {}", if ended { "ended" } else { "kept" })
    }
}

model! {
    /// A reader against a writer whose first beacon is long out of the way.
    /// Invariant: a beacon covers what was retired before it, and nothing after.
    a_beacon_covers_its_past {
        bound: None,
        kills: [RipeTooEarly],
        outcomes: ["1", "2"],
    }
    |world| {
        let entity = world.entity(0);
        drop(entity.replace(world.value(1)));
        let reader = {
            let entity = entity.clone();
            spawn(move || entity.read(|value| value.number()))
        };
        drop(entity.replace(world.value(2)));
        snapcell::reclaim();
        reader.join().unwrap().to_string()
    }
}

model! {
    /// A ring whose front is ripe and whose back is not, since a reader may look at it.
    /// Invariant: a release stops at the mark.
    a_release_stops_at_the_mark {
        bound: None,
        kills: [ReleasePastMark],
        outcomes: ["1", "2"],
    }
    |world| {
        let entity = world.entity(0);
        let first = entity.replace(world.value(1));
        let reader = {
            let entity = entity.clone();
            spawn(move || entity.read(|value| value.number()))
        };
        drop(entity.replace(world.value(2)));
        drop(first);
        snapcell::reclaim();
        reader.join().unwrap().to_string()
    }
}

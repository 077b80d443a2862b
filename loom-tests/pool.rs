//! Memory that comes back.

use crate::support::{model, spawn};

model! {
    /// One thread looks at a snapshot and lets it go. The other lets go too, and fills the memory
    /// with a value of its own if that was the last count.
    /// Invariant: the memory is filled again after the last look at what was in it.
    memory_crosses_threads {
        bound: None,
        kills: [],
        outcomes: ["0 9"],
    }
    |world| {
        let entity = world.entity(0);
        let mine = entity.snapshot();
        let theirs = mine.clone();
        drop(entity.replace(world.value(1)));
        snapcell::reclaim();
        let other = spawn(move || theirs.number());
        drop(mine);
        let again = world.entity(9);
        let seen = other.join().unwrap();
        format!("{seen} {}", again.read(|value| value.number()))
    }
}

model! {
    /// A reader under one guard against a writer whose second commit would like to fill the memory
    /// of the node that its first one replaced.
    /// Invariant: not before the guard is gone: stamp and value that are seen belong together.
    recycling_waits_for_guards {
        bound: None,
        kills: [RecycleWithoutGrace, ReadAfterUnpin],
        outcomes: ["0 0", "0 1", "0 2", "1 1", "1 2", "2 2"],
    }
    |world| {
        let entity = world.entity(0);
        let reader = {
            let entity = entity.clone();
            spawn(move || {
                let guard = snapcell::pin();
                [(); 2].map(|()| {
                    let loaded = entity.load(&guard);
                    assert_eq!(u64::from(loaded.number()), loaded.stamp().version());
                    loaded.number()
                })
            })
        };
        for number in 1..=2 {
            drop(entity.replace(world.value(number)));
        }
        let seen = reader.join().unwrap();
        format!("{} {}", seen[0], seen[1])
    }
}

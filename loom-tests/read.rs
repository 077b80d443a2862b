//! Readers under a guard against writers.

use crate::support::{model, spawn};

model! {
    /// Two reads, each with a pin of its own, against one commit.
    /// Invariant: stamp and value belong together, and time doesn't go backwards.
    two_pins {
        bound: None,
        kills: [FreeAtOnce, RecycleWithoutGrace, ReadAfterUnpin],
        outcomes: ["0 0", "0 1", "1 1"],
    }
    |world| {
        let entity = world.entity(0);
        let writer = {
            let (entity, first, second) = (entity.clone(), world.value(1), world.value(2));
            spawn(move || {
                drop(entity.replace(first));
                // A commit elsewhere releases what is ripe.
                drop(snapcell::Entity::new(second));
                snapcell::reclaim();
            })
        };
        let seen = [(); 2].map(|()| entity.read(|value| value.number()));
        writer.join().unwrap();
        format!("{} {}", seen[0], seen[1])
    }
}

model! {
    /// Two loads under one guard, which may have been pinned before the commit: nothing but the
    /// head itself orders the reader after it.
    /// Invariant: as above.
    one_guard {
        bound: None,
        kills: [FreeAtOnce, RecycleWithoutGrace, ReadAfterUnpin],
        outcomes: ["0 0", "0 1", "1 1"],
    }
    |world| {
        let entity = world.entity(0);
        let writer = {
            let (entity, value) = (entity.clone(), world.value(1));
            spawn(move || {
                drop(entity.replace(value));
                snapcell::reclaim();
            })
        };
        let guard = snapcell::pin();
        let seen = [(); 2].map(|()| {
            let loaded = entity.load(&guard);
            assert_eq!(u64::from(loaded.number()), loaded.stamp().version());
            loaded.number()
        });
        drop(guard);
        writer.join().unwrap();
        format!("{} {}", seen[0], seen[1])
    }
}

model! {
    /// Two commits on one snapshot, and a read.
    /// Invariant: one of them wins, and the reader sees what was before or what won.
    two_commits_and_a_reader {
        bound: Some(5),
        kills: [SuccessAfterLostCas, FreeAtOnce],
        outcomes: ["0 then 1", "1 then 1", "0 then 2", "2 then 2"],
    }
    |world| {
        let entity = world.entity(0);
        let base = entity.snapshot();
        let writers = [1, 2].map(|number| {
            let (entity, base, value) = (entity.clone(), base.clone(), world.value(number));
            spawn(move || entity.try_commit_on(&base, value).is_ok())
        });
        let seen = entity.read(|value| value.number());
        let won = writers.map(|writer| writer.join().unwrap());
        assert_ne!(won[0], won[1], "one commit wins");
        format!("{seen} then {}", if won[0] { 1 } else { 2 })
    }
}

model! {
    /// Two updates and a read.
    /// Invariant: the reader sees a state that existed: the first, one in between, or the last.
    two_writers_and_a_reader {
        bound: Some(4),
        kills: [SuccessAfterLostCas, FreeAtOnce],
        outcomes: [
            "0 of 0 1 11, tried 1", "1 of 0 1 11, tried 1", "11 of 0 1 11, tried 1",
            "0 of 0 1 11, tried 2", "1 of 0 1 11, tried 2", "11 of 0 1 11, tried 2",
            "0 of 0 10 11, tried 1", "10 of 0 10 11, tried 1", "11 of 0 10 11, tried 1",
            "0 of 0 10 11, tried 2", "10 of 0 10 11, tried 2", "11 of 0 10 11, tried 2",
        ],
    }
    |world| {
        let entity = world.entity(0);
        let writers = [1, 10].map(|amount| {
            let (entity, world) = (entity.clone(), world.clone());
            spawn(move || {
                let committed = entity.update(|value| world.value(value.number() + amount));
                (committed.stamp().version(), committed.attempts())
            })
        });
        let seen = entity.read(|value| value.number());
        let [one, ten] = writers.map(|writer| writer.join().unwrap());
        assert_eq!(one.0 + ten.0, 3, "each version once");
        let ((between, second), first) = if one.0 == 1 { ((1, ten), one) } else { ((10, one), ten) };
        assert_eq!(first.1, 1, "who comes first wins at once");
        format!("{seen} of 0 {between} 11, tried {}", second.1)
    }
}

//! Holders against the end of a grace, and against each other.

use crate::support::{model, spawn};

model! {
    /// Two holders of a snapshot that is not current any more. Each looks, and lets go.
    /// Invariant: whoever lets go last ends the value, after the other's look.
    two_holders {
        bound: None,
        kills: [],
        outcomes: ["0 0"],
    }
    |world| {
        let entity = world.entity(0);
        let mine = entity.snapshot();
        let theirs = mine.clone();
        drop(entity.replace(world.value(1)));
        snapcell::reclaim();
        let other = spawn(move || theirs.number());
        let seen = mine.number();
        drop(mine);
        let other = other.join().unwrap();
        world.assert_dropped(1);
        format!("{seen} {other}")
    }
}

model! {
    /// A holder lets go while the head's count comes out of its grace.
    /// Invariant: the value ends after the holder's look, on one side or the other.
    holder_against_grace {
        bound: None,
        kills: [IgnoreHolders],
        outcomes: ["0, ended with the grace or before", "0, ended by its holder"],
    }
    |world| {
        let entity = world.entity(0);
        let held = entity.snapshot();
        let holder = spawn(move || held.number());
        drop(entity.replace(world.value(1)));
        snapcell::reclaim();
        let ended = world.dropped() == 1;
        let seen = holder.join().unwrap();
        world.assert_dropped(1);
        format!("{seen}, ended {}", if ended { "with the grace or before" } else { "by its holder" })
    }
}

model! {
    /// A reader takes a count under its guard while the node is replaced and reclaimed.
    /// Invariant: the count never goes from zero to one: what was taken can be kept.
    late_snapshot {
        bound: None,
        kills: [FreeAtOnce, ReleaseHeadAtOnce, RecycleWithoutGrace, ReadAfterUnpin],
        outcomes: ["0", "1"],
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
        let kept = entity.snapshot();
        writer.join().unwrap();
        assert_eq!(u64::from(kept.number()), kept.stamp().version());
        kept.number().to_string()
    }
}

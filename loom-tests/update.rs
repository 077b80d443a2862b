//! Writers that try again, or merge.

use crate::support::{model, spawn};

model! {
    /// Two changes that don't commute.
    /// Invariant: both happen, one after the other; who comes second may or may not have tried
    /// before.
    two_updates {
        bound: None,
        kills: [SuccessAfterLostCas, KeepVersion],
        outcomes: ["20 1 1", "20 1 2", "11 1 1", "11 2 1"],
    }
    |world| {
        let entity = world.entity(1);
        let times_ten = {
            let (entity, world) = (entity.clone(), world.clone());
            spawn(move || entity.update(|value| world.value(value.number() * 10)).attempts())
        };
        let plus_one = entity.update(|value| world.value(value.number() + 1)).attempts();
        let times_ten = times_ten.join().unwrap();
        let last = entity.snapshot();
        assert_eq!(last.stamp().version(), 2, "version = commits");
        format!("{} {plus_one} {times_ten}", last.number())
    }
}

model! {
    /// Three changes, any order.
    /// Invariant: all happen.
    three_updates {
        bound: Some(3),
        kills: [SuccessAfterLostCas],
        outcomes: ["7"],
    }
    |world| {
        let entity = world.entity(0);
        let others = [2, 4].map(|amount| {
            let (entity, world) = (entity.clone(), world.clone());
            spawn(move || drop(entity.update(|value| world.value(value.number() + amount))))
        });
        entity.update(|value| world.value(value.number() + 1));
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(entity.snapshot().stamp().version(), 3, "version = commits");
        entity.read(|value| value.number()).to_string()
    }
}

model! {
    /// Two values made from one base, each merged if it comes second.
    /// Invariant: neither is lost.
    two_merges {
        bound: None,
        kills: [SuccessAfterLostCas],
        outcomes: ["111 1 2", "111 2 1"],
    }
    |world| {
        let entity = world.entity(100);
        let base = entity.snapshot();
        let merged = |world: &crate::support::World, base: u32, mine: u32, theirs: u32| {
            world.value(mine + theirs - base)
        };
        let other = {
            let (entity, base, world) = (entity.clone(), base.clone(), world.clone());
            spawn(move || {
                let mine = world.value(110);
                entity
                    .commit_or_merge(&base, mine, |merge| {
                        Some(merged(&world, merge.base.number(), merge.mine.number(), merge.theirs.number()))
                    })
                    .unwrap()
                    .attempts()
            })
        };
        let mine = entity
            .commit_or_merge(&base, world.value(101), |merge| {
                Some(merged(world, merge.base.number(), merge.mine.number(), merge.theirs.number()))
            })
            .unwrap()
            .attempts();
        let theirs = other.join().unwrap();
        format!("{} {mine} {theirs}", entity.read(|value| value.number()))
    }
}

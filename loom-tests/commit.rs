//! Writers against each other, one attempt each.

use crate::support::{World, model, spawn};
use snapcell::{Entity, Stamp};

/// Tries to commit `number` on the first snapshot: "won", or what it lost to.
fn try_once(world: &World, entity: &Entity<crate::support::Value>, number: u32) -> String {
    match entity.try_commit(Stamp::new(0, 0), world.value(number)) {
        Ok(committed) => {
            assert_eq!(committed.stamp().version(), 1);
            assert_eq!(
                (committed.current().number(), committed.previous().number()),
                (number, 0)
            );
            String::from("won")
        }
        Err(conflict) => {
            assert!(conflict.is_conflict());
            assert_eq!(
                conflict.proposed().number(),
                number,
                "the loser keeps its value"
            );
            format!("lost to {}", conflict.current().number())
        }
    }
}

model! {
    /// Invariant: one commit wins, the other is told by whom it was beaten.
    /// The loser reads the winner's value, whose pointer it has from its failed exchange.
    two_writers {
        bound: None,
        kills: [SuccessAfterLostCas, KeepVersion, FreeAtOnce, NeverRetire, RetireTwice],
        outcomes: ["won, lost to 1", "lost to 2, won"],
    }
    |world| {
        let entity = world.entity(0);
        let other = {
            let (entity, world) = (entity.clone(), world.clone());
            spawn(move || try_once(&world, &entity, 2))
        };
        let mine = try_once(world, &entity, 1);
        let theirs = other.join().unwrap();
        assert_eq!(entity.snapshot().stamp().version(), 1);
        format!("{mine}, {theirs}")
    }
}

model! {
    /// Invariant: of three commits one wins, whatever the order of the others.
    three_writers {
        bound: Some(3),
        kills: [SuccessAfterLostCas],
        outcomes: ["won, lost to 1, lost to 1", "lost to 2, won, lost to 2", "lost to 3, lost to 3, won"],
    }
    |world| {
        let entity = world.entity(0);
        let others = [2, 3].map(|number| {
            let (entity, world) = (entity.clone(), world.clone());
            spawn(move || try_once(&world, &entity, number))
        });
        let mine = try_once(world, &entity, 1);
        let [second, third] = others.map(|other| other.join().unwrap());
        assert_eq!(entity.snapshot().stamp().version(), 1);
        format!("{mine}, {second}, {third}")
    }
}

model! {
    /// As two writers, but on a snapshot that they hold, and without a load of the head.
    two_writers_on_a_snapshot {
        bound: None,
        kills: [SuccessAfterLostCas],
        outcomes: ["true false 1", "false true 2"],
    }
    |world| {
        let entity = world.entity(0);
        let base = entity.snapshot();
        let other = {
            let (entity, base, value) = (entity.clone(), base.clone(), world.value(2));
            spawn(move || entity.try_commit_on(&base, value).is_ok())
        };
        let mine = match entity.try_commit_on(&base, world.value(1)) {
            Ok(_) => true,
            // The pointer comes from the failed exchange, and nothing else orders this look.
            Err(conflict) => conflict.current().number() == 1,
        };
        let theirs = other.join().unwrap();
        format!("{mine} {theirs} {}", entity.read(|value| value.number()))
    }
}

model! {
    /// A commit that is looked at while another one replaces what it published, and reclaims it.
    /// Invariant: what a `Committed` shows lives as long as it does.
    a_committed_keeps_what_it_shows {
        bound: Some(4),
        kills: [CommittedRepins],
        outcomes: ["0 1", "2 1"],
    }
    |world| {
        let entity = world.entity(0);
        let other = {
            let (entity, value) = (entity.clone(), world.value(2));
            spawn(move || {
                drop(entity.replace(value));
                snapcell::reclaim();
            })
        };
        let committed = entity.replace(world.value(1));
        let seen = format!("{} {}", committed.previous().number(), committed.current().number());
        drop(committed);
        other.join().unwrap();
        seen
    }
}

model! {
    /// A commit loses to one that is itself replaced and reclaimed.
    /// Invariant: the loser is told by whom it was beaten, whatever became of that.
    a_loser_keeps_the_winner {
        bound: Some(4),
        kills: [LoserRepins],
        outcomes: ["won", "lost to 2", "lost to 3"],
    }
    |world| {
        let entity = world.entity(0);
        let base = entity.snapshot();
        let other = {
            let (entity, values) = (entity.clone(), [2, 3].map(|n| world.value(n)));
            spawn(move || {
                for value in values { drop(entity.replace(value)); }
                snapcell::reclaim();
            })
        };
        let seen = match entity.try_commit_on(&base, world.value(1)) {
            Ok(_) => String::from("won"),
            Err(conflict) => format!("lost to {}", conflict.current().number()),
        };
        other.join().unwrap();
        seen
    }
}

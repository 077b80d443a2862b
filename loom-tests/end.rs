//! The end of an entity.

use crate::support::{model, spawn};

model! {
    /// Two threads look through a handle each, and let it go.
    /// Invariant: the last handle ends the entity, after what was done through the other.
    last_handle {
        bound: None,
        kills: [ForgetHead],
        outcomes: ["0 0"],
    }
    |world| {
        let mine = world.entity(0);
        let theirs = mine.clone();
        let other = spawn(move || theirs.read(|value| value.number()));
        let seen = mine.read(|value| value.number());
        drop(mine);
        let other = other.join().unwrap();
        world.assert_dropped(1);
        format!("{seen} {other}")
    }
}

model! {
    /// One thread looks through its handle and lets it go, the other wants the value.
    /// Invariant: the value moves out after the other's look, or not at all.
    into_inner {
        bound: None,
        kills: [],
        outcomes: ["0, taken", "0, shared"],
    }
    |world| {
        let mine = world.entity(0);
        let theirs = mine.clone();
        let other = spawn(move || theirs.read(|value| value.number()));
        let taken = mine.into_inner();
        let seen = other.join().unwrap();
        match taken {
            Ok(value) => {
                assert_eq!(value.number(), 0);
                format!("{seen}, taken")
            }
            Err(snapshot) => {
                assert_eq!(snapshot.number(), 0);
                format!("{seen}, shared")
            }
        }
    }
}

model! {
    /// A snapshot is taken through one handle while the other goes; then its own handle goes too.
    /// Invariant: the snapshot outlives the entity.
    late_snapshot {
        bound: None,
        kills: [],
        outcomes: ["0"],
    }
    |world| {
        let mine = world.entity(0);
        let theirs = mine.clone();
        let other = spawn(move || {
            let kept = theirs.snapshot();
            drop(theirs);
            kept
        });
        drop(mine);
        let kept = other.join().unwrap();
        assert_eq!(world.dropped(), 0, "the value is held");
        kept.number().to_string()
    }
}

model! {
    /// A commit through one handle while the other goes.
    /// Invariant: the entity ends after the commit, with both values.
    commit_against_the_last_handle {
        bound: None,
        kills: [ForgetHead, NeverRetire],
        outcomes: ["1"],
    }
    |world| {
        let mine = world.entity(0);
        let (theirs, value) = (mine.clone(), world.value(1));
        let other = spawn(move || theirs.replace(value).current().number());
        drop(mine);
        other.join().unwrap().to_string()
    }
}

model! {
    /// One thread lets go of the last snapshot, the other wants the value.
    /// Invariant: the value moves out after the look, or not at all.
    into_inner_against_a_holder {
        bound: None,
        kills: [TakeDespiteHolders],
        outcomes: ["0, taken", "0, shared"],
    }
    |world| {
        let entity = world.entity(0);
        let held = entity.snapshot();
        let other = spawn(move || held.number());
        let taken = entity.into_inner();
        let how = if taken.is_ok() { "taken" } else { "shared" };
        drop(taken);
        format!("{}, {how}", other.join().unwrap())
    }
}

model! {
    /// Two watches of an entity that has ended go at the same time.
    /// Invariant: the last one ends what is left, after the other's looks.
    last_watcher {
        bound: None,
        kills: [ForgetHead, EndDespiteWatchers],
        outcomes: ["0 0"],
    }
    |world| {
        let entity = world.entity(0);
        let mut mine = entity.watch();
        let mut theirs = mine.clone();
        drop(entity);
        let other = spawn(move || theirs.get().number());
        let seen = mine.get().number();
        drop(mine);
        let other = other.join().unwrap();
        world.assert_dropped(1);
        format!("{seen} {other}")
    }
}

model! {
    /// Somebody watches, looks and goes, while the only handle wants the value.
    /// Invariant: the value moves out after the look, or not at all.
    into_inner_against_a_watcher {
        bound: None,
        kills: [MoveDespiteWatchers],
        outcomes: ["1, taken", "1, shared"],
    }
    |world| {
        let entity = world.entity(0);
        let mut watch = entity.watch();
        drop(entity.replace(world.value(1)));
        let other = spawn(move || watch.get().number());
        let taken = entity.into_inner();
        let how = if taken.is_ok() { "taken" } else { "shared" };
        let seen = other.join().unwrap();
        drop(taken);
        format!("{seen}, {how}")
    }
}

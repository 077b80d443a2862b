//! Entities side by side, found by number and name: births, looks, and an entry that is used again.

use crate::support::{JoinHandle, Value, World, model, spawn};
use snapcell::internals::ArenaParts;
use std::sync::Arc;

/// An arena with an entity of name 1 and value 0 in entry 0.
fn with_one(world: &World) -> Arc<ArenaParts<Value>> {
    let arena = ArenaParts::default();
    assert_eq!(arena.begin(1, world.value(0)), 0);
    Arc::new(arena)
}

/// What somebody sees at a place, as text.
fn at(arena: &ArenaParts<Value>, number: u32, name: u128) -> String {
    let seen = arena.read(number, name, Value::number);
    seen.map_or_else(|| "nothing".to_owned(), |number| number.to_string())
}

model! {
    /// An entity begins, in the first row that there is, while somebody looks where it will be.
    /// Invariant: who finds the row finds its entries, and who finds the name finds the entity.
    a_birth_against_a_look {
        bound: None,
        kills: [],
        outcomes: ["nothing", "7"],
    }
    |world| {
        let arena = Arc::new(ArenaParts::default());
        let other = {
            let (arena, world) = (Arc::clone(&arena), world.clone());
            spawn(move || arena.begin(1, world.value(7)))
        };
        let seen = at(&arena, 0, 1);
        assert_eq!(other.join().unwrap(), 0);
        assert_eq!(at(&arena, 0, 1), "7");
        seen
    }
}

model! {
    /// Two entities begin, and both need the second row, of which there is none yet.
    /// Invariant: both are found.
    two_births {
        bound: None,
        kills: [],
        outcomes: ["1 at 1, 2 at 2", "1 at 2, 2 at 1"],
    }
    |world| {
        let arena = with_one(world);
        let other = {
            let (arena, world) = (Arc::clone(&arena), world.clone());
            spawn(move || arena.begin(3, world.value(2)))
        };
        let mine = arena.begin(2, world.value(1));
        let theirs = other.join().unwrap();
        let (first, second) = (at(&arena, mine, 2), at(&arena, theirs, 3));
        assert_eq!(arena.names().0, 3);
        format!("{first} at {mine}, {second} at {theirs}")
    }
}

model! {
    /// An entity loses its name while somebody looks at it, and its entry is used again as soon as it may be.
    /// Invariant: who looks sees the entity, or nothing; never another one.
    used_again {
        bound: None,
        kills: [UnnameAtOnce],
        outcomes: ["0, then 0", "0, then 1", "nothing, then 0", "nothing, then 1"],
    }
    |world| {
        let arena = with_one(world);
        let other = {
            let (arena, world) = (Arc::clone(&arena), world.clone());
            spawn(move || {
                assert!(arena.unname(0, 1));
                snapcell::reclaim();
                arena.begin(2, world.value(5))
            })
        };
        let seen = at(&arena, 0, 1);
        let then = other.join().unwrap();
        assert_eq!(at(&arena, then, 2), "5");
        assert_eq!(at(&arena, 0, 1), "nothing");
        format!("{seen}, then {then}")
    }
}

/// On a thread of its own, the entity of [`with_one`] loses its name, and its grace goes by.
fn end_elsewhere(arena: &Arc<ArenaParts<Value>>) -> JoinHandle<()> {
    let arena = Arc::clone(arena);
    spawn(move || {
        assert!(arena.unname(0, 1));
        snapcell::reclaim();
    })
}

/// An arena with two entries that are free again.
fn with_two_free(world: &World) -> Arc<ArenaParts<Value>> {
    let arena = with_one(world);
    assert_eq!(arena.begin(2, world.value(0)), 1);
    assert!(arena.unname(0, 1) && arena.unname(1, 2));
    snapcell::reclaim();
    arena
}

/// Begins one more when all that may be free is, and says where all of them are, if each is where it should be.
///
/// On real threads other tests are pinned meanwhile, so entries come back later, or not at all, and the numbers
/// can't be derived: there `any` stands for whatever they are.
fn with_another(
    arena: &ArenaParts<Value>,
    world: &World,
    begun: &[(u32, u128)],
    any: &str,
) -> String {
    snapcell::reclaim();
    let another = (arena.begin(99, world.value(99)), 99);
    let all: Vec<_> = begun.iter().chain([&another]).collect();
    for (number, name) in &all {
        let is_there = arena.read(*number, *name, |value| value.number() as u128 == *name);
        if is_there != Some(true) {
            return format!("{name} isn't at {number}");
        }
    }
    if !cfg!(snapcell_model) {
        return any.to_owned();
    }
    let numbers: Vec<_> = all.iter().map(|(number, _)| number.to_string()).collect();
    numbers.join(" ")
}

model! {
    /// An entry is given back while somebody begins an entity.
    /// Invariant: that is in this entry or in a new one, and so is the next.
    given_back_and_taken {
        bound: None,
        kills: [],
        outcomes: ["0 1", "1 0"],
    }
    |world| {
        let arena = with_one(world);
        let other = end_elsewhere(&arena);
        let mine = arena.begin(2, world.value(2));
        other.join().unwrap();
        with_another(&arena, world, &[(mine, 2)], "0 1")
    }
}

model! {
    /// An entity begins while somebody takes two entries and fills one.
    /// Invariant: nobody takes what somebody has.
    taken_and_not_filled {
        bound: Some(4),
        kills: [VacateAtOnce],
        outcomes: ["1 2 0", "0 2 1", "2 0 1"],
    }
    |world| {
        let arena = with_two_free(world);
        let other = {
            let (arena, world) = (Arc::clone(&arena), world.clone());
            spawn(move || arena.begin_beside(4, world.value(4)))
        };
        let mine = arena.begin(3, world.value(3));
        let theirs = other.join().unwrap();
        with_another(&arena, world, &[(mine, 3), (theirs, 4)], "1 2 0")
    }
}

model! {
    /// An entity begins while somebody takes two entries and gives back the one that was on top.
    /// Invariant: nobody takes what somebody has.
    taken_while_it_comes_back {
        bound: Some(4),
        kills: [TakeUnpinned],
        outcomes: ["1 2 0", "0 2 1", "2 0 1", "1 0 2"],
    }
    |world| {
        let arena = with_two_free(world);
        let other = {
            let (arena, world) = (Arc::clone(&arena), world.clone());
            spawn(move || {
                let first = arena.begin(4, world.value(4));
                let second = arena.begin(5, world.value(5));
                assert!(arena.unname(first, 4));
                snapcell::reclaim();
                second
            })
        };
        let mine = arena.begin(3, world.value(3));
        let theirs = other.join().unwrap();
        with_another(&arena, world, &[(mine, 3), (theirs, 5)], "1 2 0")
    }
}

model! {
    /// Two take the name from one entity.
    /// Invariant: one does.
    two_ends {
        bound: None,
        kills: [UnnameTwice],
        outcomes: ["mine", "theirs"],
    }
    |world| {
        let arena = with_one(world);
        let other = {
            let arena = Arc::clone(&arena);
            spawn(move || arena.unname(0, 1))
        };
        let mine = arena.unname(0, 1);
        let theirs = other.join().unwrap();
        assert_eq!(arena.names(), (0, Vec::new()));
        match (mine, theirs) {
            (true, false) => "mine".to_owned(),
            (false, true) => "theirs".to_owned(),
            both => format!("{both:?}"),
        }
    }
}

model! {
    /// An entity loses its name while somebody takes a handle of it, and changes it.
    /// Invariant: the handle is as good as any.
    a_handle_against_the_end {
        bound: None,
        kills: [UnnameAtOnce],
        outcomes: ["8", "nothing"],
    }
    |world| {
        let arena = with_one(world);
        let other = end_elsewhere(&arena);
        let handle = arena.handle(0, 1);
        other.join().unwrap();
        match handle {
            Some(entity) => {
                drop(entity.replace(world.value(8)));
                entity.read(Value::number).to_string()
            }
            None => "nothing".to_owned(),
        }
    }
}

model! {
    /// The arena goes while somebody holds an entity of it.
    /// Invariant: the entity outlives it.
    the_arena_goes_first {
        bound: None,
        kills: [],
        outcomes: ["3"],
    }
    |world| {
        let arena = with_one(world);
        let entity = arena.handle(0, 1).expect("nobody has taken its name");
        let other = spawn(move || drop(arena));
        drop(entity.replace(world.value(3)));
        let seen = entity.read(Value::number);
        drop(entity);
        other.join().unwrap();
        seen.to_string()
    }
}

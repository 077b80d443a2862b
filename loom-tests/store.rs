//! Entities by id: births and ends of one id against each other, and indexes that follow.
//!
//! The map is a lock in these models (`sync/map.rs`), so they are about what the store makes of it: that an
//! entity exists is part of its value, and that a key has it is decided together with its value.

use crate::support::{Value, model, spawn};
use snapcell::internals::are_unchanged;
use snapcell::{
    Children, Edge, EntityId, Forest, Index, Loaded, Stop, Store, Unknown, transaction,
    transaction_or_abort,
};
use std::sync::Arc;

const ID: EntityId = EntityId::from_bits(1);
const OTHER: EntityId = EntityId::from_bits(2);

/// What is at an id, as text.
fn at(store: &Store<Value>, id: &EntityId) -> String {
    match store.read(id, Value::number) {
        Ok(number) => number.to_string(),
        Err(_) => "nothing".to_owned(),
    }
}

/// A store that is indexed by whether a number is odd.
fn by_parity() -> (Store<Value>, Index<Value, bool>) {
    let mut builder = Store::builder();
    let by_parity = builder.index(|value: &Value| Some(value.number() % 2 == 1));
    (builder.build(), by_parity)
}

model! {
    /// An entity is changed and removed.
    /// Invariant: the change is in what was removed last, or it is refused.
    an_update_against_a_removal {
        bound: Some(3),
        kills: [RemoveWithoutCommit],
        outcomes: ["changed, 1 removed", "refused, 0 removed"],
    }
    |world| {
        let store = Store::new();
        let _ = store.insert_with(ID, world.value(0));
        let other = {
            let (store, world) = (store.clone(), world.clone());
            spawn(move || match store.update(&ID, |_| world.value(1)) {
                Ok(_) => "changed",
                Err(Unknown(_)) => "refused",
            })
        };
        let last = store.remove(&ID).map(|last| last.number()).expect("nobody else removes it");
        format!("{}, {last} removed", other.join().unwrap())
    }
}

model! {
    /// An entity that its id leads to is removed, and somebody inserts one with the same id.
    /// Invariant: who has inserted it finds it, though the place of the first may not be empty yet.
    an_id_comes_again {
        bound: Some(2),
        kills: [StayInArena],
        outcomes: ["taken", "1"],
    }
    |world| {
        let store = Store::new();
        let id = store.insert(world.value(0));
        let other = {
            let store = store.clone();
            spawn(move || drop(store.remove(&id).expect("nobody else removes it")))
        };
        let inserted = store.insert_with(id, world.value(1));
        let seen = match inserted {
            Ok(_) => at(&store, &id),
            Err(_) => "taken".to_owned(),
        };
        other.join().unwrap();
        seen
    }
}

model! {
    /// One gives birth to an entity and gives up, another one gives birth to one of the same id.
    /// Invariant: who succeeds is found afterwards.
    a_birth_against_one_that_is_given_up {
        bound: Some(2),
        kills: [ForgetUnborn],
        outcomes: ["2"],
    }
    |world| {
        let store = Store::new();
        let other = {
            let (store, world) = (store.clone(), world.clone());
            spawn(move || {
                let given_up: Result<(), ()> = transaction_or_abort(|tx| {
                    let _ = store.within(tx).insert_with(ID, world.value(1))?;
                    Err(Stop::Abort(()))
                });
                given_up.expect_err("it gives up");
            })
        };
        let mine = transaction(|tx| {
            let made = store.within(tx).insert_with(ID, world.value(2))?;
            Ok(made.is_ok())
        });
        assert!(mine, "the other one was never there");
        other.join().unwrap();
        at(&store, &ID)
    }
}

model! {
    /// Two entities get the same key.
    /// Invariant: the index has both.
    two_get_a_key {
        bound: Some(1),
        kills: [BlindBucket],
        outcomes: ["2 odd, 0 even"],
    }
    |world| {
        let (store, by_parity) = by_parity();
        for id in [ID, OTHER] {
            let _ = store.insert_with(id, world.value(0));
        }
        let other = {
            let (store, world) = (store.clone(), world.clone());
            spawn(move || store.update(&OTHER, |_| world.value(3)).map(drop))
        };
        store.update(&ID, |_| world.value(1)).expect("it is there");
        other.join().unwrap().expect("it is there");
        let [odd, even] = [true, false].map(|odd| store.find(&by_parity, &odd).len());
        format!("{odd} odd, {even} even")
    }
}

model! {
    /// An entity gets another key, while a transaction looks where it is.
    /// Invariant: it is under the key of its value, and nowhere else.
    a_key_changes_under_a_look {
        bound: Some(1),
        kills: [IndexAfterwards],
        outcomes: ["0 even", "1 odd"],
    }
    |world| {
        let (store, by_parity) = by_parity();
        let _ = store.insert_with(ID, world.value(0));
        let other = {
            let (store, world) = (store.clone(), world.clone());
            spawn(move || store.update(&ID, |_| world.value(1)).map(drop))
        };
        let seen = transaction(|tx| {
            let store = store.within(tx);
            let number = store.look(&ID)?.map(Value::number);
            let mut seen = format!("{}", number.expect("it is there"));
            for (odd, name) in [(true, " odd"), (false, " even")] {
                if store.find(&by_parity, &odd)?.contains(&ID) {
                    seen.push_str(name);
                }
            }
            Ok(seen)
        });
        other.join().unwrap().expect("it is there");
        seen
    }
}

model! {
    /// The last entity with a key is removed, while a transaction inserts another one with that key.
    /// Invariant: the index has it.
    the_last_with_a_key_goes_as_another_comes {
        bound: Some(2),
        kills: [UseDeadBucket],
        outcomes: ["1 odd"],
    }
    |world| {
        let (store, by_parity) = by_parity();
        let _ = store.insert_with(OTHER, world.value(3));
        let other = {
            let store = store.clone();
            spawn(move || drop(store.remove(&OTHER).expect("nobody else removes it")))
        };
        let made = transaction(|tx| {
            let made = store.within(tx).insert_with(ID, world.value(1))?;
            Ok(made.is_ok())
        });
        assert!(made, "nobody else inserts it");
        other.join().unwrap();
        format!("{} odd", store.find(&by_parity, &true).len())
    }
}

model! {
    /// The last entity with a key is removed, and another one gets the key, while a transaction waits until somebody has it.
    /// Invariant: it is told, and sees the one or the other.
    a_key_goes_and_comes_under_one_who_waits_for_it {
        bound: Some(1),
        kills: [UseDeadBucket],
        outcomes: ["3", "5"],
    }
    |world| {
        let (store, by_parity) = by_parity();
        let _ = store.insert_with(OTHER, world.value(3));
        let other = {
            let (store, world) = (store.clone(), world.clone());
            spawn(move || {
                drop(store.remove(&OTHER).expect("nobody else removes it"));
                let _ = store.insert_with(OTHER, world.value(5));
            })
        };
        let seen = transaction(|tx| {
            let store = store.within(tx);
            if store.find(&by_parity, &true)?.is_empty() {
                return tx.retry();
            }
            let value = store.look(&OTHER)?;
            Ok(value.expect("it has the key").number())
        });
        other.join().unwrap();
        seen.to_string()
    }
}

model! {
    /// An entity is removed, and another one inserted with its id, while a transaction waits until there is one.
    /// Invariant: it sees the one or the other.
    a_look_where_one_goes_and_another_comes {
        bound: Some(2),
        kills: [LookAtTheRemoved],
        outcomes: ["0", "1"],
    }
    |world| {
        let store = Store::new();
        let _ = store.insert_with(ID, world.value(0));
        let other = {
            let (store, world) = (store.clone(), world.clone());
            spawn(move || {
                drop(store.remove(&ID).expect("nobody else removes it"));
                let _ = store.insert_with(ID, world.value(1));
            })
        };
        let seen = transaction(|tx| match store.within(tx).look(&ID)? {
            Some(value) => Ok(value.number()),
            None => tx.retry(),
        });
        other.join().unwrap();
        seen.to_string()
    }
}

/// A value with at most one child.
#[derive(Clone, PartialEq)]
struct Link(u32, Option<EntityId>);

impl Children for Link {
    fn children(&self, each: &mut dyn FnMut(Edge, EntityId)) {
        self.1
            .iter()
            .for_each(|id| each(Edge::direct("child"), *id));
    }
}

/// A root with a child.
fn tree() -> Forest<Link> {
    let forest = Forest::new();
    let _ = forest.insert_with(OTHER, Link(0, None));
    let _ = forest.insert_with(ID, Link(0, Some(OTHER)));
    forest.promote(&ID).expect("it is an orphan");
    forest
}

/// The versions of the root and of its child, and what that says.
fn versions(forest: &Forest<Link>) -> String {
    let [root, child] = [ID, OTHER].map(|id| forest.get(&id).expect("it is there"));
    let (root, of_child) = (root.stamp().version(), child.stamp().version());
    format!("{}, versions {root} and {of_child}", child.0)
}

model! {
    /// Two trees that were made of one are committed.
    /// Invariant: one of them is, as a whole, and the other one is told.
    two_versions_of_a_tree {
        bound: Some(2),
        kills: [BlindVersion],
        outcomes: ["made, refused: 1, versions 1 and 1", "refused, made: 2, versions 1 and 1"],
    }
    |_| {
        let forest = tree();
        let base = forest.tree(&ID).expect("it is one");
        let made = |number, forest: &Forest<Link>, tree: &snapcell::Tree<Link>| {
            let edited = tree.with(OTHER, Link(number, None)).expect("it is one still");
            match forest.version(&edited) {
                Ok(_) => "made",
                Err(error) if error.is_conflict() => "refused",
                Err(error) => panic!("{error}"),
            }
        };
        let other = {
            let (forest, base) = (forest.clone(), base.clone());
            spawn(move || made(2, &forest, &base))
        };
        let mine = made(1, &forest, &base);
        let other = other.join().unwrap();
        format!("{mine}, {other}: {}", versions(&forest))
    }
}

model! {
    /// A tree is committed, while its child is removed.
    /// Invariant: the commit is refused where it comes too late, and nothing that was removed comes back.
    a_version_against_a_removal {
        bound: Some(2),
        kills: [BlindVersion],
        outcomes: ["made, version 1 removed", "refused, version 0 removed"],
    }
    |_| {
        let forest = tree();
        let base = forest.tree(&ID).expect("it is one");
        let edited = base.with(OTHER, Link(1, None)).expect("it is one still");
        let other = {
            let forest = forest.clone();
            spawn(move || forest.remove(&OTHER).expect("nobody else removes it").stamp().version())
        };
        let mine = match forest.version(&edited) {
            Ok(_) => "made",
            Err(_) => "refused",
        };
        let removed = other.join().unwrap();
        assert!(!forest.contains(&OTHER));
        format!("{mine}, version {removed} removed")
    }
}

/// What was seen of two entities, or that it has changed meanwhile.
fn seen(a: Loaded<'_, Value>, b: Loaded<'_, Value>, is_unchanged: bool) -> String {
    if is_unchanged {
        format!("{} {}", a.number(), b.number())
    } else {
        "changed".to_owned()
    }
}

model! {
    /// Commits to A and to B, which have nothing to do with each other. One thread looks at A and at B, and asks
    /// whether they are unchanged: about A itself, about B another thread. And one looks at B and at A, and asks
    /// about both.
    /// Invariant: the two agree which commit came first: not "0 1" and "1 0". That they would not without the fence
    /// `moment::two_moments` shows; here it takes a third preemption, and hundreds of thousands of
    /// executions.
    one_moment_in_parts {
        bound: Some(2),
        kills: [OnePass],
        outcomes: [
            "changed, changed", "changed, 0 0", "changed, 0 1", "changed, 1 0", "changed, 1 1",
            "0 0, changed", "0 0, 0 0", "0 0, 0 1", "0 0, 1 0", "0 0, 1 1",
            "0 1, changed", "0 1, 0 0", "0 1, 0 1", "0 1, 1 1",
            "1 0, changed", "1 0, 0 0", "1 0, 1 0", "1 0, 1 1",
            "1 1, changed", "1 1, 0 0", "1 1, 0 1", "1 1, 1 0", "1 1, 1 1",
        ],
    }
    |world| {
        let all = world.entities([0, 0]);
        // Nothing gets out of its grace before this goes, which leaves less to be tried.
        let guard = snapcell::pin();
        let writers = [0, 1].map(|which| {
            world.spawn(&all, move |world, all| drop(all[which].replace(world.value(1))))
        });
        let in_parts = {
            let all = Arc::clone(&all);
            spawn(move || {
                let guard = snapcell::pin();
                let [a, b] = [0, 1].map(|which| all[which].load(&guard));
                let (others, of_b) = (Arc::clone(&all), b.stamp());
                let other = spawn(move || are_unchanged(&[(&others[1], of_b)]));
                let is_a = are_unchanged(&[(&all[0], a.stamp())]);
                let is_b = other.join().unwrap();
                seen(a, b, is_a && is_b)
            })
        };
        let [b, a] = [1, 0].map(|which| all[which].load(&guard));
        let is_unchanged = are_unchanged(&[(&all[1], b.stamp()), (&all[0], a.stamp())]);
        let whole = seen(a, b, is_unchanged);
        let in_parts = in_parts.join().unwrap();
        for writer in writers {
            writer.join().unwrap();
        }
        drop(guard);
        format!("{in_parts}, {whole}")
    }
}

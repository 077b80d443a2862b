//! Cached readers against replacement and reuse of addresses.

use crate::support::{model, spawn};

model! {
    /// A reader that has seen the first snapshot looks twice, while two commits replace it. The
    /// second commit could find the first node's memory in the pool.
    /// Invariant: an address that the reader compares with is nobody else's: what it shows is what
    /// was current, and doesn't go backwards.
    replacement_with_reuse {
        bound: None,
        kills: [CachedWithoutCount],
        outcomes: ["0 0", "0 1", "0 2", "1 1", "1 2", "2 2"],
    }
    |world| {
        let entity = world.entity(0);
        let mut reader = entity.reader();
        let reader = spawn(move || {
            [(); 2].map(|()| {
                let seen = reader.get();
                assert_eq!(u64::from(seen.number()), seen.stamp().version());
                seen.number()
            })
        });
        for number in 1..=2 {
            drop(entity.replace(world.value(number)));
        }
        let seen = reader.join().unwrap();
        format!("{} {}", seen[0], seen[1])
    }
}

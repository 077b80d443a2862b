//! Commits by the thousand million: plain ones, on entities of numbers, beside the engines.

use super::dice::Dice;
use snapcell::{Entity, transaction};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Entities that all threads commit to, and some that each has for itself.
pub(crate) struct Plain {
    shared: Vec<Entity<u64>>,
    own: Vec<Vec<Entity<u64>>>,
    /// By the books: publications, commits, conflicts.
    publications: AtomicU64,
    commits: AtomicU64,
    conflicts: AtomicU64,
}

const SHARED: usize = 4;

impl Plain {
    pub(crate) fn new(threads: usize) -> Self {
        let some = || (0..SHARED).map(|_| Entity::new(0)).collect();
        Plain {
            shared: some(),
            own: (0..threads).map(|_| some()).collect(),
            publications: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
        }
    }

    /// So many commits by one thread: of each eight four updates and two tries at shared entities or its own, a
    /// transaction over two, and an update of another one.
    pub(crate) fn run(&self, thread: usize, commits: u64, seed: u64) {
        let mut dice = Dice::of(seed);
        let (mut left, mut publications, mut conflicts) = (commits, 0, 0);
        while left > 0 {
            let all = if dice.percent(50) {
                &self.shared
            } else {
                &self.own[thread]
            };
            let number = dice.below(SHARED);
            let (one, other) = (&all[number], &all[(number + 1) % SHARED]);
            let burst = left.min(8);
            for turn in 0..burst {
                match turn {
                    0 | 1 => loop {
                        let (stamp, value) = one.read_with_stamp();
                        if one.try_commit(stamp, value + 1).is_ok() {
                            break;
                        }
                        conflicts += 1;
                    },
                    2 => {
                        transaction(|tx| {
                            tx.update(one, |n| n + 1)?;
                            tx.update(other, |n| n + 1)
                        });
                        publications += 1;
                    }
                    3 => {
                        other.update(|n| n + 1);
                    }
                    _ => {
                        one.update(|n| n + 1);
                    }
                }
            }
            left -= burst;
            publications += burst;
        }
        self.publications.fetch_add(publications, SeqCst);
        self.commits.fetch_add(commits, SeqCst);
        self.conflicts.fetch_add(conflicts, SeqCst);
    }

    /// Asserts that each commit has had its effect, once. Nobody commits meanwhile.
    pub(crate) fn check(&self) {
        let mut sum = 0;
        for entity in self.shared.iter().chain(self.own.iter().flatten()) {
            let end = entity.snapshot();
            assert_eq!(
                *end,
                end.stamp().version(),
                "broken law: each effect has a version of its own"
            );
            sum += *end;
        }
        let told = self.publications.load(SeqCst);
        assert_eq!(sum, told, "broken law: effects are publications");
    }

    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(SeqCst)
    }

    pub(crate) fn conflicts(&self) -> u64 {
        self.conflicts.load(SeqCst)
    }
}

trait ReadWithStamp {
    fn read_with_stamp(&self) -> (snapcell::Stamp, u64);
}

impl ReadWithStamp for Entity<u64> {
    fn read_with_stamp(&self) -> (snapcell::Stamp, u64) {
        let guard = snapcell::pin();
        let loaded = self.load(&guard);
        (loaded.stamp(), *loaded)
    }
}

#[test]
fn plain_commits_are_counted() {
    crate::support::alone(|| {
        let plain = Plain::new(2);
        crate::support::together(2, |thread| plain.run(thread, 4_003, thread as u64));
        plain.check();
        assert_eq!(plain.commits(), 8_006);
        plain.publications.fetch_add(1, SeqCst);
        let message = crate::support::panic_of(|| plain.check());
        assert!(message.contains("effects are publications"), "{message}");
    });
}

//! A payload that is counted, and that nothing of it is left.

use super::payload::Payload;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering::SeqCst};

/// A value whose births and ends are counted, beside something on the heap.
pub(crate) struct Tracked {
    number: Box<u64>,
    /// [`LIVE`] from birth to end.
    mark: u64,
}

const LIVE: u64 = 0x1153_a11e;
static ALIVE: AtomicIsize = AtomicIsize::new(0);
static DEAD_TWICE: AtomicUsize = AtomicUsize::new(0);

impl Payload for Tracked {
    fn make(number: u64) -> Self {
        ALIVE.fetch_add(1, SeqCst);
        Tracked {
            number: Box::new(number),
            mark: LIVE,
        }
    }

    fn number(&self) -> u64 {
        assert!(
            self.mark == LIVE,
            "broken law: somebody saw a value after its end"
        );
        *self.number
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        if self.mark == LIVE {
            self.mark = 0;
            ALIVE.fetch_sub(1, SeqCst);
        } else {
            DEAD_TWICE.fetch_add(1, SeqCst);
        }
    }
}

impl Payload for Arc<Tracked> {
    fn make(number: u64) -> Self {
        Arc::new(Tracked::make(number))
    }

    fn number(&self) -> u64 {
        (**self).number()
    }
}

/// Runs `run`, which has the process for itself, and checks that it leaves nothing behind.
pub(crate) fn alone<R: Send>(run: impl FnOnce() -> R + Send) -> R {
    let mut result = None;
    super::support::alone(|| {
        let (alive, dead_twice) = (ALIVE.load(SeqCst), DEAD_TWICE.load(SeqCst));
        let panics = snapcell::destructor_panics();
        result = Some(run());
        snapcell::reclaim();
        let left = ALIVE.load(SeqCst) - alive;
        assert_eq!(left, 0, "broken law: values were never dropped");
        let twice = DEAD_TWICE.load(SeqCst) - dead_twice;
        assert_eq!(twice, 0, "broken law: values were dropped twice");
        assert_eq!(
            snapcell::destructor_panics(),
            panics,
            "no destructor panics here"
        );
    });
    result.expect("it has run")
}

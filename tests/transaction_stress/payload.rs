//! What is committed: a number, in one shape or another, that notices when it is not whole; and that nothing
//! of it is left.

use std::array;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering::SeqCst};

pub(crate) trait Payload: Send + Sync + 'static {
    /// A value of this number.
    fn make(number: u64) -> Self;

    /// The number of a whole value. Panics otherwise.
    fn number(&self) -> u64;
}

impl Payload for u64 {
    fn make(number: u64) -> Self {
        number
    }

    fn number(&self) -> u64 {
        *self
    }
}

/// Different everywhere, so that pieces of two values don't fit together.
fn at(number: u64, place: usize) -> u64 {
    number.rotate_left(place as u32) ^ place as u64
}

impl Payload for [u64; 16] {
    fn make(number: u64) -> Self {
        array::from_fn(|place| at(number, place))
    }

    fn number(&self) -> u64 {
        let number = self[0];
        let is_whole = (0..16).all(|place| self[place] == at(number, place));
        assert!(
            is_whole,
            "broken law: somebody saw pieces of different values"
        );
        number
    }
}

/// A value whose births and ends are counted, beside something on the heap.
pub(crate) struct Tracked {
    text: Box<str>,
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
            text: number.to_string().into(),
            mark: LIVE,
        }
    }

    fn number(&self) -> u64 {
        assert!(
            self.mark == LIVE,
            "broken law: somebody saw a value after its end"
        );
        self.text.parse().expect("only numbers are written")
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

/// Runs `run`, which has the process for itself, and checks that it leaves nothing behind.
pub(crate) fn alone<R: Send>(run: impl FnOnce() -> R + Send) -> R {
    let mut result = None;
    super::support::alone(|| {
        super::silence_what_is_planned();
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

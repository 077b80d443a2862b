//! What is committed: a number, in one shape or another, that notices when it is not whole; and that nothing
//! of it is left.

use std::array;
use std::sync::Arc;
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

/// The number at a place of a large value: different everywhere, so that pieces of two values don't
/// fit together.
fn at(number: u64, place: usize) -> u64 {
    number.rotate_left(place as u32) ^ place as u64
}

#[track_caller]
fn assert_whole(whole: bool) {
    assert!(whole, "broken law: somebody saw pieces of different values");
}

impl Payload for [u64; 16] {
    fn make(number: u64) -> Self {
        array::from_fn(|place| at(number, place))
    }

    fn number(&self) -> u64 {
        let number = self[0];
        assert_whole((0..16).all(|place| self[place] == at(number, place)));
        number
    }
}

impl Payload for [u8; 1024] {
    fn make(number: u64) -> Self {
        let mut bytes = [0; 1024];
        for (place, chunk) in bytes.chunks_exact_mut(8).enumerate() {
            chunk.copy_from_slice(&at(number, place).to_le_bytes());
        }
        bytes
    }

    fn number(&self) -> u64 {
        let read = |place: usize| {
            let chunk = array::from_fn(|byte| self[8 * place + byte]);
            u64::from_le_bytes(chunk)
        };
        let number = read(0);
        assert_whole((0..128).all(|place| read(place) == at(number, place)));
        number
    }
}

impl Payload for String {
    fn make(number: u64) -> Self {
        format!("{number:x}/{:x}", !number)
    }

    fn number(&self) -> u64 {
        let read = |hex| u64::from_str_radix(hex, 16).ok();
        let halves = self.split_once('/').map(|(a, b)| (read(a), read(b)));
        match halves {
            Some((Some(number), Some(rest))) if rest == !number => number,
            _ => panic!("broken law: somebody saw {self:?}, which nobody wrote"),
        }
    }
}

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

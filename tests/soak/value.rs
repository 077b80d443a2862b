//! What the soak commits, and what its operations capture: both counted from birth to end.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

static BORN: [AtomicU64; KINDS] = [const { AtomicU64::new(0) }; KINDS];
static DEAD: [AtomicU64; KINDS] = [const { AtomicU64::new(0) }; KINDS];

const KINDS: usize = 3;
const VALUE: usize = 0;
const CAPTURED: usize = 1;
const LOOSE: usize = 2;

/// Counted from birth to end. Dying twice, or being seen after the end, is a broken law.
struct Life {
    kind: usize,
    mark: u64,
}

const LIVE: u64 = 0x1153_a11e;

impl Life {
    fn begin(kind: usize) -> Self {
        BORN[kind].fetch_add(1, SeqCst);
        Life { kind, mark: LIVE }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        assert_eq!(self.mark, LIVE, "broken law: dropped twice");
        self.mark = 0;
        DEAD[self.kind].fetch_add(1, SeqCst);
    }
}

fn alive(kind: usize) -> u64 {
    // The ends first: so what is said to be alive was.
    let dead = DEAD[kind].load(SeqCst);
    BORN[kind].load(SeqCst) - dead
}

/// The value of an entity: how many effects it has seen, twice, and on the heap.
pub(crate) struct Value {
    effects: Box<(u64, u64)>,
    life: Life,
}

impl Value {
    pub(crate) fn of(effects: u64) -> Self {
        Value {
            effects: Box::new((effects, !effects)),
            life: Life::begin(VALUE),
        }
    }

    pub(crate) fn effects(&self) -> u64 {
        let (effects, check) = *self.effects;
        let is_whole = self.life.mark == LIVE && effects == !check;
        assert!(
            is_whole,
            "broken law: somebody saw a value that nobody wrote"
        );
        effects
    }

    /// The value after one more effect.
    pub(crate) fn next(&self) -> Self {
        Value::of(self.effects() + 1)
    }

    /// How many live.
    pub(crate) fn alive() -> u64 {
        alive(VALUE)
    }
}

impl Clone for Value {
    fn clone(&self) -> Self {
        Value::of(self.effects())
    }
}

/// What every closure of an operation captures.
pub(crate) struct Captured(#[allow(dead_code, reason = "its end is what counts")] Life);

impl Captured {
    pub(crate) fn new() -> Self {
        Captured(Life::begin(CAPTURED))
    }

    /// For an operation of an engine that is dropped while it is busy: a thread of the engine may be about to let go
    /// of it when all that were submitted have ended.
    pub(crate) fn loose() -> Self {
        Captured(Life::begin(LOOSE))
    }

    /// How many live, and how many loose ones.
    pub(crate) fn alive() -> [u64; 2] {
        [alive(CAPTURED), alive(LOOSE)]
    }
}

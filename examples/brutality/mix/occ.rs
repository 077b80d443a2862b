//! The OCC stress test: 10 % critical, 20 % high, half normal, 20 % low, on two targets. Half of the operations go beside
//! the lanes, so that optimistic commits have something to be optimistic about.
//!
//! The original passes if 95 % succeed, and fewer than half of the attempts are conflicts.

use super::hot::Hot;
use crate::args::Arguments;
use snapcell::Priority;

pub(crate) fn new(arguments: &Arguments) -> Hot {
    Hot::new(arguments, |_, random| match random.below(100) {
        0..10 => Priority::CRITICAL,
        10..30 => Priority::HIGH,
        30..80 => Priority::NORMAL,
        _ => Priority::LOW,
    })
}

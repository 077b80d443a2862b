//! Latencies, whose tails are shown.

use hdrhistogram::Histogram;

/// Of latencies in ns, up to a minute, to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are in order")
}

//! How long things took: counts by length.
//!
//! Lengths of up to eight have a count each; above, each doubling is parted into eight. So a length is known to an
//! eighth, whatever it is, and noting one is a shift and an increment. A histogram has one writer; readers add up
//! those of all.
//!
//! After the idea of Gil Tene's HdrHistogram.
#![forbid(unsafe_code)]

use crate::sync::AtomicU64;
use crate::sync::orderings::site;
use std::fmt;
use std::time::Duration;

/// Each doubling has so many parts, as a power of two.
const PARTS: u32 = 3;
/// The longest that is told apart: 2 to this, in nanoseconds, which is some five hours.
const LONGEST: u32 = 44;
const COUNTS: usize = ((LONGEST - PARTS + 1) << PARTS) as usize;

/// Which count is that of a length.
#[inline]
fn place(length: u64) -> usize {
    let length = length.min((1 << LONGEST) - 1);
    if length < 1 << PARTS {
        return length as usize;
    }
    let doubling = length.ilog2() - PARTS;
    ((doubling as usize) << PARTS) + (length >> doubling) as usize
}

/// The longest length that is counted there.
fn longest(place: usize) -> u64 {
    // There are no others, but in what was stored and read again.
    let place = place.min(COUNTS - 1);
    if place < 1 << PARTS {
        return place as u64;
    }
    let doubling = (place >> PARTS) - 1;
    let part = (place & ((1 << PARTS) - 1)) + (1 << PARTS);
    (((part as u64) + 1) << doubling) - 1
}

/// See the header of this file.
pub(super) struct Histogram {
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
    longest: AtomicU64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Histogram {
            counts: (0..COUNTS).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
            longest: AtomicU64::new(0),
        }
    }

    /// Notes a length. Only for the one writer.
    #[inline]
    pub(super) fn note(&self, length: u64) {
        add(&self.counts[place(length)], 1);
        add(&self.sum, length);
        if length > self.longest.load(site::TALLY_LOAD) {
            self.longest.store(length, site::TALLY_COUNT);
        }
    }

    /// Adds what another one has noted. Only for the one writer.
    pub(super) fn add(&self, other: &Histogram) {
        for (mine, theirs) in self.counts.iter().zip(&other.counts) {
            let more = theirs.load(site::TALLY_LOAD);
            if more > 0 {
                add(mine, more);
            }
        }
        add(&self.sum, other.sum.load(site::TALLY_LOAD));
        let longest = self.longest.load(site::TALLY_LOAD);
        let longest = longest.max(other.longest.load(site::TALLY_LOAD));
        self.longest.store(longest, site::TALLY_COUNT);
    }

    /// Adds what was noted to what was read elsewhere.
    pub(super) fn read(&self, into: &mut Spread) {
        let counts = self.counts.iter().map(|count| count.load(site::TALLY_LOAD));
        into.add(
            counts,
            self.sum.load(site::TALLY_LOAD),
            self.longest.load(site::TALLY_LOAD),
        );
    }
}

/// Adds to a count that nobody else writes.
#[inline]
pub(super) fn add(count: &AtomicU64, more: u64) {
    count.store(
        count.load(site::TALLY_LOAD).wrapping_add(more),
        site::TALLY_COUNT,
    );
}

/// How long something took, each time it happened: to an eighth, but for the longest and the mean, which are exact.
///
/// Spreads can be added up: [`merge`](Spread::merge).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Spread {
    /// By length, up to the last one that isn't 0.
    counts: Vec<u64>,
    sum: u64,
    longest: u64,
}

impl Spread {
    fn add(&mut self, counts: impl Iterator<Item = u64>, sum: u64, longest: u64) {
        for (place, more) in counts.enumerate().filter(|&(_, more)| more > 0) {
            if self.counts.len() <= place {
                self.counts.resize(place + 1, 0);
            }
            self.counts[place] = self.counts[place].saturating_add(more);
        }
        self.sum = self.sum.wrapping_add(sum);
        self.longest = self.longest.max(longest);
    }

    /// Adds another one to it.
    pub fn merge(&mut self, other: &Spread) {
        self.add(other.counts.iter().copied(), other.sum, other.longest);
    }

    /// What was noted since an earlier reading. The longest is that of all.
    #[must_use]
    pub fn since(&self, earlier: &Spread) -> Spread {
        let earlier_ones = earlier.counts.iter().copied().chain(std::iter::repeat(0));
        let counts = self.counts.iter().zip(earlier_ones);
        Spread {
            counts: counts.map(|(now, then)| now.saturating_sub(then)).collect(),
            sum: self.sum.saturating_sub(earlier.sum),
            longest: self.longest,
        }
    }

    /// How often it happened.
    #[must_use]
    pub fn count(&self) -> u64 {
        let add = |sum: u64, more: &u64| sum.saturating_add(*more);
        self.counts.iter().fold(0, add)
    }

    /// How long all took together.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum)
    }

    /// How long it took in the mean. Zero, if it never happened.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.sum.checked_div(self.count()).unwrap_or(0))
    }

    /// The longest.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.longest)
    }

    /// The length that this share of all doesn't exceed: 0.5 is the median. At most an eighth too long, and never
    /// longer than the longest. Zero, if it never happened.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let count = self.count();
        let wanted = ((count as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        for (place, more) in self.counts.iter().enumerate() {
            seen = more.saturating_add(seen);
            if seen >= wanted {
                return Duration::from_nanos(longest(place).min(self.longest));
            }
        }
        Duration::ZERO
    }
}

impl fmt::Display for Spread {
    /// As in `mean 1.2ms, p50 1ms, p95 2ms, p99 3ms, max 3.5ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count() == 0 {
            return f.write_str("never");
        }
        write!(
            f,
            "mean {:.1?}, p50 {:.1?}, p95 {:.1?}, p99 {:.1?}, max {:.1?}",
            self.mean(),
            self.quantile(0.5),
            self.quantile(0.95),
            self.quantile(0.99),
            self.max()
        )
    }
}

#[cfg(all(test, not(any(snapcell_model, snapcell_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_what_lies_between_two_lengths() {
        let mut before = None;
        for place_ in 0..COUNTS {
            let longest = longest(place_);
            assert_eq!(place(longest), place_);
            if let Some(before) = before {
                assert_eq!(place(before + 1), place_, "nothing lies between");
                assert!(longest - before <= 1 + before / 8, "to an eighth");
            }
            before = Some(longest);
        }
        assert_eq!(before, Some((1 << LONGEST) - 1));
        assert_eq!(place(u64::MAX), COUNTS - 1);
    }

    #[test]
    fn a_spread_tells_what_was_noted() {
        let (one, other) = (Histogram::new(), Histogram::new());
        for length in 1..=100 {
            one.note(length * 1_000);
            other.note(length * 1_000_000);
        }
        let mut spread = Spread::default();
        one.read(&mut spread);
        other.read(&mut spread);
        one.add(&other);
        let mut same = Spread::default();
        one.read(&mut same);
        assert_eq!(spread, same);
        assert_eq!(spread.count(), 200);
        assert_eq!(spread.max(), Duration::from_millis(100));
        assert_eq!(spread.sum(), Duration::from_micros(5_050 + 5_050_000));
        let median = spread.quantile(0.5).as_nanos();
        assert!((100_000..=112_500).contains(&median), "{median}");
        assert_eq!(spread.quantile(1.0), spread.max());
        assert_eq!(Spread::default().quantile(0.5), Duration::ZERO);
        assert_eq!(Spread::default().to_string(), "never");
    }
}

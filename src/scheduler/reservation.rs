//! Who should be left alone at an entity: one word that others look at before they commit.
//!
//! An operation that keeps losing, or is too urgent to lose, *claims* the entity for a while. Operations that are
//! less urgent see that and step back. It is advice: no commit fails by it, and who overlooks it does no harm. So
//! all accesses are relaxed, and what matters is that nobody is kept away for long:
//!
//! - A claim has a deadline that is set once, when it is made, and never renewed. A holder that has died keeps
//!   nobody away after it.
//! - Only claims of strictly lower priority are taken over, and only after their grace. So a reservation passes on
//!   at most nine times before it is free or over, and equals neither step back nor take over.
//! - It is cleared by an exchange of one's own claim. Who was taken over clears nothing.
//!
//! # The life of a claim
//! ```text
//!            start            + 1 grace                          + 4 graces
//!              |    protected    |        may be taken over         |
//!              |                 |     by a strictly higher one     |   by anybody
//!              [ ------------------ others step back -------------- )
//! ```
//! The word says the deadline alone. Start and end of the grace follow from it, since the *grace is the same for
//! all who claim one word*: it belongs to the table of policies, not to a class. Should the table be replaced
//! meanwhile, an old claim is judged by the new grace; it ends by its deadline at the latest.
//!
//! # Time
//! Microseconds of the engine's clock, of which the word keeps 40 bits: they come again after 12.7 days. So a claim
//! that was left behind looks as if it were yet to begin, by days. Such a one is none, unless it begins within a
//! minute: whoever looks may have read the clock before it was made, and been held up since. For a minute every 12.7
//! days, then, what was left behind is taken for a claim, and costs others as much as any.
//!
//! The protocol is checked by `loom-tests/scheduler_reservation.rs`.
#![forbid(unsafe_code)]

use super::priority::Priority;
use crate::sync::AtomicU64;
use crate::sync::fault::{Fault, planted};
use crate::sync::orderings::site;
use std::fmt;

const PRIORITY_BITS: u32 = 4;
const TAG_BITS: u32 = 20;
const DEADLINE_BITS: u32 = 40;
const _: () = assert!(
    PRIORITY_BITS + TAG_BITS + DEADLINE_BITS == u64::BITS,
    "a reservation is one word"
);
const _: () = assert!(
    Priority::CRITICAL.get() < 1 << PRIORITY_BITS,
    "every priority fits"
);
const _: () = assert!(
    Priority::BACKGROUND.get() > 0,
    "the word of a claim is never that of a free reservation"
);

const TAG_MASK: u64 = (1 << TAG_BITS) - 1;
const DEADLINE_MASK: u64 = (1 << DEADLINE_BITS) - 1;

/// So many graces after its start a claim is over.
const GRACES: u64 = 4;
/// A day. The whole claim is well below the time that the word can tell.
const LONGEST_GRACE: u64 = 24 * 60 * 60 * 1_000_000;
/// A minute: by so much a claim may begin after the time of whoever looks.
const EARLY: u64 = 60 * 1_000_000;
const _: () = assert!(
    GRACES * LONGEST_GRACE + EARLY < 1 << (DEADLINE_BITS - 1),
    "a claim ends before its time comes again"
);

/// What an operation asks for, set once for its whole life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// How urgent it is, inherited urgency included.
    pub priority: Priority,
    /// Who it is: the lowest 20 bits are used. Should two share them, they don't step back for each other.
    pub tag: u32,
    /// When the operation first reserved its target: its reservations end by that, however often it comes back.
    pub start_us: u64,
    /// How long it is protected: the grace of the table, at most a day. Zero is not at all.
    pub grace_us: u64,
}

impl Claim {
    fn grace(&self) -> u64 {
        self.grace_us.min(LONGEST_GRACE)
    }

    /// How long it is a claim in all.
    fn span(&self) -> u64 {
        if planted(Fault::DeadlineIsGrace) {
            return self.grace();
        }
        GRACES * self.grace()
    }

    /// Whether it is over by then, wherever it is.
    pub(super) fn is_over(&self, now_us: u64) -> bool {
        now_us.saturating_sub(self.start_us) >= self.span()
    }

    /// The word of the claim. The same for its whole life: `now_us` is for a planted fault alone.
    fn word(&self, now_us: u64) -> Word {
        let start = if planted(Fault::RenewReservation) {
            now_us
        } else {
            self.start_us
        };
        Word::new(self.priority, self.tag, start.wrapping_add(self.span()))
    }
}

/// What is in a reservation.
///
/// | bits  | 63 … 60  | 59 … 40 | 39 … 0                         |
/// |-------|----------|---------|--------------------------------|
/// | field | priority | tag     | deadline, µs, wrapping compare |
///
/// 0 is free. No claim is 0, since priorities begin at 1. The priority is the high part, so a larger word is a
/// stronger claim.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

impl Word {
    /// Nobody's.
    const FREE: Word = Word(0);

    fn new(priority: Priority, tag: u32, deadline_us: u64) -> Word {
        let priority = u64::from(priority.get()) << (TAG_BITS + DEADLINE_BITS);
        let tag = (u64::from(tag) & TAG_MASK) << DEADLINE_BITS;
        Word(priority | tag | (deadline_us & DEADLINE_MASK))
    }

    /// 0, if it is free.
    fn priority(self) -> u8 {
        (self.0 >> (TAG_BITS + DEADLINE_BITS)) as u8
    }

    fn tag(self) -> u64 {
        (self.0 >> DEADLINE_BITS) & TAG_MASK
    }

    fn deadline(self) -> u64 {
        self.0 & DEADLINE_MASK
    }

    /// The microseconds until its deadline, if it is somebody's and not over; at most those of a whole claim. What
    /// a whole one is `own` knows.
    fn remaining(self, own: &Claim, now_us: u64) -> Option<u64> {
        let remaining = self.deadline().wrapping_sub(now_us) & DEADLINE_MASK;
        let is_somebodys = self != Word::FREE && remaining <= own.span() + EARLY;
        let remaining = remaining.min(own.span());
        (is_somebodys && remaining > 0).then_some(remaining)
    }

    /// Whether `own` is of the same holder, unless two share a tag.
    fn is_of_holder(self, own: &Claim) -> bool {
        self.tag() == u64::from(own.tag) & TAG_MASK
    }

    /// Whether `own` may take the place of this one.
    #[must_use]
    fn yields_to(self, own: &Claim, now_us: u64) -> bool {
        if planted(Fault::RenewReservation) && self.is_of_holder(own) {
            return true;
        }
        match self.remaining(own, now_us) {
            None => true,
            Some(remaining) => {
                let is_past_grace = own.span() - remaining >= own.grace();
                self.priority() < own.priority.get() && is_past_grace
            }
        }
    }

    /// For how many microseconds at most `own` is to step back, if it is.
    #[must_use]
    fn blocks(self, own: &Claim, now_us: u64) -> Option<u64> {
        let is_stronger = self.priority() > own.priority.get();
        self.remaining(own, now_us)
            .filter(|_| is_stronger && !self.is_of_holder(own))
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Word::FREE {
            return f.write_str("free");
        }
        f.debug_struct("held")
            .field("priority", &self.priority())
            .field("tag", &self.tag())
            .field("deadline_us", &self.deadline())
            .finish()
    }
}

/// Who should be left alone at an entity: see the header of this file.
pub struct Reservation(AtomicU64);

impl Reservation {
    /// A free one.
    #[must_use]
    pub fn new() -> Self {
        Reservation(AtomicU64::new(Word::FREE.0))
    }

    fn look(&self) -> Word {
        Word(self.0.load(site::RESERVATION_LOAD))
    }

    /// Takes the reservation if it is free, or over, or that of somebody less urgent who is past its grace. Whether
    /// `claim` holds it now; `true` also if it already did.
    ///
    /// A claim that is over takes nothing any more, and one of no grace never does.
    ///
    /// # Progress
    /// Wait-free: one exchange. Who loses it to another claim does not hold the reservation, and may ask again.
    pub fn try_take(&self, claim: &Claim, now_us: u64) -> bool {
        let own = claim.word(now_us);
        if own.remaining(claim, now_us).is_none() {
            return false;
        }
        let found = self.look();
        if found == own {
            return true;
        }
        found.yields_to(claim, now_us)
            && self
                .0
                .compare_exchange(found.0, own.0, site::RESERVATION_TAKE)
                .is_ok()
    }

    /// Gives the reservation back, if `claim` still holds it. Whether it did.
    ///
    /// # Progress
    /// Wait-free: one exchange, or none.
    pub fn clear(&self, claim: &Claim) -> bool {
        if planted(Fault::ClearAnyReservation) {
            self.0.store(Word::FREE.0, site::RESERVATION_CLEAR);
            return true;
        }
        let own = claim.word(claim.start_us);
        // Only whoever put it there takes it out. If it is not there, somebody else has taken it over.
        self.0
            .compare_exchange(own.0, Word::FREE.0, site::RESERVATION_CLEAR)
            .is_ok()
    }

    /// Whether somebody strictly more urgent than `own` holds the reservation, and for how many microseconds at most.
    ///
    /// Who steps back for that does so for a limited time in all, and then no more: holders may follow each other.
    ///
    /// # Progress
    /// Wait-free: one load.
    #[must_use]
    #[inline]
    pub fn blocks(&self, own: &Claim, now_us: u64) -> Option<u64> {
        self.look().blocks(own, now_us)
    }

    /// Whether nobody has left anything in it. A claim that is over but was not cleared is something.
    #[must_use]
    #[inline]
    pub fn is_free(&self) -> bool {
        self.look() == Word::FREE
    }
}

impl Default for Reservation {
    fn default() -> Self {
        Reservation::new()
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reservation").field(&self.look()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 ms.
    const GRACE: u64 = 100_000;
    const START: u64 = 1_000_000;

    fn claim(priority: Priority, tag: u32) -> Claim {
        Claim {
            priority,
            tag,
            start_us: START,
            grace_us: GRACE,
        }
    }

    const LOW: u32 = 1;
    const OTHER: u32 = 2;

    #[test]
    fn a_low_one_under_grace_is_left_alone_by_a_critical_one() {
        let low = claim(Priority::LOW, LOW);
        let critical = claim(Priority::CRITICAL, OTHER);
        let reservation = Reservation::new();
        assert!(reservation.try_take(&low, START));
        assert!(!reservation.try_take(&critical, START));
        assert!(!reservation.try_take(&critical, START + GRACE - 1));
    }

    #[test]
    fn grace_ends_exactly_at_its_period() {
        let low = claim(Priority::LOW, LOW);
        let critical = claim(Priority::CRITICAL, OTHER);
        let word = low.word(START);
        assert!(!word.yields_to(&critical, START + GRACE - 1));
        assert!(word.yields_to(&critical, START + GRACE));
        let reservation = Reservation::new();
        assert!(reservation.try_take(&low, START));
        assert!(reservation.try_take(&critical, START + GRACE));
        assert!(
            !reservation.try_take(&low, START + GRACE),
            "it was taken over"
        );
    }

    #[test]
    fn nobody_is_protected_by_a_grace_of_zero() {
        let low = Claim {
            grace_us: 0,
            ..claim(Priority::LOW, LOW)
        };
        let reservation = Reservation::new();
        assert!(!reservation.try_take(&low, START));
        assert!(reservation.is_free(), "so it is never there");
        let background = Claim {
            grace_us: 0,
            ..claim(Priority::BACKGROUND, OTHER)
        };
        assert!(low.word(START).yields_to(&background, START));
        assert_eq!(low.word(START).blocks(&background, START), None);
        assert_eq!(low.word(START).blocks(&background, START - 1), None);
        let before = claim(Priority::LOW, LOW).word(START);
        assert_eq!(before.blocks(&background, START), None, "of a former table");
    }

    #[test]
    fn nobody_is_protected_after_clearing_and_nothing_is_left() {
        let low = claim(Priority::LOW, LOW);
        let background = claim(Priority::BACKGROUND, OTHER);
        let reservation = Reservation::new();
        assert!(reservation.is_free(), "unknown claims are preemptible");
        assert!(reservation.try_take(&low, START));
        assert!(!reservation.is_free());
        assert_eq!(reservation.blocks(&background, START), Some(4 * GRACE));
        reservation.clear(&low);
        assert!(reservation.is_free());
        assert_eq!(reservation.blocks(&background, START), None);
        assert!(reservation.try_take(&background, START));
        reservation.clear(&background);
        assert!(reservation.is_free());
    }

    #[test]
    fn equals_neither_step_back_nor_take_over() {
        let (one, other) = (claim(Priority::HIGH, LOW), claim(Priority::HIGH, OTHER));
        let reservation = Reservation::new();
        assert!(reservation.try_take(&one, START));
        for now in [START, START + GRACE, START + 4 * GRACE - 1] {
            assert!(!reservation.try_take(&other, now));
            assert_eq!(reservation.blocks(&other, now), None);
        }
    }

    #[test]
    fn a_claim_is_over_exactly_at_its_deadline_whoever_asks() {
        let high = claim(Priority::HIGH, LOW);
        let late = Claim {
            start_us: START + 3 * GRACE,
            ..claim(Priority::BACKGROUND, OTHER)
        };
        let deadline = START + 4 * GRACE;
        let reservation = Reservation::new();
        assert!(reservation.try_take(&high, START));
        assert_eq!(reservation.blocks(&late, deadline - 1), Some(1));
        assert!(!reservation.try_take(&late, deadline - 1));
        assert_eq!(reservation.blocks(&late, deadline), None);
        assert!(!reservation.try_take(&high, deadline), "its time is over");
        assert!(reservation.try_take(&late, deadline));
        reservation.clear(&high);
        assert!(!reservation.is_free(), "an old clear erases nobody else's");
        reservation.clear(&late);
        assert!(reservation.is_free());
    }

    #[test]
    fn a_claim_is_never_renewed() {
        let low = claim(Priority::LOW, LOW);
        let background = claim(Priority::BACKGROUND, OTHER);
        let reservation = Reservation::new();
        for now in [START, START + GRACE, START + 3 * GRACE] {
            assert!(reservation.try_take(&low, now), "it holds it already");
            let left = START + 4 * GRACE - now;
            assert_eq!(reservation.blocks(&background, now), Some(left));
        }
        reservation.clear(&low);
        assert!(reservation.try_take(&low, START + 3 * GRACE), "once more");
        assert_eq!(
            reservation.blocks(&background, START + 3 * GRACE),
            Some(GRACE),
            "with what is left of its time"
        );
    }

    #[test]
    fn a_holder_does_not_step_back_for_itself_whatever_its_priority_is_now() {
        let inherited = claim(Priority::CRITICAL, LOW);
        let reservation = Reservation::new();
        assert!(reservation.try_take(&inherited, START));
        assert_eq!(reservation.blocks(&claim(Priority::LOW, LOW), START), None);
    }

    #[test]
    fn a_tag_keeps_its_lowest_20_bits() {
        let long = claim(Priority::LOW, 0xabc1_2345);
        let word = long.word(START);
        assert_eq!(word.tag(), 0x1_2345);
        assert_eq!(word.priority(), 2);
        assert_eq!(word.deadline(), START + 4 * GRACE);
        let reservation = Reservation::new();
        assert!(reservation.try_take(&long, START));
        reservation.clear(&long);
        assert!(reservation.is_free());
        let all = claim(Priority::BACKGROUND, u32::MAX).word(START);
        assert_eq!((all.priority(), all.tag()), (1, TAG_MASK));
    }

    #[test]
    fn a_larger_priority_is_a_larger_word() {
        let end = Claim {
            start_us: DEADLINE_MASK - 4 * GRACE,
            ..claim(Priority::HIGH, u32::MAX)
        };
        assert!(claim(Priority::CRITICAL, 0).word(START).0 > end.word(START).0);
    }

    #[test]
    fn time_may_come_again_within_a_claim() {
        let start_us = (1 << DEADLINE_BITS) - GRACE / 2;
        let low = Claim {
            start_us,
            ..claim(Priority::LOW, LOW)
        };
        let critical = Claim {
            start_us,
            ..claim(Priority::CRITICAL, OTHER)
        };
        let background = claim(Priority::BACKGROUND, OTHER);
        let word = low.word(start_us);
        assert!(word.deadline() < 4 * GRACE, "it wraps");
        assert_eq!(word.blocks(&background, start_us), Some(4 * GRACE));
        assert!(!word.yields_to(&critical, start_us + GRACE - 1));
        assert!(word.yields_to(&critical, start_us + GRACE));
        assert_eq!(word.blocks(&background, start_us + 4 * GRACE - 1), Some(1));
        assert_eq!(word.blocks(&background, start_us + 4 * GRACE), None);
    }

    #[test]
    fn what_was_left_behind_blocks_nobody_when_the_time_comes_again() {
        let dead = claim(Priority::CRITICAL, LOW);
        let word = dead.word(START);
        let background = claim(Priority::BACKGROUND, OTHER);
        let again = START + (1 << DEADLINE_BITS);
        for now in [
            START + 4 * GRACE,
            START + (1 << (DEADLINE_BITS - 1)),
            START + (1 << (DEADLINE_BITS - 1)) + 4 * GRACE + 1,
            again - EARLY - 1,
            again + 4 * GRACE,
        ] {
            assert_eq!(word.blocks(&background, now), None, "{now}");
            assert!(word.yields_to(&background, now));
        }
        assert!(word.blocks(&background, again).is_some(), "as documented");
    }

    #[test]
    fn whoever_has_read_the_clock_too_early_takes_nothing_from_a_later_claim() {
        let later = claim(Priority::LOW, LOW);
        let held_up = Claim {
            start_us: START - GRACE,
            ..claim(Priority::CRITICAL, OTHER)
        };
        let reservation = Reservation::new();
        assert!(reservation.try_take(&later, START));
        assert!(!reservation.try_take(&held_up, START - 1));
        assert!(!reservation.try_take(&held_up, START));
        let background = claim(Priority::BACKGROUND, OTHER);
        assert_eq!(reservation.blocks(&background, START - 1), Some(4 * GRACE));
    }

    #[test]
    fn the_longest_grace_is_a_day() {
        let endless = Claim {
            grace_us: u64::MAX,
            start_us: u64::MAX,
            ..claim(Priority::CRITICAL, LOW)
        };
        let background = Claim {
            grace_us: u64::MAX,
            ..claim(Priority::BACKGROUND, OTHER)
        };
        let word = endless.word(u64::MAX);
        assert_eq!(
            word.blocks(&background, u64::MAX),
            Some(4 * 24 * 60 * 60 * 1_000_000)
        );
    }

    #[test]
    fn a_reservation_shows_its_holder() {
        let reservation = Reservation::new();
        assert_eq!(format!("{reservation:?}"), "Reservation(free)");
        assert!(reservation.try_take(&claim(Priority::LOW, 7), START));
        assert_eq!(
            format!("{reservation:?}"),
            "Reservation(held { priority: 2, tag: 7, deadline_us: 1400000 })"
        );
    }
}

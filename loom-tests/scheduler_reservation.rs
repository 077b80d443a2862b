//! The reservation word: claims against each other, against their end, and against those who take them over.
//!
//! Time is what each thread says it is: a grace is 10 µs, so a claim made at 0 may be taken over from 10 on, and is
//! over at 40. Every model ends with a free word, whoever cleared last.

use crate::support::{model, spawn};
use snapcell::Priority;
use snapcell::internals::{Claim, Reservation};
use std::sync::Arc;

/// A claim of somebody, made at a time.
const fn claim(priority: Priority, tag: u32, start_us: u64) -> Claim {
    Claim {
        priority,
        tag,
        start_us,
        grace_us: 10,
    }
}

/// A reservation that `claim` took when it was made.
fn taken_by(claim: &Claim) -> Arc<Reservation> {
    let reservation = Arc::new(Reservation::new());
    assert!(reservation.try_take(claim, claim.start_us));
    reservation
}

/// Whether those who claim nothing step back, when all of these claims are alive.
fn is_held(reservation: &Reservation, now_us: u64) -> bool {
    let nobody = claim(Priority::BACKGROUND, 9, now_us);
    reservation.blocks(&nobody, now_us).is_some()
}

fn took(took: bool) -> &'static str {
    if took { "took" } else { "refused" }
}

model! {
    /// Past its grace, a low one clears while a critical one takes over, or takes what is free.
    /// Invariant: the old clear doesn't erase the new holder. Where the critical one is refused its exchange met the
    /// clear, and there is nobody.
    an_old_clear {
        bound: None,
        kills: [ClearAnyReservation],
        outcomes: ["took, held", "refused, free"],
    }
    |_| {
        let low = claim(Priority::LOW, 1, 0);
        let critical = claim(Priority::CRITICAL, 2, 10);
        let reservation = taken_by(&low);
        let other = {
            let reservation = Arc::clone(&reservation);
            spawn(move || reservation.try_take(&critical, 10))
        };
        reservation.clear(&low);
        let taken = other.join().unwrap();
        let held = if is_held(&reservation, 10) { "held" } else { "free" };
        reservation.clear(&critical);
        assert!(reservation.is_free());
        format!("{}, {held}", took(taken))
    }
}

model! {
    /// Two equals claim at once, and clear, also if they were refused.
    /// Invariant: one of them holds it, or one after the other; never two.
    two_claims {
        bound: None,
        kills: [ClearAnyReservation],
        outcomes: ["took, took", "took, refused", "refused, took"],
    }
    |_| {
        let reservation = Arc::new(Reservation::new());
        let run = |claim: Claim| {
            let reservation = Arc::clone(&reservation);
            move || {
                let taken = reservation.try_take(&claim, 0);
                if taken {
                    assert!(is_held(&reservation, 0), "nobody takes it from an equal");
                }
                reservation.clear(&claim);
                took(taken)
            }
        };
        let other = spawn(run(claim(Priority::NORMAL, 2, 0)));
        let mine = run(claim(Priority::NORMAL, 1, 0))();
        let theirs = other.join().unwrap();
        assert!(reservation.is_free());
        format!("{mine}, {theirs}")
    }
}

model! {
    /// A holder asks once more, as for another attempt, and dies. Somebody who is less urgent claims when that is over.
    /// Invariant: asking renews nothing, so it is over for everybody when it was to be.
    a_holder_dies {
        bound: None,
        kills: [RenewReservation],
        outcomes: ["held it, took", "had lost it, took"],
    }
    |_| {
        let dead = claim(Priority::HIGH, 1, 0);
        let heir = claim(Priority::BACKGROUND, 2, 40);
        let reservation = taken_by(&dead);
        let holder = {
            let reservation = Arc::clone(&reservation);
            spawn(move || reservation.try_take(&dead, 30))
        };
        let taken = reservation.try_take(&heir, 40);
        let held = if holder.join().unwrap() { "held it" } else { "had lost it" };
        reservation.clear(&heir);
        reservation.clear(&dead);
        assert!(reservation.is_free());
        format!("{held}, {}", took(taken))
    }
}

model! {
    /// Between its grace and its deadline, a holder looks once more and clears, while an equal claims.
    /// Invariant: the equal waits for the clear.
    an_equal_waits {
        bound: None,
        kills: [DeadlineIsGrace],
        outcomes: ["kept, took", "kept, refused"],
    }
    |_| {
        let one = claim(Priority::HIGH, 1, 0);
        let equal = claim(Priority::HIGH, 2, 15);
        let reservation = taken_by(&one);
        let other = {
            let reservation = Arc::clone(&reservation);
            spawn(move || reservation.try_take(&equal, 15))
        };
        let kept = if reservation.try_take(&one, 15) { "kept" } else { "lost" };
        reservation.clear(&one);
        let taken = other.join().unwrap();
        reservation.clear(&equal);
        assert!(reservation.is_free());
        format!("{kept}, {}", took(taken))
    }
}

model! {
    /// Two equals claim what somebody has left behind.
    /// Invariant: exactly one of them gets it.
    two_heirs {
        bound: None,
        kills: [],
        outcomes: ["took, refused", "refused, took"],
    }
    |_| {
        let dead = claim(Priority::CRITICAL, 1, 0);
        let (one, other) = (claim(Priority::LOW, 2, 40), claim(Priority::LOW, 3, 40));
        let reservation = taken_by(&dead);
        let theirs = {
            let reservation = Arc::clone(&reservation);
            spawn(move || reservation.try_take(&other, 40))
        };
        let mine = reservation.try_take(&one, 40);
        let theirs = theirs.join().unwrap();
        reservation.clear(&dead);
        assert!(!reservation.is_free(), "it was the heir's");
        reservation.clear(&one);
        reservation.clear(&other);
        assert!(reservation.is_free());
        format!("{}, {}", took(mine), took(theirs))
    }
}

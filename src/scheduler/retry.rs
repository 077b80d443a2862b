//! What the loser of a race does next: a pure function.
//!
//! [`RetryPolicy::next`] decides from a [`Situation`] alone. It reads no clock and draws no random number: both
//! are handed in, so the same situation has the same answer, whoever asks and when.
//!
//! A delay is computed in three steps, and each keeps what the one before has promised. The formula grows with
//! the retry, and saturates. The cap cuts it. The jitter takes away up to half of the rest, so the cap still
//! holds, and losers of one race don't come back together.
#![forbid(unsafe_code)]

use std::time::Duration;

/// The pauses of the first retry that spins; doubled with each further one.
const FIRST_ROUNDS: u32 = 64;
/// So often they are doubled.
const DOUBLINGS: u32 = 4;
/// Pauses grow no further. At some 40 ns each that is 40 µs: below that a timer costs more than it saves.
const MOST_ROUNDS: u32 = FIRST_ROUNDS << DOUBLINGS;
/// In a factor of one there are so many parts.
const PARTS: f64 = 1000.0;

/// How often, how soon, and with what protection an operation that lost a race tries again.
///
/// The delay before retry `r`, counted from 1, is `base · factor^r`, or `base · r` if it grows
/// [linearly](RetryPolicy::linear), at most the cap; with jitter it is anything from half of that to all of it.
/// The first retries may [spin](RetryPolicy::with_spins) instead, and those that have lost some attempts may be
/// [protected](RetryPolicy::reserving_after) by a reservation.
///
/// # Presets
/// The default is tuned for threads that share memory, where the winner is done within microseconds. The others
/// are the formulas of the system that this crate replaces, which has six side by side: without jitter, cap,
/// spins or reservations, like the originals, for tests and comparisons.
///
/// | preset | delay before retry r | jitter | cap | retries |
/// |---|---|---|---|---|
/// | [`default`](RetryPolicy::default) | spins five times, then 2 µs · 2^r | yes | 1 ms | of the class |
/// | [`reference`](RetryPolicy::reference) | 10 ms · 2^r: 20, 40, 80, 160, 320 ms | no | no | of the class |
/// | [`integration_guide`](RetryPolicy::integration_guide) | 10 ms · 1.5^r | no | no | 10 |
/// | [`configuration_points`](RetryPolicy::configuration_points) | 5 ms · 1.5^r | no | no | 25 |
/// | [`brutality`](RetryPolicy::brutality) | 2 ms · 2^r | no | no | 15 |
/// | [`occ_stress`](RetryPolicy::occ_stress) | 10 ms · r | no | no | 5 |
/// | [`decorator`](RetryPolicy::decorator) | 5 ms · 1.5^r | no | no | 10 |
///
/// # Examples
/// Every knob at once:
/// ```
/// use snapcell::{Next, RetryPolicy, Situation};
/// use std::time::Duration;
///
/// let policy = RetryPolicy::exponential(Duration::from_micros(10), 1.5)
///     .with_cap(Duration::from_millis(1))
///     .with_jitter()
///     .with_spins(2)
///     .with_retries(30)
///     .reserving_after(3);
/// let lost = |attempt| Situation { attempt, retries: 30, entropy: 7, ..Situation::default() };
/// assert_eq!(policy.next(lost(1)), Next::Now, "nobody else is known to be at it");
/// assert!(matches!(policy.next(lost(2)), Next::Spin(_)));
/// assert!(matches!(policy.next(lost(3)), Next::Wait(_)));
/// assert_eq!(policy.next(lost(31)), Next::Exhausted);
/// assert!(policy.reserves(3) && !policy.reserves(2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// In nanoseconds.
    base: u64,
    growth: Growth,
    /// In nanoseconds.
    cap: u64,
    has_jitter: bool,
    spins: u32,
    retries: Option<u32>,
    reserve_after: Option<u32>,
}

/// How a delay grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Growth {
    /// By the retry.
    Linear,
    /// By a factor, in thousandths, with each retry.
    Exponential(u32),
}

/// What a [`RetryPolicy`] decides from: an attempt was lost, and now?
///
/// The default is the situation before the first attempt, of an operation that has no retries left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Situation {
    /// The attempt that was lost, counted from 1; so it is also the retry that would come next. 0 is before the
    /// first attempt.
    pub attempt: u32,
    /// How many retries the operation has in all.
    pub retries: u32,
    /// How long ago the operation was born.
    pub age: Duration,
    /// At which age it expires, if it does.
    pub patience: Option<Duration>,
    /// How many others are known to want the same target.
    pub contention: u32,
    /// Any random number: what jitter is made of.
    pub entropy: u64,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it says when to try again, and whether"]
pub enum Next {
    /// Try again at once.
    Now,
    /// Spend so many pauses of the processor, some 40 ns each, and try again. Less than a timer would cost.
    Spin(u32),
    /// Stay away so long, and try again.
    Wait(Duration),
    /// Don't: all retries are used up.
    Exhausted,
    /// Don't: the operation's patience is over.
    Expired,
}

impl Next {
    /// Whether there will be no other attempt.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self, Next::Exhausted | Next::Expired)
    }

    /// How long it stays away, not counting what it only spins.
    #[must_use]
    pub const fn delay(&self) -> Duration {
        match *self {
            Next::Wait(long) => long,
            _ => Duration::ZERO,
        }
    }
}

/// A delay was asked for before the first attempt, which is no retry: they are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("retries are counted from 1: there is no delay before retry 0")]
pub struct DelayError;

/// Spins five times, from 2 µs to 40 µs; then 2 µs · 2^r with jitter, at most 1 ms. Protected after 4 lost attempts.
impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy::exponential(Duration::from_micros(2), 2.0)
            .with_cap(Duration::from_millis(1))
            .with_jitter()
            .with_spins(5)
            .reserving_after(4)
    }
}

impl RetryPolicy {
    /// `base · factor^r` before retry `r`.
    ///
    /// # Units
    /// A factor has three decimals, and is at least 1: smaller ones count as 1. A base of more than 584 years
    /// counts as so many.
    pub fn exponential(base: Duration, factor: f64) -> Self {
        // `max` drops a factor that is no number, and the conversion stops at the largest of its type.
        let thousandths = (factor.max(1.0) * PARTS).round() as u32;
        RetryPolicy::of(base, Growth::Exponential(thousandths))
    }

    /// `base · r` before retry `r`.
    pub fn linear(base: Duration) -> Self {
        RetryPolicy::of(base, Growth::Linear)
    }

    fn of(base: Duration, growth: Growth) -> Self {
        RetryPolicy {
            base: nanoseconds(base),
            growth,
            cap: u64::MAX,
            has_jitter: false,
            spins: 0,
            retries: None,
            reserve_after: None,
        }
    }

    /// 10 ms · 2^r; the retries are those of the class. The formula of the first solution, `get_backoff_delay`, and
    /// the tutorial.
    pub fn reference() -> Self {
        RetryPolicy::exponential(Duration::from_millis(10), 2.0)
    }

    /// 10 ms · 1.5^r, 10 retries. The formula of the integration guide.
    pub fn integration_guide() -> Self {
        RetryPolicy::exponential(Duration::from_millis(10), 1.5).with_retries(10)
    }

    /// 5 ms · 1.5^r, 25 retries. The three constants that are told of as configuration points.
    pub fn configuration_points() -> Self {
        RetryPolicy::exponential(Duration::from_millis(5), 1.5).with_retries(25)
    }

    /// 2 ms · 2^r, 15 retries. The formula of the brutality test; with 10 retries that of the manual decorator test.
    pub fn brutality() -> Self {
        RetryPolicy::exponential(Duration::from_millis(2), 2.0).with_retries(15)
    }

    /// 10 ms · r, 5 retries. The formula of the OCC stress test.
    pub fn occ_stress() -> Self {
        RetryPolicy::linear(Duration::from_millis(10)).with_retries(5)
    }

    /// 5 ms · 1.5^r, 10 retries. The numbers of the decorator's configuration.
    pub fn decorator() -> Self {
        RetryPolicy::exponential(Duration::from_millis(5), 1.5).with_retries(10)
    }

    /// No delay is longer than this, jitter included. Default: none.
    pub fn with_cap(mut self, cap: Duration) -> Self {
        self.cap = nanoseconds(cap);
        self
    }

    /// Delays, and spins, are anything from half of what they were to all of it. Default: they are not.
    pub fn with_jitter(mut self) -> Self {
        self.has_jitter = true;
        self
    }

    /// The first `retries` retries spin rather than wait: 64 pauses of the processor before the first one, twice
    /// as many before each further one, times the others who want the same target, and at most 1024, some 40 µs. If
    /// nobody else is known to want it the first one comes at once. Default: 0.
    pub fn with_spins(mut self, retries: u32) -> Self {
        self.spins = retries;
        self
    }

    /// The number of retries that goes with the formula. A class that takes the policy
    /// ([`ClassPolicy::with_retry`](crate::ClassPolicy::with_retry)) takes it as well. Default: none, the class
    /// keeps its own.
    pub fn with_retries(mut self, retries: u32) -> Self {
        self.retries = Some(retries);
        self
    }

    /// Attempts are made under a reservation once `lost` of them were lost; 0 protects the first one. Default:
    /// they never are.
    pub fn reserving_after(mut self, lost: u32) -> Self {
        self.reserve_after = Some(lost);
        self
    }

    /// Attempts are never made under a reservation. The default but for [`RetryPolicy::default`].
    pub fn never_reserving(mut self) -> Self {
        self.reserve_after = None;
        self
    }

    /// The number of retries that goes with the formula, if one does.
    #[must_use]
    pub fn retries(&self) -> Option<u32> {
        self.retries
    }

    /// Whether the next attempt is to be made under a reservation, after so many were lost.
    #[must_use]
    pub fn reserves(&self, lost: u32) -> bool {
        self.reserve_after.is_some_and(|after| lost >= after)
    }

    /// How long to stay away before a retry, counted from 1, without jitter; whether or not it would spin.
    ///
    /// # Errors
    /// [`DelayError`] for retry 0.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{DelayError, RetryPolicy};
    ///
    /// let delays = (1..=5).map(|retry| RetryPolicy::reference().delay(retry).unwrap().as_millis());
    /// assert_eq!(delays.collect::<Vec<_>>(), [20, 40, 80, 160, 320]);
    /// assert_eq!(RetryPolicy::reference().delay(0), Err(DelayError));
    /// ```
    pub fn delay(&self, retry: u32) -> Result<Duration, DelayError> {
        match retry {
            0 => Err(DelayError),
            _ => Ok(Duration::from_nanos(self.nanoseconds_before(retry))),
        }
    }

    /// The delay without jitter. It saturates at 584 years.
    fn nanoseconds_before(&self, retry: u32) -> u64 {
        let delay = match self.growth {
            Growth::Linear => self.base.saturating_mul(u64::from(retry)),
            // An infinite power of zero is no number, which the conversion makes zero.
            Growth::Exponential(thousandths) => {
                (self.base as f64 * power(f64::from(thousandths) / PARTS, retry)) as u64
            }
        };
        delay.min(self.cap)
    }

    /// What to do after a lost attempt, or before the first one.
    ///
    /// A wait ends with the patience at the latest: there is one more attempt at its very end.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Next, RetryPolicy, Situation};
    /// use std::time::Duration;
    ///
    /// let situation = Situation {
    ///     attempt: 3,
    ///     retries: 5,
    ///     age: Duration::from_millis(70),
    ///     patience: Some(Duration::from_millis(100)),
    ///     ..Situation::default()
    /// };
    /// assert_eq!(RetryPolicy::reference().next(situation), Next::Wait(Duration::from_millis(30)));
    /// ```
    pub fn next(&self, situation: Situation) -> Next {
        let Situation {
            attempt, patience, ..
        } = situation;
        let left = patience.map(|patience| patience.saturating_sub(situation.age));
        if left == Some(Duration::ZERO) {
            return Next::Expired;
        }
        if attempt == 0 {
            return Next::Now;
        }
        if attempt > situation.retries {
            return Next::Exhausted;
        }
        if attempt <= self.spins {
            return self.spin(situation);
        }
        let delay = self.jitter(self.nanoseconds_before(attempt), situation.entropy);
        let delay = Duration::from_nanos(delay);
        match left.map_or(delay, |left| delay.min(left)) {
            Duration::ZERO => Next::Now,
            delay => Next::Wait(delay),
        }
    }

    fn spin(&self, situation: Situation) -> Next {
        if situation.attempt == 1 && situation.contention == 0 {
            // Whoever won is done.
            return Next::Now;
        }
        let rounds = FIRST_ROUNDS << (situation.attempt - 1).min(DOUBLINGS);
        let rounds = rounds.saturating_mul(situation.contention.max(1));
        let rounds = u64::from(rounds.min(MOST_ROUNDS));
        // Not more than it was, so it still fits.
        Next::Spin(self.jitter(rounds, situation.entropy) as u32)
    }

    /// From half of it to all of it, as the entropy says.
    fn jitter(&self, whole: u64, entropy: u64) -> u64 {
        if !self.has_jitter {
            return whole;
        }
        // The high half of the product is evenly from 0 to `whole / 2`.
        let choices = u128::from(whole / 2 + 1);
        whole - ((choices * u128::from(entropy)) >> u64::BITS) as u64
    }
}

/// By squaring, so that it takes 32 steps whatever the exponent, and has the same result on every machine, which
/// `powi` does not promise.
fn power(mut base: f64, mut exponent: u32) -> f64 {
    let mut power = 1.0;
    while exponent > 0 {
        if exponent % 2 == 1 {
            power *= base;
        }
        base *= base;
        exponent /= 2;
    }
    power
}

/// 584 years and longer are all the same.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn millis(policy: &RetryPolicy, retries: impl Iterator<Item = u32>) -> Vec<f64> {
        let delays = retries.map(|retry| policy.delay(retry).expect("it is a retry"));
        delays.map(|delay| delay.as_nanos() as f64 / 1e6).collect()
    }

    fn lost(attempt: u32, retries: u32) -> Situation {
        Situation {
            attempt,
            retries,
            ..Situation::default()
        }
    }

    #[test]
    fn the_presets_are_the_formulas_of_the_reference() {
        let presets = [
            (RetryPolicy::reference(), None, [20.0, 40.0, 80.0]),
            (
                RetryPolicy::integration_guide(),
                Some(10),
                [15.0, 22.5, 33.75],
            ),
            (
                RetryPolicy::configuration_points(),
                Some(25),
                [7.5, 11.25, 16.875],
            ),
            (RetryPolicy::brutality(), Some(15), [4.0, 8.0, 16.0]),
            (RetryPolicy::occ_stress(), Some(5), [10.0, 20.0, 30.0]),
            (RetryPolicy::decorator(), Some(10), [7.5, 11.25, 16.875]),
        ];
        for (preset, retries, delays) in presets {
            assert_eq!(millis(&preset, 1..=3), delays, "{preset:?}");
            assert_eq!(preset.retries(), retries);
            assert!(!preset.reserves(u32::MAX));
        }
        let structural = RetryPolicy::reference().delay(20);
        assert_eq!(
            structural,
            Ok(Duration::from_millis(10_485_760)),
            "2.9 hours"
        );
        let sum: Duration = (1..=13)
            .map(|retry| {
                RetryPolicy::brutality()
                    .delay(retry)
                    .expect("it is a retry")
            })
            .sum();
        assert_eq!(sum, Duration::from_millis(32_764));
    }

    #[test]
    fn five_retries_of_the_reference_are_allowed_and_then_none() {
        let policy = RetryPolicy::reference();
        let next: Vec<_> = (1..=6)
            .map(|attempt| policy.next(lost(attempt, 5)))
            .collect();
        let wait = |ms| Next::Wait(Duration::from_millis(ms));
        assert_eq!(
            next,
            [
                wait(20),
                wait(40),
                wait(80),
                wait(160),
                wait(320),
                Next::Exhausted
            ]
        );
        assert!(Next::Exhausted.is_over() && Next::Expired.is_over() && !wait(20).is_over());
    }

    #[test]
    fn there_is_no_delay_before_retry_0() {
        assert_eq!(RetryPolicy::default().delay(0), Err(DelayError));
        assert_eq!(RetryPolicy::default().next(lost(0, 0)), Next::Now);
    }

    #[test]
    fn without_retries_the_first_loss_is_the_last() {
        assert_eq!(RetryPolicy::default().next(lost(1, 0)), Next::Exhausted);
    }

    #[test]
    fn the_default_spins_first_and_waits_no_longer_than_its_cap() {
        let policy = RetryPolicy::default();
        let with = |attempt, contention, entropy| Situation {
            contention,
            entropy,
            ..lost(attempt, u32::MAX)
        };
        assert_eq!(policy.next(with(1, 0, 0)), Next::Now);
        let rounds = [64, 128, 256, 512, 1024];
        for (attempt, most) in (1..).zip(rounds) {
            assert_eq!(policy.next(with(attempt, 1, 0)), Next::Spin(most));
            assert_eq!(
                policy.next(with(attempt, 1, u64::MAX)),
                Next::Spin(most / 2)
            );
            let crowded = policy.next(with(attempt, u32::MAX, 0));
            assert_eq!(crowded, Next::Spin(MOST_ROUNDS));
        }
        let wait = |us| Next::Wait(Duration::from_micros(us));
        assert_eq!(policy.next(with(6, 0, 0)), wait(128));
        assert_eq!(policy.next(with(6, 0, u64::MAX)), wait(64));
        assert_eq!(policy.next(with(u32::MAX, 0, 0)), wait(1000));
    }

    #[test]
    fn many_spins_do_not_overflow() {
        let policy = RetryPolicy::default().with_spins(u32::MAX);
        let situation = Situation {
            contention: u32::MAX,
            ..lost(u32::MAX, u32::MAX)
        };
        assert_eq!(policy.next(situation), Next::Spin(MOST_ROUNDS));
    }

    #[test]
    fn patience_ends_exactly_at_its_age_and_a_wait_with_it() {
        let policy = RetryPolicy::reference();
        let aged = |ms| Situation {
            age: Duration::from_millis(ms),
            patience: Some(Duration::from_millis(100)),
            ..lost(3, 5)
        };
        let wait = |ms| Next::Wait(Duration::from_millis(ms));
        assert_eq!(policy.next(aged(20)), wait(80));
        assert_eq!(policy.next(aged(99)), wait(1));
        assert_eq!(policy.next(aged(100)), Next::Expired);
        let first = Situation {
            attempt: 0,
            ..aged(100)
        };
        assert_eq!(
            policy.next(first),
            Next::Expired,
            "the first attempt comes too late"
        );
    }

    #[test]
    fn a_reservation_is_taken_after_as_many_losses_as_the_policy_says() {
        assert!(RetryPolicy::reference().reserving_after(0).reserves(0));
        assert!(!RetryPolicy::default().reserves(3));
        assert!(RetryPolicy::default().reserves(4));
        assert!(!RetryPolicy::default().never_reserving().reserves(u32::MAX));
    }

    #[test]
    fn a_factor_that_is_no_factor_counts_as_one() {
        let base = Duration::from_millis(3);
        for factor in [0.0, -1.0, 0.999, f64::NAN, f64::NEG_INFINITY] {
            let policy = RetryPolicy::exponential(base, factor);
            assert_eq!(policy.delay(u32::MAX), Ok(base), "{factor}");
        }
        let policy = RetryPolicy::exponential(base, f64::INFINITY);
        assert_eq!(policy.delay(u32::MAX), Ok(Duration::from_nanos(u64::MAX)));
    }

    #[test]
    fn no_base_is_no_delay() {
        for policy in [
            RetryPolicy::exponential(Duration::ZERO, 2.0),
            RetryPolicy::linear(Duration::ZERO),
        ] {
            assert_eq!(policy.delay(u32::MAX), Ok(Duration::ZERO));
            assert_eq!(policy.next(lost(7, 10)), Next::Now);
        }
    }

    fn policies() -> impl Strategy<Value = RetryPolicy> {
        let growth = prop_oneof![
            Just(Growth::Linear),
            (1000..=5000_u32).prop_map(Growth::Exponential),
            any::<u32>().prop_map(|parts| Growth::Exponential(parts.max(1000))),
        ];
        let nanoseconds = || prop_oneof![any::<u64>(), 0..100_000_000_u64];
        (
            nanoseconds(),
            growth,
            nanoseconds(),
            any::<bool>(),
            0..10_u32,
        )
            .prop_map(|(base, growth, cap, has_jitter, spins)| RetryPolicy {
                base,
                growth,
                cap,
                has_jitter,
                spins,
                retries: None,
                reserve_after: None,
            })
    }

    fn attempts() -> impl Strategy<Value = u32> {
        prop_oneof![1..70_u32, any::<u32>()]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_cap_holds_and_jitter_takes_no_more_than_half(
            policy in policies(), attempt in attempts(), contention: u32, entropy: u64,
        ) {
            let situation = Situation { contention, entropy, ..lost(attempt, u32::MAX) };
            match policy.next(situation) {
                Next::Wait(delay) => {
                    prop_assert!(delay <= Duration::from_nanos(policy.cap));
                    let whole = policy.delay(attempt).unwrap_or_default();
                    prop_assert!(delay <= whole && delay >= whole / 2);
                    prop_assert!(policy.has_jitter || delay == whole);
                }
                Next::Spin(rounds) => prop_assert!((1..=MOST_ROUNDS).contains(&rounds)),
                next => prop_assert_eq!(next, Next::Now),
            }
        }

        #[test]
        fn delays_never_shrink_without_jitter(
            policy in policies(), one in attempts(), other in attempts(),
        ) {
            let delay = |retry| policy.delay(retry).map_err(|error| TestCaseError::fail(error.to_string()));
            let (earlier, later) = (one.min(other), one.max(other));
            prop_assert!(delay(earlier)? <= delay(later)?);
            prop_assert!(delay(earlier)? <= delay(earlier.saturating_add(1))?);
        }

        #[test]
        fn the_same_situation_has_the_same_answer(
            policy in policies(), attempt in attempts(), retries: u32, contention: u32, entropy: u64,
        ) {
            let situation = Situation { contention, entropy, ..lost(attempt, retries) };
            prop_assert_eq!(policy.next(situation), policy.clone().next(situation));
            prop_assert_eq!(policy.next(situation) == Next::Exhausted, attempt > retries);
        }
    }
}

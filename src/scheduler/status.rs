//! How far an operation is: one word, and the only ways it may change.
//!
//! ```text
//! pending ──start──▶ executing ──succeed──▶ succeeded
//!    │ ▲                │ │ └────fail─────▶ failed
//!    │ └─────retry──────┤ ├─────reject────▶ rejected
//!    ├──reject──▶ rejected └───cancel─────▶ cancelled
//!    └──cancel──▶ cancelled
//! ```
//! Each transition is a pure function from one status to the next, which refuses what is illegal; an operation
//! changes its status by one compare-and-exchange from the status that the transition was computed from. So no
//! status comes about in any other way.
#![forbid(unsafe_code)]

use super::priority::Priority;
use std::fmt;

/// Where an operation is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum State {
    /// It waits for its turn.
    Pending,
    /// It runs.
    Executing,
    /// It is done. Its change is committed, or there was nothing to change.
    Succeeded,
    /// Its closure returned an error or panicked, or its value was refused.
    Failed,
    /// The scheduler has ended it, and says why.
    Rejected,
    /// Whoever submitted it has ended it, or the engine was shut down.
    Cancelled,
}

impl State {
    /// Whether nothing comes after it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, State::Pending | State::Executing)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Pending => "pending",
            State::Executing => "executing",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Rejected => "rejected",
            State::Cancelled => "cancelled",
        })
    }
}

/// The status of an operation: its state, how often it was tried again, and how important it is now.
///
/// # Examples
/// ```
/// use snapcell::{Priority, State, Status};
///
/// let born = Status::new(Priority::NORMAL);
/// let tried = born.start()?.retry(5)?;
/// assert_eq!((tried.state(), tried.retries()), (State::Pending, 1));
/// let done = tried.start()?.succeed()?;
/// assert_eq!(done.to_string(), "succeeded, priority 5, 1 retry");
/// assert!(done.start().is_err(), "an operation that is done stays so");
/// # Ok::<(), snapcell::IllegalTransition>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status {
    pub(super) state: State,
    pub(super) priority: Priority,
    pub(super) retries: u32,
    /// Somebody wants to be woken when it is done.
    pub(super) awaited: bool,
    /// Somebody wants it to end, and came too late to end it.
    pub(super) unwanted: bool,
}

/// | bits | 60 … 29 | 8 | 7 | 6 … 3 | 2 … 0 |
/// |---|---|---|---|---|---|
/// | field | retries | unwanted | awaited | priority | state |
///
/// Those above belong to what holds the word (`raw/answer.rs`).
const PRIORITY: u32 = 3;
const AWAITED: u64 = 1 << 7;
const UNWANTED: u64 = 1 << 8;
const RETRIES: u32 = 29;
const _: () = assert!(RETRIES + u32::BITS <= u64::BITS - crate::raw::RESERVED_BITS);

impl Status {
    /// An operation that waits for its turn.
    #[must_use]
    pub const fn new(priority: Priority) -> Self {
        Status {
            state: State::Pending,
            priority,
            retries: 0,
            awaited: false,
            unwanted: false,
        }
    }

    /// Where it is on its way.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// How important it is now: its own priority, or a higher one of who depends on it.
    #[must_use]
    pub const fn priority(&self) -> Priority {
        self.priority
    }

    /// How often it was tried again.
    #[must_use]
    pub const fn retries(&self) -> u32 {
        self.retries
    }

    /// It runs. From pending.
    ///
    /// # Errors
    /// [`IllegalTransition`]; here and below.
    pub fn start(self) -> Result<Self, IllegalTransition> {
        self.go(State::Executing, self.state == State::Pending)
    }

    /// It is done. From executing.
    pub fn succeed(self) -> Result<Self, IllegalTransition> {
        self.go(State::Succeeded, self.state == State::Executing)
    }

    /// It is of no use. From executing.
    pub fn fail(self) -> Result<Self, IllegalTransition> {
        self.go(State::Failed, self.state == State::Executing)
    }

    /// It waits for its turn once more. From pending, executing or failed, if it was tried again less often than
    /// its budget allows; otherwise the transition is refused, and [`IllegalTransition::is_exhausted`].
    pub fn retry(self, budget: u32) -> Result<Self, IllegalTransition> {
        let is_legal = matches!(
            self.state,
            State::Pending | State::Executing | State::Failed
        );
        if is_legal && self.retries >= budget {
            return Err(IllegalTransition {
                from: self.state,
                to: State::Pending,
                exhausted: Some(budget),
            });
        }
        let again = self.go(State::Pending, is_legal)?;
        Ok(Status {
            retries: again.retries + 1,
            ..again
        })
    }

    /// It waits for its turn, without an attempt that was lost. From executing.
    pub(super) fn wait(self) -> Result<Self, IllegalTransition> {
        self.go(State::Pending, self.state == State::Executing)
    }

    /// The scheduler ends it. From pending or executing, or from failed when its budget is used up.
    pub fn reject(self) -> Result<Self, IllegalTransition> {
        let is_legal = matches!(
            self.state,
            State::Pending | State::Executing | State::Failed
        );
        self.go(State::Rejected, is_legal)
    }

    /// Somebody ends it. From pending, or from executing, between two attempts.
    pub fn cancel(self) -> Result<Self, IllegalTransition> {
        self.go(State::Cancelled, !self.state.is_final())
    }

    /// It is as important as this. Before it is done.
    pub fn prioritize(self, priority: Priority) -> Result<Self, IllegalTransition> {
        let same = self.go(self.state, !self.state.is_final())?;
        Ok(Status { priority, ..same })
    }

    fn go(self, to: State, is_legal: bool) -> Result<Self, IllegalTransition> {
        if is_legal {
            Ok(Status { state: to, ..self })
        } else {
            Err(IllegalTransition {
                from: self.state,
                to,
                exhausted: None,
            })
        }
    }

    /// As a word.
    pub(super) fn pack(self) -> u64 {
        let mut word = self.state as u64
            | u64::from(self.priority.get()) << PRIORITY
            | u64::from(self.retries) << RETRIES;
        if self.awaited {
            word |= AWAITED;
        }
        if self.unwanted {
            word |= UNWANTED;
        }
        word
    }

    /// What [`pack`](Status::pack) has packed.
    pub(super) fn unpack(word: u64) -> Self {
        const STATES: [State; 6] = [
            State::Pending,
            State::Executing,
            State::Succeeded,
            State::Failed,
            State::Rejected,
            State::Cancelled,
        ];
        let priority = (word >> PRIORITY & 0b1111) as u8;
        Status {
            state: STATES[(word & 0b111) as usize],
            priority: Priority::new(priority).expect("only priorities are packed"),
            retries: (word >> RETRIES) as u32,
            awaited: word & AWAITED != 0,
            unwanted: word & UNWANTED != 0,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Status {
            state,
            priority,
            retries,
            ..
        } = self;
        let noun = if *retries == 1 { "retry" } else { "retries" };
        write!(f, "{state}, priority {}, {retries} {noun}", priority.get())
    }
}

/// An operation can't go from one state to the other. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IllegalTransition {
    from: State,
    to: State,
    exhausted: Option<u32>,
}

impl IllegalTransition {
    /// The state that it is in.
    #[must_use]
    pub const fn from(&self) -> State {
        self.from
    }

    /// The state that it was to go to.
    #[must_use]
    pub const fn to(&self) -> State {
        self.to
    }

    /// Whether it could, if its budget of retries were not used up.
    #[must_use]
    pub const fn is_exhausted(&self) -> bool {
        self.exhausted.is_some()
    }
}

impl fmt::Display for IllegalTransition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.exhausted {
            Some(budget) => write!(f, "Max retries ({budget}) exceeded"),
            None => write!(
                f,
                "an operation that is {} can't become {}",
                self.from, self.to
            ),
        }
    }
}

impl std::error::Error for IllegalTransition {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_what_was_packed() {
        for state in [State::Pending, State::Executing, State::Cancelled] {
            for retries in [0, 1, u32::MAX] {
                for (awaited, unwanted) in [(false, true), (true, false)] {
                    let status = Status {
                        state,
                        priority: Priority::CRITICAL,
                        retries,
                        awaited,
                        unwanted,
                    };
                    assert_eq!(Status::unpack(status.pack()), status);
                }
            }
        }
    }
}

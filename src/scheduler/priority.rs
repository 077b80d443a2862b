//! How urgent an operation is: a number from 1 to 10.
#![forbid(unsafe_code)]

use std::fmt;

/// How urgent an operation is, from 1 to 10. The larger one goes first.
///
/// | constant | number |
/// |---|---|
/// | [`CRITICAL`](Priority::CRITICAL) | 10 |
/// | [`HIGH`](Priority::HIGH) | 8 |
/// | [`NORMAL`](Priority::NORMAL), the default | 5 |
/// | [`LOW`](Priority::LOW) | 2 |
/// | [`BACKGROUND`](Priority::BACKGROUND) | 1 |
///
/// # Examples
/// ```
/// use snapcell::{Priority, PriorityError};
///
/// assert!(Priority::CRITICAL > Priority::HIGH);
/// assert_eq!(Priority::new(5), Ok(Priority::NORMAL));
/// assert_eq!(Priority::new(11), Err(PriorityError(11)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// The highest, 10. Whatever waits never ages into it.
    pub const CRITICAL: Priority = Priority(10);
    /// 8.
    pub const HIGH: Priority = Priority(8);
    /// 5.
    pub const NORMAL: Priority = Priority(5);
    /// 2.
    pub const LOW: Priority = Priority(2);
    /// The lowest, 1.
    pub const BACKGROUND: Priority = Priority(1);

    /// The priority of a number.
    ///
    /// # Errors
    /// [`PriorityError`], if the number is not from 1 to 10.
    pub const fn new(number: u8) -> Result<Priority, PriorityError> {
        if number < Priority::BACKGROUND.0 || number > Priority::CRITICAL.0 {
            return Err(PriorityError(number));
        }
        Ok(Priority(number))
    }

    /// Its number, from 1 to 10.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// [`Priority::NORMAL`].
impl Default for Priority {
    fn default() -> Self {
        Priority::NORMAL
    }
}

impl TryFrom<u8> for Priority {
    type Error = PriorityError;

    fn try_from(number: u8) -> Result<Self, PriorityError> {
        Priority::new(number)
    }
}

impl From<Priority> for u8 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}

/// The number, padded as it is asked for.
impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Priority({})", self.0)
    }
}

/// A number that is no [`Priority`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a priority is a number from 1 to 10, not {0}")]
pub struct PriorityError(pub u8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_numbers_from_1_to_10_are_priorities() {
        for number in 0..=u8::MAX {
            let priority = Priority::try_from(number);
            if (1..=10).contains(&number) {
                assert_eq!(priority.map(Priority::get), Ok(number));
            } else {
                assert_eq!(priority, Err(PriorityError(number)));
            }
        }
    }

    #[test]
    fn the_names_stand_for_the_numbers_of_the_reference() {
        let names = [
            Priority::BACKGROUND,
            Priority::LOW,
            Priority::NORMAL,
            Priority::HIGH,
            Priority::CRITICAL,
        ];
        assert_eq!(names.map(u8::from), [1, 2, 5, 8, 10]);
        assert!(names.is_sorted());
        assert_eq!(Priority::default(), Priority::NORMAL);
    }

    #[test]
    fn a_priority_shows_its_number_and_an_error_the_bounds() {
        assert_eq!(Priority::HIGH.to_string(), "8");
        assert_eq!(format!("{:>3}", Priority::HIGH), "  8");
        assert_eq!(format!("{:?}", Priority::HIGH), "Priority(8)");
        assert_eq!(
            PriorityError(0).to_string(),
            "a priority is a number from 1 to 10, not 0"
        );
    }
}

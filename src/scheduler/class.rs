//! Which classes of operations there are, and what each allows.
//!
//! A class is a row of a table, and an operation names it by its place there. A table is a plain value: it is
//! made, checked with every change, and then read by all. What no row may be is refused when it is entered, so
//! nobody checks a row again.
#![forbid(unsafe_code)]

use super::priority::Priority;
use super::retry::RetryPolicy;
use std::borrow::Cow;
use std::time::Duration;

/// The class of an operation: a row of the [`Policies`] that it was added to.
///
/// The three classes that every table begins with have names. Others are given out by [`Policies::add`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class(u8);

impl Class {
    /// What changes the shape of something: urgent, and patient.
    pub const STRUCTURAL: Class = Class(0);
    /// The ordinary, and the default.
    pub const NORMAL: Class = Class(1);
    /// What may wait.
    pub const LOW: Class = Class(2);

    /// The row, counted from 0.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// [`Class::NORMAL`].
impl Default for Class {
    fn default() -> Self {
        Class::NORMAL
    }
}

/// What operations of a class are like, and what they may be.
///
/// # Examples
/// Every knob at once:
/// ```
/// use snapcell::{ClassPolicy, Policies, Priority, RetryPolicy};
/// use std::time::Duration;
///
/// let audit = ClassPolicy::new("audit")
///     .with_priority(Priority::LOW)
///     .at_least(Priority::BACKGROUND)
///     .at_most(Priority::NORMAL)
///     .with_retry(RetryPolicy::brutality())
///     .with_retries(8)
///     .with_patience(Duration::from_secs(1));
/// assert!(audit.admit(Priority::HIGH).is_err());
///
/// let mut policies = Policies::default();
/// let class = policies.add(audit)?;
/// assert_eq!(policies.get(class).map(|policy| policy.retries()), Some(8));
/// # Ok::<(), snapcell::PolicyError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a policy does nothing until it is in a table"]
pub struct ClassPolicy {
    name: Cow<'static, str>,
    priority: Priority,
    floor: Option<Priority>,
    ceiling: Option<Priority>,
    retries: u32,
    patience: Option<Duration>,
    retry: RetryPolicy,
}

impl ClassPolicy {
    /// A class of this name: normal priority, which nothing bounds, 5 retries by [`RetryPolicy::default`], and
    /// endless patience.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        ClassPolicy {
            name: name.into(),
            priority: Priority::NORMAL,
            floor: None,
            ceiling: None,
            retries: 5,
            patience: None,
            retry: RetryPolicy::default(),
        }
    }

    /// Priority 10, and at least 8; 20 retries, all attempts under a reservation; endless patience.
    pub fn structural() -> Self {
        ClassPolicy::new("structural")
            .with_priority(Priority::CRITICAL)
            .at_least(Priority::HIGH)
            .with_retries(20)
            .with_retry(RetryPolicy::default().reserving_after(0))
    }

    /// Priority 5; 5 retries, the last one under a reservation; expires after 10 s.
    pub fn normal() -> Self {
        ClassPolicy::new("normal").with_patience(Duration::from_secs(10))
    }

    /// Priority 2, and at most 5; 3 retries, never under a reservation; expires after 10 s.
    pub fn low() -> Self {
        ClassPolicy::new("low")
            .with_priority(Priority::LOW)
            .at_most(Priority::NORMAL)
            .with_retries(3)
            .with_patience(Duration::from_secs(10))
            .with_retry(RetryPolicy::default().never_reserving())
    }

    /// The priority of operations that ask for none. Default: [`Priority::NORMAL`].
    pub fn with_priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// No operation of the class has less. Default: no bound.
    pub fn at_least(mut self, floor: Priority) -> Self {
        self.floor = Some(floor);
        self
    }

    /// No operation of the class has more. Default: no bound.
    pub fn at_most(mut self, ceiling: Priority) -> Self {
        self.ceiling = Some(ceiling);
        self
    }

    /// How often an operation that lost a race tries again. Default: 5.
    pub fn with_retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// At which age an operation that has not begun expires. Default: never.
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Operations never expire. The default.
    pub fn with_endless_patience(mut self) -> Self {
        self.patience = None;
        self
    }

    /// How operations try again. If a number of retries goes with it ([`RetryPolicy::with_retries`]), the class
    /// takes that too, until [`with_retries`](ClassPolicy::with_retries) says another one. Default:
    /// [`RetryPolicy::default`].
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retries = retry.retries().unwrap_or(self.retries);
        self.retry = retry;
        self
    }

    /// What the class is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The priority of operations that ask for none.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// The least that an operation may ask for, if there is a bound.
    #[must_use]
    pub fn floor(&self) -> Option<Priority> {
        self.floor
    }

    /// The most that an operation may ask for, if there is a bound.
    #[must_use]
    pub fn ceiling(&self) -> Option<Priority> {
        self.ceiling
    }

    /// How often an operation that lost a race tries again.
    #[must_use]
    pub fn retries(&self) -> u32 {
        self.retries
    }

    /// At which age an operation expires, if it does.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        self.patience
    }

    /// How operations try again.
    pub fn retry(&self) -> &RetryPolicy {
        &self.retry
    }

    /// Whether an operation of the class may have this priority.
    ///
    /// # Errors
    /// [`ClassError`], with the bound that it violates.
    pub fn admit(&self, priority: Priority) -> Result<(), ClassError> {
        if let Some(floor) = self.floor.filter(|floor| priority < *floor) {
            let class = self.name.clone();
            return Err(ClassError::TooLow {
                class,
                priority,
                floor,
            });
        }
        if let Some(ceiling) = self.ceiling.filter(|ceiling| priority > *ceiling) {
            let class = self.name.clone();
            return Err(ClassError::TooHigh {
                class,
                priority,
                ceiling,
            });
        }
        Ok(())
    }

    /// What would be wrong with it in any table.
    fn check(&self) -> Result<(), PolicyError> {
        if let (Some(floor), Some(ceiling)) = (self.floor, self.ceiling)
            && floor > ceiling
        {
            let class = self.name.clone();
            return Err(PolicyError::Empty {
                class,
                floor,
                ceiling,
            });
        }
        self.admit(self.priority).map_err(PolicyError::Default)
    }
}

/// An operation has not a priority that its class allows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClassError {
    /// It is too low.
    #[error("an operation of class {class} has at least priority {floor}, not {priority}")]
    TooLow {
        /// The name of the class.
        class: Cow<'static, str>,
        /// What was asked for.
        priority: Priority,
        /// The least that the class allows.
        floor: Priority,
    },
    /// It is too high.
    #[error("an operation of class {class} has at most priority {ceiling}, not {priority}")]
    TooHigh {
        /// The name of the class.
        class: Cow<'static, str>,
        /// What was asked for.
        priority: Priority,
        /// The most that the class allows.
        ceiling: Priority,
    },
}

/// A policy was not entered, and the table is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// There is another class of this name.
    #[error("there is a class {0} already")]
    Taken(Cow<'static, str>),
    /// No priority is allowed.
    #[error("class {class} allows no priority: at least {floor} and at most {ceiling}")]
    Empty {
        /// The name of the class.
        class: Cow<'static, str>,
        /// The least that it allows.
        floor: Priority,
        /// The most that it allows.
        ceiling: Priority,
    },
    /// The class does not allow the priority that its operations have by default.
    #[error("the default priority is not allowed: {0}")]
    Default(#[source] ClassError),
    /// The table has no such class. It comes from another one.
    #[error("there is no class {} in this table", .0.index())]
    Unknown(Class),
    /// There are 256 classes already.
    #[error("there are 256 classes already")]
    Full,
}

/// The classes, and what holds for all of them.
///
/// | class | priority | allowed | retries | reservation | patience |
/// |---|---|---|---|---|---|
/// | [`Class::STRUCTURAL`] | 10 | at least 8 | 20 | from the first attempt | endless |
/// | [`Class::NORMAL`] | 5 | all | 5 | after 4 lost attempts | 10 s |
/// | [`Class::LOW`] | 2 | at most 5 | 3 | never | 10 s |
///
/// What changes a shape is worth waiting for, and has endless patience. For the others 10 s is longer than a
/// caller waits; it bounds how much waits under lasting overload, so set it to what your callers wait.
///
/// # Examples
/// ```
/// use snapcell::{Class, ClassPolicy, Policies, Priority};
/// use std::time::Duration;
///
/// let mut policies = Policies::default();
/// policies.set_interval(Duration::from_millis(1));
/// policies.set(Class::LOW, ClassPolicy::low().with_patience(Duration::from_secs(60)))?;
/// let audit = policies.add(ClassPolicy::new("audit").with_priority(Priority::BACKGROUND))?;
/// assert_eq!(policies.find("audit"), Some(audit));
/// # Ok::<(), snapcell::PolicyError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policies {
    rows: Vec<ClassPolicy>,
    interval: Duration,
    grace: Duration,
}

impl Default for Policies {
    fn default() -> Self {
        Policies {
            rows: vec![
                ClassPolicy::structural(),
                ClassPolicy::normal(),
                ClassPolicy::low(),
            ],
            interval: Duration::from_millis(10),
            grace: Duration::from_millis(1),
        }
    }
}

impl Policies {
    /// Adds a class.
    ///
    /// # Errors
    /// [`PolicyError`], if there is a class of this name, if the policy allows no priority, or not its own default,
    /// or if there are 256 classes.
    pub fn add(&mut self, policy: ClassPolicy) -> Result<Class, PolicyError> {
        policy.check()?;
        self.check_name(&policy, None)?;
        let class = u8::try_from(self.rows.len()).map_err(|_| PolicyError::Full)?;
        self.rows.push(policy);
        Ok(Class(class))
    }

    /// Gives a class another policy, and gives the old one back.
    ///
    /// # Errors
    /// [`PolicyError`], if another class has the name, if the policy allows no priority, or not its own default, or
    /// if there is no such class.
    pub fn set(&mut self, class: Class, policy: ClassPolicy) -> Result<ClassPolicy, PolicyError> {
        policy.check()?;
        self.check_name(&policy, Some(class))?;
        let row = self.rows.get_mut(class.index());
        let row = row.ok_or(PolicyError::Unknown(class))?;
        Ok(std::mem::replace(row, policy))
    }

    /// That no class but `own` has the name.
    fn check_name(&self, policy: &ClassPolicy, own: Option<Class>) -> Result<(), PolicyError> {
        match self.find(&policy.name) {
            Some(class) if Some(class) != own => Err(PolicyError::Taken(policy.name.clone())),
            _ => Ok(()),
        }
    }

    /// The policy of a class. `None`, if the class comes from another table.
    #[must_use]
    pub fn get(&self, class: Class) -> Option<&ClassPolicy> {
        self.rows.get(class.index())
    }

    /// The class of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Class> {
        self.iter()
            .find(|(_, policy)| policy.name == name)
            .map(|(class, _)| class)
    }

    /// All classes, in the order in which they were added.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Class, &ClassPolicy)> {
        let rows = self.rows.iter().enumerate();
        // There are at most 256.
        rows.map(|(row, policy)| (Class(row as u8), policy))
    }

    /// What a step of priority is worth in time: see [`set_interval`](Policies::set_interval).
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Says what a step of priority is worth in time. Below priority 10, one that came later goes first only if it is
    /// some steps more important, and came less than so many intervals later. Zero means first come, first served.
    /// Default: 10 ms.
    pub fn set_interval(&mut self, interval: Duration) -> &mut Self {
        self.interval = interval;
        self
    }

    /// How long a reservation protects its holder: see [`set_grace`](Policies::set_grace).
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// Says how long a reservation protects its holder from those that are more urgent. After four times as long
    /// it is over. It belongs to the table, not to a class, since all who want one target must agree on it. It should be many
    /// times what a body takes. Zero means that there are no reservations. Default: 1 ms.
    pub fn set_grace(&mut self, grace: Duration) -> &mut Self {
        self.grace = grace;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn priority(number: u8) -> Priority {
        Priority::new(number).expect("it is one")
    }

    #[test]
    fn a_table_begins_with_the_classes_of_the_reference() {
        let policies = Policies::default();
        let rows: Vec<_> = policies
            .iter()
            .map(|(class, policy)| {
                let bounds = (policy.floor(), policy.ceiling());
                (
                    class,
                    policy.name(),
                    policy.priority().get(),
                    policy.retries(),
                    bounds,
                )
            })
            .collect();
        assert_eq!(
            rows,
            [
                (
                    Class::STRUCTURAL,
                    "structural",
                    10,
                    20,
                    (Some(Priority::HIGH), None)
                ),
                (Class::NORMAL, "normal", 5, 5, (None, None)),
                (Class::LOW, "low", 2, 3, (None, Some(Priority::NORMAL))),
            ]
        );
        let base = ClassPolicy::new("base");
        assert_eq!((base.priority().get(), base.retries()), (5, 5));
        assert_eq!(Class::default(), Class::NORMAL);
    }

    #[test]
    fn each_class_admits_what_is_between_its_bounds() {
        let admitted = |policy: ClassPolicy| -> Vec<u8> {
            (1..=10)
                .filter(|number| policy.admit(priority(*number)).is_ok())
                .collect()
        };
        assert_eq!(admitted(ClassPolicy::structural()), [8, 9, 10]);
        assert_eq!(admitted(ClassPolicy::normal()), Vec::from_iter(1..=10));
        assert_eq!(admitted(ClassPolicy::low()), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_refusal_names_the_class_the_priority_and_the_bound() {
        let refusal = |policy: ClassPolicy, number| match policy.admit(priority(number)) {
            Err(error) => error.to_string(),
            Ok(()) => String::new(),
        };
        assert_eq!(
            refusal(ClassPolicy::structural(), 7),
            "an operation of class structural has at least priority 8, not 7"
        );
        assert_eq!(
            refusal(ClassPolicy::low(), 6),
            "an operation of class low has at most priority 5, not 6"
        );
    }

    #[test]
    fn a_class_that_is_added_is_found_by_its_name() {
        let mut policies = Policies::default();
        let class = policies.add(ClassPolicy::new("audit").with_retries(9));
        let class = class.expect("nothing is wrong with it");
        assert_eq!(class.index(), 3);
        assert_eq!(policies.find("audit"), Some(class));
        assert_eq!(policies.get(class).map(ClassPolicy::retries), Some(9));
        assert_eq!(policies.find("nobody"), None);
        assert_eq!(Policies::default().get(class), None, "another table");
    }

    #[test]
    fn a_policy_that_no_operation_could_follow_is_refused_and_changes_nothing() {
        let mut policies = Policies::default();
        let before = policies.clone();
        let empty = ClassPolicy::new("empty")
            .at_least(Priority::HIGH)
            .at_most(Priority::LOW);
        let outside = ClassPolicy::new("outside").at_least(Priority::HIGH);
        let default = outside.admit(Priority::NORMAL).expect_err("it is too low");
        let refused = [
            (
                empty,
                PolicyError::Empty {
                    class: "empty".into(),
                    floor: Priority::HIGH,
                    ceiling: Priority::LOW,
                },
            ),
            (outside, PolicyError::Default(default)),
            (ClassPolicy::new("low"), PolicyError::Taken("low".into())),
        ];
        for (policy, error) in refused {
            assert_eq!(policies.add(policy.clone()), Err(error.clone()));
            assert_eq!(policies.set(Class::NORMAL, policy), Err(error));
        }
        let unknown = Class(3);
        assert_eq!(
            policies.set(unknown, ClassPolicy::new("new")),
            Err(PolicyError::Unknown(unknown))
        );
        assert_eq!(policies, before);
    }

    #[test]
    fn a_class_may_get_another_policy_and_another_name() {
        let mut policies = Policies::default();
        let old = policies.set(Class::LOW, ClassPolicy::low().with_retries(30));
        assert_eq!(old, Ok(ClassPolicy::low()));
        let renamed = policies.set(Class::LOW, ClassPolicy::new("lowly"));
        assert_eq!(renamed.map(|policy| policy.retries()), Ok(30));
        assert_eq!(policies.find("lowly"), Some(Class::LOW));
        assert_eq!(policies.find("low"), None);
    }

    #[test]
    fn there_are_256_classes_and_no_more() {
        let mut policies = Policies::default();
        for number in 3..256 {
            let added = policies.add(ClassPolicy::new(number.to_string()));
            assert_eq!(added.map(Class::index), Ok(number));
        }
        let added = policies.add(ClassPolicy::new("one too many"));
        assert_eq!(added, Err(PolicyError::Full));
        assert_eq!(policies.iter().len(), 256);
    }

    #[test]
    fn a_retry_policy_brings_its_number_of_retries_unless_another_one_is_said() {
        let class = ClassPolicy::new("a").with_retry(RetryPolicy::brutality());
        assert_eq!(class.retries(), 15);
        assert_eq!(class.with_retries(3).retries(), 3);
        let class = ClassPolicy::structural().with_retry(RetryPolicy::reference());
        assert_eq!(class.retries(), 20, "it brings none");
    }
}

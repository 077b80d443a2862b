//! Recorded histories, and two judges of them that know nothing of each other.
//!
//! A history is linearizable if all its calls can be put in one order in which each claim is true of
//! the state that the calls before it have made (`spec.rs`), and in which no call comes before one that
//! had returned when it was called.
//!
//! # Time
//! Each call is recorded with the time before it and the time after it, read from `Instant`. A counter
//! that all threads increment would be simpler, and would spoil the test: each increment orders the
//! threads, so that what one wrote before it, the others see after it, whatever the entity's own
//! orderings are. A look at the clock writes nothing, and each thread keeps its records to itself
//! until it is joined. `Instant` never goes backwards, between threads too: std promises that.
//!
//! Only an end that is *earlier* than a call counts as before it: where the times are equal, the two
//! overlap. So a coarse clock makes the judges more lenient, never wrong. A thread's own calls must
//! not fall together, though, and a [`Timer`] waits for the clock to move on between two looks.

use super::spec::{Claim, State};
use std::fmt::{self, Display};
use todc_utils::{Action, History as Actions, Specification, WGLChecker};

/// One call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) thread: usize,
    /// The name of what was called.
    pub(crate) call: &'static str,
    pub(crate) called: u64,
    pub(crate) returned: u64,
    pub(crate) claim: Claim,
    /// How many exchanges it tried, if it says so.
    pub(crate) attempts: u32,
}

/// All calls to one entity, birth and last look included.
#[derive(Clone)]
pub(crate) struct History {
    pub(crate) records: Vec<Record>,
}

/// The beginning or the end of a call. At the same time all beginnings come before all ends, so that
/// equal times overlap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Edge {
    Call,
    Return,
}

impl History {
    /// Both edges of each record, as (time, edge, place of the record), in order of time.
    pub(crate) fn edges(&self) -> Vec<(u64, Edge, usize)> {
        let both = |(place, record): (usize, &Record)| {
            [
                (record.called, Edge::Call, place),
                (record.returned, Edge::Return, place),
            ]
        };
        let mut edges: Vec<_> = self.records.iter().enumerate().flat_map(both).collect();
        edges.sort_unstable();
        edges
    }

    /// Searches for an order, as Wing and Gong do: exact for every object, in exponential time where it
    /// must be.
    pub(crate) fn judge_by_search(&self) -> bool {
        let action = |(_, edge, place): (u64, Edge, usize)| {
            let Record { thread, claim, .. } = self.records[place];
            match edge {
                Edge::Call => (thread, Action::Call(claim)),
                Edge::Return => (thread, Action::Response(claim)),
            }
        };
        let actions = self.edges().into_iter().map(action).collect();
        WGLChecker::<Register>::is_linearizable(Actions::from_actions(actions))
    }

    /// Computes an order from the versions, in the time that it takes to sort: exact for every object
    /// whose writes each make a version of their own, one more than the last.
    ///
    /// In any order that fits, writes come by version: the first is the birth, and a `Replaced` is true
    /// only of the state one version below its own. So the versions must be 0 to n, each once; the state
    /// of version v is known without a search; and a write can have one place only. Let that be 2v. A
    /// read changes nothing, so it may stand at any place 2v + 1, after the write of v and before that
    /// of v + 1, if its claim is true of the state v.
    ///
    /// *The history is linearizable exactly if places can be found such that a call that begins after
    /// another's end has no smaller place.* If there is an order that fits, the places of its calls in
    /// it are such. If there are such places, sort the calls by them, and those of equal place by the
    /// time of their call: all of these are reads of one state, so any order among them fits, and this
    /// one respects that an end came before a call.
    ///
    /// The smallest places are found by going through the calls as they begin. A call can stand no
    /// lower than the highest of those that have ended before, the *floor*, and takes the smallest place
    /// from there on at which its claim is true. If that leaves a call without a place, so does every
    /// other choice: no call that ended before could have stood lower.
    pub(crate) fn judge_by_version(&self) -> Result<(), Box<Violation>> {
        let states = self.states()?;
        let mut places = vec![0; self.records.len()];
        let mut floor = (0, None);
        for (_, edge, at) in self.edges() {
            if edge == Edge::Return {
                floor = floor.max((places[at], Some(at)));
                continue;
            }
            let claim = self.records[at].claim;
            let lowest = floor.0;
            let place = match claim.publishes() {
                Some(published) => {
                    let version = published.version() as usize;
                    let before = version.checked_sub(1).map(|before| states[before]);
                    let is_true = claim.next(before) == Some(published);
                    (is_true && 2 * version >= lowest).then_some(2 * version)
                }
                None => (lowest / 2..states.len())
                    .find(|&version| claim.next(Some(states[version])).is_some())
                    .map(|version| 2 * version + 1),
            };
            let Some(place) = place else {
                return Err(Box::new(Violation {
                    call: self.records[at],
                    why: "is true of no state that there was from its call on",
                    known: floor.1.map(|at| self.records[at]),
                }));
            };
            places[at] = place;
        }
        Ok(())
    }

    /// What had been called when the call that fits nowhere returned, the last of it.
    pub(crate) fn until(&self, violation: &Violation) -> History {
        const MOST: usize = 60;
        let end = violation.call.returned;
        let mut records = self.records.clone();
        records.retain(|record| record.called <= end);
        records.sort_by_key(|record| record.called);
        records.drain(..records.len().saturating_sub(MOST));
        History { records }
    }

    /// The states by version, if the writes have made each version exactly once.
    pub(crate) fn states(&self) -> Result<Vec<State>, Box<Violation>> {
        let writes = || {
            let writes = self.records.iter();
            writes.filter_map(|record| Some((record, record.claim.publishes()?)))
        };
        let mut by_version: Vec<Option<(&Record, State)>> = vec![None; writes().count()];
        for (record, published) in writes() {
            let version = usize::try_from(published.version()).ok();
            let place = version.and_then(|version| by_version.get_mut(version));
            let (why, known) = match place {
                Some(place @ None) => {
                    *place = Some((record, published));
                    continue;
                }
                Some(Some((other, _))) => ("made a version that another made too", Some(**other)),
                None => ("made a version higher than the number of all writes", None),
            };
            let call = *record;
            return Err(Box::new(Violation { call, why, known }));
        }
        // As many places as writes, and no place twice: none is empty.
        Ok(by_version.into_iter().flatten().map(|(_, s)| s).collect())
    }
}

/// The specification as the search wants it.
struct Register;

impl Specification for Register {
    type State = Option<State>;
    type Operation = Claim;

    fn init() -> Option<State> {
        None
    }

    fn apply(claim: &Claim, state: &Option<State>) -> (bool, Option<State>) {
        match claim.next(*state) {
            Some(next) => (true, Some(next)),
            None => (false, *state),
        }
    }
}

/// Why a history is not linearizable.
#[derive(Debug)]
pub(crate) struct Violation {
    /// The call that fits nowhere.
    call: Record,
    why: &'static str,
    /// What had ended before it and is known by then, or what it contradicts.
    known: Option<Record>,
}

impl Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "this call {}:\n  {}", self.why, self.call)?;
        match self.known {
            Some(known) => writeln!(f, "in view of\n  {known}"),
            None => Ok(()),
        }
    }
}

impl Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record {
            thread,
            call,
            called,
            returned,
            ..
        } = self;
        write!(f, "{called:>9} to {returned:>9}, thread {thread}: {call}: ")?;
        let state = |State { stamp, number }: State| format!("{stamp} = {number:x}");
        match self.claim {
            Claim::Born(first) => write!(f, "born as {}", state(first)),
            Claim::Is(seen) => write!(f, "it is {}", state(seen)),
            Claim::HasNumber(number) => write!(f, "it has the value {number:x}"),
            Claim::Still(stamp) => write!(f, "it is still {stamp}"),
            Claim::Changed(stamp) => write!(f, "it is not {stamp} any more"),
            Claim::Overtaken { base, current } => {
                write!(f, "it is {}, not {base:x?}", state(current))
            }
            Claim::Replaced {
                base,
                previous,
                published,
                ..
            } => {
                let (previous, published) = (state(previous), state(published));
                write!(f, "{published} replaced {previous}, wanted {base:x?}")
            }
        }
    }
}

/// Every call, in order.
impl Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut records = self.records.clone();
        records.sort_by_key(|record| record.called);
        records
            .iter()
            .try_for_each(|record| writeln!(f, "{record}"))
    }
}

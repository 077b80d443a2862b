//! The sequential specification: what one thread alone would see of an entity.
//!
//! An entity is a register whose version counts its writes. What a call returned is a [`Claim`] about
//! one moment: about the state at that moment, and for a write about the next state too. The
//! specification says of a state and a claim whether they fit, and what the state is afterwards.

use snapcell::Stamp;

/// A state of an entity: its stamp, and the number of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) stamp: Stamp,
    pub(crate) number: u64,
}

impl State {
    pub(crate) fn version(self) -> u64 {
        self.stamp.version()
    }
}

/// What a change was made from, as far as the call that made it knew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    /// The stamp was given to the call, or read before.
    Stamp(Stamp),
    /// The closure saw the value only.
    Number(u64),
}

impl Base {
    fn is(self, state: State) -> bool {
        match self {
            Base::Stamp(stamp) => state.stamp == stamp,
            Base::Number(number) => state.number == number,
        }
    }
}

/// What a call says of the moment at which it took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The entity began with this state.
    Born(State),
    /// This is the state.
    Is(State),
    /// The value has this number.
    HasNumber(u64),
    /// The state is still the one with this stamp.
    Still(Stamp),
    /// The state is not the one with this stamp any more.
    Changed(Stamp),
    /// The state is `current`, and not the `base` that it should have been.
    Overtaken { base: Base, current: State },
    /// `previous`, which was made sure to be `base`, was replaced by `published`, which has the number
    /// that the caller wrote.
    Replaced {
        base: Option<Base>,
        written: u64,
        previous: State,
        published: State,
    },
}

impl Claim {
    /// The state that comes after `state`, if the claim is true of it. Before birth there is none.
    pub(crate) fn next(&self, state: Option<State>) -> Option<State> {
        let Some(state) = state else {
            return match *self {
                Claim::Born(first) => (first.version() == 0).then_some(first),
                _ => None,
            };
        };
        match *self {
            Claim::Born(_) => None,
            Claim::Is(seen) => (seen == state).then_some(state),
            Claim::HasNumber(number) => (number == state.number).then_some(state),
            Claim::Still(stamp) => (stamp == state.stamp).then_some(state),
            Claim::Changed(stamp) => (stamp != state.stamp).then_some(state),
            Claim::Overtaken { base, current } => {
                (current == state && !base.is(state)).then_some(state)
            }
            Claim::Replaced {
                base,
                written,
                previous,
                published,
            } => {
                let follows = previous == state
                    && base.is_none_or(|base| base.is(state))
                    && published.version() == state.version() + 1
                    && published.stamp.time() >= state.stamp.time()
                    && published.number == written;
                follows.then_some(published)
            }
        }
    }

    /// The state that the claim makes, if it is a write.
    pub(crate) fn publishes(&self) -> Option<State> {
        match *self {
            Claim::Born(published) | Claim::Replaced { published, .. } => Some(published),
            _ => None,
        }
    }

    /// The state that a read names as a whole.
    pub(crate) fn reads(&self) -> Option<State> {
        match *self {
            Claim::Is(seen) => Some(seen),
            Claim::Overtaken { current, .. } => Some(current),
            _ => None,
        }
    }
}

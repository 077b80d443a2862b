//! Ways to tamper with a history, for judges to notice.
//!
//! Each takes a history that is linearizable, and changes it so that it certainly is not, or leaves it
//! alone where it has nothing to work on. What a way has to prove is in the comment of its name.

use super::history::{History, Record};
use super::spec::{Base, Claim, State};
use fastrand::Rng;
use snapcell::Stamp;

type Way = fn(&mut History, &[State], &mut Rng) -> Option<()>;

/// All ways to make a history wrong, by name.
pub(crate) const WAYS: &[(&str, Way)] = &[
    ("a read is stale", stale_read),
    ("a read by value alone is stale", stale_number),
    ("a read sees what is written later", early_read),
    ("a read is torn", torn_read),
    ("a reader misses a change", missed_change),
    ("a check finds a change that was not made", imagined_change),
    ("two commits get each other's version", swapped_versions),
    (
        "a commit makes a version for the second time",
        version_made_twice,
    ),
    ("an update is lost, and nobody is told", lost_update),
    ("a commit on an old state is not refused", late_commit),
    ("a commit publishes something else", other_value),
    ("the time goes backwards", time_backwards),
    ("a refused commit shows an old winner", old_winner),
    (
        "a commit is refused by the state that it expected",
        refused_by_nobody,
    ),
    ("an update is computed from an old value", old_base),
    ("a version is never made", forgotten_commit),
];

fn any<T>(rng: &mut Rng, items: impl IntoIterator<Item = T>) -> Option<T> {
    let mut items: Vec<T> = items.into_iter().collect();
    (!items.is_empty()).then(|| items.swap_remove(rng.usize(..items.len())))
}

/// The place of any record that suits.
fn pick(history: &History, rng: &mut Rng, suits: impl Fn(&Record) -> bool) -> Option<usize> {
    let places = 0..history.records.len();
    any(rng, places.filter(|&place| suits(&history.records[place])))
}

/// The record of the write of a version.
fn write_of(history: &History, version: usize) -> &Record {
    let is_it = |record: &&Record| {
        let published = record.claim.publishes();
        published.is_some_and(|published| published.version() as usize == version)
    };
    history
        .records
        .iter()
        .find(is_it)
        .expect("each version has its write")
}

/// A state that had been replaced, by a call that had returned, when the call at `place` began.
fn outdated(history: &History, states: &[State], rng: &mut Rng, place: usize) -> Option<State> {
    let called = history.records[place].called;
    let is_outdated = |&version: &usize| write_of(history, version + 1).returned < called;
    let version = any(rng, (0..states.len() - 1).filter(is_outdated))?;
    Some(states[version])
}

fn is_read(record: &Record) -> bool {
    matches!(record.claim, Claim::Is(_))
}

fn is_commit(record: &Record) -> bool {
    matches!(record.claim, Claim::Replaced { .. })
}

/// The state was gone before the call.
fn stale_read(history: &mut History, states: &[State], rng: &mut Rng) -> Option<()> {
    let place = pick(history, rng, is_read)?;
    history.records[place].claim = Claim::Is(outdated(history, states, rng, place)?);
    Some(())
}

/// So was the only state with that number.
fn stale_number(history: &mut History, states: &[State], rng: &mut Rng) -> Option<()> {
    let place = pick(history, rng, |r| matches!(r.claim, Claim::HasNumber(_)))?;
    let state = outdated(history, states, rng, place)?;
    history.records[place].claim = Claim::HasNumber(state.number);
    Some(())
}

/// The write began after the read had returned.
fn early_read(history: &mut History, states: &[State], rng: &mut Rng) -> Option<()> {
    let place = pick(history, rng, is_read)?;
    let returned = history.records[place].returned;
    let is_later = |&version: &usize| write_of(history, version).called > returned;
    let version = any(rng, (1..states.len()).filter(is_later))?;
    history.records[place].claim = Claim::Is(states[version]);
    Some(())
}

/// There was no state with this stamp and this number.
fn torn_read(history: &mut History, states: &[State], rng: &mut Rng) -> Option<()> {
    let place = pick(history, rng, is_read)?;
    let Claim::Is(State { stamp, number }) = history.records[place].claim else {
        return None;
    };
    let number = any(
        rng,
        states.iter().map(|s| s.number).filter(|&n| n != number),
    )?;
    history.records[place].claim = Claim::Is(State { stamp, number });
    Some(())
}

/// The state with the stamp was gone before the call.
fn missed_change(history: &mut History, states: &[State], rng: &mut Rng) -> Option<()> {
    let compares = |r: &Record| matches!(r.claim, Claim::Changed(_) | Claim::Still(_));
    let place = pick(history, rng, compares)?;
    let state = outdated(history, states, rng, place)?;
    history.records[place].claim = Claim::Still(state.stamp);
    Some(())
}

/// No write was under way during the call, so there is one state that it can speak of.
fn imagined_change(history: &mut History, _: &[State], rng: &mut Rng) -> Option<()> {
    let writes = || {
        history
            .records
            .iter()
            .filter(|r| r.claim.publishes().is_some())
    };
    let alone = |r: &Record| {
        matches!(r.claim, Claim::Still(_))
            && writes().all(|w| w.returned < r.called || w.called > r.returned)
    };
    let place = pick(history, rng, alone)?;
    if let Claim::Still(stamp) = history.records[place].claim {
        history.records[place].claim = Claim::Changed(stamp);
    }
    Some(())
}

/// What a commit published is not one version above what it says that it replaced.
fn swapped_versions(history: &mut History, _: &[State], rng: &mut Rng) -> Option<()> {
    let one = pick(history, rng, is_commit)?;
    let first = history.records[one].claim.publishes()?.stamp;
    let other = pick(history, rng, |r| {
        is_commit(r) && r.claim.publishes().is_some_and(|p| p.stamp != first)
    })?;
    let second = history.records[other].claim.publishes()?.stamp;
    restamp(&mut history.records[one].claim, second);
    restamp(&mut history.records[other].claim, first);
    Some(())
}

/// In any order, each write raises the version by one.
fn version_made_twice(history: &mut History, _: &[State], rng: &mut Rng) -> Option<()> {
    let one = pick(history, rng, is_commit)?;
    let stamp = history.records[one].claim.publishes()?.stamp;
    let other = pick(history, rng, |r| {
        is_commit(r) && r.claim.publishes().is_some_and(|p| p.stamp != stamp)
    })?;
    restamp(&mut history.records[other].claim, stamp);
    Some(())
}

fn restamp(claim: &mut Claim, stamp: Stamp) {
    if let Claim::Replaced { published, .. } = claim {
        published.stamp = stamp;
    }
}

/// Two commits replace the same state, the second one's version is made twice, and from there on all
/// versions are one lower: the story that a register with lost updates would tell, consistent in itself
/// but for that.
fn lost_update(history: &mut History, states: &[State], rng: &mut Rng) -> Option<()> {
    let lost = any(rng, 1..states.len().checked_sub(1)?)?;
    for record in &mut history.records {
        if let Claim::Replaced {
            base,
            previous,
            published,
            ..
        } = &mut record.claim
            && published.version() as usize == lost + 1
        {
            *previous = states[lost - 1];
            *base = base.map(|_| Base::Number(previous.number));
        }
        for stamp in stamps(&mut record.claim) {
            if stamp.version() as usize > lost {
                *stamp = Stamp::new(stamp.version() - 1, stamp.time());
            }
        }
    }
    Some(())
}

/// Every stamp in a claim.
fn stamps(claim: &mut Claim) -> Vec<&mut Stamp> {
    match claim {
        Claim::Born(state) | Claim::Is(state) => vec![&mut state.stamp],
        Claim::HasNumber(_) => vec![],
        Claim::Still(stamp) | Claim::Changed(stamp) => vec![stamp],
        Claim::Overtaken { base, current } => match base {
            Base::Stamp(base) => vec![base, &mut current.stamp],
            Base::Number(_) => vec![&mut current.stamp],
        },
        Claim::Replaced {
            base,
            previous,
            published,
            ..
        } => {
            let mut stamps = vec![&mut previous.stamp, &mut published.stamp];
            if let Some(Base::Stamp(base)) = base {
                stamps.push(base);
            }
            stamps
        }
    }
}

/// The state that was expected is not the one that was replaced.
fn late_commit(history: &mut History, states: &[State], rng: &mut Rng) -> Option<()> {
    let place = pick(history, rng, is_commit)?;
    let Claim::Replaced { base, previous, .. } = &mut history.records[place].claim else {
        return None;
    };
    let older = &states[..previous.version() as usize];
    *base = Some(Base::Stamp(any(rng, older)?.stamp));
    Some(())
}

/// It is not what the caller wrote.
fn other_value(history: &mut History, states: &[State], rng: &mut Rng) -> Option<()> {
    let place = pick(history, rng, is_commit)?;
    let Claim::Replaced { published, .. } = &mut history.records[place].claim else {
        return None;
    };
    published.number = any(rng, &states[..published.version() as usize])?.number;
    Some(())
}

/// The commit's time is before that of the state that it replaced, and all who saw it agree.
fn time_backwards(history: &mut History, states: &[State], rng: &mut Rng) -> Option<()> {
    let version = any(rng, 1..states.len())?;
    let time = states[version - 1].stamp.time().checked_sub(1)?;
    let (old, new) = (states[version].stamp, Stamp::new(version as u64, time));
    let stamps = history
        .records
        .iter_mut()
        .flat_map(|r| stamps(&mut r.claim));
    stamps
        .filter(|stamp| **stamp == old)
        .for_each(|stamp| *stamp = new);
    Some(())
}

/// The winner was gone before the call.
fn old_winner(history: &mut History, states: &[State], rng: &mut Rng) -> Option<()> {
    let place = pick(history, rng, |r| matches!(r.claim, Claim::Overtaken { .. }))?;
    let state = outdated(history, states, rng, place)?;
    if let Claim::Overtaken { current, .. } = &mut history.records[place].claim {
        *current = state;
    }
    Some(())
}

/// A state is no reason to refuse a commit on that state.
fn refused_by_nobody(history: &mut History, _: &[State], rng: &mut Rng) -> Option<()> {
    let place = pick(history, rng, |r| matches!(r.claim, Claim::Overtaken { .. }))?;
    if let Claim::Overtaken { base, current } = &mut history.records[place].claim {
        *base = Base::Stamp(current.stamp);
    }
    Some(())
}

/// The closure saw another value than the one that was replaced.
fn old_base(history: &mut History, states: &[State], rng: &mut Rng) -> Option<()> {
    let computed = |r: &Record| {
        let Claim::Replaced { base, .. } = r.claim else {
            return false;
        };
        matches!(base, Some(Base::Number(_)))
    };
    let place = pick(history, rng, computed)?;
    if let Claim::Replaced { base, previous, .. } = &mut history.records[place].claim {
        let older = &states[..previous.version() as usize];
        *base = Some(Base::Number(any(rng, older)?.number));
    }
    Some(())
}

/// Others follow it, or the last look shows it.
fn forgotten_commit(history: &mut History, _: &[State], rng: &mut Rng) -> Option<()> {
    let place = pick(history, rng, is_commit)?;
    history.records.remove(place);
    Some(())
}

/// Changes what some call says to what another says, or something near it. Nobody knows whether the
/// history is still linearizable: the judges must find the same.
pub(crate) fn disturb(history: &mut History, states: &[State], rng: &mut Rng) {
    let (place, other) = (
        rng.usize(..history.records.len()),
        rng.usize(..history.records.len()),
    );
    let state = states[rng.usize(..states.len())];
    let theirs = history.records[other].claim;
    let record = &mut history.records[place];
    match (rng.u8(..6), &mut record.claim) {
        (0, claim @ (Claim::Is(_) | Claim::HasNumber(_))) => *claim = Claim::Is(state),
        (0, claim @ Claim::Still(_)) => *claim = Claim::Changed(state.stamp),
        (0, claim @ Claim::Changed(_)) => *claim = Claim::Still(state.stamp),
        (0, Claim::Overtaken { current, .. }) => *current = state,
        (0, Claim::Replaced { base, .. }) => *base = None,
        // What overlapped may be in order now.
        (1, _) => record.returned = record.called + 1,
        (2, _) => record.called = record.returned - 1,
        (3 | 4, claim) => {
            let mine = std::mem::replace(claim, theirs);
            history.records[other].claim = mine;
        }
        _ => {
            let (_, way) = WAYS[rng.usize(..WAYS.len())];
            way(history, states, rng);
        }
    }
}

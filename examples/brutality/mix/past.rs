//! Commits past the engine: those of an outsider who knows nothing of it.
//!
//! It reads, works and commits, each by itself. So no guard is held while it works, which would keep all that is replaced
//! meanwhile from being freed.

use super::hot::{chance, stamp_of};
use crate::args::Arguments;
use crate::books::{Answer, Drawn, Meter};
use crate::clock;
use snapcell::{Entity, Next, OperationError, Situation, Snapshot};
use std::fmt::Display;

/// Changes a target, as often as it takes, or as the budget allows.
pub(crate) fn commit<T: Send + Sync + 'static, F: Display>(
    target: &Entity<T>,
    arguments: &Arguments,
    drawn: &Drawn,
    meter: &Meter,
    change: impl Fn(&T) -> Result<T, F>,
) -> Answer {
    let retry = arguments.retry();
    let mut random = chance(arguments, !drawn.id);
    loop {
        let seen = target.snapshot();
        let next = match change(&seen) {
            Ok(next) => next,
            Err(error) => {
                let refused = Err::<Snapshot<T>, _>(OperationError::Refused(error));
                return Answer::of(refused, meter, stamp_of);
            }
        };
        if let Ok(committed) = target.try_commit_on(&seen, next) {
            let committed = Ok::<_, OperationError<F>>(committed.snapshot());
            return Answer::of(committed, meter, stamp_of);
        }
        let next = retry.next(Situation {
            attempt: meter.runs(),
            retries: arguments.retries(),
            entropy: random.next(),
            ..Situation::default()
        });
        match next {
            Next::Wait(long) => clock::work(long),
            Next::Now | Next::Spin(_) => std::hint::spin_loop(),
            Next::Exhausted | Next::Expired => return Answer::exhausted(meter.runs()),
        }
    }
}

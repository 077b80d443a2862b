//! The laws that an engine keeps.

use snapcell::{Counts, Engine, ShutDown};

/// Asserts that each operation has ended in one way, and that nothing is left of any. What there was.
pub(crate) fn conserved(engine: &Engine) -> Counts {
    engine.shut_down(ShutDown::Finish, None).unwrap();
    let counts = engine.counts();
    assert_eq!(counts.submitted, counts.ended(), "{counts}");
    assert_eq!(counts.unfinished(), 0);
    assert_eq!(engine.unfinished(), 0);
    assert!(engine.is_clean());
    counts
}

//! What becomes of operations that want the same entity.
#![forbid(unsafe_code)]

/// What becomes of operations that want the same entity at the same time.
///
/// | policy | all of them succeed | commits | for |
/// |---|---|---|---|
/// | [`InOrder`](Policy::InOrder) | yes | one for each | everything, by default |
/// | [`Fold`](Policy::Fold) | yes | one for up to 256 | many small changes |
/// | [`Merge`](Policy::Merge) | yes | one for each | long computations whose results can be merged |
/// | [`WinnerTakesAll`](Policy::WinnerTakesAll) | one of each round | one | changes of which only one makes sense |
///
/// A *round* is what is new in a lane when it is looked at; what comes later belongs to the next one. To have
/// operations in one round for sure, [stage](crate::Engine::stage) them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Policy {
    /// All are run, one after the other, in their order.
    #[default]
    InOrder,
    /// All are run, each on what the one before has made, and the result is published by one commit. Each has a result
    /// of its own; those that refuse or panic leave the value as it was. Operations on several entities are run
    /// by themselves.
    Fold,
    /// Those that can be [merged](crate::Operation::merging) are computed beside each other, and then merged one
    /// after the other. Others are run in their order.
    Merge,
    /// Of each round the most important one is run, or of equals the earliest. The others are
    /// [rejected](crate::Reason::Lost).
    WinnerTakesAll,
}

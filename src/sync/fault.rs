//! Planted faults: mistakes that a model must notice.
//!
//! Each is a switch in the code that it would break, off unless the process was started with
//! `SNAPCELL_FAULT` set to its name, and not even there in an ordinary build. `cargo loom-faults`
//! starts one process for each fault and each model that claims to notice it.

#[cfg(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle, snapcell_fault))]
use std::sync::OnceLock;

/// A mistake that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    dead_code,
    reason = "the switches of some faults exist in model builds only"
)]
pub enum Fault {
    /// loom sees words without their gates.
    NoGate,
    /// The handle of an entry that has lost its name is given up at once, whoever looks.
    UnnameAtOnce,
    /// Two may take the name from one entry.
    UnnameTwice,
    /// A free entry is taken without a guard.
    TakeUnpinned,
    /// An entry that was taken and not filled is free at once.
    VacateAtOnce,
    /// An id is put on the map while it leads to an entity that was removed.
    StayInArena,
    /// A replaced node dies at once, whoever looks at it.
    FreeAtOnce,
    /// A guard does not pin.
    ReadAfterUnpin,
    /// A commit that lost its compare-exchange reports success.
    SuccessAfterLostCas,
    /// A replaced node is forgotten.
    NeverRetire,
    /// A replaced node is retired twice.
    RetireTwice,
    /// The memory of a replaced node goes to the pool at once.
    RecycleWithoutGrace,
    /// The head's count of a replaced node is released at once, not after its grace.
    ReleaseHeadAtOnce,
    /// A beacon marks one retirement more than it covers.
    RipeTooEarly,
    /// A cached reader keeps comparing with a node after giving up its count.
    CachedWithoutCount,
    /// A thread that ends forgets what it has retired.
    ExitForgetsRing,
    /// What a thread that ends leaves is no longer counted with the thread before it is counted elsewhere.
    HandOverUncounted,
    /// A ripe node dies though somebody still holds it.
    IgnoreHolders,
    /// What is published and kept has the head's count alone.
    PublishUncounted,
    /// The last handle leaves the last node behind.
    ForgetHead,
    /// A commit keeps the version of its predecessor.
    KeepVersion,
    /// A release goes on past the mark.
    ReleasePastMark,
    /// A value moves out of its entity though somebody holds it.
    TakeDespiteHolders,
    /// A commit that succeeded shows its nodes under a new pin.
    CommittedRepins,
    /// A commit that lost looks at the winner under a new pin.
    LoserRepins,
    /// A waiter that has registered doesn't look whether the snapshot was replaced meanwhile.
    WaitWithoutSecondLook,
    /// A commit wakes whoever waits, and publishes then.
    WakeBeforePublish,
    /// A commit takes a mark out and wakes nobody.
    WakeNobody,
    /// The last handle wakes nobody.
    CloseSilently,
    /// The last handle ends the block though somebody watches.
    EndDespiteWatchers,
    /// A value moves out of its entity though somebody watches.
    MoveDespiteWatchers,
    /// A callback looks whether it was stopped, and registers then.
    StopUnheard,
    /// A reader takes an undecided node of a transaction for committed.
    TakeUndecided,
    /// A transaction is decided when its first node is installed, and the others never are.
    DecideEarly,
    /// Whoever meets an undecided transaction aborts it, and says that nothing was installed.
    AbortInsteadOfHelp,
    /// A transaction retires what it replaces when it installs, not when it is decided.
    RetireAtInstall,
    /// A snapshot of several entities looks once.
    OnePass,
    /// A transaction installs nothing where it only reads.
    NoProxies,
    /// A transaction looks at what it read once more before it decides, and installs nothing there.
    ValidateThenDecide,
    /// A helper compares what is current, not what is at the head.
    CompareLogical,
    /// A helper takes whatever is at the address of a node for that node.
    AddressAlone,
    /// Whoever comes too late to decide retires what was replaced all the same.
    LoserRetires,
    /// A commit forgets the aborted node that it takes out of a head.
    ForgetHollow,
    /// A transaction takes what is at the head for what is current there.
    PredecessorIsHead,
    /// A commit replaces an undecided node.
    ReplaceUndecided,
    /// A transaction installs in whatever order it was written.
    Unsorted,
    /// Links go on leading to a verdict that is retired.
    NeverSettle,
    /// A verdict is retired while links lead to it, and may be freed before they don't.
    RetireBeforeSettling,
    /// An entity that took part in a transaction ends at once.
    EndDespiteHelpers,
    /// A transaction takes a mark out and wakes nobody.
    InstallWakesNobody,
    /// A waiter marks a head that is undecided.
    WaitAtUndecided,
    /// A transaction that waits doesn't look whether what it has read was replaced meanwhile.
    RetryWithoutSecondLook,
    /// A closure that is applied at the commit may see what was never current together with what its transaction has
    /// read, or with what another such closure sees.
    FoldWithoutSecondLook,
    /// What a transaction has placed before it knew its time keeps an earlier one.
    KeepEarlyTimes,
    /// A transaction that writes nothing looks at what it has read once more, and there is no fence before.
    ValidateWithoutFence,
    /// An entity that a transaction only reads doesn't learn that it takes part in one.
    NoteOnlyWritten,
    /// A commit goes on from the number of what is current, where something else is at the head.
    FollowCurrent,
    /// Whoever decides a transaction frees its verdict at once.
    FreeVerdictAtOnce,
    /// A commit publishes, and records then what it has replaced.
    RecordAfterCommit,
    /// A transaction records nothing of what it replaces.
    RecordSinglesOnly,
    /// Whoever comes too late to a place keeps the count that it took.
    LoserKeepsCount,
    /// A place that ends forgets what it has kept.
    ForgetKept,
    /// A history of so many lets go one more.
    ForgetTooMuch,
    /// A history shows what is left of it, whatever has been let go.
    ShowWhatIsLeft,
    /// An entity of a store is taken off the map, and may still be committed to.
    RemoveWithoutCommit,
    /// An id whose birth was given up is taken off the map, though others may be about to give birth to it.
    ForgetUnborn,
    /// A commit puts an id into a bucket that others may have changed since.
    BlindBucket,
    /// A transaction uses the bucket of a key that has died since it was found.
    UseDeadBucket,
    /// A transaction that finds an entity removed relies on it that there is none, though the next one with its id is
    /// another one.
    LookAtTheRemoved,
    /// An index follows after the commit, in a transaction of its own.
    IndexAfterwards,
    /// A tree is committed over whatever its nodes have become.
    BlindVersion,
    /// What is part of an operation follows its priority as it was, though that has changed meanwhile.
    FollowOnce,
    /// A reservation begins anew with each attempt of its holder.
    RenewReservation,
    /// Whoever clears a reservation clears whatever is there.
    ClearAnyReservation,
    /// A reservation is over as soon as its grace is.
    DeadlineIsGrace,
    /// A lane is given up by a swap, whatever is new in it.
    CloseBySwap,
    /// Whoever puts something into a lane asks without a fence whether it is parked.
    PushWithoutFence,
    /// Whoever parks a lane looks without a fence whether something is new.
    ParkWithoutFence,
    /// Whoever parks a lane doesn't look.
    ParkWithoutLook,
    /// Whoever has changed what is in a lane looks whether it is in, and leaves no trace.
    FindByALook,
    /// Whoever loses the claim of an operation runs it all the same.
    RunUnclaimed,
    /// A task that waits for an operation doesn't look once more when it has registered.
    AwaitWithoutSecondLook,
    /// What was submitted is read before what has ended.
    ReadSubmittedFirst,
    /// Whoever tells an event wakes those who wait for one, and tells it then.
    TellAfterWake,
    /// The first transaction that is about to decide stops there for good.
    StopBeforeVerdict,
    /// The first thread that has recorded what it is about to replace stops there for good.
    StopAfterRecording,
}

impl Fault {
    /// All of them.
    pub const ALL: &[Fault] = &[
        Fault::NoGate,
        Fault::UnnameAtOnce,
        Fault::UnnameTwice,
        Fault::TakeUnpinned,
        Fault::VacateAtOnce,
        Fault::StayInArena,
        Fault::FreeAtOnce,
        Fault::ReadAfterUnpin,
        Fault::SuccessAfterLostCas,
        Fault::NeverRetire,
        Fault::RetireTwice,
        Fault::RecycleWithoutGrace,
        Fault::ReleaseHeadAtOnce,
        Fault::RipeTooEarly,
        Fault::CachedWithoutCount,
        Fault::ExitForgetsRing,
        Fault::HandOverUncounted,
        Fault::IgnoreHolders,
        Fault::PublishUncounted,
        Fault::ForgetHead,
        Fault::KeepVersion,
        Fault::ReleasePastMark,
        Fault::TakeDespiteHolders,
        Fault::CommittedRepins,
        Fault::LoserRepins,
        Fault::WaitWithoutSecondLook,
        Fault::WakeBeforePublish,
        Fault::WakeNobody,
        Fault::CloseSilently,
        Fault::EndDespiteWatchers,
        Fault::MoveDespiteWatchers,
        Fault::StopUnheard,
        Fault::TakeUndecided,
        Fault::DecideEarly,
        Fault::AbortInsteadOfHelp,
        Fault::RetireAtInstall,
        Fault::OnePass,
        Fault::NoProxies,
        Fault::ValidateThenDecide,
        Fault::CompareLogical,
        Fault::AddressAlone,
        Fault::LoserRetires,
        Fault::ForgetHollow,
        Fault::PredecessorIsHead,
        Fault::ReplaceUndecided,
        Fault::Unsorted,
        Fault::NeverSettle,
        Fault::RetireBeforeSettling,
        Fault::EndDespiteHelpers,
        Fault::InstallWakesNobody,
        Fault::WaitAtUndecided,
        Fault::RetryWithoutSecondLook,
        Fault::FoldWithoutSecondLook,
        Fault::KeepEarlyTimes,
        Fault::ValidateWithoutFence,
        Fault::NoteOnlyWritten,
        Fault::FollowCurrent,
        Fault::FreeVerdictAtOnce,
        Fault::RecordAfterCommit,
        Fault::RecordSinglesOnly,
        Fault::LoserKeepsCount,
        Fault::ForgetKept,
        Fault::ForgetTooMuch,
        Fault::ShowWhatIsLeft,
        Fault::RemoveWithoutCommit,
        Fault::ForgetUnborn,
        Fault::BlindBucket,
        Fault::UseDeadBucket,
        Fault::LookAtTheRemoved,
        Fault::IndexAfterwards,
        Fault::BlindVersion,
        Fault::FollowOnce,
        Fault::RenewReservation,
        Fault::ClearAnyReservation,
        Fault::DeadlineIsGrace,
        Fault::CloseBySwap,
        Fault::PushWithoutFence,
        Fault::ParkWithoutFence,
        Fault::ParkWithoutLook,
        Fault::FindByALook,
        Fault::RunUnclaimed,
        Fault::AwaitWithoutSecondLook,
        Fault::ReadSubmittedFirst,
        Fault::TellAfterWake,
    ];
    /// Those in the store, which is not in every build.
    pub const OF_STORE: &[Fault] = &[
        Fault::UnnameAtOnce,
        Fault::UnnameTwice,
        Fault::TakeUnpinned,
        Fault::VacateAtOnce,
        Fault::StayInArena,
        Fault::RemoveWithoutCommit,
        Fault::ForgetUnborn,
        Fault::BlindBucket,
        Fault::UseDeadBucket,
        Fault::LookAtTheRemoved,
        Fault::IndexAfterwards,
        Fault::BlindVersion,
    ];
    /// Those in the scheduler, which is not in every build either.
    pub const OF_SCHEDULER: &[Fault] = &[
        Fault::PublishUncounted,
        Fault::FollowOnce,
        Fault::RenewReservation,
        Fault::ClearAnyReservation,
        Fault::DeadlineIsGrace,
        Fault::CloseBySwap,
        Fault::PushWithoutFence,
        Fault::ParkWithoutFence,
        Fault::ParkWithoutLook,
        Fault::FindByALook,
        Fault::RunUnclaimed,
        Fault::AwaitWithoutSecondLook,
        Fault::ReadSubmittedFirst,
        Fault::TellAfterWake,
    ];
}

/// Whether this process was started with the fault. Never, in an ordinary build.
#[cfg(not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle, snapcell_fault)))]
#[inline(always)]
pub(crate) const fn planted(_fault: Fault) -> bool {
    false
}

/// Whether this process was started with the fault.
#[cfg(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle, snapcell_fault))]
pub(crate) fn planted(fault: Fault) -> bool {
    static PLANTED: OnceLock<Option<Fault>> = OnceLock::new();
    let find = || {
        Fault::ALL
            .iter()
            .copied()
            .chain([Fault::StopBeforeVerdict, Fault::StopAfterRecording])
            .find(|fault| Some(format!("{fault:?}").as_str()) == asked_for())
    };
    *PLANTED.get_or_init(find) == Some(fault)
}

/// The place of a fault that stops the first thread that comes by. It is none of the mistakes that a model
/// must notice: the others must go on.
#[cfg(not(snapcell_fault))]
#[inline(always)]
pub(crate) const fn stop_here(_fault: Fault) {}

/// The place of a fault that stops the first thread that comes by, for good.
#[cfg(snapcell_fault)]
pub(crate) fn stop_here(fault: Fault) {
    static STOPPED: std::sync::Once = std::sync::Once::new();
    let mut is_first = false;
    if planted(fault) {
        STOPPED.call_once(|| is_first = true);
    }
    if is_first {
        loop {
            std::thread::park();
        }
    }
}

/// What `SNAPCELL_FAULT` asks for: the name of a fault, or of a weaker ordering.
#[cfg(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle, snapcell_fault))]
pub(super) fn asked_for() -> Option<&'static str> {
    static ASKED_FOR: OnceLock<Option<String>> = OnceLock::new();
    ASKED_FOR
        .get_or_init(|| std::env::var("SNAPCELL_FAULT").ok())
        .as_deref()
}

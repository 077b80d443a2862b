//! Planted faults: mistakes that a model must notice.
//!
//! Each is a switch in the code that it would break, off unless the process was started with
//! `SNAPCELL_FAULT` set to its name, and not even there in an ordinary build. `cargo loom-faults`
//! starts one process for each fault and each model that claims to notice it.

/// A mistake that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    dead_code,
    reason = "the switches of some faults exist in model builds only"
)]
pub enum Fault {
    /// loom sees words without their gates.
    NoGate,
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
    /// A ripe node dies though somebody still holds it.
    IgnoreHolders,
    /// The last handle leaves the last node behind.
    ForgetHead,
    /// A commit keeps the version of its predecessor.
    KeepVersion,
}

impl Fault {
    /// All of them.
    pub const ALL: &[Fault] = &[
        Fault::NoGate,
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
        Fault::IgnoreHolders,
        Fault::ForgetHead,
        Fault::KeepVersion,
    ];
}

/// Whether this process was started with the fault. Never, in an ordinary build.
#[cfg(not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle, snapcell_fault)))]
#[inline(always)]
pub(crate) const fn planted(_fault: Fault) -> bool {
    false
}

#[cfg(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle, snapcell_fault))]
pub(crate) use switched::planted;
#[cfg(any(snapcell_model, snapcell_epoch_model))]
pub(crate) use switched::weakened;

/// The switches of the builds that have them.
#[cfg(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle, snapcell_fault))]
mod switched {
    use super::Fault;
    #[cfg(any(snapcell_model, snapcell_epoch_model))]
    use crate::sync::orderings::Weakening;
    use std::sync::OnceLock;

    /// What `SNAPCELL_FAULT` asks for.
    enum Plant {
        Nothing,
        Logic(Fault),
        #[cfg(any(snapcell_model, snapcell_epoch_model))]
        Order(Weakening),
    }

    static PLANT: OnceLock<Plant> = OnceLock::new();

    fn plant() -> &'static Plant {
        PLANT.get_or_init(|| {
            let Some(name) = std::env::var("SNAPCELL_FAULT")
                .ok()
                .filter(|name| !name.is_empty())
            else {
                return Plant::Nothing;
            };
            if let Some(&fault) = Fault::ALL.iter().find(|fault| format!("{fault:?}") == name) {
                return Plant::Logic(fault);
            }
            #[cfg(any(snapcell_model, snapcell_epoch_model))]
            if let Some(weakening) =
                Weakening::all().find(|weakening| weakening.to_string() == name)
            {
                return Plant::Order(weakening);
            }
            panic!("SNAPCELL_FAULT={name} names neither a fault nor a weakening of this build");
        })
    }

    /// Whether this process was started with the fault.
    pub(crate) fn planted(fault: Fault) -> bool {
        matches!(plant(), Plant::Logic(planted) if *planted == fault)
    }

    /// The weakening that this process was started with.
    #[cfg(any(snapcell_model, snapcell_epoch_model))]
    pub(crate) fn weakened() -> Option<&'static Weakening> {
        match plant() {
            Plant::Order(weakening) => Some(weakening),
            _ => None,
        }
    }
}

//! Every memory ordering of the crate, as one table.
//!
//! A row is a *site*: one access, or several that mean the same. The table is data, so that the
//! model build can replay each weaker ordering of each site (`cargo loom-faults`): the models named
//! in the row must fail with it. In an ordinary build a site is a constant.
//!
//! `src/docs/orderings.md` shows the table to users and is checked against it.

use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};

/// What a site does to its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A load.
    Load,
    /// A store.
    Store,
    /// A swap or an arithmetic read-modify-write.
    ReadModifyWrite,
    /// A fence.
    Fence,
    /// A compare-and-exchange; the second ordering is that of a failed one, which only loads.
    CompareExchange,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The name of the site.
    pub site: &'static str,
    /// What it does.
    pub access: Access,
    /// Its ordering, for a compare-and-exchange the one of success.
    pub ordering: Ordering,
    /// The ordering of a failed compare-and-exchange.
    pub on_failure: Ordering,
    /// The site that it synchronizes with.
    pub pairs_with: &'static str,
    /// Why it is what it is.
    pub why: &'static str,
    /// The models that fail with each weaker ordering.
    pub models: &'static [&'static str],
    /// The same for that of a failed compare-and-exchange.
    pub models_of_failure: &'static [&'static str],
}

/// A site, as the code names it at an access.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    #[cfg_attr(
        not(any(snapcell_model, snapcell_epoch_model)),
        allow(dead_code, reason = "only model builds look an ordering up")
    )]
    index: usize,
    ordering: Ordering,
    on_failure: Ordering,
}

impl Site {
    #[inline(always)]
    pub(crate) fn ordering(self) -> Ordering {
        #[cfg(any(snapcell_model, snapcell_epoch_model))]
        if let Some(weaker) = Weakening::planted(self.index, false) {
            return weaker;
        }
        self.ordering
    }

    #[inline(always)]
    pub(crate) fn on_failure(self) -> Ordering {
        #[cfg(any(snapcell_model, snapcell_epoch_model))]
        if let Some(weaker) = Weakening::planted(self.index, true) {
            return weaker;
        }
        self.on_failure
    }
}

macro_rules! sites {
    ($(
        $site:ident: $access:ident $ordering:ident $(/ $on_failure:ident)?,
        pairs with $pairs:literal, models [$($model:literal),*] $(/ [$($of_failure:literal),*])?,
        $why:literal;
    )*) => {
        #[allow(dead_code, non_camel_case_types, clippy::upper_case_acronyms, reason = "numbers the sites, named as such")]
        enum Index { $($site),* }

        /// The sites by name.
        #[cfg_attr(
            not(all(feature = "store", feature = "scheduler")),
            allow(dead_code, reason = "the table is the same in every build; nobody accesses those of a feature that is off")
        )]
        pub(crate) mod site {
            use super::{Index, Site};
            use super::{AcqRel, Acquire, Relaxed, Release, SeqCst};
            $(
                #[doc = $why]
                pub(crate) const $site: Site = Site {
                    index: Index::$site as usize,
                    ordering: $ordering,
                    on_failure: sites!(@failure $($on_failure)?),
                };
            )*
        }

        /// All sites, in the order of their index.
        pub const TABLE: &[Row] = &[$(
            Row {
                site: stringify!($site),
                access: Access::$access,
                ordering: $ordering,
                on_failure: sites!(@failure $($on_failure)?),
                pairs_with: $pairs,
                why: $why,
                models: &[$($model),*],
                models_of_failure: &[$($($of_failure),*)?],
            },
        )*];
    };
    (@failure) => { Relaxed };
    (@failure $ordering:ident) => { $ordering };
}

sites! {
    HEAD_LOAD: Load Acquire, pairs with "HEAD_CAS", models ["read::one_guard"],
        "A reader that sees the pointer sees the node behind it.";
    HEAD_COMPARE: Load Relaxed, pairs with "-", models [],
        "Only compares the pointer with that of a node that is held, or looks at the marks, and looks behind none.";
    HEAD_TAKE: Load Relaxed, pairs with "-", models [],
        "The head of an entity that ends: all that was done to it is ordered by HANDLE_LAST or HANDLE_SOLE.";
    HEAD_CAS: CompareExchange Release / Acquire, pairs with "HEAD_LOAD, HEAD_CAS, HEAD_MARK", models ["read::one_guard", "commit::two_writers"] / ["commit::two_writers", "commit::two_writers_on_a_snapshot"],
        "Publishes the node. A lost one reads the winner's stamp and value.";
    HEAD_CAS_MARKED: CompareExchange Release / Acquire, pairs with "HEAD_LOAD, HEAD_CAS", models ["wait::publishes_a_marked_head"] / ["wait::two_writers_on_a_marked_head"],
        "As HEAD_CAS. The marks were acquired by the exchange that failed on them.";
    HEAD_INSTALL: CompareExchange Release / Acquire, pairs with "HEAD_LOAD, HEAD_CAS, HEAD_MARK", models ["transaction::two_loads", "transaction::a_commit_helps"] / ["transaction_wait::woken_by_a_helper", "transaction::what_others_have_finished"],
        "Publishes a node of a transaction, with its entry. A lost one looks at what it has lost to, and is as HEAD_MARK says if that is a mark.";
    LINK_BEGIN: Store Relaxed, pairs with "-", models [],
        "The link of a node that nobody knows yet. HEAD_INSTALL publishes it.";
    LINK_LOAD: Load Acquire, pairs with "LINK_SETTLE", models ["transaction::two_loads_under_one_guard", "closure::opacity"],
        "Who sees one node of a transaction as current finds the others at their heads.";
    LINK_KIND: Load Relaxed, pairs with "-", models [],
        "What was a proxy remains one.";
    LINK_SETTLE: Store Release, pairs with "LINK_LOAD", models ["transaction::two_loads", "transaction::two_loads_backwards", "transaction::two_loads_under_one_guard", "moment::a_transaction"],
        "Everything is installed before a link says that it is current.";
    VERDICT_LOAD: Load Acquire, pairs with "VERDICT_CAS", models ["transaction::two_loads_under_one_guard"],
        "As LINK_LOAD, where the link is not settled yet.";
    VERDICT_CAS: CompareExchange Release / Relaxed, pairs with "VERDICT_LOAD", models ["transaction::two_loads", "transaction::two_loads_under_one_guard", "moment::a_transaction"] / [],
        "Everything is installed before the verdict says so. Whoever comes too late has seen the heads itself.";
    SNAPSHOT_FENCE: Fence SeqCst, pairs with "SNAPSHOT_FENCE", models ["moment::two_moments"],
        "Before the last look of a snapshot of several entities, and of a transaction that writes nothing, so that all of these agree on one order.";
    TRANSACTED_LOAD: Load Relaxed, pairs with "-", models [],
        "The bit was set through a handle, and so before the end; or whoever asks is about to set it.";
    TRANSACTED_SET: ReadModifyWrite Relaxed, pairs with "-", models [],
        "Through a handle: HANDLE_RELEASE orders it.";
    HEAD_MARK: CompareExchange Release / Relaxed, pairs with "HEAD_CAS", models ["wait::first_waiter"] / [],
        "Whoever sees the mark sees the extra, and finds the list in it. Its lock does the rest.";
    HEAD_CLOSE: ReadModifyWrite Release, pairs with "HEAD_LOAD", models ["wait::what_came_before_the_close"],
        "What was done before the last handle went comes before what is done by whoever sees the close.";
    COUNT_TAKE: ReadModifyWrite Relaxed, pairs with "-", models [],
        "Whoever takes a count already holds one, or is pinned while the head holds one.";
    COUNT_RELEASE: ReadModifyWrite Release, pairs with "COUNT_LAST, COUNT_SOLE, COUNT_OWN", models ["count::two_holders", "count::holder_against_grace"],
        "What a holder read comes before the end of the value.";
    COUNT_LAST: Load Acquire, pairs with "COUNT_RELEASE", models ["count::two_holders"],
        "Whoever took the count to zero ends the value after all other holders.";
    COUNT_SOLE: Load Acquire, pairs with "COUNT_RELEASE", models ["count::holder_against_grace"],
        "After the grace a count of one is the head's own: nobody can take another, and all that gave one up are done.";
    COUNT_OWN: Load Acquire, pairs with "COUNT_RELEASE", models ["end::into_inner_against_a_holder"],
        "The value of an entity that ends moves out after all holders that gave it up.";
    KEPT_PEEK: Load Relaxed, pairs with "-", models [],
        "Only asks whether somebody was faster.";
    KEPT_SET: CompareExchange Release / Relaxed, pairs with "KEPT_LOAD", models ["history::found_without_the_head"] / [],
        "Whoever keeps a node has seen it. A lost one looks behind nothing.";
    KEPT_LOAD: Load Acquire, pairs with "KEPT_SET", models ["history::found_without_the_head"],
        "Who finds a node in its place sees the node.";
    KEPT_TAKE: Load Relaxed, pairs with "-", models [],
        "The place ends: all that was done to it is ordered by what ends it.";
    HANDLE_TAKE: ReadModifyWrite Relaxed, pairs with "-", models [],
        "Whoever takes a handle already holds one.";
    HANDLE_RELEASE: ReadModifyWrite Release, pairs with "HANDLE_LAST, HANDLE_SOLE", models ["end::last_handle", "end::into_inner"],
        "What was done through a handle comes before the end of the entity.";
    HANDLE_LAST: Load Acquire, pairs with "HANDLE_RELEASE", models ["end::last_handle"],
        "The last handle ends the entity after all that was done through the others.";
    HANDLE_SOLE: Load Acquire, pairs with "HANDLE_RELEASE", models ["end::into_inner"],
        "A single handle may take the value out, after all that was done through the others.";
    ROW_LOAD: Load Acquire, pairs with "ROW_SET", models ["arena::a_birth_against_a_look"],
        "Who finds a row finds its entries.";
    ROW_SET: CompareExchange Release / Relaxed, pairs with "ROW_LOAD", models ["arena::a_birth_against_a_look"] / [],
        "Publishes a row. A lost one looks for that of the winner.";
    ROW_TAKE: Load Relaxed, pairs with "-", models [],
        "The rows end after all blocks in them: the count of those orders it.";
    NAME_SET: Store Release, pairs with "NAME_LOAD", models ["arena::a_birth_against_a_look"],
        "The block is there before its name.";
    NAME_LOAD: Load Acquire, pairs with "NAME_SET", models ["arena::a_birth_against_a_look"],
        "Who finds a name finds the block, and the other half of the name.";
    NAME_HIGH_SET: Store Relaxed, pairs with "-", models [],
        "NAME_SET publishes it.";
    NAME_HIGH_LOAD: Load Relaxed, pairs with "-", models [],
        "After NAME_LOAD, which orders it.";
    NAME_TAKE: CompareExchange Relaxed / Relaxed, pairs with "-", models [] / [],
        "Whoever is pinned later sees it by the fences of pin and beacon, as a head that was replaced.";
    FREE_LOOK: Load Relaxed, pairs with "-", models [],
        "Whether there may be one. Who gives one back puts it on whatever an exchange finds on top.";
    FREE_LOAD: Load Acquire, pairs with "FREE_PUT", models ["arena::taken_while_it_comes_back"],
        "Who finds a free entry finds its link, and comes after all that was done to it.";
    FREE_PUT: CompareExchange Release / Relaxed, pairs with "FREE_LOAD", models ["arena::given_back_and_taken"] / [],
        "An entry is free, with its link, after all that was done to it. A lost one is tried again.";
    FREE_TAKE: CompareExchange Relaxed / Relaxed, pairs with "-", models [] / [],
        "After FREE_LOAD. Whoever finds what is below by this one comes after those who put it there, by whose exchange this goes on.";
    BELOW_SET: Store Relaxed, pairs with "-", models [],
        "FREE_PUT publishes it.";
    BELOW_LOAD: Load Relaxed, pairs with "-", models [],
        "After FREE_LOAD, which orders it.";
    EXTRA_LOAD: Load Acquire, pairs with "EXTRA_SET", models ["wait::two_lists"],
        "Who sees the extra sees what is in it.";
    EXTRA_SET: CompareExchange Release / Acquire, pairs with "EXTRA_LOAD, EXTRA_SET", models ["wait::two_lists"] / ["wait::two_lists"],
        "Publishes the extra. A lost one looks into that of the winner.";
    EXTRA_TAKE: Load Relaxed, pairs with "-", models [],
        "The extra of a block that ends, after all that was done to it.";
    WATCHER_TAKE: ReadModifyWrite Relaxed, pairs with "-", models [],
        "Whoever takes a watcher already has one, or a handle.";
    WATCHER_RELEASE: ReadModifyWrite Release, pairs with "WATCHER_LAST, WATCHER_NONE", models ["end::last_watcher", "end::into_inner_against_a_watcher"],
        "What was done through a watcher comes before the end of the block.";
    WATCHER_LAST: Load Acquire, pairs with "WATCHER_RELEASE", models ["end::last_watcher"],
        "Whoever is last ends the block after all that was done through the others.";
    WATCHER_NONE: Load Acquire, pairs with "WATCHER_RELEASE", models ["end::into_inner_against_a_watcher"],
        "The value may move out after all that was done through watchers.";
    STOP_SET: Store Relaxed, pairs with "-", models [],
        "A stop is ordered by the lock of the list, which is taken afterwards.";
    STOP_LOAD: Load Relaxed, pairs with "-", models [],
        "And so is the question, which comes after the lock was taken.";
    RIPE_MARK: ReadModifyWrite Release, pairs with "RIPE_LOAD", models ["ring::another_thread_marks"],
        "The readers that a beacon waited for are done before what it marks dies.";
    RIPE_LOAD: Load Acquire, pairs with "RIPE_MARK", models ["ring::another_thread_marks"],
        "What is marked dies after the readers that the beacon waited for.";
    ORPHAN_PEEK: Load Relaxed, pairs with "-", models [],
        "Only asks whether there is something to take, or what to put a batch on.";
    ORPHAN_PUSH: CompareExchange Release / Relaxed, pairs with "ORPHAN_TAKE", models ["exit::adopted_by_a_writer"],
        "Publishes a batch of an ended thread, after the readers that it waited for. A lost one looks behind nothing.";
    ORPHAN_TAKE: ReadModifyWrite Acquire, pairs with "ORPHAN_PUSH", models ["exit::adopted_by_a_writer"],
        "Whoever takes the batches sees what is in them.";
    LINK_ENTER: ReadModifyWrite AcqRel, pairs with "LINK_LEAVE", models ["lane::a_promotion_of_what_is_taken"],
        "Whoever finds the link free may write to it, after the holder that took it out. Whoever finds it taken has changed the item before that holder reads it.";
    LINK_LEAVE: ReadModifyWrite AcqRel, pairs with "LINK_ENTER", models ["lane::a_promotion_of_what_is_taken"],
        "See LINK_ENTER.";
    INBOX_PEEK: Load Relaxed, pairs with "-", models [],
        "Only asks what to put something on, or whether there is something to take.";
    INBOX_PUSH: CompareExchange Release / Relaxed, pairs with "INBOX_TAKE", models ["lane::two_submit"],
        "Publishes what was put in. A lost one looks behind nothing.";
    INBOX_FIRST: Load Acquire, pairs with "INBOX_RELEASE", models ["operation::a_promotion_reaches_a_queued_child"],
        "Whoever finds a lane idle has it after its last holder, and so parks it after that one has resumed with it. (It looks at what it has put in itself.)";
    INBOX_TAKE: ReadModifyWrite Acquire, pairs with "INBOX_PUSH, INBOX_RELEASE", models ["lane::two_submit"],
        "The holder sees what was put in, and what the holder before it made of the lane, if that one has released it.";
    INBOX_IDLE: Load Acquire, pairs with "INBOX_RELEASE", models ["operation::short_after_what_was_submitted"],
        "Whoever finds a lane idle sees what was done in it.";
    INBOX_RELEASE: CompareExchange Release / Relaxed, pairs with "INBOX_TAKE, INBOX_FIRST, INBOX_IDLE", models ["lane::two_submit"],
        "What was made of the lane is seen by the next holder. A lost one holds on.";
    INBOX_PARK: Store Release, pairs with "INBOX_RESUME", models ["lane::a_parked_lane_is_resumed"],
        "What was made of the lane is seen by whoever resumes.";
    INBOX_RESUME: ReadModifyWrite Acquire, pairs with "INBOX_PARK", models ["lane::a_parked_lane_is_resumed"],
        "Whoever resumes sees what was made of the lane.";
    INBOX_LOOK: Load Relaxed, pairs with "-", models [],
        "After PARK_FENCE: only asks whether something is new.";
    INBOX_ASK: Load Relaxed, pairs with "-", models [],
        "After PUSH_FENCE a level to compare with; after FOUND whether it is parked at all.";
    PARK_FENCE: Fence SeqCst, pairs with "PUSH_FENCE", models ["lane::what_is_new_in_a_parked_lane_is_known"],
        "Either whoever parks a lane sees what was put in, or who put it in sees that the lane is parked.";
    PUSH_FENCE: Fence SeqCst, pairs with "PARK_FENCE", models ["lane::what_is_new_in_a_parked_lane_is_known"],
        "See PARK_FENCE.";
    ANSWER_LOAD: Load Relaxed, pairs with "-", models [],
        "Says how far something is. Whoever looks at more than the word exchanges it, or asks by ANSWER_FULL.";
    ANSWER_FULL: Load Acquire, pairs with "ANSWER_SETTLE", models ["operation::complete_against_wait", "operation::who_sees_the_end_finds_it_counted"],
        "Whoever sees that there is an answer sees it, and what was noted before it was given.";
    ANSWER_CHANGE: CompareExchange AcqRel / Relaxed, pairs with "ANSWER_CHANGE", models ["operation::opened_again"],
        "Who claims an operation sees what the one before did that opened it again.";
    ANSWER_SETTLE: CompareExchange Release / Relaxed, pairs with "ANSWER_FULL", models ["operation::an_answer_is_taken", "operation::complete_against_wait"],
        "Publishes the answer.";
    ANSWER_TAKE: ReadModifyWrite Relaxed, pairs with "-", models [],
        "Of all who have seen by ANSWER_FULL that there is an answer, one takes it.";
    PLACE_COUNT: ReadModifyWrite Relaxed, pairs with "-", models [],
        "Counts places in a queue. What is in the queue is ordered by its inbox.";
    PLACE_TAKE: CompareExchange Relaxed / Relaxed, pairs with "-", models [],
        "As PLACE_COUNT.";
    PLACE_LOAD: Load Relaxed, pairs with "-", models [],
        "As PLACE_COUNT.";
    ADVERTISE: ReadModifyWrite Relaxed, pairs with "-", models [],
        "Notes that a lane has an entry. It was parked before, and PARK_FENCE orders that for whoever takes the entry.";
    FOUND: ReadModifyWrite Acquire, pairs with "PARK_FENCE", models ["lane::an_advertised_lane_is_found"],
        "Whoever takes an entry sees that the lane is parked, if whoever parked it relied on that entry.";
    TALLY_COUNT: Store Relaxed, pairs with "-", models [],
        "A count of this thread's own. That of what was submitted comes before the operation is known to anybody who could end it.";
    TALLY_END: Store Release, pairs with "TALLY_READ", models ["operation::counts_are_read"],
        "Whoever sees that an operation has ended sees that it was submitted.";
    TALLY_READ: Load Acquire, pairs with "TALLY_END", models ["operation::counts_are_read"],
        "See TALLY_END.";
    TALLY_LOAD: Load Relaxed, pairs with "-", models [],
        "A count of this thread's own, or one that is read after TALLY_READ.";
    EVENT_LOOK: Load Relaxed, pairs with "-", models [],
        "Asks whether anybody listens, or whether nothing more will be told. Who has subscribed before an operation was submitted is seen by whoever runs it, since the lane orders the two; the end of a ring is seen after its readers' lock.";
    EVENT_SET: Store Relaxed, pairs with "-", models [],
        "See EVENT_LOOK.";
    NUMBER: ReadModifyWrite Relaxed, pairs with "-", models [],
        "Counts engines, their operations, or threads: each number is given once.";
    GATE_ENTER: ReadModifyWrite Relaxed, pairs with "-", models [],
        "Counts an operation in, and finds whether the engine is shut down: both are in one word.";
    GATE_LEAVE: ReadModifyWrite Release, pairs with "GATE_WAIT", models ["operation::the_last_one_out"],
        "Whoever sees that nothing is under way sees all that was done.";
    GATE_WAIT: Load Acquire, pairs with "GATE_LEAVE", models ["operation::the_last_one_out"],
        "See GATE_LEAVE.";
    GATE_FENCE: Fence SeqCst, pairs with "GATE_FENCE", models ["operation::the_last_two_out"],
        "Of those that go out by different shards, and whoever has closed the gate, one sees that nothing is left.";
    GATE_SET: CompareExchange Relaxed / Relaxed, pairs with "-", models [],
        "Opens or closes the engine. It orders nothing.";
    GATE_LOAD: Load Relaxed, pairs with "-", models [],
        "As GATE_SET.";
    GATE_SAY: Store Relaxed, pairs with "-", models [],
        "Says that the gate is open or closed to those who only ask. It orders nothing.";
    RECORD_LOAD: Load Relaxed, pairs with "-", models [],
        "A number that is asked for: when an operation began, or what its own priority is.";
    RECORD_STORE: Store Relaxed, pairs with "-", models [],
        "As RECORD_LOAD.";
    GAUGE_LOAD: Load Relaxed, pairs with "-", models [],
        "A gauge is read for information.";
    GAUGE_STORE: Store Relaxed, pairs with "-", models [],
        "A gauge has one writer and orders nothing.";
    GAUGE_ADD: ReadModifyWrite Relaxed, pairs with "-", models [],
        "A gauge with several writers orders nothing either.";
    LAG_HAND_OVER: Store Release, pairs with "LAG_LOAD", models ["exit::what_ends_is_counted"],
        "What an ended thread leaves is counted elsewhere before it no longer is with the thread.";
    LAG_LOAD: Load Acquire, pairs with "LAG_HAND_OVER", models ["exit::what_ends_is_counted"],
        "Who finds nothing left with a thread finds it among what ended threads left.";
    CLOCK_LOAD: Load Relaxed, pairs with "-", models [],
        "A manual clock is a number; stamps never go backwards whatever it says.";
    CLOCK_ADVANCE: CompareExchange Relaxed / Relaxed, pairs with "-", models [],
        "As CLOCK_LOAD.";
    CLOCK_SET: Store Relaxed, pairs with "-", models [],
        "As CLOCK_LOAD.";
    RESERVATION_LOAD: Load Relaxed, pairs with "-", models [],
        "A reservation is a number that says who should step back. No commit depends on it, and nothing is behind it.";
    RESERVATION_TAKE: CompareExchange Relaxed / Relaxed, pairs with "-", models [],
        "As RESERVATION_LOAD.";
    RESERVATION_CLEAR: CompareExchange Relaxed / Relaxed, pairs with "-", models [],
        "As RESERVATION_LOAD.";
}

/// loom's gates order nothing: any stronger ordering would hide what the models look for.
#[cfg(any(snapcell_model, snapcell_epoch_model))]
pub(crate) const GATE: Ordering = Relaxed;

/// The orderings by which the oracle states what crossbeam-epoch promises. Not ours to weaken.
#[cfg(any(snapcell_model, snapcell_shuttle))]
pub(crate) mod contract {
    use super::Ordering::{self, Acquire, Release, SeqCst};

    pub(crate) const PIN_FENCE: Ordering = SeqCst;
    pub(crate) const DEFER_FENCE: Ordering = SeqCst;
    pub(crate) const DEFER: Ordering = Release;
    pub(crate) const UNPIN: Ordering = Release;
    pub(crate) const RUN_DEFERRED: Ordering = Acquire;
}

/// One site with one ordering weaker than the table's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weakening {
    index: usize,
    of_failure: bool,
    weaker: Ordering,
}

impl Weakening {
    /// Every weakening of every site.
    pub fn all() -> impl Iterator<Item = Weakening> {
        TABLE.iter().enumerate().flat_map(|(index, row)| {
            let of_success = weaker_than(row.access, row.ordering);
            let of_failure = match row.access {
                Access::CompareExchange => weaker_than(Access::Load, row.on_failure),
                _ => &[],
            };
            let list = |orderings: &'static [Ordering], of_failure| {
                orderings.iter().map(move |&weaker| Weakening {
                    index,
                    of_failure,
                    weaker,
                })
            };
            list(of_success, false).chain(list(of_failure, true))
        })
    }

    /// The row that it weakens.
    pub fn row(&self) -> &'static Row {
        &TABLE[self.index]
    }

    /// The models that fail with it.
    pub fn models(&self) -> &'static [&'static str] {
        if self.of_failure {
            self.row().models_of_failure
        } else {
            self.row().models
        }
    }

    /// The weaker ordering, if this process was started with one of this access.
    #[cfg(any(snapcell_model, snapcell_epoch_model))]
    fn planted(index: usize, of_failure: bool) -> Option<Ordering> {
        static PLANTED: std::sync::OnceLock<Option<Weakening>> = std::sync::OnceLock::new();
        let find = || {
            let name = super::fault::asked_for()?;
            Weakening::all().find(|weakening| weakening.to_string() == name)
        };
        let planted = PLANTED.get_or_init(find).as_ref()?;
        (planted.index == index && planted.of_failure == of_failure).then_some(planted.weaker)
    }
}

impl std::fmt::Display for Weakening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let side = if self.of_failure { "/failure" } else { "" };
        write!(f, "{}{side}={:?}", self.row().site, self.weaker)
    }
}

/// The orderings strictly weaker than `ordering` that an access of this kind may have.
fn weaker_than(access: Access, ordering: Ordering) -> &'static [Ordering] {
    match (access, ordering) {
        // What is weaker still can't do what this can't.
        (Access::Fence, SeqCst) => &[AcqRel],
        (Access::Load, SeqCst) => &[Acquire, Relaxed],
        (Access::Store, SeqCst) => &[Release, Relaxed],
        (_, SeqCst) => &[AcqRel, Acquire, Release, Relaxed],
        (_, AcqRel) => &[Acquire, Release, Relaxed],
        (_, Acquire | Release) => &[Relaxed],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_ordering_that_could_be_weaker_names_the_models_that_need_it() {
        for weakening in Weakening::all() {
            assert!(
                !weakening.models().is_empty(),
                "{weakening}: name a model that fails with it, or weaken the site"
            );
        }
    }

    #[test]
    fn a_pair_names_sites_of_the_table() {
        for row in TABLE {
            for pair in row.pairs_with.split(", ").filter(|pair| *pair != "-") {
                assert!(
                    TABLE.iter().any(|other| other.site == pair),
                    "{} pairs with {pair}, which is no site",
                    row.site
                );
            }
        }
    }

    /// The table as the guide shows it.
    fn markdown() -> String {
        let mut out = String::from(
            "| site | access | ordering | pairs with | why | models that need it |\n|---|---|---|---|---|---|\n",
        );
        for row in TABLE {
            let ordering = match row.access {
                Access::CompareExchange => {
                    format!("{:?}, failed {:?}", row.ordering, row.on_failure)
                }
                _ => format!("{:?}", row.ordering),
            };
            let models: BTreeSet<_> = row.models.iter().chain(row.models_of_failure).collect();
            let models: Vec<_> = models.iter().map(|model| format!("`{model}`")).collect();
            let models = match models.as_slice() {
                [] => String::from("none: nothing is weaker"),
                models => models.join(", "),
            };
            let Row {
                site,
                access,
                pairs_with,
                why,
                ..
            } = row;
            out += &format!(
                "| `{site}` | {access:?} | {ordering} | {pairs_with} | {why} | {models} |\n"
            );
        }
        out
    }

    #[test]
    fn the_guide_shows_this_table() {
        let table = markdown();
        assert!(
            include_str!("../docs/orderings.md").contains(&table),
            "src/docs/orderings.md no longer shows the table; it should contain:\n\n{table}"
        );
    }
}

//! What transactions over several values get done, what they cost, and who stands still for them.

mod after;
mod several;
mod snapshots;
mod stopped;
mod transfers;

use crate::results::Answer;
use crate::runner::Plan;
use rpds::VectorSync;

/// Who the others are compared with.
const REFERENCE: &str = "fast-stm";

/// A few accounts, of which threads often want the same, and many, of which they rarely do.
const FEW: u32 = 64;
const MANY: u32 = 100_000;

pub(crate) fn answer(plan: &Plan) -> Answer {
    let mut cases = Vec::new();
    cases.extend([1, 2, 4, 8].map(|threads| transfers::case::<Vec<u64>>(plan, FEW, threads)));
    cases.extend(
        [1, 2, 4, 8].map(|threads| transfers::case::<VectorSync<u64>>(plan, MANY, threads)),
    );
    cases.extend([
        several::case::<2>(plan),
        several::case::<4>(plan),
        several::case::<8>(plan),
        several::case::<16>(plan),
        snapshots::case::<2>(plan, snapshots::Beside::Nobody),
        snapshots::case::<4>(plan, snapshots::Beside::Nobody),
        snapshots::case::<8>(plan, snapshots::Beside::Nobody),
        snapshots::case::<2>(plan, snapshots::Beside::Writer { accounts: FEW }),
        snapshots::case::<2>(plan, snapshots::Beside::Writer { accounts: 2 }),
        snapshots::case::<4>(plan, snapshots::Beside::Writer { accounts: 4 }),
        snapshots::case::<8>(plan, snapshots::Beside::Writer { accounts: 8 }),
        after::case(plan),
        stopped::case(plan),
    ]);
    Answer {
        question: "transactions",
        title: "What do transactions over several values get done, and what do they cost?",
        notes: &[
            "A transfer reads the balances (u64) of two accounts, moves 1 if the source has it, and writes both. The pairs are \
             drawn beforehand, all equally likely. Latencies are those of one transfer in 64, with a reading of the clock in each.",
            "Runs are those of the closure. Attempts that snapcell makes again without it are not among them; under locks it runs once.",
            "In stm and fast-stm a closure may see values that were never current together; it is told at the commit. In snapcell \
             and async-stm it never does.",
            "fast-stm is as it is by default. async-stm is polled by a waker that does nothing: none of these transactions waits.",
            "arc_swap rcu has all accounts behind one pointer: 64 or fewer as a Vec that is copied whole, 100 000 as a persistent \
             vector of rpds.",
            "A slow writer flatters whoever takes snapshots beside it: look at both columns.",
            "Who stops does so between reading and writing, until the end, with its locks if it has some. stm and fast-stm lock too, \
             during a commit, but nothing lets a thread stop there at will; the scheduler may.",
        ],
        cases,
    }
}

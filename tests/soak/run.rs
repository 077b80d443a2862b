//! A soak from its first stretch to its last, and what it has to say at the end.

use super::memory::Memory;
use super::plain::Plain;
use super::plan::Length;
use super::seen::Seen;
use super::street::{Street, Totals, until_all_is_freed_but};
use super::submitter::Submitter;
use crate::planned::silence_what_is_planned;
use crate::race::Seed;
use crate::support::together;
use std::sync::Arc;
use std::time::Instant;

/// Threads that use the engines.
const SUBMITTERS: usize = 3;
/// And those that commit beside them, where many commits are asked for.
const PLAIN: usize = 2;
/// After so many stretches the engines are replaced.
const GENERATION: u64 = 8;
/// So many plain commits each of those threads does in a stretch.
const BLOCK: u64 = 4_000_000;

/// By so much, in KiB, the process may grow once it has settled: pieces that the allocator keeps for threads that have
/// ended.
const GROWTH: u64 = 8 * 1024;
/// And where many commits are asked for: while a thread that is under a guard doesn't get its turn, nothing is freed,
/// and others commit a million times. Of what every commit left behind half a byte would be noticed in 10⁹.
const GROWTH_OF_MANY: u64 = 512 * 1024;

/// Runs it.
///
/// # Panics
/// If a law is broken; or, in a long one, if something was never exercised.
pub(crate) fn run(length: Length) {
    silence_what_is_planned();
    let seed = Seed::get();
    let begin = now();
    let is_small = matches!(length, Length::Stretches(_));
    let steps = if is_small { 250 } else { 5_000 };
    let seen = Arc::new(Seen::new());
    let plain = Plain::new(PLAIN);
    let mut totals = Totals::default();
    let mut memory = Memory::new(match length {
        Length::Commits(_) => GROWTH_OF_MANY,
        _ => GROWTH,
    });
    let mut street = Street::new(seen.clone());
    let mut stretches = 0;
    let is_over = |stretches: u64, commits: u64| match length {
        Length::Stretches(all) => stretches == u64::from(all),
        Length::Time(time) => begin.elapsed() >= time,
        Length::Commits(all) => commits >= all,
    };
    loop {
        let commits = plain.commits() + totals.endings[0];
        if is_over(stretches, commits) {
            break;
        }
        let block = match length {
            Length::Commits(all) => BLOCK.min((all - commits).div_ceil(PLAIN as u64)),
            _ => 0,
        };
        let shared = Arc::new(street);
        together(SUBMITTERS + PLAIN, |thread| {
            let part = stretches * (SUBMITTERS + PLAIN) as u64 + thread as u64;
            match thread.checked_sub(SUBMITTERS) {
                None => Submitter::new(&shared, seed.of(part)).run(steps),
                Some(thread) => plain.run(thread, block, seed.of(part)),
            }
        });
        // Closures have it too, but all of them have ended, as soon as the engines say so.
        shared.finish();
        street = Arc::into_inner(shared).expect("broken law: closures were not dropped");
        street.check(&mut totals);
        plain.check();
        stretches += 1;
        if stretches % GENERATION == 0 {
            street.begin_again();
        }
        memory.look();
    }
    street.begin_again();
    drop(street);
    until_all_is_freed_but(0);

    let (mechanisms, missing) = seen.told();
    println!("\n# A soak of snapcell\n");
    let seconds = begin.elapsed().as_secs_f64();
    match std::env::var("SNAPCELL_SEED") {
        Ok(seed) => println!("* {length:?}, SNAPCELL_SEED={seed}: {seconds:.1} s"),
        Err(_) => println!("* {length:?}, the usual seed: {seconds:.1} s"),
    }
    println!("* {stretches} checkpoints, and every law was kept at each of them");
    println!("* resident memory: {}", memory.told());
    println!("\n| what | how many |\n|---|---:|");
    let [committed, unchanged, failed, rejected, cancelled] = totals.endings;
    for (what, number) in [
        ("commits in all", committed + plain.commits()),
        ("of them plain ones", plain.commits()),
        ("conflicts of plain ones", plain.conflicts()),
        ("operations taken", totals.submitted),
        ("committed", committed),
        ("unchanged", unchanged),
        ("failed", failed),
        ("rejected", rejected),
        ("cancelled", cancelled),
        ("unfinished", 0),
        ("conflicts of operations", totals.conflicts),
        ("folds", totals.folds),
        ("preemptions", totals.preemptions),
        ("reservations", totals.reservations),
        ("steps back for them", totals.steps_back),
        ("publications where engines work", totals.publications),
    ] {
        println!("| {what:<34} | {number:>13} |");
    }
    println!("\n| mechanism | how often |\n|---|---:|\n{mechanisms}");
    assert!(
        is_small || missing == 0,
        "{missing} mechanisms were not exercised, so nothing is known of them"
    );
}

#[allow(
    clippy::disallowed_methods,
    reason = "it decides how long a soak is, and nothing else"
)]
fn now() -> Instant {
    Instant::now()
}

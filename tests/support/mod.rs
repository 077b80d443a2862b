//! What the tests of entities, errors, panics and lifetimes share.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Runs the body of a test while no other one of this file runs: what waits to be freed and how many
/// destructors panicked are numbers of the whole process. At the end everything has to be freed, which
/// is a part of each test.
///
/// It runs on a thread of its own that ends meanwhile. The test's own thread ends later, and pins for
/// a moment if it has ever pinned: that would be in the way of the next test.
pub(crate) fn alone(body: impl FnOnce() + Send) {
    alone_with(Box::new(body));
}

/// This is not generic, since all of [`thread`] would be compiled once more for each test that calls it.
fn alone_with(body: Box<dyn FnOnce() + Send + '_>) {
    static LOCK: Mutex<()> = Mutex::new(());
    let _lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let name = thread::current().name().unwrap_or("test").to_owned();
    let outcome = thread::scope(|scope| {
        let test = thread::Builder::new().name(name).spawn_scoped(scope, || {
            // What a failed test left behind is not this one's to answer for.
            snapcell::reclaim();
            body();
            assert_eq!(left_behind(), (0, 0), "the test left something behind");
        });
        test.unwrap().join()
    });
    outcome.unwrap_or_else(|panic| resume_unwind(panic));
}

/// How many nodes and bytes are not to be freed, however often one asks.
///
/// The end of a scope doesn't wait for its threads' thread-locals, and while these end the thread is
/// pinned or holds what it has retired. How long that takes is the machine's to say, for it may have
/// taken the processor from just that thread. So this asks often: half a minute's worth, which only a test
/// that fails has to wait for.
fn left_behind() -> (usize, usize) {
    const ROUNDS: usize = 30_000_000;
    for _ in 0..ROUNDS {
        snapcell::reclaim();
        if snapcell::reclamation_lag().nodes == 0 {
            break;
        }
        thread::yield_now();
    }
    let lag = snapcell::reclamation_lag();
    (lag.nodes, lag.bytes)
}

/// Runs `body` on a new thread and waits for the end of that thread, thread-locals included.
pub(crate) fn elsewhere<R: Send>(body: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| scope.spawn(body).join()).unwrap_or_else(|panic| resume_unwind(panic))
}

/// Runs `body` on `threads` new threads, each with its number, and waits for the end of them all,
/// thread-locals included (which the end of a scope alone does not do).
pub(crate) fn together<R: Send>(threads: usize, body: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let body = &body;
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|number| scope.spawn(move || body(number)))
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    })
}

/// The message that `body` panics with.
pub(crate) fn panic_of<R>(body: impl FnOnce() -> R) -> String {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(_) => panic!("this should have panicked"),
        Err(payload) => match payload.downcast::<String>() {
            Ok(text) => *text,
            Err(payload) => payload
                .downcast::<&str>()
                .map_or_else(|_| String::from("no text"), |text| text.to_string()),
        },
    }
}

/// Keeps count of the tokens made from it: how often each was dropped.
#[derive(Clone, Default)]
pub(crate) struct Tally {
    drops: Arc<Mutex<Vec<u32>>>,
}

impl Tally {
    /// A new token, by the next number.
    pub(crate) fn token(&self) -> Token {
        let mut drops = self.drops();
        drops.push(0);
        Token {
            number: drops.len() - 1,
            tally: self.clone(),
        }
    }

    /// The numbers of the tokens that live.
    pub(crate) fn alive(&self) -> Vec<usize> {
        let drops = self.drops();
        (0..drops.len()).filter(|&n| drops[n] == 0).collect()
    }

    /// Asserts that this many tokens were made, and each was dropped exactly once.
    pub(crate) fn assert_all_dropped_once(&self, made: usize) {
        let drops = self.drops();
        assert_eq!(drops.len(), made, "tokens made");
        for (number, &times) in drops.iter().enumerate() {
            assert_eq!(times, 1, "drops of token {number} of {made}");
        }
    }

    fn drops(&self) -> MutexGuard<'_, Vec<u32>> {
        self.drops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something whose drops are counted.
pub(crate) struct Token {
    number: usize,
    tally: Tally,
}

impl Token {
    /// Which token of its tally this is.
    pub(crate) fn number(&self) -> usize {
        self.number
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.tally.drops()[self.number] += 1;
    }
}

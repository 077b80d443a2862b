//! Many threads at once.

use std::panic::resume_unwind;
use std::sync::Barrier;
use std::thread;

/// Runs `body` on `threads` new threads at once, each with its number, and waits for all of them.
pub(crate) fn together<R: Send>(threads: usize, body: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let (body, start) = (&body, &Barrier::new(threads));
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|number| {
                scope.spawn(move || {
                    start.wait();
                    body(number)
                })
            })
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    })
}

//! Pieces of work that other threads take part in.
//!
//! Who has the work does it, piece by piece, and threads of rayon's that have nothing else to do take pieces
//! too. It waits for nothing but pieces that somebody is at: never for a thread that hasn't begun, and it does
//! nothing else meanwhile. So it may hold whatever it likes, a lock or a guard, and may be in a closure of a
//! commit or in an operation: no job of anybody else's runs there, and a pool that is busy, or waits for this
//! very thread, only helps less.
//!
//! When a crew is dropped nobody is at its work any more, and nobody else has any part of it.
#![forbid(unsafe_code)]

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What is done with each piece.
type Work<J, R> = dyn Fn(J) -> R + Send + Sync;
/// A panic that is to be somebody else's.
pub(super) type Panic = Box<dyn Any + Send>;

/// See the header of this file.
pub(super) struct Crew<J: Send + 'static, R: Send + 'static> {
    shared: Arc<Shared<J, R>>,
    work: Arc<Work<J, R>>,
    /// How many others there may be.
    others: usize,
}

struct Shared<J, R> {
    state: Mutex<State<J, R>>,
    /// Some piece is done.
    done: Condvar,
}

struct State<J, R> {
    /// Nothing, when the crew is gone.
    work: Option<Arc<Work<J, R>>>,
    /// Pieces that nobody is at, with their numbers.
    waiting: VecDeque<(usize, J)>,
    /// What came of each, from the first that wasn't given back yet.
    results: VecDeque<Option<Result<R, Panic>>>,
    /// How many were given back.
    given_back: usize,
    /// Jobs that were given to rayon, and are not over.
    others: usize,
    /// How many of them are at a piece.
    busy: usize,
}

impl<J, R> Shared<J, R> {
    /// A panic under the lock is none of the work's.
    fn lock(&self) -> MutexGuard<'_, State<J, R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<J, R>>) -> MutexGuard<'a, State<J, R>> {
        let waited = self.done.wait(state);
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes pieces as long as there are any.
    fn help(&self) {
        loop {
            let mut state = self.lock();
            let (Some(work), Some((number, piece))) =
                (state.work.clone(), state.waiting.pop_front())
            else {
                state.others -= 1;
                return;
            };
            state.busy += 1;
            drop(state);
            let result = catch_unwind(AssertUnwindSafe(|| work(piece)));
            drop(work);
            let mut state = self.lock();
            state.put(number, result);
            state.busy -= 1;
            drop(state);
            self.done.notify_all();
        }
    }
}

impl<J, R> State<J, R> {
    fn put(&mut self, number: usize, result: Result<R, Panic>) {
        let place = number - self.given_back;
        self.results[place] = Some(result);
    }
}

impl<J: Send + 'static, R: Send + 'static> Crew<J, R> {
    /// `None`, if this thread would be alone.
    pub(super) fn new(work: impl Fn(J) -> R + Send + Sync + 'static) -> Option<Self> {
        // It panics where there are no threads to be had.
        let threads = catch_unwind(rayon::current_num_threads).unwrap_or(1);
        let others = threads.saturating_sub(1);
        if others == 0 {
            return None;
        }
        let work: Arc<Work<J, R>> = Arc::new(work);
        let state = State {
            work: Some(Arc::clone(&work)),
            waiting: VecDeque::new(),
            results: VecDeque::new(),
            given_back: 0,
            others: 0,
            busy: 0,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            done: Condvar::new(),
        });
        Some(Crew {
            shared,
            work,
            others,
        })
    }

    /// One more piece.
    pub(super) fn push(&self, piece: J) {
        let mut state = self.shared.lock();
        let number = state.given_back + state.results.len();
        state.results.push_back(None);
        state.waiting.push_back((number, piece));
        let has_room = state.others < self.others;
        state.others += usize::from(has_room);
        drop(state);
        if has_room {
            let shared = Arc::downgrade(&self.shared);
            rayon::spawn(move || {
                if let Some(shared) = shared.upgrade() {
                    shared.help();
                }
            });
        }
    }

    /// What came of the first piece of which that wasn't given back yet, if there is one. Has pieces done
    /// meanwhile. A panic of that piece goes on here.
    pub(super) fn next(&self) -> Option<R> {
        let mut state = self.shared.lock();
        loop {
            if state.results.front()?.is_some() {
                let result = state.results.pop_front().flatten();
                state.given_back += 1;
                drop(state);
                return match result.expect("it was there just now") {
                    Ok(result) => Some(result),
                    Err(panic) => resume_unwind(panic),
                };
            }
            state = match state.waiting.pop_front() {
                Some((number, piece)) => {
                    drop(state);
                    let result = catch_unwind(AssertUnwindSafe(|| (self.work)(piece)));
                    let mut state = self.shared.lock();
                    state.put(number, result);
                    state
                }
                None => self.shared.wait(state),
            };
        }
    }
}

impl<J: Send + 'static, R: Send + 'static> Drop for Crew<J, R> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let work = state.work.take();
        let waiting = std::mem::take(&mut state.waiting);
        while state.busy > 0 {
            state = self.shared.wait(state);
        }
        let results = std::mem::take(&mut state.results);
        drop(state);
        drop((work, waiting, results));
    }
}

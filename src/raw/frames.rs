//! What a thread is in the middle of: a stack of frames, each of which lies in the call that it is about.
//!
//! A frame *lends*: what is in it is borrowed from the caller of [`Frames::within`], and taken off the stack before
//! that returns, by a panic as well. So nothing is allocated, and no count changes, unless somebody who looks keeps
//! what it finds.

use std::cell::Cell;
use std::ptr;
use std::sync::Arc;

/// What is lent for as long as a call lasts.
#[derive(Debug)]
pub(crate) struct Loan<'f, W: ?Sized + 'static, P: 'static> {
    pub(crate) owner: Option<&'f Arc<W>>,
    pub(crate) targets: &'f [usize],
    pub(crate) plain: P,
}

/// See the header of this file. A thread has its own, and it never crosses to another one.
pub(crate) struct Frames<W: ?Sized + 'static, P: 'static> {
    /// The innermost frame, or null. Its lifetime is that of the call that it lies in.
    top: Cell<*const Frame<'static, W, P>>,
}

struct Frame<'f, W: ?Sized + 'static, P: 'static> {
    loan: Loan<'f, W, P>,
    below: *const Frame<'static, W, P>,
}

impl<W: ?Sized + 'static, P: 'static> Frames<W, P> {
    pub(crate) const fn new() -> Self {
        Frames {
            top: Cell::new(ptr::null()),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.top.get().is_null()
    }

    /// Runs something in a frame of its own.
    #[inline(always)]
    pub(crate) fn within<R>(&self, loan: Loan<'_, W, P>, run: impl FnOnce() -> R) -> R {
        /// Takes the frame off again, also by a panic.
        struct Leave<'s, W: ?Sized + 'static, P: 'static> {
            frames: &'s Frames<W, P>,
            below: *const Frame<'static, W, P>,
        }
        impl<W: ?Sized, P> Drop for Leave<'_, W, P> {
            #[inline(always)]
            fn drop(&mut self) {
                self.frames.top.set(self.below);
            }
        }

        let below = self.top.get();
        let frame = Frame { loan, below };
        // Declared after the frame, so it is dropped before.
        let _leave = Leave {
            frames: self,
            below,
        };
        self.top.set(ptr::from_ref(&frame).cast());
        run()
    }

    /// Looks at the frames, the innermost first, until `look` has found something.
    #[inline]
    pub(crate) fn find<R>(&self, mut look: impl FnMut(&Loan<'_, W, P>) -> Option<R>) -> Option<R> {
        let mut next = self.top.get();
        while !next.is_null() {
            // SAFETY: what is on the stack lies in a call that hasn't returned, since that takes it off before;
            // this thread is inside all of them, and comes back here before it leaves any. `Loan` is covariant, so
            // `look` may see it as one that lasts just as long as this.
            let frame = unsafe { &*next };
            if let Some(found) = look(&frame.loan) {
                return Some(found);
            }
            next = frame.below;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn loan<'f>(owner: &'f Arc<str>, targets: &'f [usize], plain: u8) -> Loan<'f, str, u8> {
        Loan {
            owner: Some(owner),
            targets,
            plain,
        }
    }

    fn seen(frames: &Frames<str, u8>) -> Vec<(String, usize, u8)> {
        let mut all = Vec::new();
        let _ = frames.find(|loan| {
            let owner = loan.owner.map_or("", |owner| owner);
            all.push((owner.to_owned(), loan.targets.len(), loan.plain));
            None::<()>
        });
        all
    }

    #[test]
    fn the_innermost_frame_comes_first_and_goes_with_its_call() {
        let frames = Frames::new();
        let (outer, inner): (Arc<str>, Arc<str>) = ("outer".into(), "inner".into());
        frames.within(loan(&outer, &[1], 1), || {
            frames.within(loan(&inner, &[2, 3], 2), || {
                let both = [("inner".to_owned(), 2, 2), ("outer".to_owned(), 1, 1)];
                assert_eq!(seen(&frames), both);
            });
            assert_eq!(seen(&frames), [("outer".to_owned(), 1, 1)]);
        });
        assert!(frames.is_empty());
        assert_eq!(Arc::strong_count(&outer), 1);
    }

    #[test]
    fn a_panic_takes_its_frame_off() {
        let frames = Frames::new();
        let owner: Arc<str> = "owner".into();
        frames.within(loan(&owner, &[], 0), || {
            let within = || frames.within(loan(&owner, &[], 1), || panic!("on purpose"));
            assert!(catch_unwind(AssertUnwindSafe(within)).is_err());
            assert_eq!(seen(&frames), [("owner".to_owned(), 0, 0)]);
        });
        assert!(frames.is_empty());
    }

    #[test]
    fn whoever_finds_an_owner_may_keep_it() {
        let frames = Frames::new();
        let kept = {
            let owner: Arc<str> = "owner".into();
            let keep = || frames.find(|loan| loan.owner.cloned());
            frames.within(loan(&owner, &[], 0), keep)
        };
        assert_eq!(kept.as_deref(), Some("owner"));
    }
}

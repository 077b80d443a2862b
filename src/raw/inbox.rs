//! The inbox of a lane: many put things in, one at a time takes them out.
//!
//! One word says who has the lane and what is new in it:
//!
//! | word | meaning |
//! |---|---|
//! | `IDLE` | nobody has the lane, and nothing is in it |
//! | `HELD` | somebody has it, and nothing is new |
//! | a link | somebody has it, and this was put in last; the others hang on it |
//!
//! Whoever puts something into an idle lane *has* it from then on, and has to see to it that it is served: by
//! the [`Baton`] that [`Inbox::push`] gives. A baton can be *parked*, so that whoever comes first may
//! [resume](Inbox::resume) with it, or opened, which takes what is new and gives access to the state `Q` of the
//! lane, which is nobody's but the holder's. The holder gives the lane up by [`Held::release`], which succeeds only
//! if nothing is new.
//!
//! # What an item is
//! Anything behind an `Arc` that has a [`Link`] in it. The link owns a count of its item while it is in an
//! inbox, so nothing is allocated. A link is born *in*: whoever has made an item puts it in for the first time, when
//! that is due, and nobody else does before. An item that is in isn't put in twice: whoever finds it there has said
//! all there is to say, since what the holder reads of an item it reads after it has taken the item out.
//!
//! # Orderings
//! *put* an item is filled; *push* the exchange that puts it in; *take* the swap that takes all. *put* → *push*
//! (INBOX_PUSH, Release) → *take* (INBOX_TAKE, Acquire). *leave* a holder gives up; *enter* the next one begins.
//! From an idle lane: *leave* (INBOX_RELEASE, Release) → *push*, which is part of that release sequence → a load by
//! the one who has pushed (INBOX_FIRST, Acquire), or *take* of the next holder. From a parked one: *leave*
//! (INBOX_PARK, Release) → *enter* (INBOX_RESUME, Acquire). So each holder sees what those before it made of `Q`. And
//! whoever finds the lane idle without taking it (INBOX_IDLE, Acquire) sees what its holders did.
//!
//! *park* a holder parks; *look* it looks whether something is new; *push* somebody puts something in; *ask* that
//! one asks how the lane is parked. One of the two sees the other: *park*, fence (PARK_FENCE), *look*; *push*,
//! fence (PUSH_FENCE), *ask*. So what is put into a parked lane is known to the one who parked it or to the one
//! who put it in, perhaps to both.
//!
//! An item that is changed and then found to be in: *change*, *find* (LINK_ENTER, Release, which fails to put it
//! in) → *out* (LINK_LEAVE, Acquire) → the holder reads the item. Checked by `loom-tests/lane.rs`.

use crate::sync;
use crate::sync::fault::{Fault, planted};
use crate::sync::orderings::site;
use crate::sync::{AtomicPtr, AtomicUsize, Sole, fence};
use std::cell::UnsafeCell;
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// What can be put into an inbox.
pub(crate) trait Linked: Send + Sync {
    /// The link that is part of it.
    fn link(&self) -> &Link<Self>;
}

/// The place of an item in the list of an inbox, or of a batch.
pub(crate) struct Link<W: ?Sized> {
    /// Whether it is on a list, or about to be. Whoever sets it owns the fields below, until the holder that
    /// takes the item out takes it back.
    is_in: AtomicUsize,
    next: UnsafeCell<*mut Link<W>>,
    item: UnsafeCell<Option<Arc<W>>>,
    sole: Sole,
}

// SAFETY: the fields behind cells belong to whoever has set `is_in`, and then, by way of the list, to the one
// who takes it out. What crosses threads with them is an `Arc<W>`.
unsafe impl<W: ?Sized + Send + Sync> Send for Link<W> {}
// SAFETY: as above.
unsafe impl<W: ?Sized + Send + Sync> Sync for Link<W> {}

const OUT: usize = 0;
const IN: usize = 1;
/// It is about to be put in for the first time. Whoever made the item does that, and to others it is in.
const NEW: usize = 2;

impl<W: ?Sized + Linked> Link<W> {
    pub(crate) fn new() -> Self {
        Link {
            is_in: AtomicUsize::new(NEW | IN),
            next: UnsafeCell::new(ptr::null_mut()),
            item: UnsafeCell::new(None),
            sole: Sole::new(),
        }
    }

    /// # Safety
    /// 1. The fields are the caller's: see [`is_in`](Link::is_in).
    unsafe fn fill(&self, next: *mut Link<W>, item: Arc<W>) {
        // SAFETY: (1).
        unsafe { self.hang_on(next) };
        let place = self.item.get();
        // SAFETY: (1).
        unsafe { *place = Some(item) };
    }

    /// # Safety
    /// 1. The fields are the caller's: see [`is_in`](Link::is_in).
    unsafe fn hang_on(&self, next: *mut Link<W>) {
        self.sole.touch();
        let place = self.next.get();
        // SAFETY: (1).
        unsafe { *place = next };
    }

    /// Takes out what it hangs on, and its item.
    ///
    /// # Safety
    /// 1. The fields are the caller's: see [`is_in`](Link::is_in). It is filled.
    unsafe fn empty(&self) -> (Option<NonNull<Link<W>>>, Arc<W>) {
        self.sole.touch();
        let (next, item) = (self.next.get(), self.item.get());
        // SAFETY: (1).
        let next = NonNull::new(unsafe { *next });
        // SAFETY: (1).
        let item = unsafe { &mut *item }.take();
        (next, item.expect("a link on a list has its item"))
    }
}

/// Items that go into an inbox by one exchange, in the order in which they were added.
pub(crate) struct Batch<W: ?Sized + Linked> {
    first: *mut Link<W>,
    last: *mut Link<W>,
}

// SAFETY: the batch owns the links in it, and with each a count of an item, which may cross threads.
unsafe impl<W: ?Sized + Linked> Send for Batch<W> {}

impl<W: ?Sized + Linked> Batch<W> {
    pub(crate) fn new() -> Self {
        Batch {
            first: ptr::null_mut(),
            last: ptr::null_mut(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.last.is_null()
    }

    /// Adds an item, unless it is in an inbox or a batch already. An item that was never in one is added by
    /// whoever has made it.
    pub(crate) fn add(&mut self, item: Arc<W>) {
        let link = item.link();
        if link.is_in.swap(IN, site::LINK_ENTER) != IN {
            let link = NonNull::from(link);
            // SAFETY: (1) this call has set `is_in`. (2) `item` keeps it.
            unsafe { self.put(link, item) };
        }
    }

    /// Adds an item that has changed, unless it is in an inbox or a batch already, or about to be put into its first
    /// one: then the change is seen by whoever takes it out.
    pub(crate) fn add_again(&mut self, item: Arc<W>) {
        let link = item.link();
        if planted(Fault::FindByALook) && link.is_in.load(site::INBOX_PEEK) & IN != 0 {
            return;
        }
        if link.is_in.fetch_or(IN, site::LINK_ENTER) & IN == 0 {
            let link = NonNull::from(link);
            // SAFETY: (1) this call has set `is_in`. (2) `item` keeps it.
            unsafe { self.put(link, item) };
        }
    }

    /// Adds an item.
    ///
    /// # Safety
    /// 1. The caller has set `is_in` of the link, which wasn't set. 2. The link lasts as long as the item.
    unsafe fn put(&mut self, link: NonNull<Link<W>>, item: Arc<W>) {
        {
            // SAFETY: (2) `item` is alive.
            let link = unsafe { link.as_ref() };
            // SAFETY: (1) the fields are ours.
            unsafe { link.fill(self.last, item) };
        }
        let link = link.as_ptr();
        if self.last.is_null() {
            self.first = link;
        }
        self.last = link;
    }

    /// All items, in the order in which they were added.
    fn into_items(self) -> Vec<Arc<W>> {
        let last = self.last;
        std::mem::forget(self);
        let mut items = Vec::new();
        let mut next = NonNull::new(last);
        while let Some(link) = next {
            let item;
            {
                // SAFETY: its item, which is in it, keeps it, and then `item` does.
                let link = unsafe { link.as_ref() };
                // SAFETY: (1) a link on a list is owned by the list, which is ours.
                (next, item) = unsafe { link.empty() };
                // It is given back after all was read of it.
                link.is_in.swap(OUT, site::LINK_LEAVE);
            }
            items.push(item);
        }
        items.reverse();
        items
    }
}

impl<W: ?Sized + Linked> Drop for Batch<W> {
    fn drop(&mut self) {
        let rest = Batch {
            first: self.first,
            last: self.last,
        };
        self.last = ptr::null_mut();
        if !rest.is_empty() {
            drop(rest.into_items());
        } else {
            std::mem::forget(rest);
        }
    }
}

/// See the header of this file.
pub(crate) struct Inbox<W: ?Sized, Q> {
    word: AtomicPtr<Link<W>>,
    /// At which level it is parked, or 0.
    parked: AtomicUsize,
    state: UnsafeCell<Q>,
    sole: Sole,
}

// SAFETY: items cross threads, and so does the state, from holder to holder: one at a time has it.
unsafe impl<W: ?Sized + Send + Sync, Q: Send> Send for Inbox<W, Q> {}
// SAFETY: as above.
unsafe impl<W: ?Sized + Send + Sync, Q: Send> Sync for Inbox<W, Q> {}

fn idle<W: ?Sized>() -> *mut Link<W> {
    ptr::null_mut()
}

// An address at which no link can be.
fn held<W: ?Sized>() -> *mut Link<W> {
    ptr::without_provenance_mut(1)
}

/// What became of items that were put in.
pub(crate) enum Pushed<'i, W: ?Sized + Linked, Q> {
    /// The lane was idle. Whoever put them in has it now.
    First(Baton<'i, W, Q>),
    /// Somebody else has the lane, and will see them.
    Behind,
}

impl<W: ?Sized + Linked, Q> Inbox<W, Q> {
    pub(crate) fn new(state: Q) -> Self {
        Inbox {
            word: AtomicPtr::new(idle()),
            parked: AtomicUsize::new(0),
            state: UnsafeCell::new(state),
            sole: Sole::new(),
        }
    }

    /// Puts items in. Lock-free: one exchange, again if others were faster.
    pub(crate) fn push(&self, batch: Batch<W>) -> Pushed<'_, W, Q> {
        if batch.is_empty() {
            return Pushed::Behind;
        }
        let mut found = self.word.load(site::INBOX_PEEK);
        // SAFETY: the batch isn't empty, and the item of its first link keeps that, until the exchange succeeds.
        let first = unsafe { &*batch.first };
        loop {
            let rest = if found == idle() || found == held() {
                ptr::null_mut()
            } else {
                found
            };
            // SAFETY: (1) the links of a batch belong to it.
            unsafe { first.hang_on(rest) };
            match self
                .word
                .compare_exchange(found, batch.last, site::INBOX_PUSH)
            {
                Ok(_) => break,
                Err(newer) => found = newer,
            }
        }
        let last = batch.last;
        std::mem::forget(batch);
        if found == idle() {
            // What we do with the lane comes after what its last holder did.
            let _ = self.word.load(site::INBOX_FIRST);
            Pushed::First(Baton {
                inbox: self,
                known: last,
            })
        } else {
            Pushed::Behind
        }
    }

    /// At which level the lane is parked, if it is. Asked after a push that was not the first, so that what is
    /// more urgent than the lane was known to be isn't waited for.
    pub(crate) fn parked_at(&self) -> usize {
        if !planted(Fault::PushWithoutFence) {
            fence(site::PUSH_FENCE);
        }
        self.parked.load(site::INBOX_ASK)
    }

    /// Takes a parked lane. Of several who try, one gets it.
    pub(crate) fn resume(&self) -> Option<Baton<'_, W, Q>> {
        // Many entries are worth nothing, and a look costs less than a swap.
        if self.parked.load(site::INBOX_ASK) == 0 {
            return None;
        }
        let is_ours = self.parked.swap(0, site::INBOX_RESUME) != 0;
        is_ours.then_some(Baton {
            inbox: self,
            known: held(),
        })
    }

    /// Whether nobody has it, and nothing is in it. Then what its last holder did happens before what comes next.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.word.load(site::INBOX_IDLE) == idle()
    }

    fn take(&self) -> Vec<Arc<W>> {
        let last = self.word.swap(held(), site::INBOX_TAKE);
        if last == held() {
            return Vec::new();
        }
        let list = Batch {
            first: ptr::null_mut(),
            last,
        };
        list.into_items()
    }
}

impl<W: ?Sized, Q> Drop for Inbox<W, Q> {
    fn drop(&mut self) {
        // What is in it owns itself, and would never end. The floor above serves or closes each lane, and keeps
        // it while something is in it.
        debug_assert!(
            sync::panicking() || {
                let word = self.word.load(site::INBOX_PEEK);
                word == idle() || word == held()
            },
            "a lane ends with something in it"
        );
    }
}

/// The right, and the duty, to serve a lane.
#[must_use = "a lane that nobody serves keeps what is in it for ever"]
pub(crate) struct Baton<'i, W: ?Sized, Q> {
    inbox: &'i Inbox<W, Q>,
    /// What the word was, as far as its owner knows: only compared.
    known: *mut Link<W>,
}

impl<'i, W: ?Sized + Linked, Q> Baton<'i, W, Q> {
    /// Takes what is new, oldest first, and begins to serve.
    pub(crate) fn open(self) -> (Held<'i, W, Q>, Vec<Arc<W>>) {
        let items = self.inbox.take();
        (Held(self.inbox), items)
    }

    /// Leaves the lane to whoever resumes with it, and says whether something is new: then whoever parked it has
    /// to see whether it is more urgent than `level`.
    pub(crate) fn park(self, level: usize) -> bool {
        debug_assert!(level != 0, "0 means that it isn't parked");
        self.inbox.parked.store(level, site::INBOX_PARK);
        if planted(Fault::ParkWithoutLook) {
            return false;
        }
        if !planted(Fault::ParkWithoutFence) {
            fence(site::PARK_FENCE);
        }
        self.inbox.word.load(site::INBOX_LOOK) != self.known
    }
}

/// A lane that is served.
#[must_use = "a lane that nobody serves keeps what is in it for ever"]
pub(crate) struct Held<'i, W: ?Sized, Q>(&'i Inbox<W, Q>);

impl<'i, W: ?Sized + Linked, Q> Held<'i, W, Q> {
    /// Takes what is new, oldest first.
    pub(crate) fn take(&mut self) -> Vec<Arc<W>> {
        if self.is_quiet() {
            return Vec::new();
        }
        self.0.take()
    }

    /// Whether nothing is new.
    pub(crate) fn is_quiet(&self) -> bool {
        self.0.word.load(site::INBOX_PEEK) == held()
    }

    /// The state of the lane.
    pub(crate) fn state(&mut self) -> &mut Q {
        self.0.sole.touch();
        // SAFETY: one has the lane at a time, and this is it; nobody gets at the state but through it, and by a
        // mutable borrow of it.
        unsafe { &mut *self.0.state.get() }
    }

    /// Gives the lane up, if nothing is new.
    pub(crate) fn release(self) -> Result<(), Self> {
        if planted(Fault::CloseBySwap) {
            self.0.word.swap(idle(), site::INBOX_TAKE);
            return Ok(());
        }
        match self
            .0
            .word
            .compare_exchange(held(), idle(), site::INBOX_RELEASE)
        {
            Ok(_) => Ok(()),
            Err(_) => Err(self),
        }
    }

    /// As [`Baton::park`].
    pub(crate) fn park(self, level: usize) -> bool {
        let baton = Baton {
            inbox: self.0,
            known: held(),
        };
        baton.park(level)
    }
}

//! The operations that wait in one lane, in the order in which they are picked.
//!
//! Ten rows, one for each priority, each in the order of birth. Priority 10 goes first. Below it, the *key* of an
//! operation is when it was born, less its priority times an interval, and the smallest key goes first: all age
//! alike, so the order of any two never changes, and nothing is sorted again. A pick compares the heads of ten
//! rows.
//!
//! An entry is a hint: it counts only if its operation is still pending, and as important as the entry's row says.
//! So an operation that has become more important has two entries, of which one counts; one in each row at most.
#![forbid(unsafe_code)]

use super::priority::Priority;
use super::record::Work;
use std::collections::VecDeque;
use std::sync::Arc;

const ROWS: usize = Priority::CRITICAL.get() as usize;

/// See the header of this file.
pub(super) struct Queue {
    rows: [VecDeque<Entry>; ROWS],
    /// Which rows have entries.
    filled: u16,
    picks: u32,
    /// When the first of those expires that are less patient than one before them in their row.
    impatient: u64,
}

struct Entry {
    born: u64,
    id: u64,
    expires: u64,
    work: Arc<dyn Work>,
}

impl Entry {
    fn is_younger_than(&self, other: &Entry) -> bool {
        (self.born, self.id) > (other.born, other.id)
    }
}

/// How the order is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    /// What one step of priority is worth, in nanoseconds of age.
    pub(super) interval: u64,
    /// Each so many-th pick takes the oldest, whatever its priority. 0: none does.
    pub(super) share: u32,
}

impl Queue {
    pub(super) fn new() -> Self {
        Queue {
            rows: std::array::from_fn(|_| VecDeque::new()),
            filled: 0,
            picks: 0,
            impatient: u64::MAX,
        }
    }

    /// Puts an operation of this priority in its place. An older one, which comes back, goes before younger ones.
    pub(super) fn insert(&mut self, work: Arc<dyn Work>, priority: Priority) {
        let header = work.header();
        let (born, id, expires) = (header.born, header.id.get(), header.expires);
        let entry = Entry {
            born,
            id,
            expires,
            work,
        };
        let index = row(priority);
        // It may have an entry there, from when it was as important before.
        if !enter(&entry, index) {
            return;
        }
        self.filled |= 1 << index;
        let entries = &mut self.rows[index];
        if let Some(last) = entries.back() {
            if last.is_younger_than(&entry) {
                return self.insert_before(entry, index);
            }
            if last.expires > entry.expires {
                self.impatient = self.impatient.min(entry.expires);
            }
        }
        entries.push_back(entry);
    }

    /// Puts an operation, which comes back, before those that are younger.
    #[cold]
    fn insert_before(&mut self, entry: Entry, index: usize) {
        let entries = &mut self.rows[index];
        let younger = entries
            .iter()
            .rev()
            .take_while(|other| other.is_younger_than(&entry))
            .count();
        let place = entries.len() - younger;
        let before = place.checked_sub(1).map(|before| entries[before].expires);
        if before.is_some_and(|before| before > entry.expires) {
            self.impatient = self.impatient.min(entry.expires);
        } else {
            // It may be more patient than those behind it.
            self.impatient = 0;
        }
        entries.insert(place, entry);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// How important the most important one is that may be in it.
    pub(super) fn best(&self) -> Option<Priority> {
        let index = self.filled.checked_ilog2()?;
        Priority::new(index as u8 + 1).ok()
    }

    /// The next one, with the priority that it has to have to count.
    pub(super) fn pick(&mut self, order: Order) -> Option<(Arc<dyn Work>, Priority)> {
        if self.filled == 0 {
            return None;
        }
        self.picks = self.picks.wrapping_add(1);
        let index = if order.share != 0 && self.picks.is_multiple_of(order.share) {
            self.least(|entry, _| (i128::from(entry.born), entry.born, entry.id))
        } else if self.filled & 1 << (ROWS - 1) != 0 {
            ROWS - 1
        } else if self.filled.is_power_of_two() {
            self.filled.trailing_zeros() as usize
        } else {
            // Of equal keys the older one: it is overtaken only by those that are less than an interval younger
            // for each step.
            self.least(|entry, index| {
                let advance = i128::from(order.interval) * (index as i128 + 1);
                (i128::from(entry.born) - advance, entry.born, entry.id)
            })
        };
        self.take(index)
    }

    /// How important the one is that would be picked before one of this priority and age, if there is one.
    pub(super) fn before(
        &self,
        interval: u64,
        priority: Priority,
        age: (u64, u64),
    ) -> Option<Priority> {
        let rank = |index: usize, (born, id): (u64, u64)| {
            let advance = i128::from(interval) * (index as i128 + 1);
            (index != ROWS - 1, i128::from(born) - advance, born, id)
        };
        let heads = self.rows.iter().enumerate();
        let heads = heads.filter_map(|(index, row)| Some((index, row.front()?)));
        let first = heads
            .map(|(index, entry)| (rank(index, (entry.born, entry.id)), index))
            .min()?;
        let is_before = first.0 < rank(row(priority), age);
        is_before.then(|| Priority::new(first.1 as u8 + 1).expect("a row for each"))
    }

    /// The row whose head comes first.
    fn least<K: Ord>(&self, key: impl Fn(&Entry, usize) -> K) -> usize {
        let heads = self.rows.iter().enumerate();
        let heads = heads.filter_map(|(index, row)| Some((key(row.front()?, index), index)));
        heads.min().expect("a row is filled").1
    }

    fn take(&mut self, index: usize) -> Option<(Arc<dyn Work>, Priority)> {
        let entry = self.rows[index].pop_front()?;
        leave(&entry, index);
        self.note(index);
        let priority = Priority::new(index as u8 + 1).expect("a row for each");
        Some((entry.work, priority))
    }

    fn note(&mut self, index: usize) {
        if self.rows[index].is_empty() {
            self.filled &= !(1 << index);
        }
    }

    /// Takes one out of the heads of the rows whose patience is at its end. The oldest of a row is the first to lose
    /// patience, unless a younger one is less patient: for those there is
    /// [`expire_impatient`](Queue::expire_impatient).
    #[inline]
    pub(super) fn expire(&mut self, now: u64) -> Option<Arc<dyn Work>> {
        let mut left = self.filled;
        while let Some(index) = left.checked_ilog2() {
            left &= !(1 << index);
            let index = index as usize;
            if self.rows[index]
                .front()
                .is_some_and(|entry| entry.expires <= now)
            {
                return self.take(index).map(|(work, _)| work);
            }
        }
        None
    }

    /// Takes all out whose patience is at its end, wherever they are. Looks at nothing unless there is one that is
    /// less patient than one before it, and whose time has come; and at everything then.
    pub(super) fn expire_impatient(&mut self, now: u64) -> Vec<Arc<dyn Work>> {
        let mut expired = Vec::new();
        if now < self.impatient {
            return expired;
        }
        self.impatient = u64::MAX;
        for index in 0..ROWS {
            let mut most_patient = 0;
            let mut impatient = self.impatient;
            self.rows[index].retain(|entry| {
                if entry.expires <= now {
                    leave(entry, index);
                    expired.push(entry.work.clone());
                    return false;
                }
                if entry.expires < most_patient {
                    impatient = impatient.min(entry.expires);
                }
                most_patient = entry.expires.max(most_patient);
                true
            });
            self.impatient = impatient;
            self.note(index);
        }
        expired
    }

    /// Takes the youngest out of those that are as important as that.
    pub(super) fn youngest(&mut self, priority: Priority) -> Option<Arc<dyn Work>> {
        let index = row(priority);
        let entry = self.rows[index].pop_back()?;
        leave(&entry, index);
        self.note(index);
        Some(entry.work)
    }

    /// Takes all out.
    pub(super) fn drain(&mut self) -> Vec<Arc<dyn Work>> {
        self.filled = 0;
        let mut all = Vec::new();
        for index in (0..ROWS).rev() {
            for entry in self.rows[index].drain(..) {
                leave(&entry, index);
                all.push(entry.work);
            }
        }
        all
    }
}

/// Notes that an operation has an entry in a row. `false`: it has one there already.
fn enter(entry: &Entry, index: usize) -> bool {
    let header = entry.work.header();
    let rows = header.rows();
    header.set_rows(rows | 1 << index);
    rows & 1 << index == 0
}

/// Notes that it hasn't any more.
fn leave(entry: &Entry, index: usize) {
    let header = entry.work.header();
    header.set_rows(header.rows() & !(1 << index));
}

fn row(priority: Priority) -> usize {
    usize::from(priority.get()) - 1
}

//! How a lane is served, and how an operation is run.
//!
//! Whoever has the lane takes what is new, picks the next one in its order, claims it, and runs it until it has
//! ended; then the same again, until nothing is left, or for a quantum, after which the lane waits among those that
//! are ready. A thread of the engine does this, or whoever [runs](crate::Engine::run) an operation and finds the
//! lane idle.
#![forbid(unsafe_code)]

use super::account::event::{EventKind, What};
use super::account::tally::Incident;
use super::claiming::{Claiming, pause};
use super::lane::Lane;
use super::outcome::Reason;
use super::policy::Policy;
use super::priority::Priority;
use super::queue::Queue;
use super::record::{Verdict, Work};
use super::retry::{Next, Situation};
use super::shared::Shared;
use super::status::{IllegalTransition, State, Status};
use crate::raw::{Baton, HeldLane};
use std::sync::Arc;
use std::time::Duration;

pub(super) type Held<'l> = HeldLane<'l, dyn Work, Queue>;

/// For less than this nobody leaves the lane.
pub(super) const SHORT: Duration = Duration::from_micros(50);

/// How important the most important one is that waits in a lane, if it is more so than that.
pub(super) fn higher(held: &mut Held<'_>, priority: Priority) -> Option<Priority> {
    held.state().best().filter(|best| *best > priority)
}

/// Whether an operation that has this status stays away from its lane: then it comes back by itself, and any entry
/// of it is from before, or of a change of its priority.
fn is_away(work: &dyn Work, status: Status) -> bool {
    status.retries() > 0 && status.state() == State::Pending && work.header().is_away()
}

impl Shared {
    /// Serves a lane for a quantum.
    pub(super) fn serve<'l>(
        self: &Arc<Self>,
        lane: &'l Arc<Lane>,
        baton: Baton<'l, dyn Work, Queue>,
    ) {
        let order = self.order();
        let (mut held, news) = baton.open();
        self.admit(lane, &mut held, news);
        let mut begun = None;
        let mut has_run = false;
        loop {
            let now = self.ledger.now();
            let age = now.saturating_sub(*begun.get_or_insert(now));
            if has_run && age >= self.quantum && !held.state().is_empty() {
                return self.hand_on(lane, held);
            }
            if self.ledger.gate.cancels() {
                self.cancel_all(lane, &mut held);
            }
            self.sort_out(lane, &mut held, now);
            if let Some((work, level)) = held.state().pick(order) {
                if !self.claim(lane, &mut held, &work, level, now) {
                    // Not what is new first: if there is always something, entries that don't count would only get more.
                    continue;
                }
                self.run_in_turn(lane, &mut held, work, order.interval);
                has_run = true;
            } else {
                match held.release() {
                    Ok(()) => return,
                    Err(still) => held = still,
                }
            }
            let news = held.take();
            self.admit(lane, &mut held, news);
        }
    }

    /// Ends what has lost its patience in a lane that is passed over, and leaves the rest to whoever comes next.
    pub(super) fn look_after<'l>(
        self: &Arc<Self>,
        lane: &'l Arc<Lane>,
        baton: Baton<'l, dyn Work, Queue>,
    ) {
        let (mut held, news) = baton.open();
        self.admit(lane, &mut held, news);
        self.sort_out(lane, &mut held, self.ledger.now());
        if held.state().is_empty() {
            match held.release() {
                Ok(()) => return,
                Err(still) => held = still,
            }
        }
        self.hand_on(lane, held);
    }

    /// Leaves a lane that isn't done to whoever comes next.
    fn hand_on<'l>(self: &Arc<Self>, lane: &'l Arc<Lane>, mut held: Held<'l>) {
        loop {
            let best = held.state().best().unwrap_or(Priority::BACKGROUND);
            let level = usize::from(best.get());
            let is_new = held.park(level);
            self.ready.advertise(lane, level);
            self.call();
            // What is new may be more important. If somebody else has got the lane meanwhile, they see to it.
            let baton = if is_new { lane.inbox.resume() } else { None };
            let Some(baton) = baton else {
                return;
            };
            let (again, news) = baton.open();
            held = again;
            self.admit(lane, &mut held, news);
        }
    }

    /// Looks at what is new in a lane that was parked as somebody first put something in.
    pub(super) fn look_again(self: &Arc<Self>, lane: &Arc<Lane>) {
        if let Some(baton) = lane.inbox.resume() {
            let (mut held, news) = baton.open();
            self.admit(lane, &mut held, news);
            self.hand_on(lane, held);
        }
    }

    /// Puts what is new in its place.
    pub(super) fn admit(&self, lane: &Lane, held: &mut Held<'_>, mut news: Vec<Arc<dyn Work>>) {
        // Nobody wins where all are cancelled.
        if self.policy == Policy::WinnerTakesAll && news.len() > 1 && !self.ledger.gate.cancels() {
            self.play(lane, &mut news);
        }
        for work in news {
            let status = work.status();
            if is_away(&*work, status) {
                continue;
            }
            if status.state() == State::Pending {
                lane.note_entry(&*work, status.priority());
                held.state().insert(work, status.priority());
            } else {
                self.give_back(lane, &*work);
            }
        }
    }

    /// Gives the place of an operation back that has ended elsewhere.
    fn give_back(&self, lane: &Lane, work: &dyn Work) {
        let header = work.header();
        let counted = header.counted();
        header.count(0);
        lane.give_back_at(counted);
    }

    /// A round of which one wins.
    fn play(&self, lane: &Lane, round: &mut Vec<Arc<dyn Work>>) {
        let rank = |work: &Arc<dyn Work>| {
            let header = work.header();
            let earlier = (std::cmp::Reverse(header.born), std::cmp::Reverse(header.id));
            (work.status().priority(), earlier)
        };
        // Who comes again because its priority has changed, or after a delay, has won its round already.
        let has_won = |work: &Arc<dyn Work>| {
            let header = work.header();
            header.rows() != 0 || header.started() != 0 || is_away(&**work, work.status())
        };
        let pending = round
            .iter()
            .filter(|work| work.status().state() == State::Pending && !has_won(work));
        let Some(winner) = pending.max_by_key(|work| rank(work)).cloned() else {
            return;
        };
        let (id, priority) = (winner.header().id, winner.status().priority());
        round.retain(|work| {
            if work.header().id == id || has_won(work) {
                return true;
            }
            let lost = work.rejection(Reason::Lost {
                winner: id,
                priority,
            });
            let _ = work.end_pending(lost, &self.ledger);
            self.give_back(lane, &**work);
            false
        });
    }

    /// Ends what is in a lane that nobody will serve.
    pub(super) fn cancel_rest<'l>(&self, lane: &'l Lane, baton: Baton<'l, dyn Work, Queue>) {
        let (mut held, news) = baton.open();
        self.admit(lane, &mut held, news);
        self.cancel_all(lane, &mut held);
        let _ = held.release();
    }

    /// Ends what waits in a lane.
    fn cancel_all(&self, lane: &Lane, held: &mut Held<'_>) {
        for work in held.state().drain() {
            let _ = work.end_pending(Verdict::Cancelled, &self.ledger);
            self.give_back(lane, &*work);
        }
    }

    /// Ends what has to make room, and what has lost its patience.
    fn sort_out(&self, lane: &Lane, held: &mut Held<'_>, now: u64) {
        while let Some(work) = lane.evict(held.state()) {
            let evicted = work.rejection(Reason::Evicted);
            let _ = work.end_pending(evicted, &self.ledger);
        }
        while let Some(work) = held.state().expire(now) {
            self.expire(lane, &work);
        }
        for work in held.state().expire_impatient(now) {
            self.expire(lane, &work);
        }
    }

    fn expire(&self, lane: &Lane, work: &Arc<dyn Work>) {
        let patience = work.header().patience;
        let expired = work.rejection(Reason::Expired { patience });
        let _ = work.end_pending(expired, &self.ledger);
        self.give_back(lane, &**work);
    }

    /// Claims an operation that was picked at this level, if its entry counts.
    pub(super) fn claim(
        &self,
        lane: &Lane,
        held: &mut Held<'_>,
        work: &Arc<dyn Work>,
        level: Priority,
        now: u64,
    ) -> bool {
        let status = work.status();
        if status.state() == State::Pending && status.priority() != level {
            // It has another entry, unless it is still counted here.
            if work.header().counted() == usize::from(level.get()) {
                self.put_back(lane, held, work);
            }
            return false;
        }
        if is_away(&**work, status) {
            // An entry from before.
            return false;
        }
        if !lane.leave(&**work) {
            // Somebody more important has got its place.
            let evicted = work.rejection(Reason::Evicted);
            let _ = work.end_pending(evicted, &self.ledger);
            return false;
        }
        let is_first = work.header().started() == 0;
        if work.claim(status, Some(level), now, &self.ledger) {
            if is_first {
                lane.note_begun();
            }
            return true;
        }
        // Its priority has changed just now. Whoever has changed it may have seen that it isn't in the queue, and
        // left it to us.
        self.put_back(lane, held, work);
        false
    }

    /// Puts an operation into the queue again that was taken out, as important as it is now; if it is still pending.
    fn put_back(&self, lane: &Lane, held: &mut Held<'_>, work: &Arc<dyn Work>) {
        let mut status = work.status();
        while status.state() == State::Pending {
            lane.note_entry(&**work, status.priority());
            held.state().insert(work.clone(), status.priority());
            let now = work.status();
            if now.priority() == status.priority() {
                break;
            }
            status = now;
        }
    }

    /// Runs an operation that was claimed, and with it others, if the lane's policy is to fold them.
    fn run_in_turn(
        self: &Arc<Self>,
        lane: &Lane,
        held: &mut Held<'_>,
        work: Arc<dyn Work>,
        interval: u64,
    ) {
        if self.policy == Policy::Fold
            && let Some(fold) = work.fold()
        {
            return self.run_folded(lane, held, work, fold, interval);
        }
        let mut claim = Claiming::of(lane, &self.ledger, work.header());
        loop {
            // Nobody else is in the lane, but somebody may be beside it.
            let status = work.status();
            let reserves = work.header().reserves(status.retries());
            let may_go = claim.respect(self, || work.header().id, status.priority(), reserves);
            if may_go {
                if self.attempt(&work) {
                    return;
                }
                let next = self.next(&work, lane.waiting());
                if let Next::Wait(long) = next
                    && long >= SHORT
                {
                    // Others may have the lane meanwhile.
                    drop(claim);
                    return self.put_aside(work, long);
                }
                if !self.try_again(&work, next) {
                    return;
                }
            }
            let news = held.take();
            self.admit(lane, held, news);
            // Who is more important goes first; before who has not even tried, only who would have been picked before.
            let priority = work.status().priority();
            let by = match may_go {
                true => higher(held, priority),
                false => {
                    let age = (work.header().born, work.header().id.get());
                    held.state().before(interval, priority, age)
                }
            };
            let Some(by) = by else { continue };
            claim.leave();
            if let Ok(status) = self.make_way(&work, by) {
                if status.unwanted {
                    let _ = work.end_pending(Verdict::Cancelled, &self.ledger);
                }
                self.put_back(lane, held, &work);
                if status.awaited {
                    // Whoever waits for it inside an operation has it run now, too.
                    work.wake();
                }
                return;
            }
        }
    }

    /// Has an operation that was claimed wait for its turn again. What is told of that comes first: from then on
    /// anybody may end it.
    fn make_way(&self, work: &Arc<dyn Work>, by: Priority) -> Result<Status, IllegalTransition> {
        let kind = &work.header().kind;
        self.ledger.tally.note(kind, Incident::Preempted);
        let what = What::Preempted { by };
        self.ledger
            .tell(EventKind::Preempted, || (work.about(), what));
        work.change(|status| status.wait())
    }

    /// Has an operation that was claimed come back after so long.
    pub(super) fn put_aside(self: &Arc<Self>, work: Arc<dyn Work>, long: Duration) {
        let budget = work.header().budget;
        // Nobody else changes how often it was tried.
        if work.status().retries() < budget {
            self.tell_retry(&work, long);
        }
        work.header().set_away(true);
        match work.change(|status| status.retry(budget)) {
            Ok(status) if !status.unwanted => {
                self.come_back(work.clone(), long);
                // Whoever waits for it inside an operation runs it now, and a task sees to the time.
                if status.awaited {
                    work.wake();
                }
            }
            Ok(_) => {
                let _ = work.end_pending(Verdict::Cancelled, &self.ledger);
            }
            Err(_) => {
                let exhausted = work.rejection(Reason::Exhausted { retries: budget });
                work.end(exhausted, &self.ledger);
            }
        }
    }

    /// Attempts an operation that was claimed. Whether it has ended.
    fn attempt(&self, work: &Arc<dyn Work>) -> bool {
        work.attempt(work, &self.ledger)
    }

    /// What its policy says after an attempt was lost.
    pub(super) fn next(&self, work: &Arc<dyn Work>, contention: usize) -> Next {
        let header = work.header();
        let status = work.status();
        header.retry.next(Situation {
            attempt: status.retries().saturating_add(1),
            retries: header.budget,
            age: Duration::from_nanos(self.ledger.now().saturating_sub(header.born)),
            patience: (header.expires != u64::MAX).then_some(header.patience),
            contention: u32::try_from(contention).unwrap_or(u32::MAX),
            entropy: fastrand::u64(..),
        })
    }

    /// Has an operation wait as long as it has to before it is attempted again. `false`: it won't be.
    pub(super) fn try_again(&self, work: &Arc<dyn Work>, next: Next) -> bool {
        let header = work.header();
        let end = match next {
            Next::Exhausted => Some(Reason::Exhausted {
                retries: header.budget,
            }),
            Next::Expired => Some(Reason::Expired {
                patience: header.patience,
            }),
            _ => None,
        };
        if let Some(reason) = end {
            let verdict = work.rejection(reason);
            work.end(verdict, &self.ledger);
            return false;
        }
        self.tell_retry(work, next.delay());
        let again = work.change(|status| status.retry(header.budget)?.start());
        if again.is_ok_and(|status| status.unwanted) || self.ledger.gate.cancels() {
            work.end(Verdict::Cancelled, &self.ledger);
            return false;
        }
        pause(next);
        if work.status().unwanted || self.ledger.gate.cancels() {
            work.end(Verdict::Cancelled, &self.ledger);
            return false;
        }
        true
    }

    /// Tells that an operation will be tried again, before it is noted that it is.
    fn tell_retry(&self, work: &Arc<dyn Work>, delay: Duration) {
        self.ledger.tell(EventKind::Retry, || {
            let mut about = work.about();
            about.retries += 1;
            let what = What::Retry {
                number: about.retries,
                budget: about.budget,
                delay,
            };
            (about, what)
        });
    }

    /// Runs an operation that was claimed until it has ended; beside its lane, unless this thread has that.
    pub(super) fn run_alone(&self, work: &Arc<dyn Work>, beside: Option<&Lane>) {
        let mut claim = beside.map(|lane| Claiming::of(lane, &self.ledger, work.header()));
        loop {
            if let Some(claim) = &mut claim {
                let status = work.status();
                let reserves = work.header().reserves(status.retries());
                // It isn't in the lane.
                while !claim.respect(self, || work.header().id, status.priority(), reserves) {}
            }
            if self.attempt(work) {
                return;
            }
            let next = self.next(work, beside.map_or(0, Lane::waiting));
            if !self.try_again(work, next) {
                return;
            }
        }
    }

    /// Runs an operation on this thread, in place of its lane, if it hasn't begun. Whether it was.
    pub(super) fn run_instead(&self, work: &Arc<dyn Work>) -> bool {
        let now = self.ledger.now();
        if !work.claim(work.status(), None, now, &self.ledger) {
            return false;
        }
        let lane = work.header().lane.clone();
        self.run_alone(work, Some(&lane));
        true
    }
}

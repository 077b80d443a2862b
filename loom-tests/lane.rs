//! Lanes: those who put something in against whoever serves, those who park against those who resume, and those who
//! look for what is ready.
//!
//! What was done to a lane is written into its state, which is nobody's but the holder's: so the state says who had
//! the lane, in which order, and loom notices two who have it at once.

use crate::support::{Value, model, spawn};
use snapcell::internals::parts::{Baton, Found, Held, Inbox, Item};
use snapcell::{Class, Clock, Engine, Operation, Priority};
use std::sync::Arc;

#[cfg(snapcell_model)]
use loom::sync::atomic::{AtomicU32, Ordering::Relaxed};
#[cfg(not(snapcell_model))]
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Whoever has the lane writes down what it has done.
type Lane<T> = Inbox<T, Vec<String>>;

fn lane<T: Send + Sync>() -> Arc<Lane<T>> {
    Arc::new(Inbox::new(Vec::new()))
}

/// Takes the lane, which nobody has, by way of an item.
fn hold<T: Send + Sync>(lane: &Lane<T>, item: T) -> Held<'_, T, Vec<String>> {
    let baton = lane.push(&Item::new(item)).expect("nobody has it");
    baton.open().0
}

/// What was written down, once nobody has the lane any more.
fn written<T: Send + Sync>(lane: &Lane<T>, item: T) -> String {
    let mut held = hold(lane, item);
    let written = held.state().join(" ");
    release(held);
    written
}

fn release<T: Send + Sync>(held: Held<'_, T, Vec<String>>) {
    assert!(held.release().is_ok(), "nothing is new");
}

/// Serves as an engine does: takes what is new, picks the largest, and takes again.
fn serve(lane: &Lane<Value>, who: &str, item: &Arc<Item<Value>>) {
    let Some(baton) = lane.push(item) else {
        return;
    };
    let (mut held, mut waiting) = baton.open();
    loop {
        waiting.sort_by_key(|item| item.number());
        if let Some(picked) = waiting.pop() {
            held.state().push(format!("{who}{}", picked.number()));
        } else {
            match held.release() {
                Ok(()) => return,
                Err(still) => held = still,
            }
        }
        waiting.extend(held.take());
    }
}

model! {
    /// A puts 1 in, B puts 2 in, and whoever is first serves, the largest first.
    /// Invariant: each is served once, by one at a time. B never serves 1 first: if B has the lane, 2 was in it before.
    two_submit {
        bound: None,
        kills: [CloseBySwap],
        outcomes: ["A1 A2", "A2 A1", "B2 B1", "A1 B2", "B2 A1"],
    }
    |world| {
        let lane = lane();
        let other = {
            let (lane, item) = (Arc::clone(&lane), Item::new(world.value(2)));
            spawn(move || serve(&lane, "B", &item))
        };
        serve(&lane, "A", &Item::new(world.value(1)));
        other.join().unwrap();
        written(&lane, world.value(0))
    }
}

model! {
    /// A, who has the lane, parks it, and both try to resume.
    /// Invariant: exactly one of them has it then, and sees what A made of it.
    a_parked_lane_is_resumed {
        bound: None,
        kills: [],
        outcomes: ["parked A", "parked B"],
    }
    |_| {
        let lane = lane::<()>();
        let resume = |who: &'static str| {
            let lane = Arc::clone(&lane);
            move || {
                if let Some(baton) = lane.resume() {
                    let (mut held, _) = baton.open();
                    held.state().push(who.to_owned());
                    release(held);
                }
            }
        };
        let other = spawn(resume("B"));
        let mut held = hold(&lane, ());
        held.state().push("parked".to_owned());
        // B may have had it since, which looks as if something were new.
        let _ = held.park(5);
        resume("A")();
        other.join().unwrap();
        written(&lane, ())
    }
}

model! {
    /// Whoever has the lane parks it, while somebody puts something in and asks whether it is parked.
    /// Invariant: one of the two knows that something is new in a lane that is parked.
    what_is_new_in_a_parked_lane_is_known {
        bound: None,
        kills: [ParkWithoutFence, PushWithoutFence, ParkWithoutLook],
        outcomes: ["holder", "submitter", "both"],
    }
    |world| {
        let lane = lane();
        let held = hold(&lane, world.value(0));
        let submitter = {
            let (lane, item) = (Arc::clone(&lane), Item::new(world.value(1)));
            spawn(move || {
                assert!(lane.push(&item).is_none(), "somebody has it");
                lane.parked_at() == 5
            })
        };
        let holder = held.park(5);
        let submitter = submitter.join().unwrap();
        let baton = lane.resume().expect("nobody else resumes");
        let (held, items) = baton.open();
        assert_eq!(items.len(), 1);
        release(held);
        String::from(match (holder, submitter) {
            (true, true) => "both",
            (true, false) => "holder",
            (false, true) => "submitter",
            (false, false) => "nobody",
        })
    }
}

/// What changes while it is in a lane: how important something is.
struct Level(AtomicU32);

/// Serves until nothing is new, and writes down how important each is when it is taken out.
fn serve_levels(baton: Baton<'_, Level, Vec<String>>) {
    let (mut held, mut items) = baton.open();
    loop {
        for item in items.drain(..) {
            let level = item.0.load(Relaxed);
            held.state().push(level.to_string());
        }
        match held.release() {
            Ok(()) => return,
            Err(still) => held = still,
        }
        items = held.take();
    }
}

model! {
    /// A puts something in and serves. B changes how important it is, and puts it in again, unless it is in.
    /// Invariant: A or B sees it as it is in the end: as it is taken out, or as it is taken out once more. The holder
    /// may find the new level of an item that is on its way in again.
    a_promotion_of_what_is_taken {
        bound: None,
        kills: [FindByALook],
        outcomes: ["1", "0 1", "1 1"],
    }
    |_| {
        let lane = lane();
        let item = Item::new(Level(AtomicU32::new(0)));
        let baton = lane.push(&item).expect("nobody was before");
        let other = {
            let (lane, item) = (Arc::clone(&lane), Arc::clone(&item));
            spawn(move || {
                item.0.store(1, Relaxed);
                if let Some(baton) = lane.push_again(&item) {
                    serve_levels(baton);
                }
            })
        };
        serve_levels(baton);
        other.join().unwrap();
        written(&lane, Level(AtomicU32::new(2)))
    }
}

model! {
    /// A lane that is served has an entry left from before. A parks it, and has it found where that entry is. B takes
    /// the entry, and A takes what there is.
    /// Invariant: one of them finds the lane. A makes no entry where there is one, and relies on whoever takes that to
    /// see that the lane is parked.
    an_advertised_lane_is_found {
        bound: None,
        kills: [],
        outcomes: ["A", "B"],
    }
    |world| {
        let engine = Engine::builder().workers(0).clock(Clock::logical()).build();
        let entity = world.entity(0);
        let operation = Operation::update(&entity, Value::clone).class(Class::STRUCTURAL).priority(Priority::CRITICAL);
        let ticket = engine.submit(operation).expect("there is room");
        let found = Arc::new(Found::new(&ticket));
        let parking = found.take();
        let other = {
            let found = Arc::clone(&found);
            spawn(move || found.find())
        };
        parking.park(10);
        let mine = found.find();
        let theirs = other.join().unwrap();
        assert!(ticket.cancel(), "nobody has run it");
        String::from(match (mine, theirs) {
            (true, false) => "A",
            (false, true) => "B",
            (true, true) => "both",
            (false, false) => "nobody",
        })
    }
}

//! What doesn't stay: entities that come and go, and engines.

use super::books::{About, Ending, Refusal, Temper, told};
use super::dice::Dice;
use super::make::{Via, single};
use super::seen::{Mechanism, Seen};
use super::street::{Street, check_history};
use super::value::{Captured, Value};
use snapcell::{Class, Engine, Entity, Operation, Policy, Retain, Snapshot, Ticket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;

/// An entity is born, gets some operations, and ends after them or before.
pub(crate) fn visit(street: &Arc<Street>, house: usize, dice: &mut Dice) {
    let keeps_all = dice.percent(30);
    let retain = if keeps_all {
        Retain::All
    } else {
        Retain::Latest
    };
    let guest = Entity::builder(Value::of(0)).retain(retain).build();
    let told = Arc::new(AtomicU64::new(0));
    let mut hand = Vec::new();
    for _ in 0..1 + dice.below(8) {
        let about = About {
            rooms: Vec::new(),
            temper: Temper::Commit,
            is_independent: false,
            guest: Some(told.clone()),
        };
        hand.extend(single(
            street,
            (house, &guest, about),
            None,
            Via::Submit,
            dice,
        ));
    }
    street.seen.note(Mechanism::Guests);
    if dice.percent(40) {
        drop(guest);
        let in_flight = hand.iter().filter(|held| !held.is_done()).count();
        street
            .seen
            .note_many(Mechanism::GuestInFlight, in_flight as u64);
        hand.into_iter().for_each(|held| held.settle(street));
        return;
    }
    hand.into_iter().for_each(|held| held.settle(street));
    let (effects, end) = (told.load(SeqCst), guest.snapshot());
    let version = end.stamp().version();
    assert_eq!(end.effects(), effects, "broken law: effects of a guest");
    let is_fold = street.houses[house].policy == Policy::Fold;
    assert!(version == effects || is_fold && version < effects);
    let kept = if keeps_all { version + 1 } else { 1 };
    assert_eq!(check_history(&guest), kept, "broken law: what is kept");
}

/// An engine whose last handle is dropped while it is busy: what waits is cancelled, and everybody is told.
pub(crate) fn engine(seen: &Seen, dice: &mut Dice) {
    let policies = [Policy::InOrder, Policy::Fold, Policy::Merge];
    let engine = Engine::builder()
        .workers(dice.below(3))
        .policy(*dice.one_of(&policies))
        .build();
    let entity = Entity::new(Value::of(0));
    let submit = |_| {
        let captured = Captured::loose();
        let operation = Operation::try_update(&entity, move |value: &Value| {
            let _ = &captured;
            thread::yield_now();
            Ok::<_, Refusal>(Some(value.next()))
        });
        let operation = operation.class(Class::STRUCTURAL);
        engine.submit(operation).expect("there is room enough")
    };
    let tickets: Vec<Ticket<Snapshot<Value>, Refusal>> = (0..10).map(submit).collect();
    drop(engine);
    seen.note(Mechanism::EngineDropped);
    let ends = tickets
        .into_iter()
        .map(|ticket| told(&ticket.wait(), Temper::Commit, false, seen));
    let committed = ends.filter(|end| *end == Some(Ending::Committed)).count();
    assert_eq!(
        entity.snapshot().effects(),
        committed as u64,
        "broken law: effects of an engine that was dropped"
    );
}

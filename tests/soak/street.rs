//! The engines of a soak, one for each policy, with the entities that stay; and the laws at a checkpoint.

use super::books::{Books, ENDINGS, Sums};
use super::seen::{Mechanism, Seen};
use super::value::{Captured, Value};
use snapcell::{Counts, Engine, Entity, Metrics, Policies, Policy, Retain, ShutDown};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How many entities stay in each house.
pub(crate) const ROOMS: usize = 6;

/// So many values more than it shows a history may hold: it lets go of whole segments.
const SPARE: u64 = 16;

/// The room whose operations may be let go where others are followed to their end.
pub(crate) const UNTOLD: usize = 0;

/// An engine, the entities that it is used for, and the books about it.
pub(crate) struct House {
    pub(crate) policy: Policy,
    pub(crate) engine: Engine,
    pub(crate) rooms: Vec<Entity<Value>>,
    pub(crate) books: Books,
    /// What each room showed at the last checkpoint: effects and version.
    last: Vec<(u64, u64)>,
    counted: Counts,
    measured: Metrics,
}

/// All houses.
pub(crate) struct Street {
    pub(crate) houses: Vec<House>,
    pub(crate) seen: Arc<Seen>,
}

/// What there was in all stretches together.
#[derive(Default)]
pub(crate) struct Totals {
    pub(crate) endings: [u64; ENDINGS],
    pub(crate) submitted: u64,
    pub(crate) conflicts: u64,
    pub(crate) folds: u64,
    pub(crate) preemptions: u64,
    pub(crate) reservations: u64,
    pub(crate) steps_back: u64,
    /// Publications in rooms.
    pub(crate) publications: u64,
}

const POLICIES: [(Policy, usize, usize); 4] = [
    (Policy::InOrder, 1, 24),
    (Policy::Fold, 2, 512),
    (Policy::Merge, 2, 24),
    (Policy::WinnerTakesAll, 1, 64),
];

fn engine(policy: Policy, workers: usize, capacity: usize) -> Engine {
    let mut policies = Policies::default();
    policies.set_grace(Duration::from_micros(100));
    let builder = Engine::builder()
        .policy(policy)
        .policies(policies)
        .workers(workers)
        .capacity(capacity);
    match policy {
        Policy::InOrder => builder.quantum(Duration::ZERO).build(),
        Policy::Merge => builder.share(8).build(),
        _ => builder.build(),
    }
}

impl House {
    fn new((policy, workers, capacity): (Policy, usize, usize)) -> Self {
        let room = |number| {
            let retain = if number == 1 {
                Retain::last(8)
            } else {
                Retain::Latest
            };
            Entity::builder(Value::of(0)).retain(retain).build()
        };
        House {
            policy,
            engine: engine(policy, workers, capacity),
            rooms: (0..ROOMS).map(room).collect(),
            books: Books::new(ROOMS),
            last: vec![(0, 0); ROOMS],
            counted: Counts::default(),
            measured: Metrics::default(),
        }
    }

    /// Nothing is under way any more: checks all that there is to check, and goes on.
    fn check(&mut self, seen: &Seen, totals: &mut Totals) {
        self.hold(&self.books.close(), seen, totals);
        self.counted = self.engine.counts();
        self.measured = self.engine.metrics();
        self.last = self.rooms.iter().map(shown).collect();
        self.engine.start();
    }

    /// The laws.
    fn hold(&self, sums: &Sums, seen: &Seen, totals: &mut Totals) {
        let (policy, counts) = (self.policy, self.engine.counts());
        let law = |is_kept: bool, what: &str| {
            let rooms: Vec<_> = self.rooms.iter().map(shown).collect();
            assert!(
                is_kept,
                "broken law, {policy:?}: {what}: {counts:?} after {:?}, {rooms:?} after {:?}, and by the books {sums:#?}",
                self.counted, self.last
            );
        };
        law(counts.submitted == counts.ended(), "each operation ends");
        let unfinished = (counts.unfinished(), self.engine.unfinished());
        law(unfinished == (0, 0), "and none is under way");
        law(self.engine.is_clean(), "and nothing is left of any");
        let metrics = self.engine.metrics();
        law(metrics.adds_up(), "figures add up");
        law(metrics.counts == counts, "to what is counted");
        let since = metrics.since(&self.measured).total();
        totals.preemptions += since.preemptions;
        totals.reservations += since.reservations;
        totals.steps_back += since.steps_back;

        let ends = |counts: &Counts| {
            [
                counts.committed,
                counts.unchanged,
                counts.failed,
                counts.rejected,
                counts.cancelled,
            ]
        };
        let (now, before) = (ends(&counts), ends(&self.counted));
        let submitted = counts.submitted - self.counted.submitted;
        law(submitted == sums.taken, "what is taken is counted");
        let mut untold = [0; ENDINGS];
        for ending in 0..ENDINGS {
            let counted = now[ending] - before[ending];
            law(counted >= sums.told[ending], "what is told is counted");
            untold[ending] = counted - sums.told[ending];
            totals.endings[ending] += counted;
        }
        let all_untold: u64 = untold.iter().sum();
        law(all_untold == sums.untold, "and what nobody is told of too");

        let mut untold_effects = 0;
        for (room, entity) in self.rooms.iter().enumerate() {
            let (effects, version) = shown(entity);
            let (effects, version) = (effects - self.last[room].0, version - self.last[room].1);
            let sums = &sums.rooms[room];
            let known = sums.told + sums.outside;
            law(effects >= known, "no effect is lost");
            let more = effects - known;
            law(more <= sums.untold, "and none is there twice");
            untold_effects += more;
            let published = sums.published + sums.outside;
            if policy != Policy::Fold {
                law(version == effects, "each effect has a version of its own");
            } else if sums.untold == 0 && sums.unstamped == 0 {
                law(version == published, "each version was told of");
                seen.note(Mechanism::VersionsExact);
            } else {
                law(version >= published, "no version is lost");
                law(version <= effects, "and each has an effect");
            }
            law(self.engine.waiting(entity) == 0, "nobody waits");
            check_history(entity);
            totals.publications += version;
        }
        law(untold_effects == untold[0], "effects are commits");

        totals.submitted += submitted;
        let conflicts = counts.conflicts - self.counted.conflicts;
        let folds = counts.folds - self.counted.folds;
        totals.conflicts += conflicts;
        totals.folds += folds;
        seen.note_many(Mechanism::Conflict, conflicts);
        seen.note_many(Mechanism::Fold, folds);
    }
}

/// Effects and version.
fn shown(entity: &Entity<Value>) -> (u64, u64) {
    let snapshot = entity.snapshot();
    (snapshot.effects(), snapshot.stamp().version())
}

/// What is kept is without gaps, and effects only grow. How many versions that are.
pub(crate) fn check_history(entity: &Entity<Value>) -> u64 {
    let kept: Vec<_> = entity.history().collect();
    for two in kept.windows(2) {
        let versions = (two[0].stamp().version(), two[1].stamp().version());
        assert_eq!(versions.0 + 1, versions.1, "broken law: a version is gone");
        assert!(two[0].effects() < two[1].effects(), "broken law: no effect");
    }
    kept.len() as u64
}

impl Street {
    pub(crate) fn new(seen: Arc<Seen>) -> Self {
        Street {
            houses: POLICIES.into_iter().map(House::new).collect(),
            seen,
        }
    }

    /// Waits until nothing is under way in any house. Nobody submits any more.
    pub(crate) fn finish(&self) {
        for house in &self.houses {
            house
                .engine
                .shut_down(ShutDown::Finish, None)
                .expect("nobody else opens it");
        }
    }

    /// Everybody has met: checks all houses, and what there is of values and closures.
    pub(crate) fn check(&mut self, totals: &mut Totals) {
        for house in &mut self.houses {
            house.check(&self.seen, totals);
        }
        let [captured, _] = Captured::alive();
        assert_eq!(captured, 0, "broken law: closures were not dropped");
    }

    /// Replaces all engines. With their threads everything ends that waits to be freed: so values are those that are
    /// kept, and what histories let go by segments.
    pub(crate) fn begin_again(&mut self) {
        for (house, (policy, workers, capacity)) in self.houses.iter_mut().zip(POLICIES) {
            house.engine = engine(policy, workers, capacity);
            house.counted = Counts::default();
            self.seen.note(Mechanism::EngineAgain);
        }
        let rooms = || self.houses.iter().flat_map(|house| &house.rooms);
        let kept: u64 = rooms().map(check_history).sum();
        until_all_is_freed_but(kept + SPARE * self.houses.len() as u64);
        let alive = Value::alive();
        assert!(
            alive >= kept,
            "broken law: {alive} values are alive, and {kept} are kept"
        );
    }
}

/// Frees what waits to be freed, once the threads have ended that hold it, closures among it, and until no more values
/// are alive than these. Those threads may need a moment; and one that is ending has what it leaves behind in no gauge
/// for a moment, so the gauge alone says too little.
///
/// # Panics
/// If something is left.
pub(crate) fn until_all_is_freed_but(values: u64) {
    let is_freed = || {
        snapcell::reclaim();
        snapcell::reclamation_lag().nodes == 0
            && Captured::alive() == [0, 0]
            && Value::alive() <= values
    };
    for _ in 0..1_000_000 {
        if is_freed() {
            return;
        }
        thread::yield_now();
    }
    let (lag, closures) = (snapcell::reclamation_lag(), Captured::alive());
    let alive = Value::alive();
    panic!(
        "broken law: {lag:?}, {closures:?} closures and {alive} values are left where nobody commits, and {values} \
         values are to be"
    );
}

#[test]
fn the_laws_notice_books_that_are_off_by_one() {
    let seen = Seen::new();
    let house = |policy| {
        let mut house = House::new((policy, 1, 9));
        let seen = Seen::new();
        house.check(&seen, &mut Totals::default());
        house
    };
    type Tamper = fn(&mut Sums);
    let tampers: [(Tamper, &str); 7] = [
        (|_| (), ""),
        (|sums| sums.taken += 1, "what is taken"),
        (|sums| sums.told[0] += 1, "what is told"),
        (|sums| sums.untold += 1, "what nobody is told of"),
        (|sums| sums.rooms[2].told += 1, "no effect is lost"),
        (|sums| sums.rooms[2].outside += 1, "no effect is lost"),
        (
            |sums| sums.rooms[3].published += 1,
            "each version was told of",
        ),
    ];
    crate::support::alone(|| {
        let fold = house(Policy::Fold);
        for (tamper, law) in tampers {
            let mut sums = fold.books.close();
            tamper(&mut sums);
            let check = || fold.hold(&sums, &seen, &mut Totals::default());
            match law {
                "" => check(),
                _ => assert!(crate::support::panic_of(check).contains(law), "{law}"),
            }
        }
        let ordered = house(Policy::InOrder);
        ordered.rooms[1].update(Value::next);
        let check = || ordered.hold(&ordered.books.close(), &seen, &mut Totals::default());
        assert!(crate::support::panic_of(check).contains("none is there twice"));
        ordered.rooms[1].update(|value| value.clone());
        ordered.books.outside(1);
        let check = || ordered.hold(&ordered.books.close(), &seen, &mut Totals::default());
        assert!(crate::support::panic_of(check).contains("a version of its own"));
    });
}

//! Probes: runs in which one kind of mistake would show at once.

use super::payload::Payload;
use super::support::together;
use super::tracked::{Tracked, alone};
use fastrand::Rng;
use snapcell::{
    Changes, Entity, Snapshot, snapshot_of, transaction, transaction_or_abort, try_transaction,
};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Barrier, Mutex};
use std::thread;

/// Conflicts, or something else that has to happen for a run to count.
pub(crate) type Pressure = usize;

/// Runs `body` on so many threads, which begin together.
pub(crate) fn at_once<R: Send>(threads: usize, body: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let start = Barrier::new(threads);
    together(threads, |id| {
        start.wait();
        body(id)
    })
}

fn rng(seed: u64, id: usize) -> Rng {
    Rng::with_seed(seed ^ (id as u64) << 40).fork()
}

fn sometimes_yield(rng: &mut Rng, once_in: u32) -> bool {
    let does = rng.u32(..once_in) == 0;
    if does {
        thread::yield_now();
    }
    does
}

/// Each transaction moves the values of k entities on by one place. So at every moment each value is there,
/// once.
pub(crate) fn rotation<P: Payload + Clone>(
    threads: usize,
    entities: usize,
    rounds: usize,
    seed: u64,
) -> Pressure {
    alone(|| {
        let ring: Vec<Entity<P>> = (0..entities)
            .map(|n| Entity::new(P::make(n as u64)))
            .collect();
        let check = |seen: &[Snapshot<P>]| {
            let mut numbers: Vec<u64> = seen.iter().map(|s| s.number()).collect();
            numbers.sort_unstable();
            let expected: Vec<u64> = (0..entities as u64).collect();
            assert_eq!(numbers, expected, "broken law: each value is there, once");
        };
        let done = at_once(threads, |id| {
            let mut rng = rng(seed, id);
            let (mut conflicts, mut writes) = (0, 0);
            let mut order: Vec<usize> = (0..entities).collect();
            for round in 0..rounds {
                let most = entities.min(16);
                let k = 2 + round % (most - 1);
                rng.shuffle(&mut order);
                let chosen = &order[..k];
                let backwards = rng.bool();
                let yields_at = rng.usize(..8 * k);
                let attempts = match rng.u8(..4) {
                    0 => loop {
                        let few: Vec<_> = chosen.iter().map(|&n| &ring[n]).collect();
                        let seen = snapshot_of(&few[..]);
                        let mut changes = Changes::new();
                        for (place, &entity) in few.iter().enumerate() {
                            let value = P::clone(&seen[(place + 1) % k]);
                            changes = changes.write(entity, seen[place].stamp(), value);
                        }
                        match try_transaction(changes) {
                            Ok(made) => break made.attempts(),
                            Err(_) => conflicts += 1,
                        }
                    },
                    way => transaction(|tx| {
                        let mut values = Vec::with_capacity(k);
                        for (place, &n) in chosen.iter().enumerate() {
                            if place == yields_at {
                                thread::yield_now();
                            }
                            values.push(match way {
                                1 => tx.get(&ring[n])?,
                                _ => tx.read(&ring[n])?.clone(),
                            });
                        }
                        let mut write = |place: usize| {
                            let value = values[(place + 1) % k].clone();
                            tx.write(&ring[chosen[place]], value);
                        };
                        if backwards {
                            (0..k).rev().for_each(&mut write);
                        } else {
                            (0..k).for_each(&mut write);
                        }
                        Ok(tx.attempt())
                    }),
                };
                conflicts += attempts as usize - 1;
                writes += k as u64;
                if round % 8 == 0 {
                    check(&snapshot_of(&ring[..]));
                }
            }
            (conflicts, writes)
        });
        let end = snapshot_of(&ring[..]);
        check(&end);
        let versions: u64 = end.iter().map(|s| s.stamp().version()).sum();
        let writes: u64 = done.iter().map(|(_, writes)| writes).sum();
        assert_eq!(versions, writes, "broken law: versions count commits");
        done.iter().map(|(conflicts, _)| conflicts).sum()
    })
}

/// Two switches, of which at most one may be on. Whoever wants to turn one on looks at the other.
pub(crate) fn write_skew(threads: usize, rounds: usize, seed: u64) -> Pressure {
    alone(|| {
        let switches = [Entity::new(false), Entity::new(false)];
        let are_both_on = || {
            let both = snapshot_of((&switches[0], &switches[1]));
            *both.0 && *both.1
        };
        let conflicts = at_once(threads, |id| {
            let mut rng = rng(seed, id);
            let mut conflicts = 0;
            for round in 0..rounds {
                let at = (id + round) % 2;
                let (mine, other) = (&switches[at], &switches[1 - at]);
                match rng.u8(..4) {
                    0 => {
                        // By a value that was read.
                        let attempts = transaction(|tx| {
                            let is_on = tx.get(other)?;
                            sometimes_yield(&mut rng, 8);
                            if !is_on {
                                tx.write(mine, true);
                            }
                            Ok(tx.attempt())
                        });
                        conflicts += attempts as usize - 1;
                    }
                    1 => {
                        // By a stamp.
                        let seen = other.snapshot();
                        sometimes_yield(&mut rng, 8);
                        if !*seen {
                            let changes = Changes::new()
                                .replace(mine, true)
                                .require(other, seen.stamp());
                            conflicts += usize::from(try_transaction(changes).is_err());
                        }
                    }
                    2 => {
                        // Whoever reads both sees it.
                        let attempts = transaction(|tx| {
                            let both = tx.get(&switches[0])? && tx.get(&switches[1])?;
                            assert!(!both, "broken law: both switches are on");
                            tx.write(mine, false);
                            Ok(tx.attempt())
                        });
                        conflicts += attempts as usize - 1;
                    }
                    _ => drop(mine.replace(false)),
                }
                assert!(!are_both_on(), "broken law: both switches are on");
            }
            conflicts
        });
        conflicts.into_iter().sum()
    })
}

/// Three entities of which the third is always the sum of the others. Whoever reads them one after the other in
/// a closure may never see it otherwise, however the attempt ends.
pub(crate) fn opacity(threads: usize, rounds: usize, seed: u64) -> Pressure {
    alone(|| {
        let [a, b, sum] = [0_u64, 0, 0].map(Entity::new);
        let zombies = at_once(threads, |id| {
            let mut rng = rng(seed, id);
            let mut zombies = 0;
            for round in 0..rounds {
                if (id + round) % 2 == 0 {
                    let (x, y) = (rng.u64(..1000), rng.u64(..1000));
                    transaction(|tx| {
                        tx.write(&sum, x + y);
                        sometimes_yield(&mut rng, 16);
                        tx.write(&b, y);
                        tx.write(&a, x);
                        Ok(())
                    });
                    continue;
                }
                let order = rng.u8(..3);
                let gives_up = rng.u8(..4) == 0;
                let result = transaction_or_abort(|tx| {
                    if tx.attempt() > 1 {
                        zombies += 1;
                    }
                    let mut seen = [0; 3];
                    for step in 0..3 {
                        let which = usize::from(order + step) % 3;
                        let entity = [&a, &b, &sum][which];
                        seen[which] = match rng.u8(..3) {
                            0 => tx.get(entity)?,
                            1 => *tx.read(entity)?,
                            _ => {
                                tx.update(entity, |n| *n)?;
                                tx.get(entity)?
                            }
                        };
                        sometimes_yield(&mut rng, 8);
                    }
                    let [x, y, z] = seen;
                    assert_eq!(x + y, z, "broken law: values that never existed together");
                    if gives_up {
                        return Err(snapcell::Stop::Abort(seen));
                    }
                    Ok(seen)
                });
                let [x, y, z] = result.unwrap_or_else(|seen| seen);
                assert_eq!(x + y, z, "broken law: an answer that was never true");
            }
            zombies
        });
        zombies.into_iter().sum()
    })
}

/// All entities are written together, so all have the same version. Whoever looks at one and then at another one,
/// by plain loads, sees there what came with the first, or something newer.
pub(crate) fn causality(threads: usize, entities: usize, rounds: usize, seed: u64) -> Pressure {
    alone(|| {
        let all: Vec<Entity<Tracked>> = (0..entities)
            .map(|_| Entity::new(Tracked::make(0)))
            .collect();
        let [commits, looks, halves] = [(); 3].map(|()| AtomicUsize::new(0));
        let over = AtomicBool::new(false);
        let writers = threads.div_ceil(2);
        at_once(threads, |id| {
            let mut rng = rng(seed, id);
            if id < writers {
                // Until the readers have seen something, or for long.
                let mut made = 0;
                while made < rounds || halves.load(SeqCst) < rounds && made < 100 * rounds {
                    transaction(|tx| {
                        let number = tx.read(&all[0])?.number() + 1;
                        sometimes_yield(&mut rng, 64);
                        for entity in &all {
                            tx.write(entity, Tracked::make(number));
                        }
                        Ok(())
                    });
                    made += 1;
                }
                commits.fetch_add(made, SeqCst);
                over.store(true, SeqCst);
                return;
            }
            let mut readers: Vec<_> = all.iter().map(Entity::reader).collect();
            while !over.load(SeqCst) {
                let way = rng.u8(..4);
                let start = rng.usize(..entities);
                let guard = (way == 0).then(snapcell::pin);
                let mut last = 0;
                for step in 0..2 * entities {
                    let at = (start + step) % entities;
                    let (version, number) = match (&guard, way) {
                        (Some(guard), _) => {
                            let seen = all[at].load(guard);
                            (seen.stamp().version(), seen.number())
                        }
                        (None, 1) => {
                            let seen = all[at].snapshot();
                            (seen.stamp().version(), seen.number())
                        }
                        (None, 2) => {
                            let seen = readers[at].get();
                            (seen.stamp().version(), seen.number())
                        }
                        _ => {
                            let number = all[at].read(Tracked::number);
                            (number, number)
                        }
                    };
                    assert_eq!(
                        version, number,
                        "broken law: a value with another one's stamp"
                    );
                    assert!(
                        version >= last,
                        "broken law: half of a transaction: {version} after {last}"
                    );
                    halves.fetch_add(usize::from(version > last && step > 0), SeqCst);
                    last = version;
                    sometimes_yield(&mut rng, 32);
                }
                if looks.fetch_add(1, SeqCst).is_multiple_of(32) {
                    thread::yield_now();
                }
            }
        });
        let commits = commits.into_inner() as u64;
        for seen in snapshot_of(&all[..]).iter() {
            assert_eq!(seen.stamp().version(), commits);
        }
        halves.into_inner()
    })
}

/// Every commit adds one, whatever it is: so value, version and number of commits are the same, at every moment.
pub(crate) fn mixed(threads: usize, entities: usize, rounds: usize, seed: u64) -> Pressure {
    alone(|| {
        let all: Vec<Entity<Tracked>> = (0..entities)
            .map(|_| Entity::new(Tracked::make(0)))
            .collect();
        let next = |value: &Tracked| Tracked::make(value.number() + 1);
        let done = at_once(threads, |id| {
            let mut rng = rng(seed, id);
            let mut commits = vec![0_u64; entities];
            let mut conflicts = 0;
            for _ in 0..rounds {
                let at = rng.usize(..entities);
                let entity = &all[at];
                let yields = rng.u8(..16) == 0;
                let pause = || {
                    if yields {
                        thread::yield_now();
                    }
                };
                let attempts = match rng.u8(..10) {
                    0 => entity
                        .update(|value| {
                            pause();
                            next(value)
                        })
                        .attempts(),
                    1 => loop {
                        let base = entity.snapshot();
                        pause();
                        match entity.try_commit(base.stamp(), next(&base)) {
                            Ok(made) => break made.attempts(),
                            Err(_) => conflicts += 1,
                        }
                    },
                    2 => loop {
                        let base = entity.snapshot();
                        pause();
                        match entity.try_commit_on(&base, next(&base)) {
                            Ok(made) => break made.attempts(),
                            Err(_) => conflicts += 1,
                        }
                    },
                    3 => {
                        let base = entity.snapshot();
                        pause();
                        let merge = |sides: snapcell::Merge<'_, Tracked>| Some(next(sides.theirs));
                        let made = entity.commit_or_merge(&base, next(&base), merge);
                        made.expect("it never gives up").attempts()
                    }
                    4 => transaction(|tx| {
                        tx.fold(entity, next);
                        Ok(tx.attempt())
                    }),
                    way => {
                        let k = rng.usize(1..=entities.min(6));
                        let chosen: Vec<_> = (0..k).map(|n| (at + n) % entities).collect();
                        let attempts = match way {
                            5 => transaction(|tx| {
                                for &n in &chosen {
                                    tx.update(&all[n], next)?;
                                }
                                pause();
                                Ok(tx.attempt())
                            }),
                            6 => transaction(|tx| {
                                for &n in chosen.iter().rev() {
                                    tx.fold(&all[n], next);
                                }
                                Ok(tx.attempt())
                            }),
                            7 => transaction(|tx| {
                                let values: Result<Vec<_>, _> =
                                    chosen.iter().map(|&n| tx.read(&all[n]).map(next)).collect();
                                pause();
                                for (&n, value) in chosen.iter().zip(values?) {
                                    tx.write(&all[n], value);
                                }
                                // And something that is only looked at.
                                tx.require(&all[(at + k) % entities])?;
                                Ok(tx.attempt())
                            }),
                            _ => loop {
                                let few: Vec<_> = chosen.iter().map(|&n| &all[n]).collect();
                                let seen = snapshot_of(&few[..]);
                                pause();
                                let changes = few.iter().zip(seen.iter());
                                let changes = changes.fold(Changes::new(), |changes, (e, seen)| {
                                    changes.write(*e, seen.stamp(), next(seen))
                                });
                                match try_transaction(changes) {
                                    Ok(made) => break made.attempts(),
                                    Err(_) => conflicts += 1,
                                }
                            },
                        };
                        for n in chosen {
                            commits[n] += 1;
                        }
                        // Counted below as well.
                        commits[at] -= 1;
                        attempts
                    }
                };
                commits[at] += 1;
                conflicts += attempts as usize - 1;
                let seen = snapshot_of(&all[..]);
                for seen in seen.iter() {
                    assert_eq!(
                        seen.number(),
                        seen.stamp().version(),
                        "broken law: each commit adds one"
                    );
                }
            }
            (conflicts, commits)
        });
        for (n, entity) in all.iter().enumerate() {
            let commits: u64 = done.iter().map(|(_, commits)| commits[n]).sum();
            let end = entity.snapshot();
            let law = "broken law: no commit is lost, and none made twice";
            assert_eq!(
                (end.number(), end.stamp().version()),
                (commits, commits),
                "{law}"
            );
        }
        done.iter().map(|(conflicts, _)| conflicts).sum()
    })
}

/// Threads make entities, put handles where others find them, change what they find together with their own and
/// with one that all share, and drop it, whoever's it was.
pub(crate) fn entities_come_and_go(threads: usize, rounds: usize, seed: u64) -> Pressure {
    type Place = Mutex<Option<Entity<Tracked>>>;
    alone(|| {
        let market: [Place; 4] = Default::default();
        let (hub, changes) = (Entity::new(0_u64), AtomicU64::new(0));
        let taken_out = AtomicUsize::new(0);
        let conflicts = at_once(threads, |id| {
            let mut rng = rng(seed, id);
            let mut conflicts = 0;
            for round in 0..rounds as u64 {
                let mine = Entity::new(Tracked::make(round));
                let place = &market[rng.usize(..4)];
                let found = place.lock().unwrap().replace(mine.clone());
                let Some(found) = found else { continue };
                let kept = rng.bool().then(|| found.snapshot());
                let touches_hub = rng.bool();
                let number = |n: &Tracked| Tracked::make(n.number());
                let attempts = transaction(|tx| {
                    // Some by handles of the transaction's own, so that it may be the last to have them.
                    tx.update(found.clone(), number)?;
                    sometimes_yield(&mut rng, 8);
                    tx.fold(mine.clone(), number);
                    if touches_hub {
                        tx.fold(&hub, |n| n + 1);
                    }
                    Ok(tx.attempt())
                });
                changes.fetch_add(u64::from(touches_hub), SeqCst);
                conflicts += attempts as usize - 1;
                drop(mine);
                if let Some(kept) = kept {
                    kept.number();
                }
                match found.into_inner() {
                    Ok(value) => {
                        value.number();
                        taken_out.fetch_add(1, SeqCst);
                    }
                    Err(seen) => drop(seen.number()),
                }
            }
            conflicts
        });
        drop(market);
        let changes = changes.into_inner();
        assert_eq!(
            (*hub.snapshot(), hub.snapshot().stamp().version()),
            (changes, changes)
        );
        assert!(
            taken_out.into_inner() > 0,
            "NOT EXERCISED: nobody had the last handle"
        );
        conflicts.into_iter().sum()
    })
}

/// Generations of threads make a few transactions each and end, with what they have replaced still in their hands.
pub(crate) fn threads_come_and_go(generations: usize, seed: u64) -> Pressure {
    alone(|| {
        let all = [(); 3].map(|()| Entity::new(Tracked::make(0)));
        let (mut conflicts, mut commits) = (0, 0);
        let mut kept: Vec<Vec<Snapshot<Tracked>>> = Vec::new();
        for generation in 0..generations {
            let done = at_once(3, |id| {
                let mut rng = rng(seed ^ generation as u64, id);
                let mut lost = 0;
                let rounds = rng.usize(1..120);
                for _ in 0..rounds {
                    let attempts = transaction(|tx| {
                        for entity in &all {
                            tx.update(entity, |n| Tracked::make(n.number() + 1))?;
                            sometimes_yield(&mut rng, 32);
                        }
                        Ok(tx.attempt())
                    });
                    lost += attempts as usize - 1;
                }
                (lost, rounds, snapshot_of(&all[..]).into_inner())
            });
            for (lost, rounds, seen) in done {
                conflicts += lost;
                commits += rounds as u64;
                kept.push(seen);
            }
            if kept.len() > 20 {
                kept.drain(..10);
            }
        }
        for entity in &all {
            let end = entity.snapshot();
            assert_eq!((end.number(), end.stamp().version()), (commits, commits));
        }
        for moment in &kept {
            assert!(
                moment
                    .iter()
                    .all(|seen| seen.number() == moment[0].number())
            );
        }
        conflicts
    })
}

/// Whoever eats has both forks, and nobody else has either. Nobody waits for ever.
pub(crate) fn philosophers(seats: usize, meals: usize, seed: u64) -> Pressure {
    alone(|| {
        let forks: Vec<Entity<bool>> = (0..seats).map(|_| Entity::new(true)).collect();
        let in_use: Vec<AtomicBool> = (0..seats).map(|_| AtomicBool::new(false)).collect();
        let eaten = Entity::new(0_u64);
        let waits = at_once(seats, |seat| {
            let mut rng = rng(seed, seat);
            let mine = [seat, (seat + 1) % seats];
            let mut waits = 0;
            for _ in 0..meals {
                transaction(|tx| {
                    for fork in mine {
                        if !tx.get(&forks[fork])? {
                            waits += 1;
                            return tx.retry();
                        }
                    }
                    for fork in mine {
                        tx.write(&forks[fork], false);
                    }
                    Ok(())
                });
                for fork in mine {
                    assert!(
                        !in_use[fork].swap(true, SeqCst),
                        "broken law: two have one fork"
                    );
                }
                sometimes_yield(&mut rng, 2);
                for fork in mine {
                    in_use[fork].store(false, SeqCst);
                }
                transaction(|tx| {
                    for fork in mine {
                        tx.write(&forks[fork], true);
                    }
                    tx.fold(&eaten, |n| n + 1);
                    Ok(())
                });
            }
            waits
        });
        assert_eq!(*eaten.snapshot(), (seats * meals) as u64);
        assert!(snapshot_of(&forks[..]).iter().all(|fork| **fork));
        waits.into_iter().sum()
    })
}

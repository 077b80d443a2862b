//! `snapshot_of`: several entities at one instant, looked at only.

use super::support::together;
use super::{alone, fewer_if_slow, logical, percent, version};
use snapcell::{Entity, Moment, Snapshot, Stamp, snapshot_of, transaction};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[test]
fn a_tuple_of_entities_is_a_tuple_of_snapshots() {
    alone(|| {
        let e: Vec<Entity<usize>> = (0..12).map(logical).collect();
        macro_rules! check {
            ($($n:tt)*) => {{
                let moment = snapshot_of(($(&e[$n],)*));
                assert_eq!((moment.attempts(), moment.took_transaction()), (1, false));
                $(
                    assert_eq!(*moment.$n, $n);
                    assert!(Snapshot::ptr_eq(&moment.$n, &e[$n].snapshot()));
                )*
            }};
        }
        check!(0 1);
        check!(0 1 2);
        check!(0 1 2 3);
        check!(0 1 2 3 4);
        check!(0 1 2 3 4 5);
        check!(0 1 2 3 4 5 6);
        check!(0 1 2 3 4 5 6 7);
        check!(0 1 2 3 4 5 6 7 8);
        check!(0 1 2 3 4 5 6 7 8 9);
        check!(0 1 2 3 4 5 6 7 8 9 10);
        check!(0 1 2 3 4 5 6 7 8 9 10 11);
    });
}

#[test]
fn the_types_may_differ() {
    alone(|| {
        let (name, age, share) = (logical("ann"), logical(7_u8), percent(40));
        let (n, a, s) = snapshot_of((&name, &age, &share)).into_inner();
        assert_eq!((*n, *a, *s), ("ann", 7, 40));
        assert_eq!(n.stamp(), Stamp::new(0, 0));
    });
}

#[test]
fn slices_of_entities_and_of_references_give_vectors() {
    alone(|| {
        for size in [0, 1, 2, 9, 17, 100] {
            let entities: Vec<_> = (0..size).map(logical).collect();
            let moment = snapshot_of(&entities[..]);
            let seen: Vec<usize> = moment.iter().map(|s| **s).collect();
            assert_eq!(seen, (0..size).collect::<Vec<_>>());
            assert_eq!(moment.attempts(), 1);
            let backwards: Vec<&Entity<usize>> = entities.iter().rev().collect();
            let moment = snapshot_of(&backwards[..]);
            let seen: Vec<usize> = moment.iter().map(|s| **s).collect();
            assert_eq!(seen, (0..size).rev().collect::<Vec<_>>());
            assert_eq!(moment.into_inner().len(), size);
        }
        let checked = [percent(1), percent(2)];
        assert_eq!(snapshot_of(&checked[..]).iter().map(|s| **s).sum::<u8>(), 3);
        let [one, two] = [Entity::new(1), Entity::new(2)];
        let sum =
            |moment: snapcell::Moment<Vec<Snapshot<i32>>>| moment.iter().map(|s| **s).sum::<i32>();
        assert_eq!(sum(snapshot_of(&[&one, &two])), 3);
        assert_eq!(sum(snapshot_of(&vec![&one, &two])), 3);
        assert_eq!(sum(snapshot_of(&vec![one.clone(), two.clone()])), 3);
        assert_eq!(sum(snapshot_of(&[one, two])), 3);
    });
}

#[test]
fn the_same_entity_may_come_twice() {
    alone(|| {
        let (a, b) = (logical(1), logical(2));
        let moment = snapshot_of((&a, &b, &a));
        assert!(Snapshot::ptr_eq(&moment.0, &moment.2));
        assert_eq!((*moment.0, *moment.1), (1, 2));
        let clone = a.clone();
        let moment = snapshot_of(&[&a, &clone, &b, &a][..]);
        assert!(
            [1, 3]
                .iter()
                .all(|n| Snapshot::ptr_eq(&moment[0], &moment[*n]))
        );
    });
}

#[test]
fn it_changes_nothing_and_is_in_nobodys_way() {
    alone(|| {
        let (a, b) = (logical(1), logical(2));
        transaction(|tx| {
            assert_eq!(tx.attempt(), 1);
            tx.get(&a)?;
            drop(snapshot_of((&a, &b)));
            tx.get(&b)?;
            super::elsewhere(|| drop(snapshot_of((&a, &b))));
            tx.update(&a, |n| n + 1)
        });
        let base = b.snapshot();
        drop(snapshot_of((&a, &b)));
        assert!(b.try_commit_on(&base, 5).is_ok());
        assert_eq!((version(&a), version(&b)), (1, 1));
    });
}

#[test]
fn the_snapshots_stay_what_they_were() {
    alone(|| {
        let (a, b) = (logical(0), logical(0));
        let mut moments: Vec<Moment<(Snapshot<i32>, Snapshot<i32>)>> = Vec::new();
        for n in 1..=100 {
            moments.push(snapshot_of((&a, &b)));
            transaction(|tx| {
                tx.write(&a, n);
                tx.write(&b, -n);
                Ok(())
            });
        }
        let copies = moments.clone();
        drop((a, b, moments));
        for (n, moment) in copies.iter().enumerate() {
            let n = n as i32;
            assert_eq!((*moment.0, *moment.1), (n, -n));
            assert_eq!(moment.0.stamp().version(), n as u64);
        }
    });
}

/// Under writers that never pause: looks that are made again, and in the end a transaction that changes
/// nothing.
#[test]
fn it_gets_through_under_writers_and_shows_one_moment() {
    const ENTITIES: usize = 64;
    alone(|| {
        let entities: Vec<Entity<i64>> = (0..ENTITIES as i64).map(logical).collect();
        let sum: i64 = (0..ENTITIES as i64).sum();
        let over = AtomicBool::new(false);
        let [looks, again, by_transaction] = [(); 3].map(|()| AtomicUsize::new(0));
        let (least, most) = (fewer_if_slow(2_000), 2_000_000);
        together(3, |id| {
            if id < 2 {
                let mut n = id;
                while !over.load(Ordering::SeqCst) {
                    n += 7;
                    let (from, to) = (&entities[n % ENTITIES], &entities[(n * 5 + 1) % ENTITIES]);
                    transaction(|tx| {
                        tx.fold(from, |n| n - 1);
                        tx.fold(to, |n| n + 1);
                        Ok(())
                    });
                }
                return;
            }
            for round in 0..most {
                let moment = snapshot_of(&entities[..]);
                let now: i64 = moment.iter().map(|s| **s).sum();
                assert_eq!(now, sum, "{} attempts", moment.attempts());
                looks.fetch_add(1, Ordering::SeqCst);
                again.fetch_add(usize::from(moment.attempts() > 1), Ordering::SeqCst);
                let by = usize::from(moment.took_transaction());
                by_transaction.fetch_add(by, Ordering::SeqCst);
                if round >= least && again.load(Ordering::SeqCst) >= 20 {
                    break;
                }
                if round % 64 == 0 {
                    std::thread::yield_now();
                }
            }
            over.store(true, Ordering::SeqCst);
        });
        let [looks, again, by_transaction] =
            [looks, again, by_transaction].map(AtomicUsize::into_inner);
        println!("{looks} looks, {again} took more than one, {by_transaction} a transaction");
        assert!(again > 0, "NOT EXERCISED: nobody was ever in the way");
    });
}

//! Planted faults on real threads: the laws of `stress/laws.rs` must notice each that this test claims.
//!
//! `cargo stress-faults` builds with `cfg(snapcell_fault)`, in which `SNAPCELL_FAULT` plants a fault
//! (`src/sync/fault.rs`). A fault lasts as long as a process, so each runs in one of its own: this program
//! starts itself again. In an ordinary build there is nothing to plant.
//!
//! Here are the faults that a count can show. Those that touch memory too early are for the address
//! and thread sanitizers (`tests/sanitize.rs`), and all of them for the models (`loom-tests/`).
//!
//! One is no mistake: it stops a thread in the midst of a transaction, for good. Everybody else must go on.

#[cfg(snapcell_fault)]
#[path = "stress/laws.rs"]
mod laws;
#[cfg(snapcell_fault)]
#[path = "support/payload.rs"]
mod payload;
#[cfg(snapcell_fault)]
#[path = "transaction_stress/probes.rs"]
#[allow(dead_code, reason = "some probes are for memory, or for waiting")]
mod probes;
#[cfg(snapcell_fault)]
#[allow(dead_code, reason = "this test needs little of what others share")]
mod support;
#[cfg(snapcell_fault)]
#[path = "support/tracked.rs"]
mod tracked;

/// The environment's RUSTFLAGS take the place of the alias's, and then the tests below aren't there.
#[cfg(not(snapcell_fault))]
#[test]
fn the_build_is_the_one_that_was_asked_for() {
    assert!(
        std::env::var_os("SNAPCELL_FAULT_BUILD").is_none(),
        "`cargo stress-faults` asks for `--cfg snapcell_fault`, and this build is without; unset RUSTFLAGS"
    );
}

#[cfg(snapcell_fault)]
mod planted {
    use super::laws::{Config, run};
    use super::tracked::Tracked;
    use super::{probes, stopped};
    use snapcell::internals::Fault;
    use std::env;
    use std::process::{Command, Output};

    /// Each fault, and words of the law that it breaks.
    const CLAIMS: &[(Fault, &str)] = &[
        (Fault::SuccessAfterLostCas, "were not committed once each"),
        (
            Fault::KeepVersion,
            "counts its predecessor's version up by one",
        ),
        (Fault::NeverRetire, "values were never dropped"),
        (Fault::ExitForgetsRing, "values were never dropped"),
        (Fault::ForgetHead, "values were never dropped"),
    ];

    /// The same of transactions.
    const CLAIMS_OF_TRANSACTIONS: &[(Fault, &str)] = &[
        (Fault::NoProxies, "broken law: both switches are on"),
        (Fault::OnePass, "broken law: each value is there, once"),
        (Fault::TakeUndecided, "broken law"),
        (Fault::KeepVersion, "broken law: versions count commits"),
        (Fault::NeverRetire, "broken law: values were never dropped"),
    ];

    /// What a process with a fault runs: many small runs, so that each fault gets its moment, and none
    /// so large that anything is freed before the laws are checked. A fault that frees twice would
    /// bring the process down before it is noticed.
    #[test]
    fn small_runs_obey_the_laws() {
        let config = Config {
            writers: 4,
            commits: 800,
            readers: false,
            together: true,
            logical: false,
            pressure: 3,
        };
        let mut conflicts = 0;
        for _ in 0..100 {
            let report = run::<Tracked>(&config);
            assert_eq!(report.looks, 0, "there are no readers");
            conflicts += report.conflicts;
        }
        assert!(conflicts > 0, "no run was put to a test");
        println!("{conflicts} conflicts");
    }

    const LAWS: &str = "planted::small_runs_obey_the_laws";
    const LAWS_OF_TRANSACTIONS: &str = "planted::small_runs_of_transactions_obey_the_laws";

    /// The same of transactions.
    #[test]
    fn small_runs_of_transactions_obey_the_laws() {
        let mut conflicts = 0;
        for part in 0..30 {
            conflicts += probes::write_skew(3, 600, part);
            conflicts += probes::rotation::<u64>(3, 12, 300, part);
            conflicts += probes::mixed(3, 2, 300, part);
            conflicts += probes::causality(3, 3, 200, part);
        }
        assert!(conflicts > 0, "no run was put to a test");
        println!("{conflicts} conflicts");
    }

    fn run_with(test: &str, fault: Option<Fault>) -> Output {
        run_with_variant(test, fault, 0)
    }

    /// Runs a test in a process with this fault.
    fn run_with_variant(test: &str, fault: Option<Fault>, variant: usize) -> Output {
        let this = env::current_exe().expect("a test knows its own program");
        Command::new(this)
            .args(["--exact", test, "--nocapture"])
            .env(stopped::VARIANT, variant.to_string())
            .env(
                "SNAPCELL_FAULT",
                fault.map(|fault| format!("{fault:?}")).unwrap_or_default(),
            )
            .output()
            .expect("a program that runs can be started again")
    }

    #[test]
    fn without_a_fault_no_law_is_broken() {
        for laws in [LAWS, LAWS_OF_TRANSACTIONS] {
            let output = run_with(laws, None);
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{output:?}");
            assert!(said.contains("1 passed"), "it ran nothing: {said}");
        }
    }

    #[test]
    fn each_fault_breaks_its_law() {
        each_breaks(LAWS, CLAIMS, 1);
    }

    /// Some need an unlikely moment: then another process is tried.
    #[test]
    fn each_fault_breaks_its_law_of_transactions() {
        each_breaks(LAWS_OF_TRANSACTIONS, CLAIMS_OF_TRANSACTIONS, 40);
    }

    fn each_breaks(laws: &str, claims: &[(Fault, &str)], most: usize) {
        for &(fault, law) in claims {
            let mut outputs = (0..most).map(|_| run_with(laws, Some(fault)));
            let breaks_it = |output: &Output| {
                let said = String::from_utf8_lossy(&output.stderr);
                // Otherwise it was noticed, if at all, but not as a broken law.
                !output.status.success() && said.contains(law)
            };
            let place = outputs.position(|output| breaks_it(&output));
            let Some(place) = place else {
                let output = run_with(laws, Some(fault));
                panic!("{fault:?} doesn't break its law ({law}) in {most} processes: {output:?}");
            };
            println!("{fault:?}: {law}, in process {}", place + 1);
        }
    }

    /// What the others do before may abort the transaction that stops, and then there is nothing to finish. So each
    /// test says whether it was finished, and is run again if not.
    fn others_go_on(tests: &[(&str, usize)]) {
        const MOST: usize = 20;
        let mut complaints = Vec::new();
        for &(test, variants) in tests {
            for variant in 0..variants {
                let run = |fault| {
                    let output = run_with_variant(test, fault, variant);
                    let said = String::from_utf8_lossy(&output.stdout).into_owned();
                    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
                    (output.status.success(), said, complaint)
                };
                let (is_fine, said, complaint) = run(None);
                assert!(is_fine, "without a stop: {complaint}");
                assert!(said.contains("1 passed"), "it ran nothing: {said}");
                let mut outcomes = (0..MOST).map(|_| run(Some(Fault::StopBeforeVerdict)));
                let is_over = |(is_fine, said, _): &(bool, String, String)| {
                    !is_fine || said.contains(stopped::FINISHED)
                };
                let Some((is_fine, _, complaint)) = outcomes.find(is_over) else {
                    panic!("NOT EXERCISED: {test}, variant {variant}, in {MOST} processes");
                };
                if is_fine {
                    println!("{test}, variant {variant}: {}", stopped::FINISHED);
                } else {
                    complaints.push(format!("{test}, variant {variant}: {complaint}"));
                }
            }
        }
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }

    #[test]
    fn a_stopped_thread_stops_nobody() {
        others_go_on(stopped::WHO_WORKS);
    }

    #[test]
    fn a_stopped_thread_leaves_no_hole_in_a_history() {
        let faults = [Fault::StopAfterRecording, Fault::StopBeforeVerdict];
        for fault in [None].into_iter().chain(faults.map(Some)) {
            for variant in 0..3 {
                let output = run_with_variant(stopped::HISTORIES, fault, variant);
                let said = String::from_utf8_lossy(&output.stdout);
                assert!(output.status.success(), "{fault:?}: {output:?}");
                assert!(said.contains("1 passed"), "it ran nothing: {said}");
            }
        }
    }

    #[test]
    fn a_stopped_thread_costs_nobody_a_wake_up() {
        others_go_on(stopped::WHO_WAITS);
    }
}

/// What runs in a process in which the first transaction that is about to be decided stops there for good, with its
/// thread. (And without, to see that the stop is all that differs.)
#[cfg(snapcell_fault)]
mod stopped {
    use snapcell::{
        Changes, Entity, Retain, Retry, Stop, Transact, TransactionError, snapshot_of, transaction,
        try_transaction,
    };
    use std::env;
    use std::future::Future;
    use std::pin::pin;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
    use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Wake, Waker};
    use std::thread::{self, JoinHandle};
    use std::time::Duration;

    /// Said where others have finished the transaction of the thread that stopped.
    pub(crate) const FINISHED: &str = "finished by others";

    /// Which variant of a test this is.
    pub(crate) const VARIANT: &str = "SNAPCELL_TEST_VARIANT";

    /// The tests below, with their variants.
    pub(crate) const WHO_WORKS: &[(&str, usize)] = &[
        ("stopped::all_others_finish_their_work", 3),
        ("stopped::each_way_to_change_it_finishes_it", WAYS.len()),
        ("stopped::each_look_goes_on", 1),
    ];
    pub(crate) const WHO_WAITS: &[(&str, usize)] = &[(
        "stopped::those_who_wait_for_what_it_wrote_are_woken",
        WAYS.len(),
    )];

    /// The same of those who keep what was.
    pub(crate) const HISTORIES: &str = "stopped::histories_have_no_holes";

    fn variant() -> usize {
        let variant = env::var(VARIANT).ok();
        variant
            .and_then(|variant| variant.parse().ok())
            .unwrap_or(0)
    }

    /// Longer than any of this takes, on a busy machine too.
    const HANGS: Duration = Duration::from_secs(120);

    /// Whether somebody stops.
    fn somebody_stops() -> bool {
        env::var("SNAPCELL_FAULT").is_ok_and(|fault| fault == "StopBeforeVerdict")
    }

    /// Runs something on a thread that nobody has to wait for.
    fn on_its_own<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
        let thread = thread::Builder::new().spawn(body);
        thread.expect("a thread can be started")
    }

    /// Ends the process if what comes while this is kept takes for ever.
    fn watchdog() -> Sender<()> {
        let (ended, end) = channel();
        on_its_own(move || {
            if end.recv_timeout(HANGS) == Err(RecvTimeoutError::Timeout) {
                eprintln!("whoever is not stopped hangs all the same");
                std::process::abort();
            }
        });
        ended
    }

    /// Writes 1 to both on a thread of its own. Returns when it is about to commit, and with the fault has most
    /// probably stopped.
    fn begin(a: &Entity<u64>, b: &Entity<u64>) -> JoinHandle<()> {
        let (a, b, commits) = (a.clone(), b.clone(), Entity::new(0_u64));
        let is_about_to = Arc::new(AtomicBool::new(false));
        let tells = Arc::clone(&is_about_to);
        let thread = on_its_own(move || {
            transaction(|tx| {
                let tells = Arc::clone(&tells);
                tx.write(a.clone(), 1);
                tx.write(b.clone(), 1);
                // Applied at the commit.
                tx.fold(commits.clone(), move |n| {
                    tells.store(true, SeqCst);
                    n + 1
                });
                Ok(())
            });
        });
        while !is_about_to.load(SeqCst) {
            thread::yield_now();
        }
        for _ in 0..200 {
            thread::yield_now();
        }
        thread
    }

    const ACCOUNTS: usize = 4;
    const AT_FIRST: u64 = 1_000_000;

    /// Moves money between some of the accounts, of which each loses or gets something. Which ones.
    fn transfer(accounts: &[Entity<u64>], round: usize) -> Vec<usize> {
        let k = 2 + round % (ACCOUNTS - 1);
        let chosen: Vec<usize> = (0..k).map(|n| (round * 7 + n) % ACCOUNTS).collect();
        let result = Transact::new().run::<_, ()>(|tx| {
            for (place, &at) in chosen.iter().enumerate() {
                let entity = accounts[at].clone();
                match place {
                    0 => tx.update(entity, |n| n - (k as u64 - 1))?,
                    1 => tx.fold(entity, |n| n + 1),
                    _ => {
                        let now = tx.get(entity.clone())?;
                        tx.write(entity, now + 1);
                    }
                }
            }
            Ok(())
        });
        assert_eq!(result, Ok(()));
        chosen
    }

    #[test]
    fn all_others_finish_their_work() {
        const THREADS: usize = 4;
        const ROUNDS: usize = 2_000;
        let _watchdog = watchdog();
        let accounts: Arc<Vec<_>> =
            Arc::new((0..ACCOUNTS).map(|_| Entity::new(AT_FIRST)).collect());
        let (finish, finished) = channel();
        let under_way: Arc<Mutex<Vec<Option<usize>>>> = Arc::new(Mutex::new(vec![None; THREADS]));
        for id in 0..THREADS {
            let (accounts, finish, under_way) = (
                Arc::clone(&accounts),
                finish.clone(),
                Arc::clone(&under_way),
            );
            on_its_own(move || {
                let mut commits = [0_u64; ACCOUNTS];
                for round in 0..ROUNDS {
                    let round = round * THREADS + id;
                    under_way.lock().unwrap()[id] = Some(round);
                    for at in transfer(&accounts, round) {
                        commits[at] += 1;
                    }
                    under_way.lock().unwrap()[id] = None;
                    let sum: u64 = snapshot_of(&accounts[..]).iter().map(|n| **n).sum();
                    assert_eq!(
                        sum,
                        AT_FIRST * ACCOUNTS as u64,
                        "broken law: money was made or lost"
                    );
                    if round.is_multiple_of(3) {
                        commits[round % ACCOUNTS] += 1;
                        drop(accounts[round % ACCOUNTS].update(|n| *n));
                    }
                }
                finish.send((id, commits)).expect("somebody waits for it");
            });
        }
        let stopped = usize::from(somebody_stops());
        let mut commits = [0; ACCOUNTS];
        for _ in 0..THREADS - stopped {
            let (id, written) = finished.recv().expect("the others go on");
            under_way.lock().unwrap()[id] = None;
            for at in 0..ACCOUNTS {
                commits[at] += written[at];
            }
        }
        assert!(
            finished.try_recv().is_err(),
            "one has stopped, or all are done"
        );
        let end = snapshot_of(&accounts[..]);
        let sum: u64 = end.iter().map(|n| **n).sum();
        assert_eq!(
            sum,
            AT_FIRST * ACCOUNTS as u64,
            "broken law: money was made or lost"
        );
        let left = |at: usize| end[at].stamp().version() - commits[at];
        let Some(round) = under_way.lock().unwrap().iter().flatten().next().copied() else {
            assert_eq!((stopped, [0, 1, 2, 3].map(left)), (0, [0; ACCOUNTS]));
            return;
        };
        // Whoever stopped did so in its first transfer, which is made as a whole or not at all.
        let k = 2 + round % (ACCOUNTS - 1);
        let mut its = [0; ACCOUNTS];
        (0..k).for_each(|n| its[(round * 7 + n) % ACCOUNTS] = 1);
        let left = [0, 1, 2, 3].map(left);
        assert!(
            left == its || left == [0; ACCOUNTS],
            "half of a transfer: {left:?} of {its:?}"
        );
        if left == its {
            println!("{FINISHED}");
        }
    }

    /// One thread stops where the fault says, in its first commit or later. The others go on, and so do histories.
    #[test]
    fn histories_have_no_holes() {
        const THREADS: usize = 4;
        let _watchdog = watchdog();
        let built = || Entity::builder(0_u64).retain(Retain::All).build();
        let entities = Arc::new([built(), built()]);
        let (finish, finished) = channel();
        for id in 0..THREADS {
            let (entities, finish) = (Arc::clone(&entities), finish.clone());
            on_its_own(move || {
                let [a, b] = &*entities;
                for round in 0..2_000 {
                    if (round + id + variant()).is_multiple_of(3) {
                        drop(a.update(|n| n + 1));
                    } else {
                        transaction(|tx| {
                            tx.update(a.clone(), |n| n + 1)?;
                            tx.update(b.clone(), |n| n + 1)
                        });
                    }
                }
                finish.send(()).expect("somebody waits for it");
            });
        }
        let stops = env::var("SNAPCELL_FAULT").is_ok_and(|fault| !fault.is_empty());
        for _ in 0..THREADS - usize::from(stops) {
            finished.recv().expect("the others go on");
        }
        assert!(
            finished.try_recv().is_err(),
            "one has stopped, or all are done"
        );
        for entity in &*entities {
            let shown: Vec<_> = entity
                .history()
                .map(|s| (s.stamp().version(), *s))
                .collect();
            let last = *entity.snapshot();
            let all: Vec<_> = (0..=last).map(|n| (n, n)).collect();
            assert_eq!(shown, all, "broken law: a history has a hole");
        }
        let least = (THREADS as u64 - 1) * 2_000;
        assert!(
            *entities[0].snapshot() >= least,
            "the others have committed"
        );
    }

    type Way = fn(&Entity<u64>, &Entity<u64>);

    /// Commits to the first, by every way, each of which returns.
    const WAYS: &[(&str, Way)] = &[
        ("update", |a, _| drop(a.update(|n| *n))),
        ("replace", |a, _| drop(a.replace(1))),
        ("try_commit", |a, _| {
            drop(a.try_commit(a.snapshot().stamp(), 1))
        }),
        ("try_commit_on", |a, _| {
            drop(a.try_commit_on(&a.snapshot(), 1))
        }),
        ("a transaction", |a, b| {
            transaction(|tx| {
                tx.update(a.clone(), |n| *n)?;
                tx.update(b.clone(), |n| *n)
            });
        }),
        ("a transaction in the other order", |a, b| {
            transaction(|tx| {
                tx.require(b.clone())?;
                tx.update(a.clone(), |n| *n)
            });
        }),
        ("changes", |a, b| {
            let changes = Changes::new().require(b, b.snapshot().stamp());
            drop(try_transaction(changes.replace(a, 1)));
        }),
        ("a wait", |a, _| {
            assert!(is_pending(a.wait_for(|n| *n > 1_000)));
        }),
        ("a transaction that waits", |a, b| {
            assert!(is_pending(Transact::new().start::<(), (), _>(|tx| {
                tx.get(a.clone())?;
                tx.get(b.clone())?;
                Ok(tx.retry()?)
            })));
        }),
    ];

    /// Polls it once.
    fn is_pending(future: impl Future) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        pin!(future).poll(&mut context).is_pending()
    }

    #[test]
    fn each_way_to_change_it_finishes_it() {
        let _watchdog = watchdog();
        let (a, b) = (Entity::new(0), Entity::new(0));
        let thread = begin(&a, &b);
        let (name, way) = WAYS[variant()];
        way(&a, &b);
        let both = snapshot_of((&a, &b));
        if !somebody_stops() {
            thread.join().expect("nobody stops");
            return;
        }
        assert!(!thread.is_finished(), "{name}: it has stopped for good");
        let is_made = *both.1 == 1;
        if is_made {
            println!("{FINISHED}: {name}");
        }
        // And others go on, however often.
        for _ in 0..1_000 {
            transaction(|tx| {
                tx.update(a.clone(), |n| n + 1)?;
                tx.update(b.clone(), |n| n + 1)
            });
        }
        let all = snapshot_of((&a, &b));
        assert_eq!(*all.0 - *both.0, 1_000, "{name}");
        assert_eq!(*all.1 - *both.1, 1_000, "{name}: {both:?}");
    }

    /// Looks help nobody, and need nobody: they see what was there.
    #[test]
    fn each_look_goes_on() {
        let _watchdog = watchdog();
        let (a, b) = (Entity::new(0), Entity::new(0));
        let mut readers = [a.reader(), b.reader()];
        let watch = a.watch();
        let thread = begin(&a, &b);
        if !somebody_stops() {
            thread.join().expect("nobody stops");
            return;
        }
        for _ in 0..1_000 {
            let guard = snapcell::pin();
            let seen = [
                *a.load(&guard),
                *b.load(&guard),
                *a.snapshot(),
                b.read(|n| *n),
            ];
            assert_eq!(seen, [0; 4], "nothing is decided");
            let both = snapshot_of((&a, &b));
            assert_eq!((*both.0, *both.1, both.took_transaction()), (0, 0, false));
            let looked = readers.each_mut().map(|reader| **reader.get());
            assert_eq!((looked, watch.has_changed()), ([0, 0], false));
            let limited = Transact::new().retries(Retry::at_most(0));
            let read = limited.run::<_, ()>(|tx| Ok((tx.get(a.clone())?, tx.get(b.clone())?)));
            assert_eq!(read, Ok((0, 0)), "whoever only reads needs no help either");
            let gives_up = limited.run::<(), _>(|tx| Err(Stop::Abort(tx.get(a.clone())?)));
            assert_eq!(gives_up, Err(TransactionError::Aborted(0)));
        }
        // Then somebody who changes something.
        b.update(|n| *n);
        let both = snapshot_of((&a, &b));
        assert_eq!(*both.0, *both.1, "as a whole, or not at all");
        if *both.0 == 1 {
            println!("{FINISHED}");
        }
        // Handles end, the stopped thread's are left.
        drop((a, b, readers, watch));
    }

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    /// Somebody waits before the transaction that stops comes by. Whoever finishes it wakes him.
    #[test]
    fn those_who_wait_for_what_it_wrote_are_woken() {
        let _watchdog = watchdog();
        let (a, b) = (Entity::new(0_u64), Entity::new(0_u64));
        let tasks = [(); 3].map(|()| Arc::new(Task::default()));
        let wakers = tasks.each_ref().map(|task| Waker::from(Arc::clone(task)));
        let mut first = pin!(a.wait_for(|n| *n == 1));
        let mut second = pin!(b.wait_for(|n| *n == 1));
        let mut third = pin!(Transact::new().start::<_, (), _>(|tx| match tx.get(&a)? {
            0 => Ok(tx.retry()?),
            n => Ok(n),
        }));
        let pending = [
            first
                .as_mut()
                .poll(&mut Context::from_waker(&wakers[0]))
                .is_pending(),
            second
                .as_mut()
                .poll(&mut Context::from_waker(&wakers[1]))
                .is_pending(),
            third
                .as_mut()
                .poll(&mut Context::from_waker(&wakers[2]))
                .is_pending(),
        ];
        assert_eq!(pending, [true; 3]);
        let thread = begin(&a, &b);
        let (name, way) = WAYS[variant()];
        if somebody_stops() {
            // Somebody else comes by, at either of the two, and finishes it.
            if variant().is_multiple_of(2) {
                way(&a, &b);
            } else {
                way(&b, &a);
            }
        } else {
            thread.join().expect("nobody stops");
        }
        let both = snapshot_of((&a, &b));
        if (*both.0, *both.1) != (1, 1) {
            return;
        }
        let woken = tasks.each_ref().map(|task| task.0.load(SeqCst) > 0);
        assert_eq!(woken, [true; 3], "broken law: a wake-up was lost ({name})");
        println!("{FINISHED}");
    }
}

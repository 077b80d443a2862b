//! Planted faults on real threads: the laws of `stress/laws.rs` must notice each that this test claims.
//!
//! `cargo stress-faults` builds with `cfg(snapcell_fault)`, in which `SNAPCELL_FAULT` plants a fault
//! (`src/sync/fault.rs`). A fault lasts as long as a process, so each runs in one of its own: this program
//! starts itself again. In an ordinary build there is nothing to plant.
//!
//! Here are the faults that a count can show. Those that touch memory too early are for the address
//! and thread sanitizers (`tests/sanitize.rs`), and all of them for the models (`loom-tests/`).

#[cfg(snapcell_fault)]
#[path = "stress/laws.rs"]
mod laws;

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
    use super::laws::{Config, Tracked, run};
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

    /// Runs the test above in a process with this fault.
    fn run_with(fault: Option<Fault>) -> Output {
        let this = env::current_exe().expect("a test knows its own program");
        Command::new(this)
            .args(["--exact", "planted::small_runs_obey_the_laws"])
            .arg("--nocapture")
            .env(
                "SNAPCELL_FAULT",
                fault.map(|fault| format!("{fault:?}")).unwrap_or_default(),
            )
            .output()
            .expect("a program that runs can be started again")
    }

    #[test]
    fn without_a_fault_no_law_is_broken() {
        let output = run_with(None);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        assert!(said.contains("1 passed"), "it ran nothing: {said}");
    }

    #[test]
    fn each_fault_breaks_its_law() {
        for &(fault, law) in CLAIMS {
            let output = run_with(Some(fault));
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                !output.status.success(),
                "{fault:?} went unnoticed: {output:?}"
            );
            assert!(
                said.contains(law),
                "{fault:?} was noticed, but not as a broken law ({law}): {said}"
            );
            println!("{fault:?}: {law}");
        }
    }
}

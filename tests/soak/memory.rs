//! How much memory the process has, and whether that grows.

use std::fs;

/// After so many checkpoints the process has the size that it is to keep.
const SETTLED: u32 = 64;

/// The resident sizes at the checkpoints.
pub(crate) struct Memory {
    /// By so much, in KiB, it may be larger later.
    bound: u64,
    checkpoints: u32,
    /// The largest one until it has settled, and since.
    settled: u64,
    peak: u64,
    last: u64,
}

impl Memory {
    pub(crate) fn new(bound: u64) -> Self {
        Memory {
            bound,
            checkpoints: 0,
            settled: 0,
            peak: 0,
            last: 0,
        }
    }

    /// Looks at the size.
    ///
    /// # Panics
    /// If it has grown by more than the bound since it has settled.
    pub(crate) fn look(&mut self) {
        if let Some(size) = resident() {
            self.note(size);
        }
    }

    fn note(&mut self, size: u64) {
        self.checkpoints += 1;
        self.last = size;
        self.peak = self.peak.max(size);
        if self.checkpoints <= SETTLED {
            self.settled = self.peak;
        }
        assert!(
            size <= self.settled + self.bound,
            "broken law: {} KiB are resident at checkpoint {}, {} KiB at the largest of the first {SETTLED}, and no \
             more than {} KiB are to come",
            size,
            self.checkpoints,
            self.settled,
            self.bound
        );
    }

    /// What there is to say about it.
    pub(crate) fn told(&self) -> String {
        if self.checkpoints == 0 {
            return "unknown on this system".into();
        }
        format!(
            "{} KiB at most; {} KiB at most in the first {SETTLED} checkpoints, {} KiB at the last one; {} KiB more \
             would be too much",
            self.peak, self.settled, self.last, self.bound
        )
    }
}

/// The resident size of this process in KiB, where that can be known.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[test]
fn growth_beyond_the_bound_is_noticed_once_the_size_has_settled() {
    let mut memory = Memory::new(100);
    for size in [1_000, 500_000, 90_000] {
        memory.note(size);
    }
    for _ in 3..SETTLED {
        memory.note(2_000);
    }
    memory.note(500_000 + 100);
    let message = crate::support::panic_of(|| memory.note(500_000 + 100 + 1));
    assert!(message.starts_with("broken law: "), "{message}");
}

#[test]
fn the_resident_size_is_known_on_linux() {
    assert_eq!(resident().is_some(), cfg!(target_os = "linux"));
}

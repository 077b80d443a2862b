//! Who else was using the processors meanwhile: figures from a busy machine are rough.

use std::fs;

/// From this share on the figures are called rough.
const ROUGH: f64 = 0.05;

/// What the processors had done when this was taken, in ticks; Linux only.
pub(crate) struct Load(Option<Ticks>);

struct Ticks {
    all: u64,
    busy: u64,
    own: u64,
}

impl Load {
    pub(crate) fn now() -> Self {
        Load(ticks())
    }

    /// The share of all processors that others had since; `None` where nobody tells.
    pub(crate) fn others(&self) -> Option<f64> {
        let (before, after) = (self.0.as_ref()?, ticks()?);
        let busy = after.busy.saturating_sub(before.busy);
        let own = after.own.saturating_sub(before.own);
        let all = after.all.saturating_sub(before.all).max(1);
        Some(busy.saturating_sub(own) as f64 / all as f64)
    }
}

/// A sentence on what others had.
pub(crate) fn sentence(others: Option<f64>) -> String {
    match others {
        Some(share) => {
            let rough = if share < ROUGH {
                ""
            } else {
                ": the figures are rough"
            };
            let percent = share * 100.0;
            format!("others had {percent:.0} % of the processors meanwhile{rough}")
        }
        None => "what others had of the processors is not known".to_owned(),
    }
}

fn ticks() -> Option<Ticks> {
    let system = fs::read_to_string("/proc/stat").ok()?;
    let line = system.lines().next()?.strip_prefix("cpu ")?;
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are in user and nice already.
    let ticks: Vec<u64> = line
        .split_whitespace()
        .take(8)
        .map(|ticks| ticks.parse().ok())
        .collect::<Option<_>>()?;
    let all = ticks.iter().sum();
    let idle: u64 = ticks.get(3)? + ticks.get(4)?;

    let process = fs::read_to_string("/proc/self/stat").ok()?;
    // The name may have anything in it, but ends with the last parenthesis; what follows is numbered from 3.
    let (_, fields) = process.rsplit_once(')')?;
    let fields = fields.split_whitespace().skip(14 - 3).take(4);
    // In user and kernel mode, and what children had that have ended.
    let own = fields
        .map(|ticks| ticks.parse::<u64>().ok())
        .sum::<Option<u64>>()?;
    Some(Ticks {
        all,
        busy: all - idle,
        own,
    })
}

//! The report as text: the sections of the originals, in their order, and then what they lack.

use super::groups::{Group, Times};
use super::{Report, ratio};
use std::fmt;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.overview(f)?;
        self.performance(f)?;
        self.attempts(f)?;
        groups(f, "4. By class and priority", &self.classes)?;
        groups(f, "5. By kind", &self.kinds)?;
        groups(f, "6. By way", &self.ways)?;
        self.targets(f)?;
        self.memory(f)?;
        self.mechanisms(f)?;
        self.scenarios(f)?;
        self.laws(f)?;
        self.beside_the_original(f)?;
        section(f, "Verdict")?;
        for complaint in &self.complaints {
            writeln!(f, "  wrong: {complaint}")?;
        }
        writeln!(f, "  {}", self.verdict)
    }
}

/// The sections, as text.
impl Report {
    fn overview(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = &self.settings;
        let retries = format!(
            "{} structural, {} normal, {} low; backoff: {}",
            s.retries_structural, s.retries_normal, s.retries_low, s.backoff
        );
        let threads = format!(
            "{} submit, {} serve, on {} cores",
            s.threads, s.workers, s.cores
        );
        let batch = match s.batch {
            1 => "1: submitted one by one".into(),
            batch => format!("{}: staged and resolved together", grouped(batch.into())),
        };
        section(f, "1. Overview")?;
        line(f, "mix", &s.mix)?;
        line(f, "policy", &s.policy)?;
        if let Some(operations) = s.operations {
            line(f, "operations", grouped(operations.into()))?;
        }
        if let Some(duration) = s.duration_ns {
            line(f, "for", time(duration))?;
        }
        if let Some(pace) = s.rate {
            line(f, "rate", rate(pace.into()))?;
        }
        line(f, "targets", grouped(s.targets.into()))?;
        line(f, "batch", batch)?;
        line(f, "threads", threads)?;
        line(f, "work per attempt", time(s.work_ns))?;
        line(f, "beside the lanes", format!("{} %", s.beside_percent))?;
        line(
            f,
            "cancelled",
            format!("{} % of the others", s.cancel_percent),
        )?;
        line(f, "retries", retries)?;
        line(f, "room in a lane", grouped(s.capacity.into()))?;
        line(f, "seed", s.seed)?;
        for round in &self.earlier_rounds {
            let (work, conflicts) = (time(round.work_ns), round.conflicts);
            let text = format!("{work} of work: {conflicts} conflicts, so work was added");
            line(f, "earlier round", text)?;
        }
        Ok(())
    }

    fn performance(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p = &self.performance;
        let succeeded = format!(
            "{} = {} committed + {} unchanged",
            grouped(p.succeeded),
            grouped(p.committed),
            grouped(p.unchanged)
        );
        let why = p.rejected_why.iter();
        let why: Vec<_> = why
            .map(|(why, many)| format!("{} {why}", grouped(*many)))
            .collect();
        let rejected = match why.is_empty() {
            true => grouped(p.rejected),
            false => format!("{}: {}", grouped(p.rejected), why.join(", ")),
        };
        section(f, "2. Operations")?;
        line(f, "submitted", grouped(p.submitted))?;
        line(f, "succeeded", succeeded)?;
        line(f, "rejected", rejected)?;
        line(f, "failed", grouped(p.failed))?;
        line(f, "cancelled", grouped(p.cancelled))?;
        line(f, "unfinished", grouped(p.unfinished))?;
        line(f, "not taken", grouped(p.not_taken))?;
        line(f, "completion", percent(p.completion))?;
        line(f, "duration", time(p.elapsed_ns))?;
        line(f, "submissions", rate(p.submissions_per_second))?;
        line(f, "commits", rate(p.commits_per_second))?;
        line(f, "latency", &p.latency_ns)?;
        line(f, "queueing", &p.queueing_ns)
    }

    fn attempts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let a = &self.attempts;
        let lost = format!(
            "{} = {} absorbed by operations that succeeded + {} in vain",
            grouped(a.lost),
            grouped(a.absorbed),
            grouped(a.in_vain)
        );
        let wasted = format!(
            "{} of attempts; {} of {} that closures ran",
            percent(a.wasted_attempts),
            time(a.wasted_ns),
            time(a.worked_ns)
        );
        section(f, "3. Conflicts and retries")?;
        line(f, "attempts", grouped(a.attempts))?;
        line(f, "lost to another", lost)?;
        line(f, "met by closures", grouped(a.met_by_closures))?;
        line(f, "escaped", format!("{} operations", grouped(a.escaped)))?;
        line(f, "first tries", grouped(a.first_tries))?;
        line(f, "wasted work", wasted)?;
        line(
            f,
            "folds, merges",
            format!("{}, {}", grouped(a.folds), grouped(a.merges)),
        )?;
        for (retries, operations) in &a.retries {
            let label = match retries {
                1 => "1 retry".into(),
                many => format!("{many} retries"),
            };
            line(f, &label, format!("{} operations", grouped(*operations)))?;
        }
        Ok(())
    }

    fn targets(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More targets than this are for the JSON.
        const SHOWN: usize = 10;
        section(f, "7. Targets")?;
        writeln!(
            f,
            "  {:>6} {:>10} {:>10} {:>10} {:>9} {:>9} {:>10}  is now",
            "target", "submitted", "committed", "version", "rejected", "lost", "wait p95"
        )?;
        for (i, row) in self.targets.iter().take(SHOWN).enumerate() {
            writeln!(
                f,
                "  {i:>6} {:>10} {:>10} {:>10} {:>9} {:>9} {:>10}  {}",
                grouped(row.submitted),
                grouped(row.committed),
                grouped(row.version),
                grouped(row.rejected),
                grouped(row.lost_attempts),
                time(row.queueing_p95_ns),
                row.state,
            )?;
        }
        if let Some(more) = self.targets.len().checked_sub(SHOWN + 1) {
            writeln!(f, "  and {} more", more + 1)?;
        }
        let fairness = format!(
            "{:.3} among targets, {:.3} among submitters (the fewest commits / the most)",
            self.target_fairness, self.submitter_fairness
        );
        line(f, "fairness", fairness)
    }

    fn memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = &self.memory;
        let peak = m.peak_rss_bytes.map_or("unknown".into(), megabytes);
        let lag = format!(
            "{} nodes, {}",
            grouped(m.lag_nodes as u64),
            megabytes(m.lag_bytes as u64)
        );
        let left = format!(
            "{} nodes, {} values, {} closures, {} operations in lanes, {} in flight; the engine is {}",
            m.lag_nodes_after_all,
            m.values_left_after_all,
            m.closures_left_after_all,
            m.operations_left_in_lanes,
            m.operations_in_flight,
            if m.engine_is_clean {
                "clean"
            } else {
                "NOT clean"
            },
        );
        section(f, "8. Memory, and what is left")?;
        line(f, "peak of the process", peak)?;
        line(f, "values made", grouped(m.values_made))?;
        line(
            f,
            "freed during the run",
            grouped(m.values_freed_during_run),
        )?;
        line(f, "waiting at its end", lag)?;
        line(f, "left after all", left)
    }

    fn mechanisms(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        section(f, "9. Mechanisms")?;
        for mechanism in &self.mechanisms {
            let fired = match mechanism.fired {
                0 if mechanism.required => "NOT EXERCISED, though required".into(),
                0 => "NOT EXERCISED".into(),
                1 => "once".into(),
                n => format!("{} times", grouped(n)),
            };
            writeln!(f, "  {:<74} {fired}", mechanism.name)?;
        }
        Ok(())
    }

    fn scenarios(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.scenarios.is_empty() {
            return Ok(());
        }
        section(f, "10. Scenarios")?;
        let mut name = "";
        for check in &self.scenarios {
            if check.scenario != name {
                name = check.scenario;
                writeln!(f, "  {name}")?;
            }
            writeln!(f, "    {} {}", mark(check.holds), check.what)?;
        }
        Ok(())
    }

    fn laws(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        section(f, "11. Laws")?;
        for law in &self.laws {
            let found = grouped(law.found);
            write!(f, "  {} {:<78} {found}", mark(law.holds), law.law)?;
            match law.holds {
                true => writeln!(f)?,
                false => writeln!(f, ", expected {}", grouped(law.expected))?,
            }
        }
        Ok(())
    }

    fn beside_the_original(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(comparison) = &self.comparison else {
            return Ok(());
        };
        section(f, "12. Beside the original")?;
        writeln!(f, "  {:<22} {:>28} {:>24}", "", comparison.original, "here")?;
        for row in &comparison.rows {
            writeln!(
                f,
                "  {:<22} {:>28} {:>24}",
                row.what, row.original, row.here
            )?;
        }
        for difference in &comparison.differences {
            writeln!(f, "  - {difference}")?;
        }
        Ok(())
    }
}

fn groups(f: &mut fmt::Formatter<'_>, title: &str, groups: &[Group]) -> fmt::Result {
    section(f, title)?;
    writeln!(
        f,
        "  {:<18} {:>9} {:>9} {:>8} {:>7} {:>8} {:>9} {:>14} | {:>8} {:>8} {:>8} {:>8} | {:>8} {:>8} {:>8} {:>8}",
        "",
        "submitted",
        "committed",
        "rejected",
        "failed",
        "lost",
        "1st tries",
        "attempts",
        "wait p50",
        "p95",
        "p99",
        "max",
        "took p50",
        "p95",
        "p99",
        "max"
    )?;
    for group in groups {
        let (wait, took) = (&group.queueing_ns, &group.latency_ns);
        writeln!(
            f,
            "  {:<18} {:>9} {:>9} {:>8} {:>7} {:>8} {:>9} {:>14} | {:>8} {:>8} {:>8} {:>8} | {:>8} {:>8} {:>8} {:>8}",
            group.name,
            grouped(group.submitted),
            grouped(group.committed),
            grouped(group.rejected),
            grouped(group.failed),
            grouped(group.lost_attempts),
            grouped(group.first_tries),
            format!("{:.3}, max {}", group.mean_attempts, group.most_attempts),
            time(wait.p50),
            time(wait.p95),
            time(wait.p99),
            time(wait.max),
            time(took.p50),
            time(took.p95),
            time(took.p99),
            time(took.max),
        )?;
    }
    Ok(())
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [mean, p50, p95] = [self.mean, self.p50, self.p95].map(time);
        let [p99, max] = [self.p99, self.max].map(time);
        write!(f, "mean {mean}, p50 {p50}, p95 {p95}, p99 {p99}, max {max}")
    }
}

fn section(f: &mut fmt::Formatter<'_>, title: &str) -> fmt::Result {
    writeln!(f, "\n{title}")
}

fn line(f: &mut fmt::Formatter<'_>, label: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(f, "  {label:<22} {value}")
}

fn mark(holds: bool) -> &'static str {
    if holds { "ok    " } else { "BROKEN" }
}

/// 1234567 as "1 234 567".
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

pub(super) fn time(nanoseconds: u64) -> String {
    let (number, unit) = match nanoseconds {
        0 => return "0".into(),
        1..1_000 => return format!("{nanoseconds} ns"),
        1_000..1_000_000 => (1e3, "µs"),
        1_000_000..1_000_000_000 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    format!("{:.1} {unit}", nanoseconds as f64 / number)
}

pub(super) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

pub(super) fn share(part: u64, whole: u64) -> String {
    format!("{} ({})", grouped(part), percent(ratio(part, whole)))
}

/// A rate, with decimals where they matter.
pub(super) fn rate(per_second: f64) -> String {
    if per_second < 1_000.0 {
        format!("{per_second:.1}/s")
    } else {
        format!("{}/s", grouped(per_second as u64))
    }
}

//! The report as text: the original's sections, in its order.

use super::{Group, Report, Times, ratio};
use std::fmt;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.overview(f)?;
        self.performance(f)?;
        self.conflicts(f)?;
        groups(f, "4. By priority", &self.priorities)?;
        groups(f, "5. By kind", &self.kinds)?;
        self.targets(f)?;
        self.memory(f)?;
        self.mechanisms(f)?;
        self.laws(f)?;
        self.beside_the_reference(f)?;
        section(f, "11. Verdict")?;
        if let Some(failure) = &self.failure {
            writeln!(f, "  an operation failed: {failure}")?;
        }
        writeln!(f, "  {}", self.verdict)
    }
}

/// The sections, as text.
impl Report {
    fn overview(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = &self.settings;
        let retries = format!(
            "{} normal, {} high, {} critical",
            s.retries_normal, s.retries_high, s.retries_critical
        );
        let threads = format!(
            "{} of {} took part, on {} cores",
            self.performance.threads_that_took_part, s.threads, s.cores
        );
        section(f, "1. Overview")?;
        line(f, "operations", grouped(s.operations.into()))?;
        line(f, "targets", grouped(s.targets.into()))?;
        line(f, "threads", threads)?;
        line(f, "batch", grouped(s.batch.into()))?;
        line(f, "work per attempt", time(s.work_ns))?;
        line(f, "retries", retries)?;
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
        section(f, "2. Operations")?;
        line(f, "submitted", grouped(p.submitted))?;
        line(f, "succeeded", succeeded)?;
        line(f, "rejected", grouped(p.rejected))?;
        line(f, "failed", grouped(p.failed))?;
        line(f, "cancelled", grouped(p.cancelled))?;
        line(f, "unfinished", grouped(p.unfinished))?;
        line(f, "completion", percent(p.completion))?;
        line(f, "duration", time(p.elapsed_ns))?;
        line(f, "submissions", rate(p.submissions_per_second))?;
        line(f, "commits", rate(p.commits_per_second))?;
        line(f, "latency", &p.latency_ns)?;
        line(f, "queueing in a batch", &p.queueing_ns)
    }

    fn conflicts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.conflicts;
        let conflicts = format!(
            "{} = {} absorbed by operations that committed + {} in vain",
            grouped(c.conflicts),
            grouped(c.absorbed),
            grouped(c.in_vain)
        );
        section(f, "3. Conflicts")?;
        line(f, "attempts", grouped(c.attempts))?;
        line(f, "lost to another", conflicts)?;
        line(f, "escaped", format!("{} operations", grouped(c.escaped)))?;
        line(f, "first tries", grouped(c.first_tries))?;
        line(f, "wasted work", percent(c.wasted_work))?;
        if let Some(backing_off) = c.backing_off_ns {
            let each = time(backing_off.checked_div(c.conflicts).unwrap_or(0));
            let text = format!("{}, {each} per conflict", time(backing_off));
            line(f, "backing off", text)?;
        }
        for bucket in &c.histogram {
            let attempts = match bucket.to {
                Some(to) if to == bucket.from => format!("ended after {to}"),
                Some(to) => format!("ended after {}-{to}", bucket.from),
                None => format!("ended after {}+", bucket.from),
            };
            line(f, &attempts, grouped(bucket.operations))?;
        }
        Ok(())
    }

    fn targets(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More targets than this are for the JSON.
        const SHOWN: usize = 10;
        section(f, "6. Targets")?;
        writeln!(
            f,
            "  {:>6} {:>10} {:>12} {:>10} {:>10} {:>8} {:>10} {:>9} {:>20}",
            "target",
            "hits",
            "total",
            "mods",
            "version",
            "history",
            "conflicts",
            "rejected",
            "last user"
        )?;
        for (i, row) in self.targets.iter().take(SHOWN).enumerate() {
            writeln!(
                f,
                "  {i:>6} {:>10} {:>12} {:>10} {:>10} {:>8} {:>10} {:>9} {:>20}",
                grouped(row.hits),
                grouped(row.total),
                grouped(row.modifications),
                grouped(row.version),
                row.history_length,
                grouped(row.conflicts),
                grouped(row.rejected),
                format!(
                    "thread {} op {}",
                    row.last_user_thread, row.last_user_operation
                ),
            )?;
        }
        if let Some(more) = self.targets.len().checked_sub(SHOWN + 1) {
            writeln!(f, "  and {} more", more + 1)?;
        }
        let fairness = format!("{:.3} (fewest commits of a target / most)", self.fairness);
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
        section(f, "7. Memory")?;
        line(f, "peak of the process", peak)?;
        line(f, "values made", grouped(m.values_made))?;
        line(
            f,
            "freed during the run",
            grouped(m.values_freed_during_run),
        )?;
        line(f, "waiting at its end", lag)?;
        line(
            f,
            "waiting after all",
            format!("{} nodes", m.lag_nodes_after_all),
        )
    }

    fn mechanisms(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        section(f, "8. Mechanisms")?;
        for mechanism in &self.mechanisms {
            let fired = match mechanism.fired {
                0 if mechanism.required => "NOT EXERCISED, though required".into(),
                0 => "NOT EXERCISED".into(),
                n => format!("{} times", grouped(n)),
            };
            writeln!(f, "  {:<60} {fired}", mechanism.name)?;
        }
        Ok(())
    }

    fn laws(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        section(f, "9. Laws")?;
        for law in &self.laws {
            let mark = if law.holds { "ok  " } else { "FAIL" };
            let found = grouped(law.found);
            write!(f, "  {mark} {:<74} {found}", law.law)?;
            match law.holds {
                true => writeln!(f)?,
                false => writeln!(f, ", expected {}", grouped(law.expected))?,
            }
        }
        Ok(())
    }

    fn beside_the_reference(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (r, p) = (&self.reference, &self.performance);
        let share = |part: u64, whole: u64| {
            let percent = percent(ratio(part, whole));
            format!("{} ({percent})", grouped(part))
        };
        let peak = self
            .memory
            .peak_rss_bytes
            .map_or("unknown".into(), megabytes);
        let rows = [
            ("", "the original".into(), "here".into()),
            (
                "submitted",
                format!("{} of 30 000", grouped(r.submitted)),
                format!(
                    "{} of {}",
                    grouped(p.submitted),
                    grouped(self.settings.operations.into())
                ),
            ),
            (
                "committed",
                share(r.committed, r.submitted),
                share(p.committed, p.submitted),
            ),
            (
                "commits",
                rate(r.commits_per_second),
                rate(p.commits_per_second),
            ),
            (
                "conflicts",
                grouped(r.occ_conflicts),
                grouped(self.conflicts.conflicts),
            ),
            ("peak memory", megabytes(r.peak_rss_bytes), peak),
        ];
        section(f, "10. Beside the reference")?;
        for (label, original, here) in rows {
            writeln!(f, "  {label:<22} {original:>20} {here:>24}")?;
        }
        writeln!(
            f,
            "  The original works 5 ms per operation, in coroutines of one process on 2 cores; here \
             each attempt\n  works {}. It drops 97 % of the operations before they run; here each \
             one runs.",
            match self.settings.work_ns {
                0 => "no time at all".into(),
                work => time(work),
            }
        )
    }
}

fn groups(f: &mut fmt::Formatter<'_>, title: &str, groups: &[Group]) -> fmt::Result {
    section(f, title)?;
    writeln!(
        f,
        "  {:<14} {:>9} {:>9} {:>8} {:>9} {:>9} {:>13} {:>9} {:>9} {:>9} {:>9}",
        "",
        "submitted",
        "committed",
        "rejected",
        "conflicts",
        "1st tries",
        "attempts",
        "p50",
        "p95",
        "p99",
        "max"
    )?;
    for group in groups {
        writeln!(
            f,
            "  {:<14} {:>9} {:>9} {:>8} {:>9} {:>9} {:>13} {:>9} {:>9} {:>9} {:>9}",
            group.name,
            grouped(group.submitted),
            grouped(group.committed),
            grouped(group.rejected),
            grouped(group.conflicts),
            grouped(group.first_tries),
            format!("{:.3}, max {}", group.mean_attempts, group.most_attempts),
            time(group.latency_ns.p50),
            time(group.latency_ns.p95),
            time(group.latency_ns.p99),
            time(group.latency_ns.max),
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

fn time(nanoseconds: u64) -> String {
    let (number, unit) = match nanoseconds {
        0 => return "0".into(),
        1..1_000 => return format!("{nanoseconds} ns"),
        1_000..1_000_000 => (1e3, "µs"),
        1_000_000..1_000_000_000 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    format!("{:.1} {unit}", nanoseconds as f64 / number)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// A rate, with decimals where they matter.
fn rate(per_second: f64) -> String {
    if per_second < 1_000.0 {
        format!("{per_second:.1}/s")
    } else {
        format!("{}/s", grouped(per_second as u64))
    }
}

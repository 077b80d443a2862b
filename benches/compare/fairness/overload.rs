//! Operations of several priorities, at loads below and above what can be done.

use super::{metric, work};
use crate::latency::histogram;
use crate::results::{Better, Case, Metric, Row};
use crate::runner::{self, Contender, Plan, Sample, now};
use hdrhistogram::Histogram;
use snapcell::{
    Class, ClassPolicy, Engine, Entity, Operation, Policies, Priority, ShutDown, Snapshot, State,
    Ticket,
};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

const METRICS: &[Metric] = &[
    metric("p99", "µs", Better::Less),
    metric("p50", "µs", Better::Less),
    metric("p99.9", "µs", Better::Less),
    metric("max", "µs", Better::Less),
    metric("longest", "ms", Better::Less),
    metric("rejected", "%", Better::Less),
    metric("done", "1/s", Better::More),
    metric("came", "1/s", Better::More),
];

/// How long an operation works, in nanoseconds.
const WORK: std::ops::RangeInclusive<u64> = 20_000..=50_000;

/// Operations in a nanosecond that one thread can do.
const CAPACITY: f64 = 1.0 / 35_000.0;

/// What part of the capacity operations of priority 10 take.
const CRITICAL: f64 = 0.5;

/// When the others expire.
const PATIENCE: Duration = Duration::from_millis(100);

/// What comes altogether, in parts of the capacity.
const LOADS: [(&str, f64); 5] = [
    ("load 0.5", CRITICAL),
    ("load 1", 1.0),
    ("load 2", 2.0),
    ("load 10", 10.0),
    ("load 20", 20.0),
];

/// For so many times a slice of time operations come.
const SLICES: u32 = 8;

/// For so long they come to check a contender.
const CHECKED: Duration = Duration::from_millis(20);

/// The priorities: what they are called, and what part of the operations they are, but for the first.
const LEVELS: [(&str, Priority, f64); 4] = [
    ("priority 10", Priority::CRITICAL, 0.0),
    ("priority 8", Priority::HIGH, 0.3),
    ("priority 5", Priority::NORMAL, 0.6),
    ("priority 2", Priority::LOW, 0.1),
];

/// Samples of a run, for each priority.
type Samples = [Sample; LEVELS.len()];

/// A case for each priority, all of the same runs.
pub(super) fn cases(plan: &Plan, targets: usize) -> Vec<Case> {
    let runs: Rc<RefCell<Vec<Vec<Samples>>>> = Rc::new(RefCell::new(vec![Vec::new(); LOADS.len()]));
    let contenders = LOADS.iter().enumerate().map(|(at, &(name, load))| {
        let runs = runs.clone();
        Contender {
            name,
            check: Box::new(move || run(targets, load, CHECKED).map(drop)),
            measure: Box::new(move |slice| {
                let samples = run(targets, load, slice * SLICES)?;
                let critical = samples[0].clone();
                runs.borrow_mut()[at].push(samples);
                Ok(critical)
            }),
        }
    });
    let plural = if targets == 1 { "" } else { "s" };
    let name = |level: usize| format!("{}, {targets} target{plural}", LEVELS[level].0);
    let first = runner::measure(plan, name(0), METRICS, LOADS[0].0, contenders.collect());

    let runs = runs.borrow();
    let others = (1..LEVELS.len()).map(|level| {
        let row = |first: &Row| {
            let load = LOADS.iter().position(|load| load.0 == first.contender)?;
            let runs = &runs[load];
            // The first one was to warm up.
            let counting = &runs[runs.len() - first.samples.len()..];
            (LOADS[load].1 > CRITICAL).then(|| Row {
                contender: first.contender,
                samples: counting.iter().map(|run| run[level].clone()).collect(),
            })
        };
        Case {
            name: name(level),
            metrics: METRICS,
            reference: "",
            rows: first.rows.iter().filter_map(row).collect(),
            failures: Vec::new(),
        }
    });
    let others: Vec<_> = others.collect();
    std::iter::once(first).chain(others).collect()
}

/// Operations of one priority: when they come, and what becomes of them.
struct Flow {
    priority: Priority,
    class: Class,
    /// Operations in a nanosecond.
    rate: f64,
    /// When the next one comes, in nanoseconds from the start.
    next: f64,
    open: VecDeque<Ticket<Snapshot<u64>, Infallible>>,
    came: u64,
    done: u64,
    rejected: u64,
    waits: Histogram<u64>,
    longest: Duration,
}

impl Flow {
    fn new(priority: Priority, class: Class, rate: f64) -> Self {
        Flow {
            priority,
            class,
            rate,
            next: 0.0,
            open: VecDeque::new(),
            came: 0,
            done: 0,
            rejected: 0,
            waits: histogram(),
            longest: Duration::ZERO,
        }
    }

    /// Draws when the next one comes.
    fn draw(&mut self, random: &mut fastrand::Rng) {
        self.next += -(1.0 - random.f64()).ln() / self.rate;
    }

    fn submit(&mut self, engine: &Engine, entity: &Entity<u64>, random: &mut fastrand::Rng) {
        self.came += 1;
        let long = Duration::from_nanos(random.u64(WORK));
        let operation = Operation::update(entity, move |value| {
            work(long);
            value + 1
        });
        match engine.submit(operation.class(self.class).priority(self.priority)) {
            Ok(ticket) => self.open.push_back(ticket),
            Err(_) => self.rejected += 1,
        }
    }

    /// Notes what has become of those at the front.
    fn look(&mut self) {
        while self.open.front().is_some_and(Ticket::is_done) {
            let ticket = self.open.pop_front().expect("it was there just now");
            let times = ticket.times();
            let ended = times.ended.unwrap_or(times.born);
            self.longest = self.longest.max(ended.saturating_sub(times.born));
            if ticket.status().state() == State::Succeeded {
                self.done += 1;
                let wait = times.started.unwrap_or(ended).saturating_sub(times.born);
                self.waits.saturating_record(wait.as_nanos() as u64);
            } else {
                self.rejected += 1;
            }
        }
    }

    fn sample(&self, elapsed: Duration) -> Sample {
        let micros = |quantile| self.waits.value_at_quantile(quantile) as f64 / 1e3;
        vec![
            micros(0.99),
            micros(0.5),
            micros(0.999),
            self.waits.max() as f64 / 1e3,
            self.longest.as_secs_f64() * 1e3,
            100.0 * self.rejected as f64 / self.came.max(1) as f64,
            self.done as f64 / elapsed.as_secs_f64(),
            self.came as f64 / elapsed.as_secs_f64(),
        ]
    }
}

/// An engine whose classes are patient for so long, and those of each priority.
fn engine(load: f64) -> Result<(Engine, Vec<Flow>), String> {
    let mut policies = Policies::default();
    let flows = LEVELS.iter().map(|&(name, priority, share)| {
        let (policy, rate) = match priority {
            Priority::CRITICAL => (ClassPolicy::new(name), CRITICAL),
            _ => {
                let policy = ClassPolicy::new(name).with_patience(PATIENCE);
                (policy, share * (load - CRITICAL))
            }
        };
        let class = policies.add(policy.with_priority(priority));
        let class = class.map_err(|error| error.to_string())?;
        Ok(Flow::new(priority, class, rate * CAPACITY))
    });
    let flows = flows.collect::<Result<Vec<_>, String>>()?;
    Ok((
        Engine::builder().workers(1).policies(policies).build(),
        flows,
    ))
}

fn run(targets: usize, load: f64, long: Duration) -> Result<Samples, String> {
    let (engine, mut flows) = engine(load)?;
    flows.retain(|flow| flow.rate > 0.0);
    let entities: Vec<_> = (0..targets).map(|_| Entity::new(0)).collect();
    let mut random = fastrand::Rng::with_seed(1);
    // Threads that start when they are needed are there now.
    let first = engine.submit(Operation::update(&entities[0], |value| value + 1));
    first
        .map_err(|e| e.to_string())?
        .wait()
        .map_err(|e| e.to_string())?;

    let start = now();
    let elapsed = || start.elapsed().as_nanos() as f64;
    flows.iter_mut().for_each(|flow| flow.draw(&mut random));
    loop {
        let flow = flows
            .iter_mut()
            .min_by(|one, other| one.next.total_cmp(&other.next));
        let flow = flow.expect("some come at any load");
        if flow.next >= long.as_nanos() as f64 {
            break;
        }
        while elapsed() < flow.next {
            flow.look();
        }
        let entity = &entities[random.usize(..targets)];
        flow.submit(&engine, entity, &mut random);
        flow.look();
        flow.draw(&mut random);
    }
    let lasted = start.elapsed();
    for flow in &mut flows {
        while !flow.open.is_empty() {
            flow.look();
            thread::yield_now();
        }
    }
    // It may still be about to count the last of them.
    let settled = engine.shut_down(ShutDown::Finish, Some(Duration::from_secs(10)));
    settled.map_err(|error| error.to_string())?;
    add_up(&engine, &flows, &entities)?;
    Ok(LEVELS.map(|(_, priority, _)| {
        let flow = flows.iter().find(|flow| flow.priority == priority);
        flow.map_or_else(Sample::new, |flow| flow.sample(lasted))
    }))
}

/// Whether what has become of the operations is what has become of the entities.
fn add_up(engine: &Engine, flows: &[Flow], entities: &[Entity<u64>]) -> Result<(), String> {
    let (sum, counts) = (
        entities
            .iter()
            .map(|entity| *entity.snapshot())
            .sum::<u64>(),
        engine.counts(),
    );
    let done: u64 = flows.iter().map(|flow| flow.done).sum();
    let all_end = flows
        .iter()
        .all(|flow| flow.came == flow.done + flow.rejected);
    if sum != done + 1 || counts.committed != sum || counts.ended() != counts.submitted || !all_end
    {
        return Err(format!("{done} operations left a sum of {sum}; {counts}"));
    }
    Ok(())
}

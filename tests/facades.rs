//! What those hear who collect from many crates: `tracing` and `metrics`. Each has one collector for a process, so this
//! is a program of its own.
#![cfg(all(feature = "tracing", feature = "metrics"))]

#[path = "support/overtaken.rs"]
mod overtaken;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString,
    Unit,
};
use overtaken::{at_once, overtaken};
use snapcell::{Engine, Entity, Operation};
use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};

/// What `tracing` was told, by level.
static TOLD: Mutex<Vec<(Level, String)>> = Mutex::new(Vec::new());

struct Collector;

impl Subscriber for Collector {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "snapcell"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let told = (*event.metadata().level(), text.0);
        TOLD.lock().unwrap().push(told);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if ["kind", "name"].contains(&field.name()) {
            write!(self.0, "{value:?} ").unwrap();
        }
    }
}

/// An operation that somebody is faster than, each time.
fn hopeless(
    entity: &Entity<u64>,
) -> Operation<
    impl snapcell::Body<Output = snapcell::Snapshot<u64>, Error = std::convert::Infallible> + use<>,
> {
    Operation::update(entity, overtaken(entity, u64::MAX))
        .named("hopeless")
        .retries(5)
        .retrying(at_once())
}

#[test]
fn tracing_hears_of_everything_and_is_warned_of_what_goes_wrong() {
    tracing::subscriber::set_global_default(Collector).expect("it is the only one");
    let engine = Engine::builder().workers(0).build();
    engine.trace_events().forever();
    let entity = Entity::new(0);
    engine.run(&Operation::update(&entity, |n| n + 1)).unwrap();
    engine.run(&hopeless(&entity)).unwrap_err();
    engine.serve();
    let told = std::mem::take(&mut *TOLD.lock().unwrap());
    let of = |level| {
        let of_level = told.iter().filter(|(other, _)| *other == level);
        of_level.map(|(_, text)| text.trim()).collect::<Vec<_>>()
    };
    let quiet = of(Level::DEBUG);
    assert_eq!(quiet[..2], [r#"Started "update""#, r#"Completed "update""#]);
    let retries = quiet
        .iter()
        .filter(|text| text.starts_with("Retry"))
        .count();
    assert_eq!(retries, 3, "{quiet:?}");
    // The fourth and the fifth of five, and the end.
    let retry = r#"Retry "hopeless""#;
    assert_eq!(of(Level::WARN), [retry, retry, r#"Rejected "hopeless""#]);
}

/// The figures that `metrics` was given, by name, kind of operation and quantile.
#[derive(Default)]
struct Figures(Arc<Mutex<BTreeMap<String, f64>>>);

struct Figure {
    name: String,
    all: Arc<Mutex<BTreeMap<String, f64>>>,
}

impl CounterFn for Figure {
    fn increment(&self, _: u64) {
        unreachable!("totals are told")
    }

    fn absolute(&self, value: u64) {
        self.all
            .lock()
            .unwrap()
            .insert(self.name.clone(), value as f64);
    }
}

impl GaugeFn for Figure {
    fn increment(&self, _: f64) {
        unreachable!("values are told")
    }

    fn decrement(&self, _: f64) {
        unreachable!("values are told")
    }

    fn set(&self, value: f64) {
        self.all.lock().unwrap().insert(self.name.clone(), value);
    }
}

impl Figures {
    fn figure(&self, key: &Key) -> Arc<Figure> {
        let mut name = key.name().to_owned();
        for label in key.labels() {
            write!(name, " {}", label.value()).unwrap();
        }
        let all = self.0.clone();
        Arc::new(Figure { name, all })
    }
}

impl Recorder for Figures {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.figure(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.figure(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        unreachable!("spreads are told as quantiles")
    }
}

#[test]
fn metrics_gets_each_figure_by_class_and_name() {
    let figures = Figures::default();
    let all = figures.0.clone();
    metrics::set_global_recorder(figures).unwrap_or_else(|_| panic!("it is the only one"));
    let engine = Engine::builder().workers(0).build();
    let entity = Entity::new(0);
    for _ in 0..3 {
        engine
            .submit(Operation::update(&entity, |n| n + 1))
            .unwrap()
            .wait()
            .unwrap();
    }
    engine.run(&hopeless(&entity)).unwrap_err();
    engine.metrics().export();
    engine.metrics().export();
    let all = all.lock().unwrap();
    assert_eq!(all["snapcell_operations_submitted normal update"], 3.0);
    assert_eq!(all["snapcell_operations_committed normal update"], 3.0);
    assert_eq!(all["snapcell_operations_rejected normal hopeless"], 1.0);
    assert_eq!(all["snapcell_conflicts_escaped normal hopeless"], 6.0);
    let (median, longest) = (
        all["snapcell_latency_seconds normal update 0.5"],
        all["snapcell_latency_seconds normal update 1"],
    );
    assert!(0.0 < median && median <= longest);
}

//! Events and figures for those who collect them from many crates.
#![forbid(unsafe_code)]

#[cfg(feature = "tracing")]
mod events {
    use super::super::event::{Event, EventKinds, What};
    use super::super::handlers::{HandlerPriority, Listener, Subscription};
    use crate::scheduler::engine::Engine;

    impl Engine {
        /// Hands all events to whoever collects those of `tracing`, with target `snapcell`: by a
        /// [handler](Engine::subscribe) of low priority, so not on the thread of the operation.
        ///
        /// | event | level |
        /// |---|---|
        /// | rejected, failed, reclamation stalled, alert | warn |
        /// | retry, when four fifths of the budget are used up | warn |
        /// | cancelled | info |
        /// | all others | debug |
        ///
        /// # Examples
        /// ```
        /// let engine = snapcell::Engine::new();
        /// engine.trace_events().forever();
        /// ```
        #[cfg_attr(docsrs, doc(cfg(feature = "tracing")))]
        pub fn trace_events(&self) -> Subscription {
            let all = Listener::to(EventKinds::ALL).priority(HandlerPriority::LOW);
            self.subscribe(all, tell)
        }
    }

    /// An event of `tracing`, whose level has to be known when it is compiled.
    macro_rules! at {
        ($level:ident, $event:expr) => {{
            let event: &Event = $event;
            match &event.operation {
                Some(about) => tracing::event!(
                    target: "snapcell",
                    tracing::Level::$level,
                    kind = ?event.kind(),
                    id = about.id.get(),
                    name = about.name,
                    priority = about.priority.get(),
                    on = %about.target,
                    parent = about.parent.map(|id| id.get()),
                    root = about.root.get(),
                    retries = about.retries,
                    "{}", event.what
                ),
                None => tracing::event!(
                    target: "snapcell",
                    tracing::Level::$level,
                    kind = ?event.kind(),
                    "{}", event.what
                ),
            }
        }};
    }

    fn tell(event: &Event) {
        match event.what {
            What::Rejected(_) | What::Failed(_) | What::ReclamationStalled(_) | What::Alert(_) => {
                at!(WARN, event)
            }
            What::Retry { number, budget, .. }
                if u64::from(number) * 5 >= u64::from(budget) * 4 =>
            {
                at!(WARN, event);
            }
            What::Cancelled => at!(INFO, event),
            _ => at!(DEBUG, event),
        }
    }
}

#[cfg(feature = "metrics")]
mod figures {
    use super::super::metrics::Metrics;
    use metrics::{counter, gauge};

    impl Metrics {
        /// Hands the figures to whoever collects those of the crate `metrics`; call it as often as they should be
        /// fresh. Each has the labels `class` and `name`.
        ///
        /// | name | kind |
        /// |---|---|
        /// | `snapcell_operations_submitted`, `…_committed`, `…_unchanged`, `…_failed`, `…_rejected`, `…_cancelled` | counter |
        /// | `snapcell_conflicts_absorbed`, `snapcell_conflicts_escaped`, `snapcell_preemptions` | counter |
        /// | `snapcell_latency_seconds`, `snapcell_queueing_seconds`, by `quantile` | gauge |
        /// | `snapcell_reclamation_lag_bytes`, without labels | gauge |
        ///
        /// # Examples
        /// ```
        /// let engine = snapcell::Engine::new();
        /// engine.metrics().export();
        /// ```
        #[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
        pub fn export(&self) {
            for kind in &self.kinds {
                let count = |name: &'static str, count: u64| {
                    let (class, kind) = (kind.class.clone(), kind.name.clone());
                    counter!(name, "class" => class, "name" => kind).absolute(count);
                };
                let counts = &kind.counts;
                count("snapcell_operations_submitted", counts.submitted);
                count("snapcell_operations_committed", counts.committed);
                count("snapcell_operations_unchanged", counts.unchanged);
                count("snapcell_operations_failed", counts.failed);
                count("snapcell_operations_rejected", counts.rejected);
                count("snapcell_operations_cancelled", counts.cancelled);
                count("snapcell_conflicts_absorbed", kind.absorbed);
                count("snapcell_conflicts_escaped", kind.escaped);
                count("snapcell_preemptions", kind.preemptions);
                let spreads = [
                    ("snapcell_latency_seconds", &kind.latency),
                    ("snapcell_queueing_seconds", &kind.queueing),
                ];
                for (name, spread) in spreads {
                    for (quantile, share) in
                        [("0.5", 0.5), ("0.95", 0.95), ("0.99", 0.99), ("1", 1.0)]
                    {
                        let (class, kind) = (kind.class.clone(), kind.name.clone());
                        let seconds = spread.quantile(share).as_secs_f64();
                        gauge!(name, "class" => class, "name" => kind, "quantile" => quantile)
                            .set(seconds);
                    }
                }
            }
            gauge!("snapcell_reclamation_lag_bytes").set(self.lag_bytes as f64);
        }
    }
}

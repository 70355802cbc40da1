//! What Prometheus scrapes. Names and labels stay as they are: `docs/alerts.yml` and people's own rules use them.

use super::answer::{Answer, blocking};
use crate::daemon::Daemon;
use crate::model::id::RepositoryId;
use crate::ops::status::InstanceStatus;
use axum::extract::State;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Float = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfInstance {
    instance: String,
    platform: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfRepository {
    repository: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfJobs {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfState {
    state: &'static str,
}

/// Everything is made anew for each scrape: nothing can be forgotten to be removed.
pub(super) async fn metrics(State(daemon): State<Arc<Daemon>>) -> Answer {
    blocking(move || {
        let mut registry = Registry::with_prefix("belay");
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version that runs", build);
        let status = daemon.overview.status(&daemon.executor)?;
        instances(&mut registry, &status.instances);
        gauge(&mut registry, "problems", "Lines that `belay status` shows as problems")
            .set(i64::try_from(status.problems.len()).unwrap_or(i64::MAX));
        jobs(&mut registry, &daemon);
        repositories(&mut registry, &daemon)?;
        let mut text = String::new();
        encode(&mut text, &registry).map_err(|error| Answer::unavailable(&error.to_string()))?;
        Ok(Answer::of_kind(KIND, text))
    })
    .await
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

fn instances(registry: &mut Registry, instances: &[InstanceStatus]) {
    type Value = fn(&InstanceStatus) -> Option<f64>;
    let families: [(&str, &str, Option<Unit>, Value); 9] = [
        (
            "instance_last_success_timestamp",
            "When the last good snapshot was taken",
            Some(Unit::Seconds),
            |it| it.last_good_at.map(|at| at.as_second() as f64),
        ),
        ("instance_last_run_timestamp", "When the last backup ended", Some(Unit::Seconds), |it| {
            it.last_run_at.map(|at| at.as_second() as f64)
        }),
        ("instance_last_run_failed", "1 where the last backup failed", None, |it| {
            it.last_run.as_ref()?;
            Some(f64::from(u8::from(it.last_failure.is_some())))
        }),
        (
            "instance_last_duration",
            "How long the last good backup took",
            Some(Unit::Seconds),
            |it| it.duration_seconds,
        ),
        ("instance_last_size", "Content of the last good snapshot", Some(Unit::Bytes), |it| {
            it.size_bytes.map(|bytes| bytes as f64)
        }),
        (
            "instance_last_added",
            "What the last good snapshot added to the repository",
            Some(Unit::Bytes),
            |it| it.added_bytes.map(|bytes| bytes as f64),
        ),
        ("instance_snapshots", "Snapshots of the instance", None, |it| {
            it.snapshots.map(|count| count as f64)
        }),
        ("instance_rpo", "How old the last good snapshot may become", Some(Unit::Seconds), |it| {
            it.rpo_seconds.map(|rpo| rpo as f64)
        }),
        (
            "instance_rpo_breached",
            "1 where the last good snapshot is older than it may be",
            None,
            |it| it.rpo_seconds.map(|_| f64::from(u8::from(it.rpo_breached))),
        ),
    ];
    for (name, help, unit, value) in families {
        let family = Family::<OfInstance, Float>::default();
        for instance in instances {
            if let Some(value) = value(instance) {
                let of = OfInstance {
                    instance: instance.name.clone(),
                    platform: instance.platform.clone(),
                };
                family.get_or_create(&of).set(value);
            }
        }
        match unit {
            Some(unit) => registry.register_with_unit(name, help, unit, family),
            None => registry.register(name, help, family),
        }
    }
}

fn jobs(registry: &mut Registry, daemon: &Daemon) {
    let ends = Family::<OfJobs, Counter>::default();
    for ((kind, outcome), count) in daemon.executor.counts() {
        ends.get_or_create(&OfJobs { kind, outcome }).inc_by(count);
    }
    registry.register("jobs", "Jobs that ended since the daemon began", ends);
    let queue = Family::<OfState, Gauge>::default();
    let (queued, running) = daemon.executor.lengths();
    for (state, length) in [("queued", queued), ("running", running)] {
        queue.get_or_create(&OfState { state }).set(i64::try_from(length).unwrap_or(i64::MAX));
    }
    registry.register("queue_length", "Jobs that wait or run", queue);
}

fn repositories(registry: &mut Registry, daemon: &Daemon) -> Result<(), Answer> {
    let at = Family::<OfRepository, Gauge>::default();
    let ok = Family::<OfRepository, Gauge>::default();
    let catalog = daemon.executor.catalog();
    for repository in catalog.repositories()? {
        let known = catalog.repository(RepositoryId(repository.id.0))?;
        let Some(check) = known.and_then(|known| known.last_check) else { continue };
        let of = OfRepository { repository: repository.name.to_string() };
        at.get_or_create(&of).set(check.at.as_second());
        ok.get_or_create(&of).set(i64::from(check.ok));
    }
    registry.register_with_unit(
        "repository_last_check_timestamp",
        "When the repository was checked last",
        Unit::Seconds,
        at,
    );
    registry.register("repository_last_check_ok", "1 where the last check found nothing wrong", ok);
    Ok(())
}

//! What Prometheus scrapes. Names and labels stay as they are: `docs/alerts.yml` and people's own rules use them.

use super::answer::{Answer, blocking};
use crate::catalog::{EntryState, LastCheck};
use crate::daemon::Daemon;
use crate::model::name::Name;
use crate::ops::status::InstanceStatus;
use axum::extract::State;
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// The text format, which whatever reads metrics can read; also from a file.
const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

type Float = Gauge<f64, AtomicU64>;

/// Not `instance`: Prometheus itself calls by that name whom it asked.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfInstance {
    name: String,
    platform: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfBuild {
    version: &'static str,
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
        let build = Family::<OfBuild, Gauge>::default();
        build.get_or_create(&OfBuild { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build_info", "The version that runs", build);
        let status = daemon.overview.status(&daemon.executor)?;
        instances(&mut registry, &status.instances);
        gauge(&mut registry, "problems", "Lines that `belay status` shows as problems")
            .set(i64::try_from(status.problems.len()).unwrap_or(i64::MAX));
        jobs(&mut registry, &daemon);
        repositories(&mut registry, &daemon)?;
        let mut text = String::new();
        encode(&mut text, &registry).map_err(|error| Answer::unavailable(&error.to_string()))?;
        Ok(Answer::of_kind(KIND, plain(&text)))
    })
    .await
}

/// The same in the text format: a counter's name ends in `_total` everywhere, and units and the end are not told.
fn plain(open_metrics: &str) -> String {
    let mut text = String::new();
    let lines: Vec<&str> = open_metrics.lines().collect();
    let is_counter = |name: &str| lines.contains(&format!("# TYPE {name} counter").as_str());
    for line in &lines {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("UNIT" | "EOF"), ..) => {}
            (Some("#"), Some(word), Some(name), Some(rest)) if is_counter(name) => {
                let _ = writeln!(text, "# {word} {name}_total {rest}");
            }
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

fn instances(registry: &mut Registry, instances: &[InstanceStatus]) {
    type Value = fn(&InstanceStatus) -> Option<f64>;
    let families: [(&str, &str, Option<Unit>, Value); 11] = [
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
            "instance_last_read",
            "What was read for the last good snapshot; the rest was found unchanged",
            Some(Unit::Bytes),
            |it| it.read_bytes.map(|bytes| bytes as f64),
        ),
        (
            "instance_last_added",
            "What the last good snapshot added to the repository",
            Some(Unit::Bytes),
            |it| it.added_bytes.map(|bytes| bytes as f64),
        ),
        (
            "instance_known",
            "0 where its repository cannot be read: nothing of its snapshots is known then",
            None,
            |it| Some(f64::from(u8::from(it.snapshots.is_some()))),
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
                let (name, platform) = (instance.name.clone(), instance.platform.clone());
                let of = OfInstance { name, platform };
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
    let now = Timestamp::now();
    let waiting =
        daemon.executor.open_jobs().into_iter().filter(|job| job.state == EntryState::Queued);
    // One that is to wait until later waits for its time, not for its turn.
    let ready = waiting.map(|job| job.not_before.unwrap_or(job.submitted_at).max(job.submitted_at));
    if let Some(since) = ready.filter(|since| *since <= now).min() {
        let oldest: Gauge = Gauge::default();
        oldest.set(since.as_second());
        let help =
            "Since when the job that waits longest could have begun; not there where none waits";
        registry.register_with_unit("queue_oldest_timestamp", help, Unit::Seconds, oldest);
    }
}

fn repositories(registry: &mut Registry, daemon: &Daemon) -> Result<(), Answer> {
    let at = Family::<OfRepository, Gauge>::default();
    let ok = Family::<OfRepository, Gauge>::default();
    let config = daemon.settings.config();
    let mut newest: BTreeMap<&Name, Option<LastCheck>> =
        config.repositories.keys().map(|name| (name, None)).collect();
    // One that another has replaced may have been called the same.
    for known in daemon.executor.catalog().repositories()? {
        if let Some(newest) = newest.get_mut(&known.name)
            && known.last_check.map(|check| check.at) > newest.map(|check| check.at)
        {
            *newest = known.last_check;
        }
    }
    for (name, check) in newest {
        let of = OfRepository { repository: name.to_string() };
        at.get_or_create(&of).set(check.map_or(0, |check| check.at.as_second()));
        if let Some(check) = check {
            ok.get_or_create(&of).set(i64::from(check.ok));
        }
    }
    registry.register_with_unit(
        "repository_last_check_timestamp",
        "When the repository was checked last; 0 where this host knows of no check",
        Unit::Seconds,
        at,
    );
    registry.register("repository_last_check_ok", "1 where the last check found nothing wrong", ok);
    Ok(())
}

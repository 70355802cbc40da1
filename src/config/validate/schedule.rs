//! The checks of schedules, objectives and the daemon's settings.

use super::{Checker, Defaults};
use crate::config::raw::{RawDaemon, RawDefaults, RawInstance, RawObjectives, RawRepository};
use crate::config::{Daemon, Objectives};
use crate::policy::schedule::Schedule;
use jiff::tz::TimeZone;
use std::ops::RangeInclusive;
use std::time::Duration;
use toml::Spanned;

const DEFAULT_SOCKET: &str = "/run/belay/belay.sock";
const DEFAULT_JOBS: usize = 2;
const JOBS: RangeInclusive<i64> = 1..=64;
const DEFAULT_PRUNE: &str = "0 5 * * SUN";
const DEFAULT_CHECK: &str = "0 6 * * *";
const DEFAULT_CHECK_PERIOD: Duration = Duration::from_hours(30 * 24);
const DEFAULT_CATCH_UP: Duration = Duration::from_hours(24);
const DEFAULT_DEADLINE: Duration = Duration::from_hours(12);
/// In place of a pattern: never.
const OFF: &str = "off";

/// What holds for schedules that do not say otherwise.
pub(super) struct Timing {
    /// A pattern; none is never.
    pattern: Option<String>,
    jitter: Duration,
    catch_up: Duration,
    deadline: Duration,
}

/// When the daemon looks after a repository.
pub(super) struct Upkeep {
    pub(super) prune: Option<Schedule>,
    pub(super) check: Option<Schedule>,
    pub(super) check_period: Duration,
}

impl Checker<'_> {
    pub(super) fn daemon(&mut self, raw: &RawDaemon) -> Daemon {
        let socket = raw.socket.as_ref().and_then(|path| self.path("socket", path));
        Daemon {
            socket: socket.unwrap_or_else(|| DEFAULT_SOCKET.into()),
            jobs: self.jobs("jobs", raw.jobs.as_ref()),
            jobs_per_repository: self.jobs("jobs_per_repository", raw.jobs_per_repository.as_ref()),
        }
    }

    fn jobs(&mut self, key: &str, given: Option<&Spanned<i64>>) -> usize {
        let Some(given) = given else { return DEFAULT_JOBS };
        if !JOBS.contains(given.get_ref()) {
            let message = format!("{key}: {} jobs at once are not possible", given.get_ref());
            self.refuse(&given.span(), message, "write a number from 1 to 64");
        }
        usize::try_from(*given.get_ref()).unwrap_or(DEFAULT_JOBS)
    }

    /// What holds for instances that do not say otherwise.
    pub(super) fn timing(&mut self, raw: &RawDefaults, timezone: &TimeZone) -> Timing {
        let pattern = raw.schedule.as_ref();
        let pattern = pattern.and_then(|text| self.pattern("schedule", text, timezone));
        let mut or = |key, given: Option<&Spanned<String>>, default| {
            given.and_then(|given| self.duration(key, given)).unwrap_or(default)
        };
        Timing {
            pattern,
            jitter: or("jitter", raw.jitter.as_ref(), Duration::ZERO),
            catch_up: or("catch_up", raw.catch_up.as_ref(), DEFAULT_CATCH_UP),
            deadline: or("deadline", raw.deadline.as_ref(), DEFAULT_DEADLINE),
        }
    }

    /// When the daemon takes snapshots of an instance, and how long each may take.
    pub(super) fn instance_schedule(
        &mut self,
        raw: &RawInstance,
        defaults: &Defaults,
        timezone: &TimeZone,
    ) -> (Option<Schedule>, Duration) {
        let timing = &defaults.timing;
        let pattern = match &raw.schedule {
            Some(text) => self.pattern("schedule", text, timezone),
            None => timing.pattern.clone(),
        };
        let mut or = |key, given: Option<&Spanned<String>>, default| {
            given.and_then(|given| self.duration(key, given)).unwrap_or(default)
        };
        let jitter = or("jitter", raw.jitter.as_ref(), timing.jitter);
        let catch_up = or("catch_up", raw.catch_up.as_ref(), timing.catch_up);
        let deadline = or("deadline", raw.deadline.as_ref(), timing.deadline);
        if deadline.is_zero()
            && let Some(given) = &raw.deadline
        {
            self.refuse(
                &given.span(),
                "deadline: nothing is done in no time",
                "write such as \"6h\"",
            );
        }
        let schedule = pattern
            .and_then(|pattern| Schedule::parse(&pattern, timezone.clone(), jitter, catch_up).ok());
        (schedule, deadline)
    }

    pub(super) fn objectives(&mut self, raw: Option<&RawObjectives>) -> Objectives {
        let Some(raw) = raw else { return Objectives::default() };
        Objectives {
            rpo: raw.rpo.as_ref().and_then(|rpo| self.duration("rpo", rpo)),
            rto: raw.rto.as_ref().and_then(|rto| self.duration("rto", rto)),
        }
    }

    pub(super) fn upkeep(&mut self, raw: &RawRepository, timezone: &TimeZone) -> Upkeep {
        let mut schedule = |key, given: Option<&Spanned<String>>, default: &str| {
            let pattern = match given {
                Some(text) => self.pattern(key, text, timezone),
                None => Some(default.to_owned()),
            };
            let zone = timezone.clone();
            pattern.and_then(|pattern| {
                Schedule::parse(&pattern, zone, Duration::ZERO, DEFAULT_CATCH_UP).ok()
            })
        };
        let prune = schedule("prune", raw.prune.as_ref(), DEFAULT_PRUNE);
        let check = schedule("check", raw.check.as_ref(), DEFAULT_CHECK);
        let period = raw.check_period.as_ref();
        let period = period.and_then(|period| self.duration("check_period", period));
        Upkeep { prune, check, check_period: period.unwrap_or(DEFAULT_CHECK_PERIOD) }
    }

    /// A pattern; none for never, and where it is wrong, which is told.
    fn pattern(
        &mut self,
        key: &str,
        text: &Spanned<String>,
        timezone: &TimeZone,
    ) -> Option<String> {
        if text.get_ref() == OFF {
            return None;
        }
        let parsed =
            Schedule::parse(text.get_ref(), timezone.clone(), Duration::ZERO, Duration::ZERO);
        if let Err(error) = parsed {
            let hint = "write such as \"30 2 * * *\" (every night at half past two), or \"off\"";
            self.refuse(&text.span(), format!("{key}: {error}"), hint);
            return None;
        }
        Some(text.get_ref().clone())
    }
}

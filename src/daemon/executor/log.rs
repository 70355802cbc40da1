//! What jobs do, for the log: with fields by which the journal finds it again.

use super::{DAMAGED, INTERRUPTED};
use crate::catalog::Entry;
use crate::model::event::Event;
use crate::model::id::JobId;
use crate::model::job::{Ended, Work};
use crate::model::name::Name;
use crate::ops;

pub(super) fn log_begin(entry: &Entry) {
    let (noun, subject) = (entry.work.noun(), entry.work.subject());
    let instance = entry.work.instance().map(Name::as_str);
    tracing::info!(JOB = %entry.id, INSTANCE = instance, "{noun} of {subject}: begins, for {}", entry.submitted_by);
}

pub(super) fn log_event(id: JobId, work: &Work, event: &Event) {
    let (noun, subject) = (work.noun(), work.subject());
    let instance = work.instance().map(Name::as_str);
    match event {
        Event::Warning { message } => {
            tracing::warn!(JOB = %id, INSTANCE = instance, "{noun} of {subject}: {message}");
        }
        Event::Sealed { snapshot, size, added, .. } => {
            tracing::info!(JOB = %id, INSTANCE = instance, SNAPSHOT = %snapshot, "{noun} of {subject}: snapshot {} is sealed: {size}, {added} new", snapshot.short());
        }
        Event::Note { message } => {
            tracing::info!(JOB = %id, INSTANCE = instance, "{noun} of {subject}: {message}");
        }
        Event::HistoryRewritten { git, rewrite } => {
            tracing::warn!(JOB = %id, INSTANCE = git, "{noun} of {subject}: {}", rewrite.told(git));
        }
        Event::Phase { phase, subject: of } => {
            tracing::debug!(JOB = %id, INSTANCE = instance, "{noun} of {subject}: {phase} {of}");
        }
        // A change of version is warned of besides.
        Event::Progress { .. } | Event::Removed { .. } | Event::VersionChanged { .. } => {}
    }
}

pub(super) fn log_end(entry: &Entry, ended: &Ended, next: Option<&Entry>) {
    let (noun, subject) = (entry.work.noun(), entry.work.subject());
    let instance = entry.work.instance().map(Name::as_str);
    let Some(failure) = &ended.failure else {
        if ended.exit_code == DAMAGED {
            tracing::error!(JOB = %entry.id, INSTANCE = instance, "{noun} of {subject}: {}", ended.text);
            return;
        }
        tracing::info!(JOB = %entry.id, INSTANCE = instance, "{noun} of {subject}: ended");
        return;
    };
    let again = next.map(|next| match next.not_before {
        Some(at) => format!(" It is tried again at {}.", at.strftime("%H:%M UTC")),
        None => String::new(),
    });
    let hint = ops::what_to_do(failure.hint.as_deref());
    let text =
        format!("{noun} of {subject}: {}.{hint}{}", failure.error, again.unwrap_or_default());
    if ended.exit_code == INTERRUPTED {
        tracing::warn!(JOB = %entry.id, INSTANCE = instance, "{text}");
    } else {
        tracing::error!(JOB = %entry.id, INSTANCE = instance, "{text}");
    }
}

//! Following a job: server-sent events, from the beginning or from after the one that was seen last, to the end.
//!
//! Each event has its number as `id`, the kind of the event as `event`, and the event as JSON as `data`. `progress` has no
//! number: it is not kept. The last one is `ended`.

use super::answer::{Answer, blocking};
use super::jobs::{end_of, id_of};
use crate::catalog::EntryState;
use crate::daemon::Daemon;
use crate::daemon::live::{Live, Place};
use crate::model::id::JobId;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

/// A line without meaning is sent so often, so that both sides learn of a line that is cut.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// So many follow jobs at once: they must not take all connections.
const MOST_STREAMS: usize = 128;
static STREAMS: Semaphore = Semaphore::const_new(MOST_STREAMS);
/// A reader who takes nothing for so long is left.
const READING: Duration = Duration::from_mins(1);
/// What begins within this has not waited.
const SOON: Duration = Duration::from_secs(1);
/// So much is made before the reader has taken what was made before.
const AHEAD: usize = 16;

pub(super) async fn follow(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let id = match id_of(&id) {
        Ok(id) => id,
        Err(answer) => return answer.into_response(),
    };
    let seen = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let next =
        seen.and_then(|seen| seen.parse::<u64>().ok()).map_or(0, |seen| seen.saturating_add(1));
    let asked = Arc::clone(&daemon);
    let live = tokio::task::spawn_blocking(move || asked.executor.live(id)).await;
    if let Ok(Some(live)) = live {
        let Ok(permit) = STREAMS.try_acquire() else {
            let told = format!("{MOST_STREAMS} others follow jobs already");
            return Answer::unavailable(&told).into_response();
        };
        let (sender, receiver) = mpsc::channel(AHEAD);
        tokio::spawn(async move {
            tell(live, Place::from(next), sender).await;
            drop(permit);
        });
        return stream(Body::new(Events(receiver)));
    }
    let answer = blocking(move || of_the_past(&daemon, id, next)).await;
    answer.into_response()
}

fn stream(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Send what happens until the end, or until nobody listens.
async fn tell(live: Arc<Live>, mut place: Place, sender: mpsc::Sender<Bytes>) {
    let mut changed = live.subscribe();
    // One that begins at once is not told to wait.
    if live.news(&mut Place::default()).is_waiting() {
        let _ = tokio::time::timeout(SOON, changed.changed()).await;
    }
    let mut told_running = false;
    loop {
        changed.borrow_and_update();
        let news = live.news(&mut place);
        let mut text = String::new();
        if news.running != told_running || !told_running && place.next == 0 && news.ended.is_none()
        {
            let state = if news.running { EntryState::Running } else { EntryState::Queued };
            push(&mut text, None, "state", &serde_json::json!({ "state": state }));
            told_running = news.running;
        }
        for (number, event) in &news.events {
            push(&mut text, Some(*number), name_of(event), event);
        }
        if let Some(progress) = &news.progress {
            push(&mut text, None, "progress", progress);
        }
        if let Some(ended) = &news.ended {
            push(&mut text, None, "ended", ended);
        }
        if !text.is_empty() {
            let sent = tokio::time::timeout(READING, sender.send(text.into())).await;
            if !matches!(sent, Ok(Ok(()))) {
                return;
            }
        }
        if news.ended.is_some() {
            return;
        }
        let woken = tokio::time::timeout(KEEP_ALIVE, changed.changed()).await;
        let is_there = match woken {
            Ok(changed) => changed.is_ok(),
            Err(_) => sender.send(Bytes::from_static(b": still there\n\n")).await.is_ok(),
        };
        if !is_there {
            return;
        }
    }
}

/// What the catalog has of a job that the daemon does not run now. One that a command runs has no end yet.
fn of_the_past(daemon: &Daemon, id: JobId, next: u64) -> Result<Answer, Answer> {
    let catalog = daemon.executor.catalog();
    let ended = end_of(&catalog, id)?;
    let mut text = String::new();
    for stored in catalog.events(id)?.into_iter().skip_while(|stored| stored.ordinal < next) {
        let name = stored.event["event"].as_str().unwrap_or("note").to_owned();
        push(&mut text, Some(stored.ordinal), &name, &stored.event);
    }
    if let Some(ended) = ended {
        push(&mut text, None, "ended", &ended);
    }
    Ok(Answer::of_kind("text/event-stream", text))
}

/// An event's name, as its JSON has it.
fn name_of(event: &crate::model::event::Event) -> &'static str {
    use crate::model::event::Event;
    match event {
        Event::Phase { .. } => "phase",
        Event::Progress { .. } => "progress",
        Event::Warning { .. } => "warning",
        Event::Note { .. } => "note",
        Event::Sealed { .. } => "sealed",
        Event::HistoryRewritten { .. } => "history_rewritten",
        Event::VersionChanged { .. } => "version_changed",
        Event::Removed { .. } => "removed",
    }
}

fn push(text: &mut String, number: Option<u64>, name: &str, data: &impl Serialize) {
    // JSON has no line breaks of its own, and these types can all be written.
    let data = serde_json::to_string(data).unwrap_or_default();
    if let Some(number) = number {
        let _ = writeln!(text, "id: {number}");
    }
    let _ = write!(text, "event: {name}\ndata: {data}\n\n");
}

/// A body that is made while it is read.
struct Events(mpsc::Receiver<Bytes>);

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(http_body::Frame::data(bytes))))
    }
}

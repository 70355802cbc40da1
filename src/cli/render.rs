//! Showing what happens and what came out: a progress bar on a terminal, plain lines otherwise, tables.

use super::output::{field, told};
use crate::model::event::{Event, Events};
use crate::model::size::Bytes;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Columns of a table are so far apart.
const GAP: usize = 2;
/// The last column of a table is not cut to less.
const LEAST_LAST: usize = 28;

/// How often a line tells progress where there is no terminal.
const PLAIN_PROGRESS: Duration = Duration::from_secs(30);

/// Shows the events of a job on standard error.
pub(super) struct Renderer {
    state: Mutex<State>,
    quiet: bool,
}

struct State {
    bar: Option<ProgressBar>,
    phase: String,
    told: Instant,
    began: Instant,
    warnings: Vec<String>,
}

impl Renderer {
    /// A renderer for this process's standard error.
    pub(super) fn new(quiet: bool) -> Arc<Self> {
        let is_terminal = std::io::stderr().is_terminal() && !quiet;
        let bar = is_terminal.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8));
            bar.set_style(spinner());
            bar
        });
        let now = Instant::now();
        let state =
            State { bar, phase: String::new(), told: now, began: now, warnings: Vec::new() };
        Arc::new(Self { state: Mutex::new(state), quiet })
    }

    /// Where to send events.
    pub(super) fn events(self: &Arc<Self>) -> Events {
        let renderer = Arc::clone(self);
        Events::new(move |event| renderer.show(&event))
    }

    /// Take the bar away; returns the warnings that were shown.
    pub(super) fn finish(&self) -> Vec<String> {
        let mut state = self.lock();
        if let Some(bar) = &state.bar {
            bar.finish_and_clear();
        }
        std::mem::take(&mut state.warnings)
    }

    /// Take the bar away until the next event.
    pub(super) fn pause(&self) {
        if let Some(bar) = &self.lock().bar {
            bar.disable_steady_tick();
            bar.finish_and_clear();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, event: &Event) {
        let mut state = self.lock();
        match event {
            Event::Phase { phase, subject } => {
                state.phase = field(&format!("{phase} {subject}"));
                state.began = Instant::now();
                match &state.bar {
                    Some(bar) => {
                        bar.reset();
                        bar.set_style(spinner());
                        bar.set_message(state.phase.clone());
                        bar.enable_steady_tick(Duration::from_millis(200));
                    }
                    None if self.quiet => {}
                    None => state.line(&state.phase.clone()),
                }
            }
            Event::Progress { bytes, total_bytes, items } => {
                state.progress(*bytes, *total_bytes, *items, self.quiet);
            }
            // One cause may be met on several ways; telling it once is enough.
            Event::Warning { message } if state.warnings.contains(message) => {}
            Event::Warning { message } => {
                state.line(&format!("warning: {message}"));
                state.warnings.push(message.clone());
            }
            Event::Note { message } if !self.quiet => state.line(message),
            Event::HistoryRewritten { git, rewrite } => state.line(&rewrite.told(git)),
            Event::Note { .. }
            | Event::Sealed { .. }
            | Event::Removed { .. }
            | Event::VersionChanged { .. } => {}
        }
    }
}

impl State {
    fn progress(&mut self, bytes: u64, total_bytes: Option<u64>, items: u64, quiet: bool) {
        let milliseconds =
            u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = Bytes(bytes.saturating_mul(1000) / milliseconds);
        match (&self.bar, total_bytes) {
            (Some(bar), Some(total)) => {
                bar.set_style(bounded());
                bar.set_length(total);
                bar.set_position(bytes);
            }
            (Some(bar), None) => {
                bar.set_message(format!(
                    "{}: {}, {}, {rate}/s",
                    self.phase,
                    counted(items, "file", "files"),
                    Bytes(bytes)
                ));
            }
            (None, _) if quiet || self.told.elapsed() < PLAIN_PROGRESS => {}
            (None, total) => {
                self.told = Instant::now();
                let of = total.map(|total| format!(" of {}", Bytes(total))).unwrap_or_default();
                self.line(&format!(
                    "{}: {}, {}{of}, {rate}/s",
                    self.phase,
                    counted(items, "file", "files"),
                    Bytes(bytes)
                ));
            }
        }
    }

    fn line(&self, text: &str) {
        let text = told(text);
        match &self.bar {
            Some(bar) => bar.println(text),
            // There is nowhere left to tell that this failed.
            None => drop(writeln!(std::io::stderr().lock(), "{text}")),
        }
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn bounded() -> ProgressStyle {
    // What is done takes the room that the rest leaves, and is cut there: a line that wraps would be left behind.
    let template = "{spinner} {wide_msg} [{bar:16}] {binary_bytes}/{binary_total_bytes} {eta} left";
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

/// A table for people: a header, then rows; `right` names the columns of numbers.
pub(super) fn table(header: &[&str], right: &[usize], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    table.add_rows(rows.into_iter().map(|row| row.into_iter().map(|cell| field(&cell))));
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, GAP as u16));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// A table that fits a width, where there is one: columns are left out, first the first of `expendable`, and the last one
/// is cut where that is enough.
pub(super) fn fitting_table(
    header: &[&str],
    right: &[&str],
    rows: Vec<Vec<String>>,
    expendable: &[&str],
    width: Option<usize>,
) -> String {
    let cells = |row: Vec<String>| row.iter().map(|cell| field(cell)).collect::<Vec<_>>();
    let mut rows: Vec<Vec<String>> = rows.into_iter().map(cells).collect();
    let count = |text: &str| text.chars().count();
    let last = header.len() - 1;
    let widths: Vec<usize> = header
        .iter()
        .enumerate()
        .map(|(index, name)| {
            rows.iter().map(|row| count(&row[index])).fold(count(name), usize::max)
        })
        .collect();
    let mut shown: Vec<usize> = (0..header.len()).collect();
    if let Some(width) = width {
        let before = |shown: &[usize]| {
            shown
                .iter()
                .filter(|index| **index != last)
                .map(|index| widths[*index] + GAP)
                .sum::<usize>()
        };
        let room_for_last = widths[last].min(LEAST_LAST);
        for name in expendable {
            if before(&shown) + room_for_last <= width {
                break;
            }
            shown.retain(|index| header[*index] != *name);
        }
        let room = width.saturating_sub(before(&shown)).max(room_for_last);
        for cell in rows.iter_mut().map(|row| &mut row[last]) {
            if count(cell) > room {
                *cell = cell.chars().take(room - 1).chain(['\u{2026}']).collect();
            }
        }
    }
    let right: Vec<usize> =
        (0..shown.len()).filter(|place| right.contains(&header[shown[*place]])).collect();
    let header: Vec<&str> = shown.iter().map(|index| header[*index]).collect();
    let row = |row: Vec<String>| shown.iter().map(|index| row[*index].clone()).collect();
    table(&header, &right, rows.into_iter().map(row).collect())
}

/// A time for people, in the system's zone.
pub(super) fn local_time(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A duration for people: `3 s`, `4 min`, `5 h`, `6 d`.
pub(super) fn age(seconds: i64) -> String {
    match seconds {
        ..0 => "in the future".into(),
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86400),
    }
}

/// `1 file`, `2 files`.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_the_terminal_and_is_whole_where_there_is_none() {
        let row = [
            "0011aabb",
            "uploads",
            "files",
            "2026-11-21 02:30:00",
            "pinned: before we move the server",
        ];
        let of = |width| {
            let rows = vec![row.map(str::to_owned).to_vec()];
            let header = ["ID", "INSTANCE", "PLATFORM", "TIME", "STATE"];
            let table = fitting_table(&header, &[], rows, &["PLATFORM", "TIME"], width);
            table
                .lines()
                .nth(1)
                .unwrap()
                .split("  ")
                .map(str::trim)
                .map(str::to_owned)
                .filter(|cell| !cell.is_empty())
                .collect::<Vec<_>>()
        };
        assert_eq!(of(None), row);
        assert_eq!(of(Some(200)), row);
        let [id, instance, platform, time, _] = row;
        assert_eq!(
            of(Some(79)),
            [id, instance, platform, time, "pinned: before we move the \u{2026}"]
        );
        assert_eq!(of(Some(78)), [id, instance, time, "pinned: before we move the server"]);
        assert_eq!(of(Some(60)), [id, instance, "pinned: before we move the server"]);
        assert_eq!(of(Some(10)), [id, instance, "pinned: before we move the \u{2026}"]);
    }
}

//! `belay demo`.

use super::exit::{Exit, Failure};
use super::open::Environment;
use super::output;
use super::render::counted;
use crate::model::event::Events;
use crate::ops::Context;
use crate::ops::demo::{Line, demo};
use crate::upgrade::demo::nights;
use serde::Serialize;
use std::time::Instant;

#[derive(Serialize)]
struct Document {
    story: Vec<String>,
    seconds: u64,
}

const NEXT: &str = "\nNext, for your own files:\n  \
1. belay config schema, and config/belay.toml, show how to write /etc/belay/belay.toml\n  \
2. belay init                           creates the repository\n  \
3. belay backup --all                   takes the first snapshots\n  \
4. belay doctor                         says what could be better\n\
The README has the whole way in five minutes.";

pub(super) fn run(environment: &Environment) -> Result<Exit, Failure> {
    let began = Instant::now();
    let mut story = Vec::new();
    // The story is the output: events of its steps would only stand between its lines.
    let context = Context::new(Events::ignored(), environment.context.cancel.clone());
    let is_json = environment.global.json;
    let mut failed = None;
    let mut chapters = 0;
    let mut tell = |line: Line| {
        let (shown, text) = match line {
            Line::Chapter(text) => {
                chapters += 1;
                (format!("{chapters}. {text}"), text)
            }
            Line::Moment(text) => (format!("   {text}"), text),
        };
        if !is_json && let Err(failure) = output::line(shown) {
            failed.get_or_insert(failure);
        }
        story.push(text);
    };
    demo(&context, &mut tell)?;
    nights(&context, &mut tell)?;
    if let Some(failure) = failed {
        return Err(failure);
    }
    let seconds = began.elapsed().as_secs();
    let document = Document { story, seconds };
    environment.show(&document, || {
        format!(
            "That took {}; its temporary directory is gone again.\n{NEXT}",
            counted(seconds, "second", "seconds")
        )
    })
}

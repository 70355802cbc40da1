//! The test `apps-open`: every app that was listed before the upgrade is still there, and its pages answer in view mode.
//!
//! `ToolJet`'s external API shows no pages; an app that can be exported is one whose definition the server can read.

use super::{Asked, Found, Target};
use crate::config::Platform;
use crate::model::trial::{AppBaseline, Baseline, PageBaseline};
use crate::ops::OpsError;
use crate::ops::apps::promote::client;
use crate::platform::http::{Call, Client, HttpError, is_id};
use serde_json::Value;
use std::collections::BTreeMap;

/// More pages are not looked at, which is told.
const MOST_PAGES: usize = 5_000;
/// Characters of a name that are kept.
const MOST_NAME: usize = 200;

/// All apps that the instance lists, each looked at.
pub(super) fn list(asked: &Asked<'_>) -> Result<Vec<AppBaseline>, OpsError> {
    let mut client = client(asked.secrets, asked.instance, asked.limits())?;
    let failed = |source| OpsError::Http { instance: asked.instance.name.to_string(), source };
    client.log_in().map_err(failed)?;
    let mut looking = Looking { asked, client: &client, pages: 0 };
    let platform = asked.instance.platform;
    let mut apps = Vec::new();
    for (workspace, name) in looking.workspaces(platform).map_err(failed)? {
        asked.check()?;
        let call = match platform {
            Platform::Appsmith => Call::appsmith_applications(&workspace),
            _ => Call::tooljet_apps(&workspace),
        };
        for (id, app) in named(&client.ask(&call).map_err(failed)?) {
            asked.check()?;
            let looked = match platform {
                Platform::Appsmith => looking.appsmith(&id),
                _ => looking.tooljet(&workspace, &id),
            };
            let (pages, trouble) = match looked {
                Ok(pages) => (pages, None),
                Err(error) => (Vec::new(), Some(error.to_string())),
            };
            apps.push(AppBaseline { id, name: app, workspace: name.clone(), pages, trouble });
        }
    }
    // What was not looked at to its end is no list.
    asked.check()?;
    if looking.pages >= MOST_PAGES {
        asked.context.events.warn(format!(
            "{}: only the first {MOST_PAGES} pages of its apps are looked at.",
            asked.instance.name
        ));
    }
    Ok(apps)
}

pub(super) fn run(
    asked: &Asked<'_>,
    target: &Target<'_>,
    baseline: &Baseline,
) -> Result<Found, OpsError> {
    let Some(before) = &baseline.apps else {
        let why = match baseline.unknown.get("apps-open") {
            Some(why) => why,
            None if baseline.taken_at.is_none() => {
                "that is noted on the host that began the upgrade"
            }
            None => "nobody looked",
        };
        let why = format!("which apps there were before is not known: {why}");
        // What comes back is not worse than it was because nobody can tell how it was.
        return Ok(if target.is_back { Found::not_applicable(why) } else { Found::failed(why) });
    };
    let now = list(asked)?;
    Ok(judge(before, &now))
}

fn judge(before: &[AppBaseline], now: &[AppBaseline]) -> Found {
    let by_id: BTreeMap<&str, &AppBaseline> =
        now.iter().map(|app| (app.id.as_str(), app)).collect();
    let (mut troubles, mut broken_before, mut looked_at) = (Vec::new(), Vec::new(), 0);
    for app in before {
        let name = format!("{} ({})", app.name, app.workspace);
        let Some(after) = by_id.get(app.id.as_str()) else {
            troubles.push(format!("{name} is not there any more"));
            continue;
        };
        if let Some(trouble) = &app.trouble {
            broken_before.push(format!("{name}: {trouble}"));
            continue;
        }
        if let Some(trouble) = &after.trouble {
            troubles.push(format!("{name}: {trouble}"));
            continue;
        }
        for page in &app.pages {
            looked_at += 1;
            let name = format!("{name}, page {}", page.name);
            if let Some(trouble) = &page.trouble {
                broken_before.push(format!("{name}: {trouble}"));
                continue;
            }
            match after.pages.iter().find(|other| other.id == page.id) {
                None => troubles.push(format!("{name} is not there any more")),
                Some(PageBaseline { trouble: Some(trouble), .. }) => {
                    troubles.push(format!("{name}: {trouble}"));
                }
                Some(_) => {}
            }
        }
    }
    let summary = format!("{} apps with {looked_at} pages were looked at", before.len());
    let mut found = Found::of(summary, troubles);
    if !broken_before.is_empty() {
        found.details.push(format!(
            "{} were broken before, and do not count: {}",
            broken_before.len(),
            broken_before.join("; ")
        ));
    }
    found
}

/// Looks at apps one after the other.
struct Looking<'a> {
    asked: &'a Asked<'a>,
    client: &'a Client,
    pages: usize,
}

impl Looking<'_> {
    fn workspaces(&self, platform: Platform) -> Result<Vec<(String, String)>, HttpError> {
        let call = match platform {
            Platform::Appsmith => Call::appsmith_workspaces(),
            _ => Call::tooljet_workspaces(),
        };
        Ok(named(&self.client.ask(&call)?))
    }

    /// The pages of an app, each with whether it answers.
    fn appsmith(&mut self, app: &str) -> Result<Vec<PageBaseline>, HttpError> {
        let listed = self.client.ask(&Call::appsmith_pages(app))?;
        let mut pages = Vec::new();
        for (id, name) in named(&listed["pages"]) {
            if self.pages >= MOST_PAGES || self.asked.context.cancel.is_cancelled() {
                break;
            }
            self.pages += 1;
            let trouble = self.page(app, &id).err();
            pages.push(PageBaseline { id, name, trouble });
        }
        Ok(pages)
    }

    /// The consolidated answer is well whatever is in it: each member says for itself how it went.
    fn page(&self, app: &str, page: &str) -> Result<(), String> {
        match self.client.ask(&Call::appsmith_view(app, page)) {
            Ok(data) => view(&data),
            Err(HttpError::Refused { status: 404 | 405, .. }) => {
                let asked = self.client.ask(&Call::appsmith_page(page));
                asked.map(drop).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn tooljet(&mut self, workspace: &str, app: &str) -> Result<Vec<PageBaseline>, HttpError> {
        if self.pages >= MOST_PAGES {
            return Ok(Vec::new());
        }
        self.pages += 1;
        match self.client.ask(&Call::tooljet_export(workspace, app)) {
            // Older releases have no export there: that the app is listed is what they tell.
            Ok(_) | Err(HttpError::Refused { status: 404, .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// What the consolidated answer says of the page.
fn view(data: &Value) -> Result<(), String> {
    let page = &data["pageWithMigratedDsl"];
    match page["responseMeta"]["status"].as_u64() {
        Some(200..300) if !page["data"].is_null() => Ok(()),
        Some(200..300) | None => Err("the answer has no page".to_owned()),
        Some(status) => {
            let said = page["responseMeta"]["error"]["message"].as_str().unwrap_or_default();
            let said: String = said.chars().take(MOST_NAME).collect();
            Err(format!("the page was answered with {status}: {}", said.escape_debug()))
        }
    }
}

/// Ids and names of a list; what has no id that can be asked for is passed over.
fn named(list: &Value) -> Vec<(String, String)> {
    let of = |item: &Value| {
        let id = item["id"].as_str().filter(|id| is_id(id))?;
        let name = item["name"].as_str().unwrap_or(id);
        Some((id.to_owned(), name.chars().take(MOST_NAME).collect()))
    };
    list.as_array().into_iter().flatten().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn app(id: &str, trouble: Option<&str>, pages: &[(&str, Option<&str>)]) -> AppBaseline {
        let page = |(id, trouble): &(&str, Option<&str>)| PageBaseline {
            id: (*id).to_owned(),
            name: (*id).to_owned(),
            trouble: trouble.map(Into::into),
        };
        AppBaseline {
            id: id.into(),
            name: id.into(),
            workspace: "w".into(),
            pages: pages.iter().map(page).collect(),
            trouble: trouble.map(Into::into),
        }
    }

    #[test]
    fn what_is_gone_or_broken_is_told_and_what_was_broken_before_is_not_counted() {
        let before = [
            app("a", None, &[("p1", None), ("p2", Some("500"))]),
            app("b", Some("403"), &[]),
            app("c", None, &[]),
        ];
        let same = judge(&before, &before);
        assert!(same.verdict.is_fine(), "{:?}", same.details);
        assert!(same.details[1].starts_with("2 were broken before"), "{:?}", same.details);
        let after = [
            app("a", None, &[("p1", Some("500"))]),
            app("b", Some("500"), &[]),
            app("new", Some("x"), &[]),
        ];
        let found = judge(&before, &after);
        assert!(!found.verdict.is_fine());
        assert_eq!(found.details[1..3], ["a (w), page p1: 500", "c (w) is not there any more"]);
        let gone = judge(&before[..1], &[app("a", None, &[("p2", None)])]);
        assert_eq!(gone.details[1], "a (w), page p1 is not there any more");
    }

    #[test]
    fn a_page_that_is_broken_in_a_good_answer_is_broken() {
        let good = json!({ "pageWithMigratedDsl": { "responseMeta": { "status": 200 }, "data": { "id": "p" } } });
        assert_eq!(view(&good), Ok(()));
        let broken = json!({ "pageWithMigratedDsl": { "responseMeta": { "status": 500, "error": { "message": "x\u{1b}" } }, "data": null } });
        assert!(view(&broken).unwrap_err().contains("500: x\\u{1b}"));
        assert!(
            view(&json!({})).is_err()
                && view(&json!({ "pageWithMigratedDsl": { "responseMeta": { "status": 200 } } }))
                    .is_err()
        );
        assert_eq!(
            named(&json!([{ "id": "a1", "name": "A" }, { "id": "../x" }, {}, { "id": "b" }])),
            [("a1".into(), "A".into()), ("b".into(), "b".into())]
        );
    }
}

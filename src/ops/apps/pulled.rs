//! What an instance really pulled of a git repository, as its own database says.
//!
//! What always holds: nothing is written, no secret is asked for, and an instance that does not answer is given up soon.

use crate::component::postgres::{Connection, PostgresError, Session};
use crate::config::{Config, GitRepository, Instance, Platform, SecretSources};
use crate::git::mirror::Mirror;
use crate::model::event::Cancel;
use crate::ops::instance::Living;
use crate::ops::{Context, OpsError};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// An instance that did not answer for so long is given up: somebody waits for the status.
const LIMIT: Duration = Duration::from_secs(30);
/// How soon a cancelled job is left.
const LOOK: Duration = Duration::from_millis(100);
/// The variable that names `ToolJet`'s database of apps.
const TOOLJET_DATABASE: &str = "PG_DB";
/// Nobody has more apps in one git repository.
const MOST_APPS: u32 = 10_000;

/// An app that an instance has from a git repository. Texts are as the instance has them: escape them before a terminal sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pulled {
    /// Its name in the instance.
    pub app: String,
    /// The branch, where the database says it.
    pub branch: Option<String>,
    /// The commit that was pulled or pushed last, in hexadecimal digits, where the database says it.
    pub commit: Option<String>,
    /// That commit's message.
    pub message: Option<String>,
    /// When it was.
    pub at: Option<Timestamp>,
    /// Whether the app may be edited, and so be committed from, there.
    pub may_edit: Option<bool>,
    /// Whether the mirror has that commit.
    pub is_in_mirror: Option<bool>,
    /// How many commits of the instance's branch it has not.
    pub behind: Option<u64>,
}

/// Ask an instance what it pulled of a git repository.
pub fn pulled(
    config: &Config,
    secrets: &SecretSources,
    instance: &Instance,
    git: &GitRepository,
    context: &Context,
) -> Result<Vec<Pulled>, OpsError> {
    context.events.phase("asking what was pulled by", instance.name.to_string());
    let mut found = within(LIMIT, instance, context, |context| {
        let living = Living::look(config, instance, context)?;
        match instance.platform {
            Platform::Appsmith => appsmith(&living, secrets, git, context),
            Platform::Tooljet => tooljet(&living, secrets, git),
            other => Err(OpsError::usage(
                format!("{} is of the platform {other}, which pulls nothing", instance.name),
                "name an instance of appsmith or tooljet in the pair",
            )),
        }
    })?;
    found.sort_by(|one, other| (&one.app, &one.branch).cmp(&(&other.app, &other.branch)));
    Ok(found)
}

/// Say how what was pulled stands to a commit of the mirror.
pub(super) fn compare(pulled: &mut [Pulled], mirror: &Mirror, tip: &str) {
    for each in pulled {
        let Some(commit) = &each.commit else { continue };
        let known = mirror.commit(commit).ok().map(|id| id.to_string());
        each.is_in_mirror = Some(known.is_some());
        each.behind =
            known.and_then(|id| mirror.relation(&id, tip).ok()).map(|relation| relation.behind);
    }
}

/// Do work that is stopped after a time.
fn within<T>(
    limit: Duration,
    instance: &Instance,
    context: &Context,
    work: impl FnOnce(&Context) -> Result<T, OpsError>,
) -> Result<T, OpsError> {
    let own = Context::new(context.events.clone(), Cancel::new());
    let begun = Instant::now();
    let (done, wait) = channel::<()>();
    let result = std::thread::scope(|scope| {
        let stop = own.cancel.clone();
        scope.spawn(move || {
            while wait.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                if context.cancel.is_cancelled() || begun.elapsed() >= limit {
                    stop.cancel();
                    return;
                }
            }
        });
        let result = work(&own);
        drop(done);
        result
    });
    match result {
        Err(error) if error.is_cancelled() && !context.cancel.is_cancelled() => {
            Err(OpsError::refused(
                format!("{} did not answer within {} seconds", instance.name, limit.as_secs()),
                format!("does it run? belay doctor looks at the way to {}", instance.name),
            ))
        }
        result => result,
    }
}

/// A row of `app_git_sync`, with the columns that some release has.
#[derive(Deserialize)]
struct SyncRow {
    app: Option<String>,
    organization: Option<String>,
    commit: Option<String>,
    message: Option<String>,
    at: Option<String>,
    may_edit: Option<String>,
}

/// Where a workspace of `ToolJet` keeps its apps.
#[derive(Deserialize)]
struct PlaceRow {
    organization: Option<String>,
    url: Option<String>,
}

#[derive(Deserialize)]
struct TableRow {
    name: String,
}

fn tooljet(
    living: &Living<'_>,
    secrets: &SecretSources,
    git: &GitRepository,
) -> Result<Vec<Pulled>, OpsError> {
    let databases = living.databases(secrets)?;
    let database = living.database_name(TOOLJET_DATABASE).ok_or_else(|| {
        OpsError::refused(
            format!("the environment of {} does not say {TOOLJET_DATABASE}", living.instance.name),
            format!("set {TOOLJET_DATABASE} there"),
        )
    })?;
    let asked = || {
        let connection =
            Connection::open(databases.access, databases.target, &database, "belay apps")?;
        let mut session = Session::open(&connection, &database)?;
        let answer = ask_tooljet(&mut session);
        session.close()?;
        answer
    };
    let (rows, places) = asked().map_err(|source| OpsError::Postgres {
        instance: living.instance.name.to_string(),
        source,
    })?;
    Ok(rows.into_iter().filter(|row| is_of(row, &places, git)).map(of_row).collect())
}

/// The rows, and where workspaces keep their apps. A column that a release does not have is null in its JSON.
fn ask_tooljet(session: &mut Session) -> Result<(Vec<SyncRow>, Vec<PlaceRow>), PostgresError> {
    session.execute("SET default_transaction_read_only = on; SET statement_timeout = '20s';")?;
    let tables: Vec<TableRow> = session.query(
        "SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p')
         AND c.relname IN ('app_git_sync', 'organization_git_sync', 'organization_git_ssh', 'organization_git_https')",
    )?;
    // The community edition has no such table, and pulls nothing.
    if !tables.iter().any(|table| table.name == "app_git_sync") {
        return Ok((Vec::new(), Vec::new()));
    }
    let mut places = Vec::new();
    for TableRow { name } in tables.iter().filter(|table| table.name != "app_git_sync") {
        // One of the names above, so that it needs no quotes.
        places.extend(session.query::<PlaceRow>(&format!(
            "SELECT to_jsonb(o)->>'organization_id' AS organization,
                    coalesce(to_jsonb(o)->>'git_url', to_jsonb(o)->>'https_url') AS url FROM public.{name} o"
        ))?);
    }
    let rows = session.query(&format!(
        "SELECT coalesce(a.name, to_jsonb(s)->>'git_app_name') AS app,
                to_jsonb(a)->>'organization_id' AS organization,
                to_jsonb(s)->>'last_commit_id' AS commit,
                to_jsonb(s)->>'last_commit_message' AS message,
                coalesce(to_jsonb(s)->>'last_pull_date', to_jsonb(s)->>'last_push_date', to_jsonb(s)->>'updated_at') AS at,
                to_jsonb(s)->>'allow_editing' AS may_edit
         FROM public.app_git_sync s LEFT JOIN public.apps a ON a.id = s.app_id LIMIT {MOST_APPS}"
    ))?;
    Ok((rows, places))
}

/// Whether an app is of this git repository, as far as its workspace says where it keeps them.
fn is_of(row: &SyncRow, places: &[PlaceRow], git: &GitRepository) -> bool {
    let own =
        |place: &&PlaceRow| place.organization.is_some() && place.organization == row.organization;
    let mut urls = places.iter().filter(own).filter_map(|place| place.url.as_ref()).peekable();
    urls.peek().is_none() || urls.any(|url| git.url.is_same_place(url))
}

fn of_row(row: SyncRow) -> Pulled {
    Pulled {
        app: row.app.unwrap_or_default(),
        commit: row.commit.filter(|commit| is_commit(commit)),
        message: row.message,
        at: row.at.as_deref().and_then(time),
        may_edit: row.may_edit.map(|text| text == "true"),
        ..Pulled::default()
    }
}

/// What stands in a database is not handed to git as a name of something else.
fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A time of a database; one without a zone is UTC, which servers of both platforms run in.
fn time(text: &str) -> Option<Timestamp> {
    let civil = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok();
    text.parse().ok().or_else(|| Some(civil()?.timestamp()))
}

fn appsmith(
    living: &Living<'_>,
    secrets: &SecretSources,
    git: &GitRepository,
    context: &Context,
) -> Result<Vec<Pulled>, OpsError> {
    const METADATA: &str = "gitApplicationMetadata";
    let place = living.mongodb(secrets)?;
    let server = place.open(context)?;
    let database = place.name(&server)?;
    // Not the metadata as a whole: it has the private key.
    let fields = ["branchName", "refName", "remoteUrl", "lastCommittedAt", "isProtectedBranch"];
    let fields = fields.map(|field| format!("{METADATA}.{field}"));
    let fields: Vec<&str> =
        ["name", "deletedAt"].into_iter().chain(fields.iter().map(String::as_str)).collect();
    let has = format!("{METADATA}.remoteUrl");
    let found = server.having(&database, "application", &has, &fields, MOST_APPS);
    let instance = living.instance.name.to_string();
    let found = found.map_err(|source| OpsError::Mongodb { instance, source })?;
    Ok(found.iter().filter_map(|document| of_document(document, git)).collect())
}

/// None where it is of another git repository, or deleted.
fn of_document(document: &Value, git: &GitRepository) -> Option<Pulled> {
    let metadata = &document["gitApplicationMetadata"];
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    if !document["deletedAt"].is_null() || !git.url.is_same_place(metadata["remoteUrl"].as_str()?) {
        return None;
    }
    Some(Pulled {
        app: text(&document["name"]).unwrap_or_default(),
        branch: text(&metadata["refName"]).or_else(|| text(&metadata["branchName"])),
        at: metadata["lastCommittedAt"]["$date"].as_str().and_then(time),
        may_edit: metadata["isProtectedBranch"].as_bool().map(|is_protected| !is_protected),
        ..Pulled::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::GitUrl;
    use crate::model::event::Events;

    const CONFIG: &str = "[repository.main]\nurl = '/srv/r'\npassword = 'env:P'\n\
        [instance.staging]\nplatform = 'appsmith'\nvia = 'docker:a'\n\
        [git.orders]\nplatform = 'appsmith'\nurl = 'git@git.example.com:acme/orders.git'\n";

    fn config() -> Config {
        Config::parse(CONFIG, "test").unwrap()
    }

    #[test]
    fn an_app_is_told_by_its_own_fields_and_those_of_others_are_passed_over() {
        let config = config();
        let git = config.git("orders").unwrap();
        let document = |url: &str, deleted: Value| {
            serde_json::json!({
                "name": "Orders", "deletedAt": deleted,
                "gitApplicationMetadata": {
                    "branchName": "staging", "remoteUrl": url, "isProtectedBranch": true,
                    "lastCommittedAt": { "$date": "2026-01-05T09:30:00.123Z" },
                },
            })
        };
        let url = "git@git.example.com:acme/orders.git";
        let found = of_document(&document(url, Value::Null), git).unwrap();
        assert_eq!((found.app.as_str(), found.branch.as_deref()), ("Orders", Some("staging")));
        assert_eq!(found.at, "2026-01-05T09:30:00.123Z".parse().ok());
        assert_eq!((found.may_edit, found.commit), (Some(false), None));
        let other = document("git@git.example.com:acme/other.git", Value::Null);
        assert_eq!(of_document(&other, git), None);
        let deleted = serde_json::json!({ "$date": "2026-01-05T09:30:00Z" });
        assert_eq!(of_document(&document(url, deleted), git), None);
    }

    #[test]
    fn rows_of_a_workspace_that_keeps_its_apps_elsewhere_are_passed_over() {
        let config = config();
        let git = config.git("orders").unwrap();
        let row = |organization: &str| SyncRow {
            app: None,
            organization: Some(organization.to_owned()),
            commit: Some("--upload-pack=x".to_owned()),
            message: None,
            at: Some("2026-01-05T09:30:00".to_owned()),
            may_edit: Some("false".to_owned()),
        };
        let place = |organization: &str, url: &str| PlaceRow {
            organization: Some(organization.to_owned()),
            url: Some(url.to_owned()),
        };
        let places = [
            place("here", "ssh://git@git.example.com:2222/acme/orders"),
            place("there", "https://git.example.com/acme/invoices.git"),
        ];
        assert!(is_of(&row("here"), &places, git));
        assert!(!is_of(&row("there"), &places, git));
        // Nothing says that it is of another.
        assert!(is_of(&row("unknown"), &places, git));
        let pulled = of_row(row("here"));
        assert_eq!((pulled.commit, pulled.may_edit), (None, Some(false)));
        assert_eq!(pulled.at, "2026-01-05T09:30:00Z".parse().ok());
    }

    #[test]
    fn one_that_does_not_answer_is_given_up_and_one_that_was_stopped_is_not_blamed() {
        let config = config();
        let instance = config.instance("staging").unwrap();
        let until_stopped = |context: &Context| -> Result<(), OpsError> {
            loop {
                context.cancel.check().map_err(crate::repository::RepositoryError::Cancelled)?;
                std::thread::yield_now();
            }
        };
        let context = Context::new(Events::ignored(), Cancel::new());
        let error = within(Duration::ZERO, instance, &context, until_stopped).unwrap_err();
        assert!(error.told().contains("staging did not answer"), "{error}");
        context.cancel.cancel();
        let error = within(LIMIT, instance, &context, until_stopped).unwrap_err();
        assert!(error.is_cancelled());
        let done = within(LIMIT, instance, &context, |_| Ok(1)).unwrap();
        assert_eq!(done, 1);
        assert!(
            "/srv/git/orders.git"
                .parse::<GitUrl>()
                .unwrap()
                .is_same_place("file:///srv/git/orders")
        );
    }
}

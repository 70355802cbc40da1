//! The checks of one instance: platform, access, directories, patterns, components, repository.

use super::{Checker, Defaults, did_you_mean, overlap};
use crate::config::location::{Location, absolute_path};
use crate::config::raw::{RawConfig, RawInstance, RawMongodb, RawPaths, RawPostgres, RawVersion};
use crate::config::web;
use crate::config::{
    Credentials, FilesRoot, Instance, MongodbSettings, MongodbWay, Platform, PostgresSettings,
    Repository, VersionFile, Web,
};
use crate::model::name::Name;
use crate::model::via::{ParseViaError, Via};
use jiff::tz::TimeZone;
use std::path::Path;
use toml::Spanned;

impl Checker<'_> {
    pub(super) fn instance(
        &mut self,
        name: &Spanned<Name>,
        repository: Option<Name>,
        raw: &RawInstance,
        platform: Option<Platform>,
        defaults: &Defaults,
    ) -> Option<Instance> {
        let via = raw.via.as_ref().map_or(Some(Via::local()), |via| self.via(via));
        if let Some(platform) = platform {
            self.fitting(name, platform, via.as_ref(), raw);
        }
        let paths = raw.paths.as_ref().map_or(Some(Vec::new()), |paths| self.paths(paths));
        let version = raw.version.as_ref().map(|version| self.version(version.get_ref()));
        let environment =
            raw.environment.as_ref().map(|environment| self.path("environment", environment));
        let postgres = raw.component.postgres.as_ref().map(Spanned::get_ref);
        let postgres =
            postgres.map_or(Some(PostgresSettings::default()), |postgres| self.postgres(postgres));
        let mongodb = raw.component.mongodb.as_ref().map(Spanned::get_ref);
        let mongodb =
            mongodb.map_or(Some(MongodbSettings::default()), |mongodb| self.mongodb(mongodb));
        let web = self.web(raw);
        let compose = raw.compose.as_ref().map(|compose| self.compose(compose.get_ref()));
        let exclude = self.exclude(&raw.exclude);
        let timezone = match &raw.timezone {
            Some(name) => self.timezone(name),
            None => Some(defaults.timezone.clone()),
        };
        let zone = timezone.clone().unwrap_or(TimeZone::UTC);
        let (schedule, deadline) = self.instance_schedule(raw, defaults, &zone);
        Some(Instance {
            name: name.get_ref().clone(),
            platform: platform?,
            via: via?,
            paths: paths?,
            version: match version {
                Some(given) => Some(given?),
                None => None,
            },
            environment: match environment {
                Some(given) => Some(given?),
                None => None,
            },
            postgres: postgres?,
            mongodb: mongodb?,
            web: web?,
            compose: match compose {
                Some(given) => Some(given?),
                None => None,
            },
            gits: Vec::new(),
            quiesce: raw.quiesce.as_ref().is_some_and(|quiesce| *quiesce.get_ref()),
            exclude: exclude?,
            keep: raw.keep.clone().unwrap_or_else(|| defaults.keep.clone()),
            timezone: timezone?,
            repository: repository?,
            schedule,
            deadline,
            objectives: self.objectives(raw.objectives.as_ref()),
        })
    }

    pub(super) fn platform(&mut self, platform: &Spanned<String>) -> Option<Platform> {
        let named = |known: &Platform| known.as_str() == platform.get_ref();
        let found = Platform::ALL.into_iter().find(named);
        if found.is_none() {
            self.unknown_word("platform", platform, &Platform::ALL.map(Platform::as_str));
        }
        found
    }

    fn via(&mut self, via: &Spanned<String>) -> Option<Via> {
        let parsed = via.get_ref().parse();
        parsed
            .inspect_err(|error: &ParseViaError| {
                let hint = "write such as \"local\", \"docker:NAME\", \"ssh:USER@HOST\" or \"ssh:USER@HOST/docker:NAME\"";
                self.refuse(&via.span(), format!("via: {error}"), hint);
            })
            .ok()
    }

    /// Each platform has settings that it needs, and others that would be ignored.
    fn fitting(
        &mut self,
        name: &Spanned<Name>,
        platform: Platform,
        via: Option<&Via>,
        raw: &RawInstance,
    ) {
        if platform == Platform::Files {
            if raw.paths.is_none() {
                let message = format!("the instance '{}' has no paths", name.get_ref());
                self.refuse(&name.span(), message, "add paths = [\"/DIRECTORY\"]");
            }
            if let (Some(text), Some(false)) = (&raw.via, via.map(Via::is_local)) {
                let hint = "run Belay on that host, for this instance";
                self.refuse(&text.span(), "via: this version reads files of this host only", hint);
            }
            self.foreign(
                platform,
                raw,
                &[
                    "environment",
                    "quiesce",
                    "login",
                    "token",
                    "compose",
                    "component.postgres",
                    "component.mongodb",
                ],
            );
            return;
        }
        if let Some(paths) = &raw.paths {
            let message = format!("paths means nothing to the platform {platform}");
            let hint = "add an instance of the platform files for them";
            self.refuse(&paths.span(), message, hint);
        }
        if let Some(version) = &raw.version {
            let message = format!("version means nothing to the platform {platform}");
            self.refuse(
                &version.span(),
                message,
                "leave it out: it is asked which version it runs",
            );
        }
        match platform {
            Platform::Appsmith => self.foreign(platform, raw, &["token"]),
            Platform::Files | Platform::Git => {}
            Platform::Mongodb => {
                let keys = [
                    "environment",
                    "quiesce",
                    "url",
                    "plain_http",
                    "login",
                    "token",
                    "component.postgres",
                ];
                self.foreign(platform, raw, &keys);
                if raw.component.mongodb.as_ref().is_none_or(|it| it.get_ref().url.is_none()) {
                    let message = format!(
                        "the instance '{}' does not say where its database is",
                        name.get_ref()
                    );
                    let hint = "add component.mongodb = { url = \"file:/PATH\" }, with mongodb://USER:PASSWORD@HOST/DATABASE in that file";
                    self.refuse(&name.span(), message, hint);
                }
            }
            Platform::Postgres => {
                let keys = [
                    "environment",
                    "quiesce",
                    "url",
                    "plain_http",
                    "login",
                    "token",
                    "component.mongodb",
                ];
                self.foreign(platform, raw, &keys);
            }
            Platform::Tooljet => {
                self.foreign(platform, raw, &["quiesce", "login", "component.mongodb"]);
            }
        }
        let is_in_container = via.is_some_and(|via| via.container().is_some());
        let file = match platform {
            Platform::Appsmith => "/srv/appsmith/docker.env",
            Platform::Tooljet => "/srv/tooljet/.env",
            _ => return,
        };
        if raw.environment.is_none() && !is_in_container {
            let message =
                format!("the instance '{}' does not say where its environment is", name.get_ref());
            let hint = format!(
                "add environment = \"{file}\", or via = \"docker:CONTAINER\", whose environment counts"
            );
            self.refuse(&name.span(), message, &hint);
        }
    }

    fn version(&mut self, raw: &RawVersion) -> Option<VersionFile> {
        let file = self.path("version.file", &raw.file);
        let member = raw.member.as_ref();
        if let Some(member) = member.filter(|member| member.get_ref().is_empty()) {
            let hint = "leave it out where the file holds the version and nothing else";
            self.refuse(&member.span(), "version.member: nothing is named", hint);
            return None;
        }
        Some(VersionFile { file: file?, member: member.map(|member| member.get_ref().clone()) })
    }

    /// Settings that would be ignored are refused.
    fn foreign(&mut self, platform: Platform, raw: &RawInstance, keys: &[&str]) {
        let component = &raw.component;
        let given = [
            ("environment", raw.environment.as_ref().map(Spanned::span)),
            ("quiesce", raw.quiesce.as_ref().map(Spanned::span)),
            ("url", raw.url.as_ref().map(Spanned::span)),
            ("plain_http", raw.plain_http.as_ref().map(Spanned::span)),
            ("login", raw.login.as_ref().map(Spanned::span)),
            ("token", raw.token.as_ref().map(Spanned::span)),
            ("compose", raw.compose.as_ref().map(Spanned::span)),
            ("component.postgres", component.postgres.as_ref().map(Spanned::span)),
            ("component.mongodb", component.mongodb.as_ref().map(Spanned::span)),
        ];
        for (key, span) in given {
            if let (Some(span), true) = (span, keys.contains(&key)) {
                let message = format!("{key} means nothing to the platform {platform}");
                let hint = "leave it out, or name the platform that it belongs to";
                self.refuse(&span, message, hint);
            }
        }
    }

    /// How its HTTP interface is reached; `Some(None)` where nothing is said.
    #[expect(clippy::option_option, reason = "none is wrong, and nothing is fine")]
    fn web(&mut self, raw: &RawInstance) -> Option<Option<Web>> {
        let problems_before = self.problems.len();
        let login = raw.login.as_ref().map(Spanned::get_ref);
        let credentials = if let Some(login) = login {
            self.secret("login.password", &login.password)
                .map(|password| Credentials::Login { user: login.user.clone(), password })
        } else {
            raw.token.as_ref().and_then(|it| self.secret("token", it)).map(Credentials::Token)
        };
        let plain_http = raw.plain_http.as_ref().is_some_and(|it| *it.get_ref());
        let Some(text) = &raw.url else {
            let spans = [
                ("login", raw.login.as_ref().map(Spanned::span)),
                ("token", raw.token.as_ref().map(Spanned::span)),
                ("plain_http", raw.plain_http.as_ref().map(Spanned::span)),
            ];
            for (key, span) in spans {
                if let Some(span) = span {
                    let message = format!("{key} means nothing without url");
                    self.refuse(&span, message, "add url = \"https://HOST\", where people open it");
                }
            }
            return (self.problems.len() == problems_before).then_some(None);
        };
        let url = web::parse(text.get_ref(), plain_http);
        let url = url.map_err(|reason| {
            let hint =
                "write https://HOST; http:// is for this machine only, or with plain_http = true";
            self.refuse(&text.span(), format!("url: {reason}"), hint);
        });
        let url = url.ok()?;
        let is_fine = self.problems.len() == problems_before;
        is_fine.then_some(Some(Web { url, plain_http, credentials }))
    }

    fn postgres(&mut self, raw: &RawPostgres) -> Option<PostgresSettings> {
        let problems_before = self.problems.len();
        let via = raw.via.as_ref().and_then(|via| self.via(via));
        let password = raw.password.as_ref().and_then(|text| self.secret("password", text));
        let tools = raw.tools.as_ref().and_then(|tools| self.path("tools", tools));
        (self.problems.len() == problems_before).then(|| PostgresSettings {
            via,
            host: raw.host.clone(),
            port: raw.port,
            user: raw.user.clone(),
            password,
            databases: raw.databases.clone(),
            tools,
        })
    }

    fn mongodb(&mut self, raw: &RawMongodb) -> Option<MongodbSettings> {
        let problems_before = self.problems.len();
        let via = raw.via.as_ref().and_then(|via| self.via(via));
        let url = raw.url.as_ref().and_then(|text| self.secret("url", text));
        let database = raw.database.clone();
        let mut way = MongodbWay::default();
        if let Some(word) = &raw.way {
            let all = [MongodbWay::Wire, MongodbWay::Mongodump];
            match all.into_iter().find(|known| known.as_str() == word.get_ref()) {
                Some(found) => way = found,
                None => self.unknown_word("way", word, &all.map(MongodbWay::as_str)),
            }
        }
        let tools = raw.tools.as_ref().and_then(|tools| self.path("tools", tools));
        if let (Some(tools), MongodbWay::Wire) = (&raw.tools, way) {
            let message = "tools means nothing where the database is read over the wire";
            self.refuse(&tools.span(), message, "leave it out, or add way = \"mongodump\"");
        }
        let is_fine = self.problems.len() == problems_before;
        is_fine.then_some(MongodbSettings { via, url, database, way, tools })
    }

    pub(super) fn unknown_word(&mut self, what: &str, word: &Spanned<String>, known: &[&str]) {
        let message =
            format!("unknown {what} '{}': this version knows {}", word.get_ref(), known.join(", "));
        let hint = did_you_mean(word.get_ref(), known.iter().copied());
        self.refuse_perhaps_with(&word.span(), &message, hint.as_deref());
    }

    /// The repository that is named, or the only one there is.
    pub(super) fn repository_of(
        &mut self,
        name: &Spanned<Name>,
        raw: &RawInstance,
        config: &RawConfig,
    ) -> Option<Name> {
        if let Some(reference) = &raw.repository {
            return self.known_name("repository", "repository", reference, &config.repository);
        }
        let known: Vec<&str> =
            config.repository.keys().map(|name| name.get_ref().as_str()).collect();
        match known[..] {
            // Told once for all instances.
            [] => None,
            [only] => only.parse().ok(),
            _ => {
                let message =
                    format!("the instance '{}' does not say which repository", name.get_ref());
                let hint = format!(
                    "add repository = \"{}\", or another of: {}",
                    known[0],
                    known.join(", ")
                );
                self.refuse(&name.span(), message, hint);
                None
            }
        }
    }

    fn paths(&mut self, paths: &Spanned<RawPaths>) -> Option<Vec<FilesRoot>> {
        let problems_before = self.problems.len();
        let mut roots: Vec<FilesRoot> = Vec::new();
        match paths.get_ref() {
            RawPaths::List(list) => {
                for text in list {
                    let Some(path) = self.path("paths", text) else { continue };
                    let Some(name) = self.name_of(&path, text) else { continue };
                    if let Some(other) = roots.iter().find(|other| other.name == name) {
                        let message = format!(
                            "paths: {} and {} would both be called '{name}'",
                            other.path.display(),
                            path.display()
                        );
                        self.refuse(&text.span(), message, table_form(&path));
                        continue;
                    }
                    self.separate_roots(&roots, &path, text);
                    roots.push(FilesRoot { name, path });
                }
            }
            RawPaths::Table(table) => {
                for (name, text) in table {
                    let Some(path) = self.path("paths", text) else { continue };
                    self.separate_roots(&roots, &path, text);
                    roots.push(FilesRoot { name: name.get_ref().clone(), path });
                }
            }
        }
        if self.problems.len() > problems_before {
            return None;
        }
        if roots.is_empty() {
            let hint =
                "name at least one directory: an empty snapshot could not be told from a lost one";
            self.refuse(&paths.span(), "paths: nothing is named", hint);
            return None;
        }
        roots.sort_by(|one, other| one.name.cmp(&other.name));
        Some(roots)
    }

    /// A directory in another one would be backed up twice, and a restore could not put both in place.
    fn separate_roots(&mut self, roots: &[FilesRoot], path: &Path, text: &Spanned<String>) {
        for other in roots.iter().filter(|other| overlap(&other.path, path)) {
            let message = format!("paths: {} and {} overlap", other.path.display(), path.display());
            self.refuse(&text.span(), message, "name only the outer one, or narrower paths");
        }
    }

    /// What a directory of a list is called: the last part of its path.
    fn name_of(&mut self, path: &Path, text: &Spanned<String>) -> Option<Name> {
        let last = path.file_name().and_then(|name| name.to_str());
        let name = last.and_then(|name| name.parse().ok());
        if name.is_none() {
            let message = match last {
                Some(last) => format!("paths: '{last}' cannot be the name of a component"),
                None => {
                    "paths: the root directory has no name that its component could take".to_owned()
                }
            };
            self.refuse(&text.span(), message, table_form(path));
        }
        name
    }

    fn exclude(&mut self, patterns: &[Spanned<String>]) -> Option<Vec<String>> {
        let problems_before = self.problems.len();
        for pattern in patterns {
            let text = pattern.get_ref();
            if text.is_empty() {
                let hint = "leave it out: it matches nothing";
                self.refuse(&pattern.span(), "exclude: the pattern is empty", hint);
            } else if let Err(error) = globset::Glob::new(text) {
                let message = format!("exclude: '{text}' is no pattern: {}", error.kind());
                let hint = "write such as \"*.tmp\", \"cache/**\" or \"[ab]?\"";
                self.refuse(&pattern.span(), message, hint);
            }
        }
        let is_fine = self.problems.len() == problems_before;
        is_fine.then(|| patterns.iter().map(|pattern| pattern.get_ref().clone()).collect())
    }

    /// A backup must not read what it writes.
    pub(super) fn no_backup_of_itself(
        &mut self,
        raw: &RawInstance,
        repository: Option<&Repository>,
        state_dir: &Path,
    ) {
        let texts: Vec<&Spanned<String>> = match raw.paths.as_ref().map(Spanned::get_ref) {
            Some(RawPaths::List(list)) => list.iter().collect(),
            Some(RawPaths::Table(table)) => table.values().collect(),
            None => Vec::new(),
        };
        for text in texts {
            let Ok(path) = absolute_path(text.get_ref()) else { continue };
            if let Some(repository) = repository {
                let Location::Local(store) = &repository.location;
                if overlap(&path, store) {
                    let message = format!(
                        "paths: {} and the directory of the repository '{}', {}, overlap: \
                         the repository would back up itself",
                        path.display(),
                        repository.name,
                        store.display()
                    );
                    self.refuse(
                        &text.span(),
                        message,
                        "move the repository, or name narrower paths",
                    );
                }
            }
            if overlap(&path, state_dir) {
                let message = format!(
                    "paths: {} and the state directory {} overlap: Belay would back up its own state",
                    path.display(),
                    state_dir.display()
                );
                let hint =
                    "move the state directory, or name narrower paths; the catalog can be rebuilt";
                self.refuse(&text.span(), message, hint);
            }
        }
    }
}

fn table_form(path: &Path) -> String {
    format!("give names of your own: paths = {{ NAME = \"{}\" }}", path.display())
}

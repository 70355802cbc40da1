//! Discover: which instances run where an access leads to, and the configuration that would back them up.
//!
//! Only containers are looked at. What they say of themselves is not trusted with the shape of the configuration: it stands in
//! quoted texts, or in comments without line breaks.

use super::{Context, OpsError};
use crate::access::{Access, AccessError, Command, ContainerFacts};
use crate::component::environment::EnvironmentFile;
use crate::config::Platform;
use crate::model::node::plays_with_terminal;
use crate::model::via::Via;
use crate::platform::recipe::{Recipe, VersionRecipe};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;

/// Lists and small files have fewer bytes.
const MOST_BYTES: u64 = 1024 * 1024;

const COMPOSE_PROJECT: &str = "com.docker.compose.project";
const COMPOSE_SERVICE: &str = "com.docker.compose.service";
const COMPOSE_DIRECTORY: &str = "com.docker.compose.project.working_dir";

/// Where Appsmith's image keeps what it has to keep.
const STACKS: &str = "/appsmith-stacks";

/// What was found.
#[derive(Debug, Serialize)]
pub struct Discovered {
    /// Each instance.
    pub instances: Vec<DiscoveredInstance>,
    /// A configuration for them, with comments.
    pub config: String,
}

/// An instance that runs.
#[derive(Debug, Serialize)]
pub struct DiscoveredInstance {
    /// What it would be called.
    pub name: String,
    /// Its platform.
    pub platform: String,
    /// How it is reached.
    pub via: String,
    /// The image that it runs.
    pub image: String,
    /// Its version, where it tells.
    pub version: Option<String>,
    /// What is known of its parts, a sentence each.
    pub parts: Vec<String>,
    /// Lines of the configuration besides platform and access.
    #[serde(skip)]
    settings: Vec<String>,
}

/// A running container.
struct Container {
    name: String,
    access: Access,
    facts: ContainerFacts,
}

impl Container {
    fn own(&self, name: &str) -> Option<&str> {
        let own = self.facts.environment.iter().filter_map(|variable| variable.split_once('='));
        let mut own = own.filter(|(key, value)| *key == name && !value.is_empty());
        own.next().map(|(_, value)| value)
    }

    fn label(&self, name: &str) -> Option<&str> {
        self.facts.labels.get(name).map(String::as_str)
    }

    /// The image's name without registry and tag.
    fn image(&self) -> &str {
        let image = self.facts.image.split('@').next().unwrap_or_default();
        let last = image.rfind('/').map_or(0, |slash| slash + 1);
        image[last..].find(':').map_or(image, |colon| &image[..last + colon])
    }

    /// Which platform it runs. Workers and clients of a platform are not its instance.
    fn platform(&self) -> Option<Platform> {
        let image = self.image();
        let is_of =
            |repository: &str| image == repository || image.ends_with(&format!("/{repository}"));
        let has_stacks = self.facts.mounts.iter().any(|mount| mount.destination == STACKS);
        if has_stacks || is_of("appsmith-ce") || is_of("appsmith-ee") {
            return Some(Platform::Appsmith);
        }
        let is_tooljet = self.own("LOCKBOX_MASTER_KEY").is_some() && self.own("PG_DB").is_some();
        (is_tooljet && self.own("WORKER") != Some("true")).then_some(Platform::Tooljet)
    }
}

/// Look at what runs at each of these places.
pub fn discover(
    places: &[Via],
    ssh_config: Option<&Path>,
    context: &Context,
) -> Result<Discovered, OpsError> {
    let mut instances: Vec<DiscoveredInstance> = Vec::new();
    for place in places {
        context.events.phase("looking at", format!("the containers of {place}"));
        let access = Access::new(place.clone(), ssh_config.map(Path::to_owned), &context.cancel);
        let containers = containers(&access)?;
        for container in &containers {
            let found = match container.platform() {
                Some(Platform::Appsmith) => appsmith(container)?,
                Some(Platform::Tooljet) => tooljet(container, &containers),
                _ => continue,
            };
            let is_again = |other: &&DiscoveredInstance| other.name == found.name;
            let again = instances.iter().filter(is_again).count();
            instances.push(found);
            if let (Some(last), 1..) = (instances.last_mut(), again) {
                let _ = write!(last.name, "-{}", again + 1);
            }
        }
    }
    if instances.is_empty() {
        let places: Vec<String> = places.iter().map(ToString::to_string).collect();
        return Err(OpsError::refused(
            format!("no container of Appsmith or ToolJet runs at {}", places.join(", ")),
            "name where they run, such as `belay discover ssh:USER@HOST`; what runs outside of containers is written by hand: see docs/CONFIGURATION.md",
        ));
    }
    let config = configuration(&instances, ssh_config);
    Ok(Discovered { instances, config })
}

fn containers(access: &Access) -> Result<Vec<Container>, OpsError> {
    let list = Command::new("docker").arguments(["ps", "--format", "{{.Names}}"]);
    let list = access.run(&list, &[], MOST_BYTES)?;
    let mut containers = Vec::new();
    for names in String::from_utf8_lossy(&list).lines() {
        // One that is linked from others has several.
        let name = names.split(',').next().unwrap_or_default().trim().to_owned();
        let place = access.via();
        let via = if place.is_local() {
            format!("docker:{name}")
        } else {
            format!("{place}/docker:{name}")
        };
        let Ok(via) = via.parse() else { continue };
        let access = access.to(via);
        // One that ended meanwhile does not run.
        match access.container_facts() {
            Ok(Some(facts)) => containers.push(Container { name, access, facts }),
            Ok(None) | Err(AccessError::Failed { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(containers)
}

fn found(container: &Container, platform: Platform) -> DiscoveredInstance {
    let mut parts = Vec::new();
    if let Some(project) = container.label(COMPOSE_PROJECT) {
        let service = container.label(COMPOSE_SERVICE).unwrap_or_default();
        let directory = container.label(COMPOSE_DIRECTORY).unwrap_or_default();
        parts.push(format!("service {service} of the compose project {project}, in {directory}"));
    }
    DiscoveredInstance {
        name: container.name.clone(),
        platform: platform.to_string(),
        via: container.access.via().to_string(),
        image: container.facts.image.clone(),
        version: None,
        parts,
        settings: Vec::new(),
    }
}

fn appsmith(container: &Container) -> Result<DiscoveredInstance, OpsError> {
    let recipe = Recipe::of(Platform::Appsmith);
    let mut found = found(container, Platform::Appsmith);
    let read = |path: &str| match container.access.read_file(path, MOST_BYTES) {
        Ok(content) => Ok(Some(content)),
        Err(AccessError::Failed { .. }) => Ok(None),
        Err(error) => Err(OpsError::from(error)),
    };
    if let Some(VersionRecipe { file, member }) = &recipe.version {
        let told = read(file)?.and_then(|json| serde_json::from_slice(&json).ok());
        let told: Option<serde_json::Value> = told;
        found.version = told.and_then(|told| Some(told.get(member)?.as_str()?.to_owned()));
    }
    let path = recipe.environment.file.clone().unwrap_or_default();
    let file = read(&path)?.and_then(|content| EnvironmentFile::parse(&content).ok());
    let variable = |name: &str| {
        let of_file = || file.as_ref()?.get(name).filter(|value| !value.is_empty());
        container.own(name).or_else(of_file).map(ToOwned::to_owned)
    };
    let urls = recipe.mongodb.iter().flat_map(|mongodb| &mongodb.url);
    let mongodb = { urls }.find_map(|name| variable(name));
    found.parts.push(match mongodb.as_deref().map(host_of) {
        Some(host) if is_inside(host) => "MongoDB runs inside of it".into(),
        Some(host) => format!("MongoDB is at {host}, and is reached from inside of it"),
        None => "nothing says where its MongoDB is: add component.mongodb = { url = \"credential:NAME\" }".into(),
    });
    match recipe.redis.and_then(|redis| variable(&redis.url)).as_deref().map(host_of) {
        Some(host) if is_inside(host) => found.parts.push("Redis runs inside of it".into()),
        Some(host) => found.parts.push(format!("Redis is at {host}")),
        None => {}
    }
    let missing = recipe.environment.required.iter().filter(|name| variable(name).is_none());
    let missing: Vec<&str> = missing.map(String::as_str).collect();
    found.parts.push(if missing.is_empty() {
        format!("its keys are in its environment ({path}, or the container's own)")
    } else {
        format!(
            "its environment lacks {}: what is encrypted cannot be restored",
            missing.join(" and ")
        )
    });
    let own_postgres = recipe.own_postgres.unwrap_or_default();
    let test = Command::new("test").arguments(["-d", &own_postgres]);
    match container.access.run(&test, &[], 0) {
        Ok(_) => found.settings.push(
            "# Its own PostgreSQL (Keycloak, Temporal):\n# component.postgres = { host = \"localhost\", user = \"postgres\" }".into(),
        ),
        Err(AccessError::Failed { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    found.settings.push(
        "# quiesce = true                             # stop what writes while a backup reads"
            .into(),
    );
    Ok(found)
}

fn tooljet(container: &Container, others: &[Container]) -> DiscoveredInstance {
    let mut found = found(container, Platform::Tooljet);
    let host = container.own("PG_HOST").unwrap_or_default();
    let project = container.label(COMPOSE_PROJECT);
    let is_server = |other: &&Container| {
        let is_named = other.name == host
            || other.label(COMPOSE_SERVICE) == Some(host)
                && other.label(COMPOSE_PROJECT) == project;
        is_named && other.image().contains("postgres")
    };
    match others.iter().find(is_server) {
        Some(server) => {
            let via = server.access.via();
            found.parts.push(format!("PostgreSQL runs in the container {}", server.name));
            found
                .settings
                .push(format!("component.postgres = {{ via = {} }}", quoted(&via.to_string())));
        }
        None => found.parts.push(format!(
            "PostgreSQL is at {host}: psql and pg_dump have to be where it can be reached from; \
             component.postgres = {{ via = \"local\", host = \"…\" }} names another place"
        )),
    }
    found
}

/// The host of a URL, without what may be a secret.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    // A password may have a slash or a question mark in it that nobody escaped.
    let host = rest.rsplit_once('@').map_or(authority, |(_, host)| host);
    host.split(['/', '?']).next().unwrap_or_default()
}

fn is_inside(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    ["localhost", "127.0.0.1", "[::1]"].contains(&name)
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A name as a part of a key: bare where that is possible.
fn key(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if name.bytes().all(is_bare) { name.to_owned() } else { quoted(name) }
}

/// A text for one line of a comment.
fn on_one_line(text: &str) -> String {
    let shown = text.chars().flat_map(|character| {
        let is_strange = plays_with_terminal(character);
        let escaped = is_strange.then(|| character.escape_default());
        escaped.into_iter().flatten().chain((!is_strange).then_some(character))
    });
    shown.collect()
}

const HEAD: &str = r#"# What `belay discover` found. To back it up:
#   1. Save this as /etc/belay/belay.toml.
#   2. Put a long password into /etc/belay/credentials/repository-password, a file that only its owner may read, and
#      keep a copy elsewhere: without it nobody reads the snapshots.
#   3. belay init && belay backup --all
# `belay doctor` says what could be better, and docs/CONFIGURATION.md what else can be set.

[repository.main]
url = "/srv/backup/belay"                    # better on another disk than the instances
password = "credential:repository-password"

[defaults]
keep = { last = 3, daily = 14, weekly = 8, monthly = 12 }
"#;

fn configuration(instances: &[DiscoveredInstance], ssh_config: Option<&Path>) -> String {
    let mut text = HEAD.to_owned();
    if let Some(path) = ssh_config {
        let _ = write!(text, "\n[access]\nssh_config = {}\n", quoted(&path.to_string_lossy()));
    }
    for DiscoveredInstance { name, platform, via, image, version, parts, settings } in instances {
        let version = version.as_deref().map(|it| format!(" {it}")).unwrap_or_default();
        let _ = write!(
            text,
            "\n# {platform}{}, from the image {}",
            on_one_line(&version),
            on_one_line(image)
        );
        for part in parts {
            let _ = write!(text, "\n#   {}", on_one_line(part));
        }
        let _ = write!(
            text,
            "\n[instance.{}]\nplatform = {}\nvia = {}\n",
            key(name),
            quoted(platform),
            quoted(via)
        );
        for setting in settings {
            let _ = writeln!(text, "{setting}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::model::name::Name;

    #[test]
    fn hosts_are_told_without_passwords() {
        for (url, host) in [
            ("mongodb://user:pa/ss?w@rd@localhost:27017/appsmith?x=y", "localhost:27017"),
            ("mongodb://mongo/appsmith", "mongo"),
            ("redis://127.0.0.1:6379", "127.0.0.1:6379"),
            ("mongodb+srv://u:p@cluster.example.net/db", "cluster.example.net"),
        ] {
            assert_eq!(host_of(url), host);
        }
        assert!(
            is_inside("localhost:27017") && is_inside("127.0.0.1") && !is_inside("mongo:27017")
        );
    }

    #[test]
    fn what_containers_say_stays_in_its_place() {
        let instance = DiscoveredInstance {
            name: "app.1".into(),
            platform: "appsmith".into(),
            via: "docker:app.1".into(),
            image: "evil\n[instance.other]".into(),
            version: Some("\u{1b}[2J\"\n".into()),
            parts: vec!["a\nb".into()],
            settings: Vec::new(),
        };
        let text = configuration(&[instance], Some(Path::new("/a \"b\"")));
        let config = Config::parse(&text, "test").unwrap_or_else(|error| panic!("{error}\n{text}"));
        let names: Vec<&str> = config.instances.keys().map(Name::as_str).collect();
        assert_eq!(names, ["app.1"]);
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}

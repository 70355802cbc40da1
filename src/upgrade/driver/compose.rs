//! The driver `compose`: Docker Compose, with the image pinned by tag and digest in its override file, so that an `up` by hand keeps it.
//!
//! What always holds: a file of a person's own is changed by one line for each service only, in one step, and only where Compose makes of it what it
//! made before but for the image.

mod fetched;
mod override_file;
mod state;

use super::image::is_precise;
use super::{DriverError, Image, ImageName, access_failed, refused, script_failed};
use crate::access::{Access, AccessError, Command};
use crate::config::Instance;
use crate::config::pair::{Compose, Script};
use crate::ops::Context;
use crate::ops::quiesce::Switch;
use crate::upgrade::script::ScriptRun;
use override_file::{Unmergeable, differ_by_image_only, image_in, with_image};
use std::sync::OnceLock;
use std::time::Duration;

/// A compose file, or what is printed of it, has less.
const MOST_BYTES: u64 = 16 * 1024 * 1024;
/// How long getting an image may take.
const PULL_LIMIT: Duration = Duration::from_hours(2);
/// How long `up` and `stop` may take by themselves.
const COMMAND_LIMIT: Duration = Duration::from_mins(15);
/// How long a container may take to stop before Docker kills it: a database in it writes down what it has.
const STOP_SECONDS: &str = "120";
/// How long a question to Docker may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// What Compose takes for its file, and for the one that goes over it.
const BASES: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
const OVERRIDES: [&str; 4] = [
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// Prints which of the names are there.
const PRESENT: &str =
    r#"cd -- "$1" || exit 1; shift; for f; do [ ! -e "$f" ] || printf '%s\n' "$f"; done"#;
/// Runs a program in a directory.
const IN_DIRECTORY: &str = r#"cd -- "$1" || exit 1; shift; exec "$@""#;
/// Prints what Compose makes of the file and of what is laid beside the override.
const CONFIG_OF_STAGED: &str = r#"cd -- "$1" || exit 1; base=$2; new=$(readlink -f -- "$3").belay-new; shift 3; exec "$@" -f "$base" -f "$new" config"#;
/// A new file is whose the compose file is: who runs `up` has to read it.
const LIKE_BASE: &str = r#"cd -- "$1" || exit 1; new=$(readlink -f -- "$3").belay-new; chown "$(stat -L -c %u:%g -- "$2")" "$new" && chmod "$(stat -L -c %a -- "$2")" "$new""#;

/// Docker Compose on the host of one instance.
pub struct ComposeDriver<'a> {
    settings: &'a Compose,
    instance: &'a Instance,
    access: Access,
    context: &'a Context,
    /// `docker compose` or `docker-compose`, once it was found.
    program: OnceLock<Vec<&'static str>>,
}

/// The files in the directory.
struct Files {
    base: &'static str,
    /// The override that is there, or that is made.
    over: &'static str,
    is_there: bool,
}

impl<'a> ComposeDriver<'a> {
    pub(super) fn new(
        settings: &'a Compose,
        instance: &'a Instance,
        access: Access,
        context: &'a Context,
    ) -> Self {
        Self { settings, instance, access, context, program: OnceLock::new() }
    }

    /// Get the image of a version: of this digest, where one is given, and otherwise of what the version's tag means today.
    pub(super) fn prepare(
        &self,
        version: &str,
        tested: Option<&Image>,
    ) -> Result<Image, DriverError> {
        let current = self.configured()?;
        let tag = current.tag_of(version);
        let named = &current.name;
        is_precise(self.instance.platform, named, &tag)
            .map_err(|problem| refused(self.instance, problem.to_string(), problem.hint()))?;
        if let Some(tested) = tested {
            if !current.is_same_place(&tested.name) || tested.tag != tag {
                let message = format!("{tested} was tested, and {named}:{tag} is asked for");
                return Err(refused(self.instance, message, "both instances need the same image"));
            }
            let image = Image { name: named.clone(), ..tested.clone() };
            if !self.has(&image)? {
                self.pull(&image.by_digest())?;
            }
            return Ok(image);
        }
        let reference = format!("{named}:{tag}");
        self.pull(&reference)?;
        let digest = self.digest_of(&reference, &current)?;
        Ok(Image { name: named.clone(), tag, digest })
    }

    pub(super) fn image(&self, version: &str, digest: String) -> Result<Image, DriverError> {
        let current = self.configured()?;
        Ok(Image { tag: current.tag_of(version), name: current.name, digest })
    }

    /// Pin an image, make the container of it, and wait until that runs. Its digest says which it is, so that what ran under
    /// a floating tag can be put back, too.
    pub(super) fn install(&self, image: &Image) -> Result<(), DriverError> {
        self.context.events.phase("upgrading", format!("{} to {image}", self.instance.name));
        self.pin(image)?;
        self.up()
    }

    pub(super) fn stop(&self) -> Result<(), DriverError> {
        self.context.events.phase("stopping", self.instance.name.to_string());
        self.compose_told(&with(&["stop", "-t", STOP_SECONDS], &self.services()), COMMAND_LIMIT)
    }

    pub(super) fn switch(&self) -> Result<Switch, DriverError> {
        let (dir, program) = (self.dir()?, self.program()?);
        let services = self.services();
        let words = |arguments: &[&str]| {
            let own = ["sh", "-c", IN_DIRECTORY, "belay", dir];
            let all = own.iter().chain(&program).chain(arguments).chain(&services);
            all.map(|word| (*word).to_owned()).collect()
        };
        Ok(Switch {
            via: self.access.via().to_string(),
            stop: words(&["stop", "-t", STOP_SECONDS]),
            start: words(&["up", "-d", "--no-deps"]),
            limit_seconds: None,
        })
    }

    pub(super) fn start(&self) -> Result<(), DriverError> {
        self.context.events.phase("starting", self.instance.name.to_string());
        self.up()
    }

    /// What else the project has stays as it is.
    fn up(&self) -> Result<(), DriverError> {
        let up = ["up", "-d", "--no-deps"];
        self.compose_told(&with(&up, &[&self.settings.service]), COMMAND_LIMIT)?;
        self.wait_until_running()?;
        // What the service moves at its first start, its workers find moved.
        match &self.services()[1..] {
            [] => Ok(()),
            workers => self.compose_told(&with(&up, workers), COMMAND_LIMIT),
        }
    }

    /// The service, and what is stopped and started with it.
    fn services(&self) -> Vec<&str> {
        let Compose { service, workers, .. } = self.settings;
        std::iter::once(service).chain(workers).map(String::as_str).collect()
    }

    /// Those of them that run the service's image, in what Compose prints.
    fn of_same_image(&self, printed: &str) -> Result<Vec<&str>, DriverError> {
        let own = image_in(printed, &self.settings.service).map(|text| ImageName::parse(&text));
        let mut same = Vec::new();
        for service in self.services() {
            let image = image_in(printed, service).ok_or_else(|| {
                let dir = self.settings.dir.display();
                let message = format!("the compose file in {dir} names no image for {service}");
                refused(self.instance, message, "are compose.service and compose.workers right?")
            })?;
            let name = ImageName::parse(&image).name;
            if own.as_ref().is_some_and(|own| own.is_same_place(&name)) {
                same.push(service);
            }
        }
        Ok(same)
    }

    /// Pin what runs today.
    pub(super) fn adopt(&self, version: Option<&str>) -> Result<Image, DriverError> {
        let running = self.running_image()?.ok_or_else(|| {
            let message = format!("the service {} has no container", self.settings.service);
            refused(self.instance, message, "start it, and adopt it then")
        })?;
        let platform = self.instance.platform;
        let mut image = running;
        if let Err(problem) = is_precise(platform, &image.name, &image.tag) {
            // The digest says which image it is; the tag is for people, and has to tell them the truth.
            let Some(version) = version.filter(|it| is_precise(platform, "", it).is_ok()) else {
                let hint =
                    "its version is not known: write the release's own tag into the compose file";
                return Err(refused(self.instance, problem.to_string(), hint));
            };
            version.clone_into(&mut image.tag);
        }
        self.pin(&image)?;
        self.context.events.note(format!("{}: {image} is pinned.", self.instance.name));
        Ok(image)
    }

    /// Whether an image is there.
    pub(super) fn has(&self, image: &Image) -> Result<bool, DriverError> {
        let reference = image.by_digest();
        let arguments = ["image", "inspect", "--format", "{{.Id}}", &reference];
        match self.docker(&arguments) {
            Ok(_) => Ok(true),
            Err(DriverError::Access { source: AccessError::Failed { said, .. }, .. })
                if said.contains("No such image") =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn pull(&self, reference: &str) -> Result<(), DriverError> {
        self.context.events.phase("getting", reference);
        let script = Script {
            program: "docker".into(),
            arguments: ["pull", reference].map(Into::into).into(),
        };
        self.told(&script, "", PULL_LIMIT)
    }

    /// The digest that a registry has given to an image that is here.
    fn digest_of(&self, reference: &str, named: &ImageName) -> Result<String, DriverError> {
        let arguments = ["image", "inspect", "--format", "{{json .RepoDigests}}", reference];
        let answer = self.docker(&arguments)?;
        let digests: Vec<String> = serde_json::from_slice(&answer).unwrap_or_default();
        let own = digests.iter().filter_map(|it| it.split_once('@'));
        let mut own = own.filter(|(name, _)| named.is_same_place(name));
        own.next().map(|(_, digest)| digest.to_owned()).ok_or_else(|| {
            let message = format!("{reference} has no digest of a registry");
            let hint = "an image that was made here cannot be named for good: push it to a registry, and name that";
            refused(self.instance, message, hint)
        })
    }

    /// What Compose says that the service's image is.
    fn configured(&self) -> Result<ImageName, DriverError> {
        let printed = self.config()?;
        let service = &self.settings.service;
        image_in(&printed, service).map(|text| ImageName::parse(&text)).ok_or_else(|| {
            let message = format!(
                "the compose file in {} names no image for the service {service}",
                self.settings.dir.display()
            );
            refused(
                self.instance,
                message,
                "is compose.service right? An image that is built there cannot be upgraded",
            )
        })
    }

    /// Write the pin, and see that an `up` by hand keeps it.
    fn pin(&self, image: &Image) -> Result<(), DriverError> {
        let reference = image.to_string();
        let files = self.files()?;
        let before = self.config()?;
        let services = self.of_same_image(&before)?;
        let path = format!("{}/{}", self.dir()?, files.over);
        let old = if files.is_there { Some(self.read(&path)?) } else { None };
        let mut new = old.clone();
        for service in &services {
            let pinned = with_image(new.as_deref(), service, &reference);
            new = Some(pinned.map_err(|why| self.unmergeable(why, service, files.over))?);
        }
        if let Some(new) = new.filter(|new| old.as_ref() != Some(new)) {
            let failed = access_failed(self.instance);
            self.access.stage_file(&path, new.as_bytes()).map_err(&failed)?;
            if let Err(error) = self.look_at_staged(&files, &before, &services, &reference) {
                // What is left lies beside, and is no file of Compose's.
                let _ = self.access.anew().drop_staged(&path);
                return Err(error);
            }
            self.access.commit_staged(&path, None).map_err(&failed)?;
        }
        let after = self.config()?;
        if are_pinned(&after, &services, &reference) {
            return Ok(());
        }
        self.take_back(&path, old.as_deref())?;
        let message =
            format!("Docker Compose does not read {path}, so that the pin would mean nothing");
        let hint =
            "does COMPOSE_FILE name other files (in .env)? Leave it out, or make this one of them";
        Err(refused(self.instance, message, hint))
    }

    /// Put the override back as it was.
    fn take_back(&self, path: &str, old: Option<&str>) -> Result<(), DriverError> {
        let failed = access_failed(self.instance);
        if let Some(old) = old {
            self.access.replace_file(path, old.as_bytes()).map_err(failed)
        } else {
            let remove = Command::new("rm").arguments(["-f", "--", path]);
            self.access.run(&remove, &[], 0).map(drop).map_err(failed)
        }
    }

    /// Whether what was laid beside the override does what it should, and nothing else.
    fn look_at_staged(
        &self,
        files: &Files,
        before: &str,
        services: &[&str],
        reference: &str,
    ) -> Result<(), DriverError> {
        let dir = self.dir()?;
        if !files.is_there {
            let like = Command::shell(LIKE_BASE).arguments([dir, files.base, files.over]);
            self.access.run(&like, &[], 0).map_err(access_failed(self.instance))?;
        }
        let command = Command::shell(CONFIG_OF_STAGED)
            .arguments([dir, files.base, files.over])
            .arguments(self.program()?)
            .silence(PATIENCE);
        let printed = self.access.run(&command, &[], MOST_BYTES);
        let printed = printed.map(|it| String::from_utf8_lossy(&it).into_owned());
        let is_right = printed.as_ref().is_ok_and(|printed| {
            are_pinned(printed, services, reference)
                && differ_by_image_only(before, printed, services)
        });
        if is_right {
            return Ok(());
        }
        match printed {
            Err(error @ AccessError::Cancelled(_)) => Err(access_failed(self.instance)(error)),
            _ => Err(self.unmergeable(Unmergeable::Form, &services.join(" and "), files.over)),
        }
    }

    fn unmergeable(&self, why: Unmergeable, service: &str, over: &str) -> DriverError {
        let dir = self.settings.dir.display();
        match why {
            Unmergeable::OwnImage => refused(
                self.instance,
                format!("{dir}/{over} names an image for {service} itself"),
                "take that line out, so that Belay can pin the image there; or write the image into the compose file",
            ),
            Unmergeable::Form => refused(
                self.instance,
                format!(
                    "the image of {service} cannot be pinned in {dir}/{over} without changing something else"
                ),
                format!(
                    "write the service there as a block, `{service}:` with its keys below, indented; or take it out"
                ),
            ),
        }
    }

    /// Which files there are. More than one of a kind means different things to different versions of Compose.
    fn files(&self) -> Result<Files, DriverError> {
        let dir = self.dir()?;
        let look = Command::shell(PRESENT).argument(dir).arguments(BASES).arguments(OVERRIDES);
        let found =
            self.access.run(&look, &[], MOST_BYTES).map_err(access_failed(self.instance))?;
        let found = String::from_utf8_lossy(&found).into_owned();
        let there = |names: [&'static str; 4]| -> Vec<&'static str> {
            names.into_iter().filter(|name| found.lines().any(|it| it == *name)).collect()
        };
        let (bases, overrides) = (there(BASES), there(OVERRIDES));
        let base = match bases[..] {
            [base] => base,
            [] => {
                let message = format!("there is no compose file in {dir}");
                return Err(refused(self.instance, message, "is compose.dir right?"));
            }
            _ => return Err(self.ambiguous(&bases)),
        };
        match overrides[..] {
            [] if base.starts_with("docker-") => {
                Ok(Files { base, over: "docker-compose.override.yml", is_there: false })
            }
            [] => Ok(Files { base, over: "compose.override.yaml", is_there: false }),
            [over] => Ok(Files { base, over, is_there: true }),
            _ => Err(self.ambiguous(&overrides)),
        }
    }

    fn ambiguous(&self, names: &[&str]) -> DriverError {
        let message = format!("{} has {}", self.settings.dir.display(), names.join(" and "));
        refused(
            self.instance,
            message,
            "leave one of them: versions of Docker Compose take different ones",
        )
    }

    fn read(&self, path: &str) -> Result<String, DriverError> {
        let content =
            self.access.read_file(path, MOST_BYTES).map_err(access_failed(self.instance))?;
        String::from_utf8(content.to_vec()).map_err(|_| {
            refused(self.instance, format!("{path} is not UTF-8 text"), "write it as such")
        })
    }

    /// What Compose makes of the files as they are. It holds what the environment of services is: it is not told.
    fn config(&self) -> Result<String, DriverError> {
        let printed = self.compose(&["config"])?;
        Ok(String::from_utf8_lossy(&printed).into_owned())
    }

    fn dir(&self) -> Result<&str, DriverError> {
        self.settings.dir.to_str().ok_or_else(|| {
            refused(self.instance, "compose.dir is not UTF-8 text", "name another directory")
        })
    }

    /// `docker compose`, or the program of its own that it was before.
    fn program(&self) -> Result<Vec<&'static str>, DriverError> {
        if let Some(program) = self.program.get() {
            return Ok(program.clone());
        }
        for program in [vec!["docker", "compose"], vec!["docker-compose"]] {
            let ask = Command::new(program[0])
                .arguments(&program[1..])
                .argument("version")
                .silence(PATIENCE);
            match self.access.run(&ask, &[], MOST_BYTES) {
                Ok(_) => return Ok(self.program.get_or_init(|| program).clone()),
                Err(error @ AccessError::Cancelled(_)) => {
                    return Err(access_failed(self.instance)(error));
                }
                Err(_) => {}
            }
        }
        let message = format!(
            "there is neither `docker compose` nor docker-compose (via {})",
            self.access.via()
        );
        Err(refused(self.instance, message, "install Docker's compose plugin there"))
    }

    /// Ask Compose something.
    fn compose(&self, arguments: &[&str]) -> Result<Vec<u8>, DriverError> {
        let command = Command::shell(IN_DIRECTORY)
            .argument(self.dir()?)
            .arguments(self.program()?)
            .arguments(arguments)
            .silence(PATIENCE);
        let answer = self.access.run(&command, &[], MOST_BYTES);
        answer.map(|it| it.to_vec()).map_err(access_failed(self.instance))
    }

    /// Ask Docker something.
    fn docker(&self, arguments: &[&str]) -> Result<Vec<u8>, DriverError> {
        let command = Command::new("docker").arguments(arguments).silence(PATIENCE);
        let answer = self.access.run(&command, &[], MOST_BYTES);
        answer.map(|it| it.to_vec()).map_err(access_failed(self.instance))
    }

    /// Let Compose do something, and tell what it says.
    fn compose_told(&self, arguments: &[&str], limit: Duration) -> Result<(), DriverError> {
        let program = self.program()?;
        let all = program[1..].iter().chain(arguments).map(|it| (*it).to_owned());
        let script = Script { program: program[0].to_owned(), arguments: all.collect() };
        self.told(&script, self.dir()?, limit)
    }

    fn told(&self, script: &Script, dir: &str, limit: Duration) -> Result<(), DriverError> {
        let run = ScriptRun {
            access: &self.access,
            dir,
            script,
            variables: &[],
            limit,
            cancel: &self.context.cancel,
        };
        let name = &self.instance.name;
        let ran = run.run(&mut |line| self.context.events.note(format!("{name}: {line}")));
        ran.map_err(script_failed(self.instance))
    }
}

/// What Compose is asked to do with services.
fn with<'a>(arguments: &[&'a str], services: &[&'a str]) -> Vec<&'a str> {
    arguments.iter().chain(services).copied().collect()
}

/// Whether each of the services is of that image, in what Compose prints.
fn are_pinned(printed: &str, services: &[&str], reference: &str) -> bool {
    services.iter().all(|service| image_in(printed, service).as_deref() == Some(reference))
}

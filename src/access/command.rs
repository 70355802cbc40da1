//! A command, and how it becomes the argument list that runs it at the end of a chain.

use super::quote;
use super::{Access, AccessError};
use crate::model::via::Hop;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long a command may say nothing before it is given up: a dump that waits for a lock, for example.
const SILENCE: Duration = Duration::from_mins(30);

/// What runs at the far end of an `ssh`: it takes the secrets from the first lines of its input, and becomes the command.
const TAKE_SECRETS: &str = r#"for n in $1; do IFS= read -r v && export "$n=$v" || { echo "the input ended before the secrets" >&2; exit 125; }; done; shift; unset v n; exec "$@""#;

/// A program with its arguments and its environment.
#[derive(Clone)]
pub struct Command {
    pub(super) arguments: Vec<Vec<u8>>,
    pub(super) variables: Vec<(String, String)>,
    pub(super) secrets: Vec<(String, Zeroizing<String>)>,
    pub(super) silence: Duration,
    pub(super) user: Option<User>,
    pub(super) is_gentle: bool,
}

/// A container need not have that program, and what is not gentle does the same.
pub(super) const GENTLY: &str = r#"command -v nice > /dev/null || exec "$@"; exec nice -n 10 "$@""#;

/// Whose rights a command of this host has.
#[derive(Clone)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: PathBuf,
}

impl Command {
    /// A program, by name or path.
    pub fn new(program: &str) -> Self {
        let arguments = vec![program.as_bytes().to_vec()];
        Self {
            arguments,
            variables: Vec::new(),
            secrets: Vec::new(),
            silence: SILENCE,
            user: None,
            is_gentle: false,
        }
    }

    /// A script for `sh`, whose `$1` is the first argument that follows.
    pub fn shell(script: &str) -> Self {
        Self::new("sh").arguments(["-c", script, "belay"])
    }

    /// An argument more, of any bytes but NUL.
    #[must_use]
    pub fn argument(mut self, argument: impl AsRef<[u8]>) -> Self {
        self.arguments.push(argument.as_ref().to_vec());
        self
    }

    /// Several arguments more.
    #[must_use]
    pub fn arguments<A: AsRef<[u8]>>(self, arguments: impl IntoIterator<Item = A>) -> Self {
        arguments.into_iter().fold(self, Self::argument)
    }

    /// A variable of its environment. It shows in argument lists: see [`Command::secret`].
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A variable of its environment that must not show.
    #[must_use]
    pub fn secret(mut self, name: &str, value: &str) -> Self {
        self.secrets.push((name.to_owned(), Zeroizing::new(value.to_owned())));
        self
    }

    /// How long it may neither say nor take anything before it is given up.
    #[must_use]
    pub fn silence(mut self, longest: Duration) -> Self {
        self.silence = longest;
        self
    }

    /// It takes a tenth of what another program there takes where both want all processors: that is waited for, too.
    #[must_use]
    pub fn gently(mut self, is_gentle: bool) -> Self {
        self.is_gentle = is_gentle;
        self
    }

    /// Run it with the rights of another user and in his home; for root, and commands of this host.
    #[must_use]
    pub fn as_user(mut self, uid: u32, gid: u32, home: PathBuf) -> Self {
        self.user = Some(User { uid, gid, home });
        self
    }

    /// The program's name, for messages.
    pub(super) fn program(&self) -> String {
        let name = self.arguments.first().map_or(&b""[..], Vec::as_slice);
        String::from_utf8_lossy(name).into_owned()
    }
}

/// What is started on this host.
pub(super) struct Composed {
    pub(super) command: std::process::Command,
    /// What goes to its standard input first.
    pub(super) preamble: Zeroizing<Vec<u8>>,
}

/// From a command to what is started on this host to run it.
pub(super) fn compose(access: &Access, command: &Command) -> Result<Composed, AccessError> {
    let names: Vec<&str> = command.secrets.iter().map(|(name, _)| name.as_str()).collect();
    let mut arguments = command.arguments.clone();
    if !command.variables.is_empty() {
        let variables = command.variables.iter().map(|(name, value)| format!("{name}={value}"));
        arguments.splice(0..0, std::iter::once("env".to_owned()).chain(variables).map(Into::into));
    }
    if command.is_gentle {
        arguments.splice(0..0, ["sh", "-c", GENTLY, "belay"].map(Into::into));
    }
    let hops = access.via.hops();
    for (position, hop) in hops.iter().enumerate().rev() {
        arguments = match hop {
            Hop::Docker { container } => into_container(container, &names, arguments),
            Hop::Ssh { destination, port } => {
                // Only the first `ssh` runs on this host, where the configuration is.
                let config = access.ssh_config.as_deref().filter(|_| position == 0);
                let config = config.map(|path| path.as_os_str().as_bytes());
                onto_host(config, destination, *port, &names, arguments)
            }
        };
    }
    let mut preamble = Zeroizing::new(Vec::new());
    for _ in hops.iter().filter(|hop| matches!(hop, Hop::Ssh { .. })) {
        for (name, value) in &command.secrets {
            if value.contains('\n') {
                return Err(AccessError::SecretWithLineBreak { name: name.clone() });
            }
            preamble.extend(value.bytes().chain([b'\n']));
        }
    }
    let mut words = arguments.iter().map(|argument| OsStr::from_bytes(argument));
    let mut composed = std::process::Command::new(words.next().unwrap_or_default());
    composed.args(words);
    if !matches!(hops.first(), Some(Hop::Ssh { .. })) {
        composed.envs(command.secrets.iter().map(|(name, value)| (name, value.as_str())));
    }
    if let (Some(User { uid, gid, home }), true) = (&command.user, hops.is_empty()) {
        composed.uid(*uid).gid(*gid).env("HOME", home);
    }
    Ok(Composed { command: composed, preamble })
}

/// `docker exec` hands on variables by name, so their values stay in the environment.
fn into_container(container: &str, secrets: &[&str], inner: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut outer: Vec<Vec<u8>> = ["docker", "exec", "-i"].map(Into::into).to_vec();
    for name in secrets {
        outer.extend(["-e", name].map(Into::into));
    }
    outer.push(container.into());
    outer.extend(if inner.iter().all(|argument| std::str::from_utf8(argument).is_ok()) {
        inner
    } else {
        spelled(&inner)
    });
    outer
}

/// Becomes the command whose arguments it is given in octal digits. The `x` keeps line breaks at an argument's end.
const SPELL: &str =
    r#"for a; do shift; v=$(printf "${a}x"); set -- "$@" "${v%x}"; done; exec "$@""#;

/// The Docker engine takes arguments as JSON, and so as UTF-8: others are spelled out.
fn spelled(arguments: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let octal = |argument: &Vec<u8>| -> Vec<u8> {
        argument.iter().flat_map(|byte| format!("\\{byte:03o}").into_bytes()).collect()
    };
    let mut spelling: Vec<Vec<u8>> = ["sh", "-c", SPELL, "belay"].map(Into::into).to_vec();
    spelling.extend(arguments.iter().map(octal));
    spelling
}

/// Nothing is asked, a dead line is noticed within a minute and a half, and nothing but errors is said.
const SSH: [&str; 16] = [
    "ssh",
    "-T",
    "-a",
    "-x",
    "-o",
    "BatchMode=yes",
    "-o",
    "ConnectTimeout=20",
    "-o",
    "ServerAliveInterval=15",
    "-o",
    "ServerAliveCountMax=6",
    "-o",
    "ClearAllForwardings=yes",
    "-o",
    "LogLevel=ERROR",
];

fn onto_host(
    config: Option<&[u8]>,
    destination: &str,
    port: Option<u16>,
    secrets: &[&str],
    inner: Vec<Vec<u8>>,
) -> Vec<Vec<u8>> {
    let mut outer: Vec<Vec<u8>> = SSH.map(Into::into).to_vec();
    if let Some(config) = config {
        outer.extend([b"-F".to_vec(), config.to_vec()]);
    }
    if let Some(port) = port {
        outer.extend(["-p".into(), port.to_string().into()]);
    }
    outer.extend(["--".into(), destination.into()]);
    let inner = if secrets.is_empty() {
        inner
    } else {
        let mut taking: Vec<Vec<u8>> = ["sh", "-c", TAKE_SECRETS, "belay"].map(Into::into).to_vec();
        taking.push(secrets.join(" ").into());
        taking.extend(inner);
        taking
    };
    outer.push(quote::join(&inner));
    outer
}

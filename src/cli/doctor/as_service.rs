//! `belay doctor --as-service`: the doctor as systemd would start the daemon.
//!
//! A unit of its own is made of what the daemon's unit and its drop-ins say, word for word, with only that changed which makes a
//! service of it; it exists as long as the doctor runs. So it sees what the daemon would see, whatever the drop-ins say.

use super::super::output;
use super::super::{
    arguments::DoctorArguments,
    exit::{Exit, Failure},
    open::Environment,
};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The daemon's unit.
const UNIT: &str = "belay.service";
/// Where units are that end with the boot.
const RUNTIME_UNITS: &str = "/run/systemd/system";
/// Exit codes from here on are of systemd, when it could not start a program: systemd.exec(5), "Process exit codes".
const FIRST_OF_SYSTEMD: u8 = 200;

pub(super) fn run(arguments: &DoctorArguments, environment: &Environment) -> Result<Exit, Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::usage(
            "`belay doctor --as-service` has systemd start a unit, which only root may ask for",
            "run it as root",
        ));
    }
    // As systemd tells it: sd_booted(3).
    if !Path::new(RUNTIME_UNITS).is_dir() {
        return Err(Failure {
            exit: Exit::Failed,
            message: "systemd does not run here, so there is no service to look as".into(),
            hint: Some("without --as-service the doctor looks as you".into()),
        });
    }
    let unit = systemctl(&["cat", "--no-pager", UNIT])?;
    if !unit.status.success() {
        return Err(Failure {
            exit: Exit::Failed,
            message: format!("there is no {UNIT}: {}", said(&unit.stderr)),
            hint: Some("Belay's Debian package brings it".into()),
        });
    }
    let program = std::env::current_exe().map_err(io("find", Path::new("/proc/self/exe")))?;
    let config = fs::canonicalize(&environment.global.config)
        .unwrap_or_else(|_| environment.global.config.clone());
    let mut command = vec![path_text(&program)?, "--config".into(), path_text(&config)?];
    command.extend(environment.global.json.then(|| "--json".to_owned()));
    command.extend(environment.global.quiet.then(|| "--quiet".to_owned()));
    command.push("doctor".into());
    if let Some(name) = &arguments.name {
        command.extend(["--".to_owned(), name.clone()]);
    }
    Examination::begin(&String::from_utf8_lossy(&unit.stdout), &command)?.perform()
}

/// The unit that is made, and where what it says goes; both are taken away at the end.
struct Examination {
    name: String,
    unit: PathBuf,
    said: tempfile::TempDir,
}

impl Examination {
    fn begin(unit: &str, command: &[String]) -> Result<Self, Failure> {
        let name = format!("belay-doctor-{}.service", std::process::id());
        let said = tempfile::Builder::new().prefix("belay-doctor-").tempdir_in("/run");
        let said = said.map_err(io("make a directory in", Path::new("/run")))?;
        let this = Self { unit: Path::new(RUNTIME_UNITS).join(&name), name, said };
        let text = examining(unit, command, this.said.path());
        fs::write(&this.unit, text).map_err(io("write", &this.unit))?;
        Ok(this)
    }

    fn perform(&self) -> Result<Exit, Failure> {
        let started = systemctl(&["start", &self.name])?;
        let read = |name: &str| fs::read(self.said.path().join(name)).unwrap_or_default();
        let shown =
            systemctl(&["show", "--property=ExecMainStatus,ExecMainCode,Result", &self.name])?;
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        let value =
            |key: &str| shown.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        // 1: it ended by itself, with a code of its own (`CLD_EXITED`, waitid(2)).
        let code = (value("ExecMainCode") == Some("1"))
            .then(|| value("ExecMainStatus")?.parse::<u8>().ok())
            .flatten()
            .filter(|code| started.status.success() && *code < FIRST_OF_SYSTEMD);
        // Nobody is left to tell that this failed.
        let _ = std::io::stderr().lock().write_all(&read("stderr"));
        let Some(code) = code else {
            return Err(Failure {
                exit: Exit::Failed,
                message: format!(
                    "systemd could not run the doctor as it runs {UNIT}: {} ({})",
                    said(&started.stderr),
                    shown.trim().replace('\n', ", ")
                ),
                hint: Some(format!("the log tells more: journalctl -u {}", self.name)),
            });
        };
        output::bytes(&read("stdout"))?;
        Ok(Exit::from_code(code))
    }
}

impl Drop for Examination {
    fn drop(&mut self) {
        // One that failed or is still there would show among the units for ever.
        let _ = systemctl(&["stop", &self.name]);
        let _ = systemctl(&["reset-failed", &self.name]);
        let _ = fs::remove_file(&self.unit);
    }
}

/// The unit that runs `command` as the daemon's unit and its drop-ins would, all of which `systemctl cat` has shown.
fn examining(unit: &str, command: &[String], said: &Path) -> String {
    let mut text = String::from("[Unit]\nDescription=Belay: doctor as the service\n\n[Service]\n");
    let mut is_service = false;
    for line in unit.lines() {
        // What a unit waits for, and what it brings with it, is not the doctor's.
        if line.trim_start().starts_with('[') {
            is_service = line.trim() == "[Service]";
        } else if is_service {
            text.push_str(line);
            text.push('\n');
        }
    }
    // The last word counts, and an empty one takes back what was said before.
    text.push_str(
        "\nType=oneshot\nExecCondition=\nExecStartPre=\nExecStart=\nExecStartPost=\nExecReload=\nExecStop=\nExecStopPost=\n\
         Restart=no\nWatchdogSec=0\nTimeoutStartSec=15min\nRemainAfterExit=yes\nRuntimeDirectory=\n\
         StandardInput=null\n",
    );
    let directory = said.display();
    // Whatever the doctor finds it was run; codes from 200 on are systemd's own.
    let codes: Vec<String> = (1..FIRST_OF_SYSTEMD).map(|code| code.to_string()).collect();
    let command: Vec<String> = command.iter().map(|argument| quoted(argument)).collect();
    let _ = write!(
        text,
        "StandardOutput=file:{directory}/stdout\nStandardError=file:{directory}/stderr\n\
         SuccessExitStatus={}\nExecStart={}\n",
        codes.join(" "),
        command.join(" ")
    );
    text
}

/// An argument as a unit's `ExecStart=` takes it: systemd.service(5), "Command lines".
fn quoted(argument: &str) -> String {
    let mut quoted = String::from('"');
    for character in argument.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '%' | '$' => quoted.extend([character, character]),
            '\n' => quoted.push_str("\\n"),
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

fn systemctl(arguments: &[&str]) -> Result<Output, Failure> {
    Command::new("systemctl").args(arguments).env("LC_ALL", "C").output().map_err(|error| Failure {
        exit: Exit::Failed,
        message: format!("systemctl could not be started: {error}"),
        hint: None,
    })
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

fn path_text(path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::usage(
            format!("the path {} cannot be written into a unit", path.display()),
            "use one that is UTF-8",
        )
    })
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    let path = path.display().to_string();
    move |error| Failure {
        exit: Exit::Failed,
        message: format!("could not {action} {path}: {error}"),
        hint: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sandbox_is_that_of_the_unit_and_its_drop_ins() {
        let unit = "# /usr/lib/systemd/system/belay.service\n[Unit]\nOnFailure=page-me.service\n[Service]\nType=notify\n\
                    User=belay\nExecStart=/usr/bin/belay daemon\n[Install]\nWantedBy=multi-user.target\n\
                    # /etc/systemd/system/belay.service.d/docker.conf\n[Service]\nSupplementaryGroups=docker\n";
        let command =
            ["/usr/bin/belay", "doctor", "--", "50 % \"off\" $HOME \\"].map(str::to_owned);
        let made = examining(unit, &command, Path::new("/run/x"));
        let of = |key: &str| -> Vec<&str> {
            made.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
        };
        assert_eq!(of("User"), ["belay"]);
        assert_eq!(of("SupplementaryGroups"), ["docker"]);
        assert_eq!(of("Type"), ["notify", "oneshot"]);
        assert_eq!(
            of("ExecStart"),
            [
                "/usr/bin/belay daemon",
                "",
                r#""/usr/bin/belay" "doctor" "--" "50 %% \"off\" $$HOME \\""#
            ]
        );
        assert_eq!(of("StandardOutput"), ["file:/run/x/stdout"]);
        assert!(of("OnFailure").is_empty() && of("WantedBy").is_empty(), "{made}");
    }
}

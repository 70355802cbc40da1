//! Small files where an instance lives: reading them, and putting others in their place.

use super::{Access, AccessError, Command};
use crate::model::via::Via;
use std::io::Read as _;
use zeroize::Zeroizing;

/// No path has more bytes.
const MOST_OF_PATH: u64 = 64 * 1024;
/// What the engine says of a container in which nothing can be run just now.
const STOPPED: [&str; 2] = ["is not running", "is restarting"];
/// What is around a file in a tar archive.
const MOST_OF_ARCHIVE: u64 = 64 * 1024;

/// Finds the file: whoever owns its directory may have put a link there, which may lead only to what is that one's own.
const FIND: &str = r#"set -eu
umask 077
target=$(readlink -f -- "$1") || { echo "$1 leads nowhere" >&2; exit 1; }
new="$target.belay-new"
at=$1
while [ -L "$at" ]; do
  owner=$(stat -c %u -- "$at")
  [ "$owner" = 0 ] || [ "$owner" = "$(id -u)" ] || [ "$owner" = "$(stat -c %u -- "$target")" ] || {
    echo "$at is a link of another owner than $target, to which it leads: name that file itself" >&2; exit 1; }
  to=$(readlink -- "$at")
  case $to in /*) at=$to ;; *) at=$(dirname -- "$at")/$to ;; esac
done
# Write a new file, of this many bytes, with the owner and the mode of the file. All goes by the open file: under its name
# somebody else may have put another one meanwhile.
lay() {
  rm -f -- "$1"
  set -C; exec 3> "$1"; set +C
  [ -f /proc/self/fd/3 ] || { echo "$1 is no file" >&2; exit 1; }
  cat >&3
  [ "$(wc -c < /proc/self/fd/3)" -eq "$2" ] || { echo "only a part arrived" >&2; exit 1; }
  if [ -e "$target" ]; then
    chown "$(stat -c %u:%g -- "$target")" /proc/self/fd/3
    chmod "$(stat -c %a -- "$target")" /proc/self/fd/3
  fi
  exec 3>&-
  sync "$1" 2>/dev/null || sync
}
# A file that is mounted by itself, as into a container, cannot be exchanged for another, but only written to.
is_mounted() {
  while read -r _ _ _ _ at _; do
    case $at in *\\*) at=$(printf %b "$at") ;; esac
    [ "$at" != "$target" ] || return 0
  done < /proc/self/mountinfo
  return 1
}
"#;

/// Lies beside a file, with the owner and the mode that it has; a new one is the owner's alone.
const STAGE: &str = r#"if is_mounted && ! [ -w "$target" ]; then
  echo "$target is mounted here, and nobody may write to it: name the file itself, from where it is mounted" >&2; exit 1
fi
trap 'rm -f -- "$new"' EXIT
lay "$new" "$2"
trap - EXIT
"#;

/// What lies beside the file takes its place, and the old one stays under a name with another end where one is given. Nothing
/// is done where that was done already.
const COMMIT: &str = r#"old="$target.$2"
if [ -e "$new" ]; then
  if [ -n "$2" ] && [ -e "$target" ] && [ ! -e "$old" ]; then
    lay "$old.belay-new" "$(wc -c < "$target")" < "$target"
    mv -f -- "$old.belay-new" "$old"
  fi
  if is_mounted; then
    exec 4< "$new"
    [ "$(stat -L -c %u /proc/self/fd/4)" = "$(stat -c %u -- "$target")" ] || {
      echo "$new is somebody else's" >&2; exit 1; }
    cat <&4 > "$target"
    sync
    rm -f -- "$new"
  else
    mv -f -- "$new" "$target"
  fi
fi
[ -z "$2" ] || [ ! -e "$old" ] || printf %s "$old"
"#;

const DROP: &str = r#"rm -f -- "$new""#;

fn script(step: &str) -> Command {
    Command::shell(&[FIND, step].concat())
}

impl Access {
    /// A file's content; an error where it has more than `limit` bytes. A container that it is in need not run.
    pub fn read_file(&self, path: &str, limit: u64) -> Result<Zeroizing<Vec<u8>>, AccessError> {
        let read = self.run(&Command::new("cat").argument(path), &[], limit);
        match (read, self.via.container()) {
            (Err(AccessError::Failed { said, .. }), Some(container))
                if STOPPED.iter().any(|words| said.contains(words)) =>
            {
                self.read_of_stopped(container, path, limit)
            }
            (read, _) => read,
        }
    }

    /// The engine hands out what a container has, in a tar archive.
    fn read_of_stopped(
        &self,
        (engine, container): (Via, &str),
        path: &str,
        limit: u64,
    ) -> Result<Zeroizing<Vec<u8>>, AccessError> {
        let source = format!("{container}:{path}");
        let command = Command::new("docker").arguments(["cp", "-L", &source, "-"]);
        let engine = self.to(engine);
        let archive = engine.run(&command, &[], limit.saturating_add(MOST_OF_ARCHIVE))?;
        let strange = |reason: &str| AccessError::Strange {
            program: "docker cp".into(),
            via: engine.via.clone(),
            reason: format!("{path}: {reason}"),
        };
        let mut archive = tar::Archive::new(archive.as_slice());
        let first = archive.entries().ok().and_then(|mut entries| entries.next()?.ok());
        let file = first.filter(|entry| entry.header().entry_type().is_file());
        let file = file.ok_or_else(|| strange("no file"))?;
        let mut content = Zeroizing::new(Vec::new());
        file.take(limit + 1).read_to_end(&mut content).map_err(|_| strange("it is cut off"))?;
        if content.len() as u64 > limit {
            let program = "docker cp".to_owned();
            return Err(AccessError::TooMuch { program, via: engine.via.clone(), limit });
        }
        Ok(content)
    }

    /// Put `content` in the place of a file, in one step but where the file is mounted by itself.
    pub fn replace_file(&self, path: &str, content: &[u8]) -> Result<(), AccessError> {
        self.stage_file(path, content)?;
        self.commit_staged(path, None).map(drop)
    }

    /// Put what was staged for a file in its place, unless that was done already. With `keep` the old one stays beside under its
    /// name, a dot, and that: the whole path is returned.
    pub fn commit_staged(
        &self,
        path: &str,
        keep: Option<&str>,
    ) -> Result<Option<String>, AccessError> {
        let commit = script(COMMIT).arguments([path, keep.unwrap_or_default()]);
        let kept = self.run(&commit, &[], MOST_OF_PATH)?;
        Ok((!kept.is_empty()).then(|| String::from_utf8_lossy(&kept).into_owned()))
    }

    /// Remove what was staged for a file.
    pub fn drop_staged(&self, path: &str) -> Result<(), AccessError> {
        self.run(&script(DROP).argument(path), &[], 0).map(drop)
    }

    /// Put `content` beside a file, complete and durable, for [`Access::commit_staged`].
    pub fn stage_file(&self, path: &str, content: &[u8]) -> Result<(), AccessError> {
        // Without any input none would be connected; the size tells the script that none is meant.
        let size = content.len().to_string();
        self.run(&script(STAGE).arguments([path, &size]), content, 0).map(drop)
    }
}

//! Small files where an instance lives: reading them, and putting others in their place.

use super::{Access, AccessError, Command};
use zeroize::Zeroizing;

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
"#;

/// Lies beside a file, with the owner and the mode that it has; a new one is the owner's alone.
const STAGE: &str = r#"trap 'rm -f -- "$new"' EXIT
lay "$new" "$2"
trap - EXIT
"#;

/// What lies beside the file takes its place. Nothing does where it was done already.
const COMMIT: &str = r#"[ ! -e "$new" ] || mv -f -- "$new" "$target"
"#;

const DROP: &str = r#"rm -f -- "$new""#;

fn script(step: &str) -> Command {
    Command::shell(&[FIND, step].concat())
}

impl Access {
    /// A file's content; an error where it has more than `limit` bytes.
    pub fn read_file(&self, path: &str, limit: u64) -> Result<Zeroizing<Vec<u8>>, AccessError> {
        self.run(&Command::new("cat").argument(path), &[], limit)
    }

    /// Put `content` in the place of a file, in one step.
    pub fn replace_file(&self, path: &str, content: &[u8]) -> Result<(), AccessError> {
        self.stage_file(path, content)?;
        self.commit_staged(path)
    }

    /// Put what was staged for a file in its place, unless that was done already.
    pub fn commit_staged(&self, path: &str) -> Result<(), AccessError> {
        self.run(&script(COMMIT).argument(path), &[], 0).map(drop)
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

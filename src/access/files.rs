//! Small files where an instance lives: reading them, and putting others in their place.

use super::{Access, AccessError, Command};
use zeroize::Zeroizing;

/// Lies beside a file, with the owner and the mode that it has; a new one is the owner's alone.
const STAGE: &str = r#"set -e
target=$(readlink -f -- "$1"); new="$target.belay-new"
trap 'rm -f -- "$new"' EXIT
umask 077
cat > "$new"
[ "$(wc -c < "$new")" -eq "$2" ] || { echo "only a part arrived" >&2; exit 1; }
if [ -e "$target" ]; then
  chown "$(stat -c %u:%g -- "$target")" "$new"
  chmod "$(stat -c %a -- "$target")" "$new"
fi
sync "$new" 2>/dev/null || sync
trap - EXIT
"#;

/// What lies beside the file takes its place. Nothing does where it was done already.
const COMMIT: &str = r#"set -e
target=$(readlink -f -- "$1"); new="$target.belay-new"
[ ! -e "$new" ] || mv -f -- "$new" "$target"
"#;

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
        self.run(&Command::shell(COMMIT).argument(path), &[], 0).map(drop)
    }

    /// Remove what was staged for a file.
    pub fn drop_staged(&self, path: &str) -> Result<(), AccessError> {
        let drop_it = r#"rm -f -- "$(readlink -f -- "$1").belay-new""#;
        self.run(&Command::shell(drop_it).argument(path), &[], 0).map(drop)
    }

    /// Put `content` beside a file, complete and durable, for [`Access::commit_staged`].
    pub fn stage_file(&self, path: &str, content: &[u8]) -> Result<(), AccessError> {
        // Without any input none would be connected; the size tells the script that none is meant.
        let size = content.len().to_string();
        self.run(&Command::shell(STAGE).arguments([path, &size]), content, 0).map(drop)
    }
}

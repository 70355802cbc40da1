//! What is done on the host of a container, in any `sh`.

/// Says `yes` with a volume's canonical path, its size, the room beside it (in KiB) and its device, or `no` with the reason. The arguments
/// are its path, and the inode that its container has there.
pub(super) const LOOK: &str = r#"set -u
LC_ALL=C; export LC_ALL
no() { printf 'no\n%s\n' "$1"; exit 0; }
[ "$(id -u)" = 0 ] || no "only root can copy all of $1, and Belay comes to its host as $(id -un)"
at=$(readlink -f -- "$1") && [ -d "$at" ] || no "$1, which is mounted in its container, is no directory of its host"
[ "$at" != / ] || no "all of its host is mounted in its container"
[ "$(stat -c %d:%i -- "$at")" = "$2" ] || no "$1 on its host is not what its container has: the Docker engine is somewhere else"
while read -r _ _ _ _ mounted _; do
  case $mounted in *\\*) mounted=$(printf %b "$mounted") ;; esac
  case $mounted in
    "$at") no "$at is where a file system is mounted, so that it cannot be renamed" ;;
    "$at"/*) no "another file system is mounted inside of $at, at $mounted" ;;
  esac
done < /proc/self/mountinfo
parent=$(dirname -- "$at")
device=$(stat -c %d -- "$at")
[ "$(stat -c %d -- "$parent")" = "$device" ] || no "$at is not on the file system that it lies in"
size=$(du -sk -- "$at" 2>/dev/null | cut -f 1)
free=$(df -Pk -- "$parent" | tail -n 1 | tr -s ' ' | cut -d ' ' -f 4)
printf 'yes\n%s\n%s\n%s\n%s\n' "$at" "$size" "$free" "$device""#;

/// Whether a container runs; one that is not there does not.
pub(super) const RUNS: &str = r#"said=$(docker inspect --type container -f '{{.State.Running}}' "$1" 2>&1) || case $said in
  *[Nn]"o such container"*) said=false ;;
  *) printf '%s\n' "$said" >&2; exit 1 ;;
esac
printf '%s\n' "$said" | tail -n 1"#;

/// What the steps below are made of.
pub(super) const TOOLS: &str = r#"set -eu
LC_ALL=C; export LC_ALL
umask 077
fail() { printf '%s\n' "$1" >&2; exit 1; }
there() { [ -e "$1" ] || [ -L "$1" ]; }
durable() { sync -f -- "$1" 2>/dev/null || sync; }
"#;

/// Enters the directory that a volume lies in. The arguments are the volume, the name of the directory of copies, and the name of the copy.
/// Everything is named from there, without links on the way.
pub(super) const PLACE: &str = r#"source=$1; area=$2; name=$3; shift 3
parent=$(dirname -- "$source"); base=$(basename -- "$source"); failed=failed-$name
cd -P -- "$parent" || exit 1
[ "$(pwd -P)" = "$parent" ] || fail "$parent was replaced by a link"
ours() {
  [ -d "$area" ] && ! [ -L "$area" ] && [ "$(stat -c %u:%a -- "$area")" = "$(id -u):700" ] ||
    fail "$parent/$area is no directory of Belay's: nobody else may look into it"
}
"#;

/// Copies a volume that nobody writes to. The arguments are a token, and `keep`.
pub(super) const COPY: &str = r#"
[ -d "$base" ] && ! [ -L "$base" ] || fail "$source is not there"
there "$area" || mkdir -- "$area"
ours
cd -- "$area"
if [ "$2" = keep ] && { there "$name" || there "$failed"; }; then exit 0; fi
# One that goes half away must not have the name of one that is whole.
rm -rf -- "$name".part-*
if there "$name"; then mv -T -- "$name" "$name.part-old"; rm -rf -- "$name.part-old"; fi
cp -a --reflink=auto -- "../$base" "$name.part-$1"
durable "$name.part-$1"
mv -T -- "$name.part-$1" "$name"
durable ."#;

/// Says how far a copy is.
pub(super) const STATE: &str = r#"
if there "$area"; then
  ours
  if there "$area/$name"; then echo copied; elif there "$area/$failed"; then echo swapped; fi
fi"#;

/// First the volume goes aside, then the copy takes its place. What somebody has made in that place meanwhile goes aside, too.
pub(super) const SWAP: &str = r#"
ours
if there "$area/$name"; then
  if there "$base"; then
    to=$area/$failed; number=0
    while there "$to"; do number=$((number + 1)); to=$area/$failed~$number; done
    mv -T -- "$base" "$to"
    durable .
  fi
  mv -T -- "$area/$name" "$base"
  durable .
fi
[ -d "$base" ] || fail "neither $source nor its copy $parent/$area/$name is there"
if there "$area/$failed"; then printf %s "${parent%/}/$area/$failed"; fi"#;

/// Removes a copy, and what is unfinished of it, but nothing that was moved aside.
pub(super) const REMOVE: &str = r#"
there "$area" || exit 0
ours
cd -- "$area"
rm -rf -- "$name".part-*
if there "$name"; then mv -T -- "$name" "$name.part-old"; rm -rf -- "$name.part-old"; echo removed; fi
cd ..
rmdir -- "$area" 2>/dev/null || :"#;

/// Enters the directory that the files of a database server lie in. The arguments are what is mounted in the container, where below it they
/// are, and a name.
pub(super) const FILES: &str = r#"source=$(readlink -f -- "$1") && [ -d "$source" ] || fail "$1 is not there"
cd -P -- "$source"
rest=$2
while [ "$rest" != "${rest#*/}" ]; do
  ! [ -L "${rest%%/*}" ] || fail "$(pwd -P)/${rest%%/*} is a link"
  cd -P -- "${rest%%/*}"
  rest=${rest#*/}
done
to=.belay-failed-$3-$rest
"#;

/// Says where they were moved to.
pub(super) const FILES_ASIDE: &str = r#"! there "$to" || printf %s "$(pwd -P)/$to""#;

/// Moves them aside, and leaves an empty directory of the same owner.
pub(super) const MOVE_FILES: &str = r#"if ! there "$to"; then
  [ -d "$rest" ] && ! [ -L "$rest" ] || fail "$(pwd -P)/$rest is no directory"
  mv -T -- "$rest" "$to"
  durable .
fi
if ! there "$rest"; then
  # It has its name only once it is its owner's.
  rm -rf -- "$to.empty"
  mkdir -- "$to.empty"
  chown "$(stat -c %u:%g -- "$to")" "$to.empty"
  chmod "$(stat -c %a -- "$to")" "$to.empty"
  mv -T -- "$to.empty" "$rest"
  durable .
fi
printf %s "$(pwd -P)/$to""#;

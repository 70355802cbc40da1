//! The steps as they run at the far end, in any `sh`. Their arguments are the directory and the tag.

/// Finds the places, and enters the directory in which they are. A whole directory is replaced by one beside it; one that stays
/// has a directory of ours inside, and what is in it is replaced.
pub(super) const PLACE: &str = r#"set -eu
LC_ALL=C; export LC_ALL
umask 077
fail() { printf '%s\n' "$1" >&2; exit 1; }
target=$(readlink -f -- "$1") || fail "the directory that $1 is to be in is not there"
[ "$target" != / ] || fail "$1 is the root of the file system"
[ ! -e "$target" ] || [ -d "$target" ] || fail "$target is no directory"
enter() {
  cd -P -- "$1" || exit 1
  [ "$(pwd -P)" = "$2" ] || fail "$2 was replaced by a link"
}
there() { [ -e "$1" ] || [ -L "$1" ]; }
is_mounted() {
  mounted=
  while read -r _ _ _ _ at _; do
    case $at in *\\*) at=$(printf %b "$at") ;; esac
    case $at in
      "$target") mounted=yes ;;
      "$target"/*) fail "another file system is mounted inside, at $at" ;;
    esac
  done < /proc/self/mountinfo
  [ -n "$mounted" ]
}
parent=$(dirname -- "$target"); name=$(basename -- "$target")
if is_mounted || { [ -d "$target" ] && ! [ -w "$parent" ]; }; then
  way=entries
  enter "$target" "$target"
  work=.belay-restore-$2; part=$work/part; new=$work/new; old=$work/old; kept=.belay-before-$2
else
  way=rename
  enter "$parent" "$parent"
  new=.belay-restore-$2-$name; part=$new.part; kept=.belay-before-$2-$name
fi
# Rename to this name, or to the first that is free with a number behind it.
aside() {
  to=$2; number=0
  while there "$to"; do number=$((number + 1)); to=$2~$number; done
  mv -T -- "$1" "$to"
}
# Call a function with each entry of a directory, but with those that are ours.
each() {
  for entry in "$2"/* "$2"/.[!.]* "$2"/..?*; do
    there "$entry" || continue
    case $2/${entry##*/} in ./.belay-restore-*|./.belay-before-*) continue ;; esac
    "$1" "$entry"
  done
}
out() { aside "$1" "$old/${1##*/}"; }
into() {
  to=./${1##*/}
  if there "$to"; then out "$to"; fi
  mv -T -- "$1" "$to"
}
# Owner, mode, attributes and time of one directory, for another; both are there.
likeness() {
  env tar --create --file=- --format=pax --numeric-owner --no-recursion --xattrs '--xattrs-include=*' -C "$1" . |
    env tar --extract --file=- --numeric-owner --same-owner --same-permissions --xattrs '--xattrs-include=*' \
      --warning=no-timestamp -C "$2"
}
# An empty directory that is like another one; a mark when it appears.
remember() {
  rm -rf -- "$2.part"
  mkdir -- "$2.part"
  likeness "$1" "$2.part"
  sync
  mv -T -- "$2.part" "$2"
}
"#;

/// Becomes tar, in the directory that is to be the new one.
pub(super) const STAGE: &str = r#"
if [ "$way" = entries ]; then
  time=$(stat -c %y .)
  mkdir -p "$work"
  touch -d "$time" .
fi
[ ! -d "${old:-}" ] || fail "a swap of $target has begun: finish it, or undo it"
rm -rf -- "$part" "$new"
mkdir -- "$part"
here=$(pwd -P)
enter "./$part" "${here%/}/$part"
exec env tar --extract --file=- --numeric-owner --same-owner --same-permissions --delay-directory-restore \
  --xattrs '--xattrs-include=*' --warning=no-timestamp
"#;

/// Counts what is there: where it is as many as it should be, it is durable, and complete from now on.
pub(super) const COMPLETE: &str = r#"
[ -d "$part" ] || fail "nothing was staged for $target"
count=$(find "./$part" -print0 | tr -dc '\0' | wc -c)
if [ "$((count))" != "$3" ]; then echo "$((count))"; exit 0; fi
sync
mv -T -- "$part" "$new"
sync
"#;

/// In the end the old state is under the name that is kept; where there was none, an empty file has that name.
pub(super) const SWAP: &str = r#"
if [ "$way" = rename ]; then
  if [ -d "$new" ]; then
    if there "$name"; then aside "$name" "$kept"; elif ! there "$kept"; then : > "$kept"; fi
    sync
    mv -T -- "$new" "$name"
    sync
  fi
  there "$kept" || fail "nothing was staged for $target"
  there "$name" || fail "$target is not there any more"
else
  if [ -d "$new" ]; then
    [ ! -d "$work/undoing" ] || fail "the swap of $target is being undone"
    if ! [ -d "$work/is-aside" ]; then
      [ -d "$work/was" ] || remember . "$work/was"
      mkdir -p "$old"
      each out .
      remember "$new" "$work/is-aside"
    fi
    each into "$new"
    sync
    rmdir "$new"
  fi
  if [ -d "$work/is-aside" ]; then
    [ ! -d "$old" ] || mv -T "$old" "$kept"
    [ -d "$kept/.belay-restore-was" ] || mv -T "$work/was" "$kept/.belay-restore-was"
    sync
    likeness "$work/is-aside" .
  fi
  [ -d "$kept" ] || fail "nothing was staged for $target"
  if [ -d "$work" ]; then
    time=$(stat -c %y .)
    rm -rf -- "$work"
    touch -d "$time" .
  fi
  sync
fi
[ ! -d "$kept" ] || { here=$(pwd -P); printf %s "${here%/}/$kept"; }
"#;

/// Each directory of what is put back is where it was, and what was swapped in is staged again.
pub(super) const UNDO: &str = r#"
if [ "$way" = rename ]; then
  if there "$kept"; then
    if there "$name"; then aside "$name" "$new"; fi
    if [ -d "$kept" ]; then mv -T -- "$kept" "$name"; else rm -f -- "$kept"; fi
    sync
  fi
else
  back() {
    to=./${1##*/}
    if there "$to"; then aside "$to" "$to~"; fi
    mv -T -- "$1" "$to"
  }
  away() { aside "$1" "$new/${1##*/}"; }
  if [ -d "$kept" ] || [ -d "$old" ]; then
    time=$(stat -c %y .)
    mkdir -p "$work"
    touch -d "$time" .
    if ! [ -d "$work/undoing" ]; then
      if [ -d "$work/is-aside" ]; then remember "$work/is-aside" "$work/undoing"
      elif ! [ -d "$old" ]; then remember . "$work/undoing"; fi
    fi
    if [ -d "$kept" ]; then
      [ ! -d "$kept/.belay-restore-was" ] || mv -T "$kept/.belay-restore-was" "$work/was"
      mv -T "$kept" "$old"
    fi
    if [ -d "$work/undoing" ] && ! [ -d "$work/is-away" ]; then
      mkdir -p "$new"
      each away .
      sync
      mkdir "$work/is-away"
    fi
    each back "$old"
    sync
    [ ! -d "$work/was" ] || likeness "$work/was" .
    [ ! -d "$work/undoing" ] || likeness "$work/undoing" "$new"
    rmdir "$old"
  fi
  if [ -d "$work" ]; then rm -rf -- "$work/was" "$work/is-aside" "$work/undoing" "$work/is-away"; fi
  sync
fi
"#;

/// Only what is not swapped in.
pub(super) const ABANDON: &str = r#"
if [ "$way" = entries ]; then
  [ ! -d "$old" ] || fail "the swap of $target has begun: finish it, or undo it"
  time=$(stat -c %y .)
  rm -rf -- "$work"
  touch -d "$time" .
else
  there "$name" || ! there "$kept" || fail "the swap of $target has begun: finish it, or undo it"
  rm -rf -- "$part" "$new" "$new"~*
fi
"#;

/// Only when the swap is finished.
pub(super) const DROP_OLD: &str = r#"
if [ -e "$new" ] || [ -d "${old:-$new}" ] || ! [ -d "$target" ]; then fail "the swap of $target is not finished"; fi
if [ "$way" = entries ]; then time=$(stat -c %y .); fi
rm -rf -- "$kept" "$kept"~*
if [ "$way" = entries ]; then touch -d "$time" .; fi
"#;

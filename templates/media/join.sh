#!/bin/sh
# join.sh [--signers FILE] [--from FOLDER]... HOST DIRECTORY
#
# Puts the parts of one host's archive together and unpacks them into DIRECTORY/HOST, which must not be there yet; beside it come
# what says where the archive is from (*.provenance.json) and what its payload is (*.spdx.json).
# Every part is checked against SHA256SUMS before anything is unpacked, and the unpacked folder by its own verify.sh; parts that are
# missing, damaged or swapped are named, and DIRECTORY is as it was. Nothing is unpacked twice or kept beside it: there must be room
# for the folder alone.
#   --signers FILE   SHA256SUMS, and all sums in the archive, must have a signature by a key of FILE (allowed_signers of ssh-keygen(1))
#   --from FOLDER    parts are looked for there too: one option for each further medium
# Needs a POSIX shell, sha256sum and tar; gzip or zstd as the archive's name says; for signatures ssh-keygen.
# Exit status: 0 unpacked, 1 something differs or could not be unpacked, 2 usage, or something is not there.

set -u
LC_ALL=C
export LC_ALL
unset CDPATH
IFS='' # no word is ever split
newline='
'

stop() { printf 'join: %s\n' "$1" >&2; exit 2; }
fail() { printf 'join: %s\n' "$1" >&2; exit 1; }

# parts: the names of the parts of the archive of HOST, in their order, as SHA256SUMS has them
parts() { sed -n "s/^[0-9a-f]\{64\}  \([A-Za-z0-9.-]*_$host\.tar[.a-z]*\.part-[0-9]\{3\}\)\$/\1/p" "$here/SHA256SUMS" | sort; }

# found PART: prints where it lies
found() {
  printf '%s\n' "$places" | while read -r place; do
    if [ -f "$place/$1" ] && [ ! -L "$place/$1" ]; then printf '%s\n' "$place/$1"; break; fi
  done
}

# differences: a line for each part that is not there, or not as it was packed
differences() {
  parts | while read -r part; do
    file=$(found "$part")
    if [ -z "$file" ]; then
      echo "missing: $part"
    else
      sum=$(sha256sum <"$file")
      grep -qxF "${sum%% *}  $part" "$here/SHA256SUMS" || echo "changed: $part"
    fi
  done
}

# stream: all parts in their order
stream() {
  parts | while read -r part; do
    cat "$(found "$part")" || exit
  done
}

# check_signature: ends the script unless SHA256SUMS is signed by one of the signers
check_signature() {
  command -v ssh-keygen >/dev/null || stop "ssh-keygen is not there"
  { [ -f "$signers" ] && [ -r "$signers" ]; } || stop "no file of signers: $signers"
  case $signers in /*) ;; *) signers=$PWD/$signers ;; esac
  signature=$here/SHA256SUMS.sig
  { [ -f "$signature" ] && [ ! -L "$signature" ]; } || fail "missing: SHA256SUMS.sig"
  principal=$(ssh-keygen -Y find-principals -s "$signature" -f "$signers" 2>/dev/null </dev/null) || fail "bad signature: SHA256SUMS.sig (of none of the signers)"
  principal=${principal%%"$newline"*}
  why=$(ssh-keygen -Y verify -n stowage -I "${principal%%,*}" -s "$signature" -f "$signers" <"$here/SHA256SUMS" 2>&1 >/dev/null) ||
    fail "bad signature: SHA256SUMS.sig (${why%%"$newline"*})"
}

# unpack: streams the parts into the directory $staging
unpack() {
  case $(parts | head -n 1) in
    *.tar.gz.part-*) stream | gzip -dc | tar -xpof - -C "$staging" ;;
    *.tar.zst.part-*) stream | zstd -dcq | tar -xpof - -C "$staging" ;;
    *) stream | tar -xpof - -C "$staging" ;;
  esac
}

main() {
  here=$(cd "$(dirname -- "$0")" && pwd) || stop "cannot enter the folder of $0"
  places=$here signers='' checked='' option='' host='' target=''
  for word; do
    case $option in
      --signers) signers=$word option='' checked=1 ;;
      --from) places=$places$newline$word option='' ;;
      *)
        case $word in
          -h | --help) awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"; exit 0 ;;
          --signers | --from) option=$word ;;
          -*) stop "no option: $word (see --help)" ;;
          *) if [ -z "$host" ]; then host=$word; elif [ -z "$target" ]; then target=$word; else stop "one host and one directory (see --help)"; fi ;;
        esac
        ;;
    esac
  done
  { [ -z "$option" ] && [ -n "$target" ]; } || stop "a host and a directory are wanted (see --help)"
  case $host in *[!a-z0-9.-]*) stop "no name of a host: $host" ;; esac
  for program in sha256sum tar; do command -v "$program" >/dev/null || stop "$program is not there"; done
  { [ -f "$here/SHA256SUMS" ] && [ ! -L "$here/SHA256SUMS" ]; } || stop "SHA256SUMS is not there"
  [ -d "$target" ] || stop "no directory: $target"
  target=$(cd -- "$target" && pwd) || stop "cannot enter $target"
  if [ -n "$checked" ]; then check_signature; fi
  case $(parts) in
    '') stop "no archive of $host is in SHA256SUMS" ;;
    *.tar.gz.part-*) command -v gzip >/dev/null || stop "gzip is not there" ;;
    *.tar.zst.part-*) command -v zstd >/dev/null || stop "zstd is not there: install it, or pack with --compress gzip" ;;
  esac
  [ ! -e "$target/$host" ] || stop "$target/$host is there already"
  wrong=$(differences)
  [ -z "$wrong" ] || { printf '%s\n' "$wrong"; exit 1; }

  staging=$target/.stowage-join.$$
  trap 'rm -rf -- "$staging"' EXIT
  trap 'exit 1' INT TERM HUP
  (umask 077 && mkdir -- "$staging") || stop "cannot write to $target"
  unpack || fail "the archive could not be unpacked"
  { [ -d "$staging/$host" ] && [ -f "$staging/$host/verify.sh" ]; } || fail "the archive holds no folder $host"
  if [ -n "$checked" ]; then set -- --signers "$signers"; else set --; fi
  sh "$staging/$host/verify.sh" "$@" || fail "the unpacked folder is not as it was built"
  { mv -f -- "$staging"/*.json "$target/" && mv -- "$staging/$host" "$target/$host"; } || fail "cannot write to $target"
  echo "join: $target/$host is as it was packed"
}

main "$@"

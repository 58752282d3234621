#!/bin/sh
# verify.sh [--signers FILE] [--in FOLDER] [bundle] [secrets] [payload]
#
# Says whether the folder that it lies in is as it was built: names every file that was changed, is missing or is extra
# against SHA256SUMS beside it. Works in a whole bundle and in the folder of one host. Symbolic links are extra files.
# The overlays secrets/ and payload/ are no part of the folder; where one has a SHA256SUMS of its own, that is verified too.
# Without words all of it is verified; with words only those parts.
#   --signers FILE   every SHA256SUMS must have its signature beside it (SHA256SUMS.sig, made by `stowage sign`), by a key of FILE:
#                    allowed_signers of ssh-keygen(1); without it signatures are not looked at
#   --in FOLDER      verifies that folder, not its own: a copy of this script that you trust, for a medium that you don't
# Needs a POSIX shell and sha256sum, for signatures ssh-keygen; writes nothing, so a read-only medium will do.
# Exit status: 0 as built, 1 something differs (each on a line), 2 could not be verified.

set -u
LC_ALL=C
export LC_ALL
unset CDPATH
IFS='' # no word is ever split; globs still open
newline='
'

stop() { printf 'verify: %s\n' "$1" >&2; exit 2; }

# sums_usable: prints why SHA256SUMS of this directory cannot be believed: it may name files below the directory only, each once
sums_usable() {
  awk '
    function bad(why) { print "line " NR ": " why; exit }
    { name = substr($0, 67) }
    length($0) < 67 || substr($0, 1, 64) ~ /[^0-9a-f]/ || substr($0, 65, 2) != "  " { bad("not a sum and a name") }
    name ~ /^\// { bad("an absolute path") }
    ("/" name "/") ~ /\/\.?\.?\// { bad("a path with ., .. or //") }
    name ~ /^-/ || name ~ /[\\[:cntrl:]]/ { bad("a name that is not safe") }
    name in seen { bad("a second sum of one name") }
    { seen[name] }
  ' SHA256SUMS
}

# files KIND TESTS...: find, for all that is no directory and stands in no overlay
files() {
  kind=$1
  shift
  case $kind in
    bundle) find . -type d \( -path './hosts/*/secrets' -o -path './hosts/*/payload' \) ! -path './hosts/*/*/*' -prune -o ! -type d "$@" ;;
    host) find . -type d \( -path ./secrets -o -path ./payload \) -prune -o ! -type d "$@" ;;
    overlay) find . ! -type d "$@" ;;
  esac
}

# readable: the lines of SHA256SUMS whose file is a regular one (a pipe in its place would block for ever)
readable() {
  while read -r line || [ -n "$line" ]; do
    name=${line#*  }
    if [ -f "$name" ] && [ ! -L "$name" ]; then printf '%s\n' "$line"; fi
  done <SHA256SUMS
}

# differences KIND: a line for each file of this directory that is not as SHA256SUMS says. What was not found right is wrong.
differences() {
  readable | sha256sum -c - 2>/dev/null | sed -n 's/: OK$//p' |
    awk 'pass == 1 { right[$0]; next } !(substr($0, 67) in right) { print substr($0, 67) }' pass=1 - pass=2 SHA256SUMS |
    while read -r name; do
      if [ -f "$name" ]; then printf 'changed: %s\n' "$name"; else printf 'missing: %s\n' "$name"; fi
    done
  files "$1" -type f ! -path "*$newline*" -print |
    awk '
      pass == 1 { sum["./" substr($0, 67)]; next }
      { name = $0 }
      name == "./SHA256SUMS.sig" || kind == "bundle" && name ~ /^\.\/hosts\/[^\/]+\/SHA256SUMS\.sig$/ { sub(/\.sig$/, "", name) }
      name != "./SHA256SUMS" && !(name in sum) { print "extra: " substr($0, 3) }
    ' pass=1 SHA256SUMS kind="$1" pass=2 -
  files "$1" ! -type f ! -path "*$newline*" -print | sed 's/^\.\//extra, no regular file: /'
  # shellcheck disable=SC2016
  files "$1" -path "*$newline*" -exec sh -c 'for name; do printf "extra: %s" "${name#./}" | tr "\n" "?"; echo; done' - {} +
}

# statement PATH OVERLAY: what is signed: the sums; those of an overlay with its host's before them, so that none stands in for another's
statement() {
  if [ -n "$2" ]; then
    [ ! -f ../SHA256SUMS ] || cat ../SHA256SUMS
    printf 'overlay %s\n' "$2"
  fi
  cat "${1}SHA256SUMS"
}

# signed PATH OVERLAY: says why the sums in PATH (empty, or with a slash at its end) are signed by none of the signers
signed() {
  signature=${1}SHA256SUMS.sig
  if [ ! -f "$signature" ] || [ -L "$signature" ]; then echo "missing: $signature"; return; fi
  if principal=$(ssh-keygen -Y find-principals -s "$signature" -f "$signers" 2>/dev/null </dev/null); then
    principal=${principal%%"$newline"*}
    why=$(statement "$1" "$2" | ssh-keygen -Y verify -n stowage -I "${principal%%,*}" -s "$signature" -f "$signers" 2>&1 >/dev/null) && return
  else
    why=$(ssh-keygen -Y find-principals -s "$signature" -f "$signers" 2>&1 >/dev/null </dev/null)
  fi
  echo "bad signature: $signature (${why%%"$newline"*})"
}

# signatures FOLDER KIND: a line for each sum file of this directory without a good signature
signatures() {
  case $2 in
    overlay) signed '' "${1##*/}" ;;
    *) signed '' '' ;;
  esac
  [ "$2" = bundle ] || return 0
  for host in hosts/*/; do
    if [ -f "${host}SHA256SUMS" ] && [ ! -L "${host}SHA256SUMS" ]; then signed "$host" ''; fi
  done
}

# verify_folder FOLDER KIND: prints what differs there and then fails
verify_folder() (
  cd "$1" || stop "$1 cannot be entered"
  if [ -n "$signers" ] && [ "$2" = overlay ] && [ ! -e SHA256SUMS ]; then echo "missing: $1/SHA256SUMS"; exit 1; fi
  { [ -f SHA256SUMS ] && [ ! -L SHA256SUMS ] && [ -r SHA256SUMS ]; } || stop "$1 has no SHA256SUMS"
  why=$(sums_usable)
  [ -z "$why" ] || stop "SHA256SUMS of $1, $why"
  found=$({ differences "$2"; [ -z "$signers" ] || signatures "$1" "$2"; } | tr '\001-\011\013-\037\177' '?') # no control character reaches the terminal
  [ -n "$found" ] || exit 0
  [ "$1" = . ] || found=$(printf '%s\n' "$found" | F=$1/ awk '{ at = index($0, ": "); print substr($0, 1, at + 1) ENVIRON["F"] substr($0, at + 2) }')
  printf '%s\n' "$found"
  exit 1
)

# overlay FOLDER: it is there, and has sums, or has to
overlay() { [ -d "$1" ] && [ ! -L "$1" ] && { [ -n "$signers" ] || [ -e "$1/SHA256SUMS" ]; }; }

main() {
  signers='' checked='' folder=$(dirname -- "$0") option=''
  for word; do
    shift
    case $option in
      --signers) signers=$word option='' checked=' and signed' ;;
      --in) folder=$word option='' ;;
      *)
        case $word in
          -h | --help) awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"; exit 0 ;;
          --signers | --in) option=$word ;;
          bundle | secrets | payload) set -- "$@" "$word" ;;
          *) stop "no part of a bundle: $word (see --help)" ;;
        esac
        ;;
    esac
  done
  [ -z "$option" ] || stop "$option wants a name (see --help)"
  [ $# -gt 0 ] || set -- bundle secrets payload
  command -v sha256sum >/dev/null || stop "sha256sum is not there"
  if [ -n "$checked" ]; then
    command -v ssh-keygen >/dev/null || stop "ssh-keygen is not there"
    { [ -f "$signers" ] && [ -r "$signers" ]; } || stop "no file of signers: $signers"
    case $signers in /*) ;; *) signers=$PWD/$signers ;; esac
  fi
  cd -- "$folder" || stop "cannot enter the folder $folder"
  whole=bundle overlays='hosts/*/'
  [ ! -f host.env ] || whole=host overlays=''
  worst=0
  for part; do
    case $part in
      bundle) where=. kind=$whole ;;
      *) where=$overlays$part kind=overlay ;;
    esac
    for folder in $where; do
      [ "$part" = bundle ] || overlay "$folder" || continue
      verify_folder "$folder" "$kind"
      status=$?
      [ "$status" -le "$worst" ] || worst=$status
    done
  done
  [ "$worst" -gt 0 ] || echo "verify: as built$checked"
  exit "$worst"
}

main "$@"

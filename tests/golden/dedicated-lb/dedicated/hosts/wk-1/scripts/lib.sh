# shellcheck shell=bash
# lib.sh: the frame that every Stowage script stands in. It is sourced, never run:
#
#   STEP=20 TITLE="names, kernel, time"          # HANDOFF='' too, where the step takes --handoff FILE
#   . "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
#   step_check() { ...; }     preconditions, changes nothing (optional)
#   step_do() { ...; }        the work; every change goes through act, lay*, unit_on
#   step_rollback() { ...; }  optional; without it --rollback is refused
#   step_option() { ...; }    optional: gets "$@" at an option that is not ours, sets TAKEN to the words it took, or fails
#   stowage_main "$@"
#
# docs/scripts.md is the contract. Exit status: 0 done, 1 failed, 2 usage, 3 waits for something that is not there yet.

set -Eeuo pipefail
shopt -s inherit_errexit
[[ ${BASH_VERSINFO[0]} -ge 5 ]] || { echo "error: bash 5.0 or newer is needed, this is $BASH_VERSION" >&2; exit 1; }
umask 022
export LC_ALL=C
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin # su without - has no sbin
unset CDPATH
BUNDLE=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
SCRIPT=$(basename -- "$0" .sh)
PLAN='' CHANGES=0 PAYLOAD=''
VERIFY=(sh "$BUNDLE/verify.sh")
SIGNERS=/etc/stowage/signers # who put it there wants every bundle signed
[[ ! -e $SIGNERS && ! -L $SIGNERS ]] || VERIFY+=(--signers "$SIGNERS")
# shellcheck source=lay.sh
. "$BUNDLE/scripts/lay.sh"

# --- words -----------------------------------------------------------------------------------------------------------

# say, note TEXT: one line on stdout (a heading, a detail below it). warn TEXT: one line on stderr.
say() { printf '%s\n' "$*"; }
note() { printf '  %s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }

# die MSG [REMEDY]: says what is wrong and what to do, exits 1.
die() {
  printf 'error: %s\n' "$1" >&2
  [[ -z ${2-} ]] || printf '  remedy: %s\n' "$2" >&2
  trap - ERR
  exit 1
}

# on_error PLACE COMMAND: a command failed that nobody expected to. COMMAND is the text of the script, so it shows no value.
on_error() {
  ((BASH_SUBSHELL == 0)) || exit 1 # the parent says it
  die "stopped at ${1##*/}: $2" "put right what is said above, then run this again"
}

# wait_for_peer WHAT REMEDY: another host or a person has to provide WHAT first; exits 3.
wait_for_peer() {
  printf 'waits for: %s\n  what to do: %s\n' "$1" "$2"
  trap - ERR
  exit 3
}

# finish DONE NEXT: the one last line. Without a change it says so instead of DONE.
finish() {
  if [[ $PLAN ]]; then say "$SCRIPT: plan: $CHANGES to change, nothing was changed. Next: $2"
  elif ((CHANGES)); then say "$SCRIPT: $1 ($CHANGES changed). Next: $2"
  else say "$SCRIPT: nothing to change. Next: $2"; fi
}

# act WHAT CMD...: under --plan prints "would WHAT"; else says WHAT, counts a change and runs CMD (also a function), whose failure ends the script.
act() {
  local what=$1
  shift
  CHANGES=$((CHANGES + 1))
  if [[ $PLAN ]]; then note "would $what"; return; fi
  note "$what"
  "$@"
}

# bounded SECONDS WHAT CMD...: runs CMD every second until it succeeds; fails after SECONDS. CMD must not block by itself. No wait under --plan.
bounded() {
  local seconds=$1 what=$2 end=$((SECONDS + $1))
  shift 2
  if [[ $PLAN ]]; then note "would wait for $what"; return; fi
  if "$@" >/dev/null 2>&1; then return; fi
  note "waiting for $what, at most $seconds s"
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS >= end)); then warn "no $what after $seconds s"; return 1; fi
    sleep 1
  done
}

# json TEXT: as a JSON string; bytes that are no UTF-8 are left out.
json() {
  local text=$1 out='' character i
  if [[ $text == *[!\ -~]* ]]; then text=$(iconv -c -f UTF-8 -t UTF-8 <<<"$text" 2>/dev/null) || [[ $text ]] || text=${1//[!\ -~]/ }; fi # may fail for what it left out
  text=${text//\\/\\\\} text=${text//\"/\\\"} text=${text//$'\n'/\\n} text=${text//$'\t'/\\t}
  if [[ $text == *[[:cntrl:]]* ]]; then
    for ((i = 0; i < ${#text}; i++)); do
      character=${text:i:1}
      if [[ $character == [[:cntrl:]] ]]; then printf -v character '\\u%04x' "'$character"; fi
      out+=$character
    done
    text=$out
  fi
  printf '"%s"' "$text"
}

# usage: the header comment of the running script.
usage() { awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"; }

# --- the bundle ------------------------------------------------------------------------------------------------------

# open_bundle: nothing is believed that is not in SHA256SUMS: verifies this folder and its secrets, then reads host.env.
open_bundle() {
  local found
  found=$("${VERIFY[@]}" bundle secrets 2>&1) ||
    die "$BUNDLE is not as it was built:"$'\n'"$found" "copy the host folder again from the bundle"
  if [[ -d $BUNDLE/secrets && ! -f $BUNDLE/secrets/SHA256SUMS ]]; then
    die "$BUNDLE/secrets has no SHA256SUMS" "fill it with: stowage bundle --secrets DIR"
  fi
  if found=$(grep -vE "^[A-Z][A-Z0-9_]*='([^']|'\\\\'')*'\$" "$BUNDLE/host.env"); then die "host.env has lines that are not assignments: $found"; fi
  # shellcheck source=/dev/null
  . "$BUNDLE/host.env"
  [[ ${FORMAT-} == 1 ]] || die "host.env has format ${FORMAT-none}, these scripts read 1" "take host folder and scripts from one bundle"
  [[ $CLUSTER =~ ^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$ ]] || die "cluster name $CLUSTER is not one"
  VAR=/var/lib/stowage/$CLUSTER BACKUP=/var/lib/stowage/$CLUSTER/backup/${STEP:?} PREVIOUS=/var/lib/stowage/$CLUSTER/previous/$STEP
}

# payload: true when the bundle carries one, whose sums it then verifies (once); PAYLOAD is its folder. A bad payload ends the script.
payload() {
  local found
  [[ -z $PAYLOAD ]] || return 0
  [[ -d $BUNDLE/payload ]] || return 1
  [[ -f $BUNDLE/payload/SHA256SUMS ]] || die "$BUNDLE/payload has no SHA256SUMS" "cd payload && find * -type f ! -name SHA256SUMS -exec sha256sum {} + >SHA256SUMS (on the machine that gathered it)"
  note "verifying the payload"
  found=$("${VERIFY[@]}" payload 2>&1) || die "the payload is not as it was built:"$'\n'"$found" "copy it again"
  PAYLOAD=$BUNDLE/payload
}

# close_secrets: what a stick with FAT, or a careless copy, opened to everybody is root's alone again; where that cannot be, it is said.
close_secrets() {
  local open
  open=$(find "$BUNDLE/secrets" ! -type l -perm /077 -print -quit 2>/dev/null) || :
  if [[ -z $open ]]; then return; fi
  if [[ $PLAN ]]; then note "would take $BUNDLE/secrets from others than root, who may read it"; return; fi
  chmod -R go= -- "$BUNDLE/secrets" 2>/dev/null || :
  open=$(find "$BUNDLE/secrets" ! -type l -perm /077 -print -quit) || :
  if [[ $open ]]; then warn "others than root may read $open: this medium has no modes; mount it with umask=077, or copy the folder from it"
  else note "took $BUNDLE/secrets from others than root, who could read it"; fi
}

# installed PACKAGE: true when a word of PACKAGES is there, in the version that it is pinned to (name=version may hold a *). On RHEL an
# unpinned one may go by another name (iptables-nft, curl-minimal).
installed() {
  local status version
  if [[ $OS_FAMILY == rhel && $1 =~ -[0-9][^-]*(-[^-]+)?$ ]]; then rpm -q --quiet "$1" 2>/dev/null; return; fi
  if [[ $OS_FAMILY == rhel ]]; then rpm -q --quiet --whatprovides "$1" 2>/dev/null; return; fi
  read -r status version <<<"$(dpkg-query -W -f='${db:Status-Status} ${Version}' "${1%%=*}" 2>/dev/null)"
  # shellcheck disable=SC2053 # the pin may be a pattern
  [[ $status == installed && ($1 != *=* || $version == ${1#*=}) ]]
}

# has_address ADDRESS [INTERFACE]: true when this machine carries it (the kernel compares, so any spelling will do).
has_address() {
  local address=${1%/*} bits=32
  [[ $address != *:* ]] || bits=128
  [[ -n $(ip -o address show ${2:+dev "$2"} to "$address/$bits" 2>/dev/null) ]]
}

# neighbour ADDRESS: prints the MAC that answers for it on INTERFACE (ARP or NDP); fails when none does. No package beyond iproute2 is needed:
# a connection attempt makes the kernel ask. An entry that it has not confirmed lately would stand for 5 s more: it is dropped, and asked anew.
neighbour() {
  local entry i
  for ((i = 0; i < 10; i++)); do
    # shellcheck disable=SC2016 # the inner shell expands it; the outcome of the connection is not the question
    timeout 1 bash -c 'exec 3<>"/dev/tcp/$1/9"' - "$1" 2>/dev/null || :
    entry=$(ip neigh show to "$1" dev "$INTERFACE")
    case $entry in
      *REACHABLE* | *PERMANENT*) sed -n 's/.* lladdr \([^ ]*\).*/\1/p' <<<"$entry"; return ;;
      *STALE* | *DELAY* | *PROBE*) ip neigh del "$1" dev "$INTERFACE" 2>/dev/null || : ;; # gone meanwhile
      *) return 1 ;;
    esac
  done
  return 1
}

# holders VIP: the MACs that answer for it, one a line; this machine's own as "here". Only arping (of iputils) and ndisc6 see a second one.
holders() {
  local own
  if has_address "$1"; then echo here; fi
  if [[ $1 != *:* ]] && arping -V 2>&1 | grep -q iputils; then
    # From this host's own address: asked from the VIP, as one that carries it would, another holder does not answer, for it asks itself.
    for own in $ADDRESSES; do if [[ $own != *:* ]]; then break; fi; done
    { timeout 5 arping -b -c 3 -w 3 -s "${own%/*}" -I "$INTERFACE" "$1" || :; } | sed -n 's/.*reply from .* \[\(.*\)\].*/\1/p' | tr 'A-F' 'a-f' | sort -u # no answer is an answer
  elif [[ $1 == *:* ]] && command -v ndisc6 >/dev/null; then
    { timeout 5 ndisc6 -m -q -r 1 -w 1000 "$1" "$INTERFACE" 2>/dev/null || :; } | tr 'A-F' 'a-f' | sort -u
  elif ! has_address "$1"; then
    neighbour "$1" || :
  fi
}

# identity: ends the script on a host that is not HOST.
identity() {
  local address
  for address in $ADDRESSES; do
    if has_address "$address" "$INTERFACE"; then return; fi
  done
  die "this is not $HOST: $INTERFACE carries none of $ADDRESSES" "run the folder of this host, or correct address and interface in the inventory"
}

# room: ends the script before anything is changed when a disk is full: half a step is worse than none.
room() {
  local place free
  for place in /etc /usr /var/lib; do
    free=$(df -Pk "$place" | awk 'NR == 2 { print $4 }')
    ((free >= 16384)) || die "the disk is full: $free KiB are free for $place, 16384 are wanted" "make room, then run this again; nothing was changed"
  done
}

# --- marks and secrets -----------------------------------------------------------------------------------------------

# mark, marked, unmark NAME: a mark of this host in state/ (`init-started`); on disk before mark returns.
mark() { [[ $PLAN ]] || { : >"$VAR/state/$1" && sync -- "$VAR/state/$1"; }; }
marked() { [[ -e $VAR/state/$1 ]]; }
unmark() { [[ $PLAN ]] || rm -f -- "$VAR/state/$1"; }

# secret_there NAME: true when secret will not have to ask.
secret_there() { [[ -f $BUNDLE/secrets/$1 || -f $VAR/secrets/$1 ]]; }

# secret NAME: prints it, without a newline, to a pipe or $(...): from secrets/, from the store of this host, else asked on the terminal (twice) and stored 0600.
secret() {
  local store=$VAR/secrets/$1 typed='' again=''
  [[ $1 =~ ^[A-Za-z0-9][A-Za-z0-9_.-]*$ ]] || die "'$1' is no name of a secret"
  if [[ -f $BUNDLE/secrets/$1 ]]; then cat -- "$BUNDLE/secrets/$1"; return; fi
  if [[ -f $store ]]; then cat -- "$store"; return; fi
  { : </dev/tty; } 2>/dev/null || die "the secret '$1' is not there and no terminal to ask on" "stowage bundle --secrets DIR, or run this on a terminal"
  read -r -s -p "secret '$1' (not shown): " typed </dev/tty 2>/dev/tty && echo >/dev/tty
  read -r -s -p "again: " again </dev/tty 2>/dev/tty && echo >/dev/tty
  [[ -n $typed && $typed == "$again" ]] || die "empty, or not the same twice" "run again"
  (umask 077 && mkdir -p "$VAR/secrets" && printf '%s' "$typed" >"$store.new" && mv -f -- "$store.new" "$store")
  printf '%s' "$typed"
}

# --- the frame -------------------------------------------------------------------------------------------------------

# open_log: from here on all output goes to the terminal and, with the same order, to the log (0600).
open_log() {
  local log=/var/log/stowage/$SCRIPT.log
  (umask 077 && mkdir -p /var/log/stowage && : >>"$log" && chmod 0600 "$log")
  printf '=== %s %s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$HOST" "$SCRIPT $*" >>"$log"
  exec 3>&1 4>&2
  exec > >(exec tee -i -a -- "$log" >&3) 2>&1
  TEE=$!
  trap close_log EXIT
}

# close_log: lets tee write its last line; bounded, for a child that outlives us may hold the pipe.
close_log() {
  local status=$? i
  exec >&3 2>&4
  for ((i = 0; i < 50; i++)); do
    if ! kill -0 "$TEE" 2>/dev/null; then break; fi
    sleep 0.02
  done
  exit "$status"
}

# open_state: the directories of this cluster and step, the lock, and the reloads that a killed run left.
open_state() {
  local file
  (umask 077 && mkdir -p "$VAR/state" "$VAR/handoff" "$BACKUP" "$VAR/pending/$STEP")
  chmod 0700 "$VAR"
  exec {LOCK}>"$VAR/lock"
  # A child of a script that was killed may hold the lock a little longer.
  flock -w 20 "$LOCK" || die "another Stowage script is running on this host, or a program that one has left behind" "wait until it is done, then run this again"
  for file in "$VAR/pending/$STEP"/*; do
    if [[ -e $file ]]; then PENDING[$(basename "$file")]=$(tr '\n' ' ' <"$file"); fi
  done
}

# options WORDS...: reads them into PLAN, ROLLBACK, HANDOFF and what step_option sets; exits at --help (0) and at a mistake (2).
options() {
  ROLLBACK=''
  while (($#)); do
    TAKEN=1
    case $1 in
      -h | --help) usage; exit 0 ;;
      --plan) PLAN=1 ;;
      --rollback) ROLLBACK=1 ;;
      --handoff) [[ -v HANDOFF && -n ${2-} ]] && HANDOFF=$2 TAKEN=2 ;;
      *) declare -F step_option >/dev/null && step_option "$@" ;;
    esac || { printf 'usage: %s does not take %s; see --help\n' "$SCRIPT" "$1" >&2; trap - ERR; exit 2; }
    shift "$TAKEN"
  done
  if [[ $ROLLBACK ]] && ! declare -F step_rollback >/dev/null; then
    printf 'usage: %s takes nothing back; see --help\n' "$SCRIPT" >&2; trap - ERR; exit 2
  fi
}

# stowage_main "$@": the frame around step_check, step_do and step_rollback.
stowage_main() {
  options "$@"
  trap 'on_error "${BASH_SOURCE[0]}:$LINENO" "$BASH_COMMAND"' ERR
  trap 'die "interrupted" "run this again"' INT TERM HUP
  [[ $EUID -eq 0 ]] || die "this changes the host and has to run as root" "sudo bash $0"
  open_bundle
  identity
  if [[ ! $PLAN && ! ${READ_ONLY-} && ! $ROLLBACK ]]; then room; fi
  if [[ ! $PLAN && ! ${NO_LOG-} ]]; then open_log "$@"; fi
  if [[ ! $PLAN && ! ${READ_ONLY-} ]]; then open_state; fi
  [[ ${NO_LOG-} ]] || say "$SCRIPT on $HOST: $TITLE${ROLLBACK:+ (rollback)}"
  [[ ${READ_ONLY-} ]] || close_secrets
  if [[ $ROLLBACK ]]; then step_rollback; return; fi
  if declare -F step_check >/dev/null; then step_check; fi
  step_do
}

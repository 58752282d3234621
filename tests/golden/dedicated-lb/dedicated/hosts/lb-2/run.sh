#!/usr/bin/env bash
# run.sh [NN [OPTIONS] | --list | --plan | --help]
#
# Goes through the steps of this host in order, and stops at the first one whose precondition is not there yet (another host, a
# handoff archive, the payload): it says which and what to do; run it again to go on. Steps that are through have nothing to change
# and say so. Every host ends a step before any host starts the next.
#   NN       runs this one step, with its own options: run.sh 20 --rollback, run.sh 60 --handoff FILE
#   --list   the steps of this host
#   --plan   what each step would change; changes nothing
# Exit status: 0 all done, 1 a step failed, 2 usage, 3 a step waits for something.
set -euo pipefail
STEP=run TITLE="all steps"
# shellcheck source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/scripts/lib.sh"

# steps: the scripts of this host, in order (generator/steps.py has the same table)
steps() {
  echo 00-preflight.sh
  echo 10-packages.sh
  echo 20-host.sh
  if [[ $KUBERNETES == 1 ]]; then echo 30-images.sh; fi
  if [[ $LB == 1 ]]; then echo 40-load-balancer.sh; fi
  case $ROLE in
    control-plane) if [[ $FIRST == 1 ]]; then echo 50-init.sh; else echo 60-join.sh; fi; echo 70-etcd.sh ;;
    worker) echo 65-join.sh ;;
  esac
  if [[ $FIRST == 1 ]]; then echo 80-network.sh; fi
  echo 90-verify.sh
}

title() { sed -n 's/^STEP=.*TITLE="\(.*\)"$/\1/p' "$BUNDLE/scripts/$1"; }

list() {
  local script
  say "$HOST ($ROLE of $CLUSTER)"
  for script in "${SCRIPTS[@]}"; do note "$(printf '%-22s %s' "${script%.sh}" "$(title "$script")")"; done
}

# one NN OPTIONS...: becomes that step
one() {
  local script
  for script in "${SCRIPTS[@]}"; do
    if [[ ${script%%-*} == "$1" ]]; then exec bash "$BUNDLE/scripts/$script" "${@:2}"; fi
  done
  printf 'usage: %s has no step %s on %s; see --list\n' "$SCRIPT" "$1" "$HOST" >&2
  exit 2
}

all() {
  local script status i=0 name
  for script in "${SCRIPTS[@]}"; do
    i=$((i + 1)) name=${script%.sh} status=0
    printf '[%2d/%d] %s %s\n' "$i" "${#SCRIPTS[@]}" "$name" "$(title "$script")"
    bash "$BUNDLE/scripts/$script" "$@" || status=$?
    case $status in
      0) ;;
      3) say "run: stopped before $name, which waits for what is said above. Next: do that, then run this again"; exit 3 ;;
      *) say "run: $name failed. Next: put right what is said above, then run this again"; exit "$status" ;;
    esac
  done
  if [[ $# -gt 0 ]]; then say "run: that is the plan of $HOST; nothing was changed"; else say "run: all ${#SCRIPTS[@]} steps of $HOST are through. Next: nothing"; fi
}

case ${1-} in
  -h | --help) usage; exit 0 ;;
  '' | --list | --plan) [[ $# -le 1 ]] || { echo "usage: $1 stands alone; see --help" >&2; exit 2; } ;;
  [0-9][0-9]) ;;
  *) echo "usage: run does not take $1; see --help" >&2; exit 2 ;;
esac
[[ $EUID -eq 0 ]] || die "this has to run as root" "sudo bash $0"
open_bundle
mapfile -t SCRIPTS < <(steps)
case ${1-} in
  --list) list ;;
  [0-9][0-9]) one "$@" ;;
  *) all "$@" ;;
esac

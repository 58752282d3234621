#!/usr/bin/env bash
# remove-member: takes a dead control plane out of etcd and of the cluster. On a healthy control plane.
#
# usage: bash ops/remove-member.sh [--plan] HOST
#
#   --plan   says what would be done, changes nothing
#
# HOST must be down for good, have lost its data (then, on it: ops/reset.sh --last) or have been reset: a control plane that is well leaves
# with ops/reset.sh, on itself. With three members, remove the dead one before a new one joins: the other way round, two of four would have
# to answer.
# Exit status: 0 done, 1 failed, 2 usage.
set -euo pipefail
STEP=remove-member TITLE="a dead control plane leaves"
# shellcheck source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../scripts/lib.sh"
# shellcheck source=kube.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../scripts/kube.sh"
DEAD=''

step_option() { [[ $1 != -* && -z $DEAD ]] && DEAD=$1; }

step_check() {
  [[ $ROLE == control-plane && -f $MANIFESTS/etcd.yaml ]] || die "$HOST has no etcd" "run it on a healthy control plane"
  [[ $DEAD ]] || die "which host?" "bash ops/remove-member.sh HOST"
  [[ $DEAD != "$HOST" ]] || die "$HOST is this host" "ops/reset.sh"
}

# member: prints "ID CLIENT-URL" of DEAD; one that never started has no name yet, but the address of the inventory.
member() {
  local pair address=-
  for pair in $CONTROL_PLANES; do if [[ ${pair%%=*} == "$DEAD" ]]; then address=$(host_port "${pair#*=}" 2380); fi; done
  etcd_ctl member list | awk -F ', ' -v name="$DEAD" -v peer="https://$address" 'NF > 4 && ($3 == name || $4 == peer) { print $1, $5 }'
}

# alive HOST:PORT: an etcd answers there and takes part. One that came back without its data answers too, but has no quorum to ask.
alive() {
  can_connect "$(tr -d '[]' <<<"${1%:*}")" "${1##*:}" && etcd_ctl "--endpoints=https://$1" endpoint health >/dev/null 2>&1 # beside our own
}

# own WORDS...: kubectl by this host's API server; behind the VIP may be that of DEAD, which has lost its etcd.
own() { kube "--server=https://$(host_port "$(node_address)" "$API_PORT")" "$@"; }

step_do() {
  local id url nodes
  read -r id url <<<"$(member)"
  if [[ $id ]]; then
    if [[ $url == https://* ]]; then
      url=${url#https://} url=${url%%,*}
      if alive "$url"; then die "the etcd of $DEAD answers at $url: it is not dead" "on $DEAD: bash ops/reset.sh"; fi
    fi
    act "take $DEAD ($id) out of etcd" etcd_ctl member remove "$id"
  fi
  nodes=$(own get nodes --output=name) || die "the API server of this host does not say which nodes there are" "see that it is ready, then run this again"
  if [[ $'\n'$nodes$'\n' == *$'\n'"node/$DEAD"$'\n'* ]]; then act "delete node $DEAD" own delete node "$DEAD"; fi
  finish "$DEAD is no member of $CLUSTER any more" "reset and join it again (ops/handoff.sh, step 60), or take it out of the inventory"
}

stowage_main "$@"

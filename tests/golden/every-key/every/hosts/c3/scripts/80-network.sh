#!/usr/bin/env bash
# 80-network: the pod network. On the first control plane.
#
# usage: bash 80-network.sh [--plan]
#
#   --plan   says what would be applied, changes nothing
#
# Applies the objects of manifests/order.tsv in their order and waits between them as each row says. What the cluster has already is
# left alone. With `cni: none` there are no rows, and it passes. At the end, when every planned node has joined, the handoff archives
# of step 50 and the token to join with are removed.
# Exit status: 0 done, 1 failed, 2 usage, 3 waits for something that is not there yet.
set -euo pipefail
STEP=80 TITLE="the pod network"
# shellcheck source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=kube.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/kube.sh"

ORDER=$BUNDLE/manifests/order.tsv
WAIT_SECONDS=300
REQUEST_TIMEOUT=60s # one object may be over a megabyte

step_check() {
  [[ $FIRST ]] || die "step 80 is for the first control plane, $(first_control_plane); this is $HOST" "run.sh runs the steps of this host"
  [[ -f $ADMIN_CONF ]] || not_yet "the cluster" "step 50 on this host"
  files_there
  [[ $PLAN ]] || bounded 60 "the API server at $SERVER" api_ready "$SERVER" || wait_for_peer "the API server at $SERVER" "repair the control plane, then run this again"
}

# rows: order.tsv without its comment lines.
rows() { if [[ -f $ORDER ]]; then grep -v '^#' "$ORDER" || :; fi; }

# files_there: every file of every row, with the sum that the row has, before anything is applied.
files_there() {
  local verb file sum rest
  if [[ $(rows) == *payload/* ]]; then payload || :; fi
  while IFS=$'\t' read -r -u 8 verb file sum rest; do
    [[ $verb =~ ^(create|apply|server-side)$ && $rest ]] || die "order.tsv has a row that these scripts do not know: $verb $file" "take scripts and manifests from one bundle"
    if [[ ! -f $BUNDLE/$file ]]; then not_yet "$BUNDLE/$file" "carry it in payload/, with a payload/SHA256SUMS: it is no part of the committed bundle"; continue; fi
    [[ $sum == - || $(sha256sum <"$BUNDLE/$file") == "$sum  -" ]] || die "$file is not the file that the bundle was made for (sha256 is not $sum)" "get the release that the inventory names"
  done 8< <(rows)
}

step_do() {
  local verb file _ wait missing
  if [[ $CNI == none ]]; then note "cni is none: the pod network is yours to bring; nodes are Ready once it is there"; fi
  while IFS=$'\t' read -r -u 8 verb file _ wait; do
    if there "$verb" "$BUNDLE/$file"; then note "$file: the cluster has it"
    else act "${verb/server-side/apply --server-side} $file" put "$verb" "$BUNDLE/$file"; fi
    if [[ $wait != - ]]; then wait_for "$wait"; fi
  done 8< <(rows)
  if handoff_there; then
    missing=$(missing_nodes) || missing="somebody, as far as the cluster says,"
    if [[ $missing ]]; then note "the token to join with stays, and the handoff archives: ${missing//$'\n'/ } has not joined yet"
    else act "remove the token to join with, and the handoff archives: every planned node has joined" handoff_drop; fi
  fi
  finish "the pod network ($CNI) is applied" "step 90 on every host"
}

# there VERB FILE: the cluster has these objects; for apply and server-side, as they are in FILE. What cannot be compared yet
# (a namespace or a kind that is to come) is not there.
there() {
  case $1 in
    create) kube get --filename="$2" ;;
    apply) kube diff --filename="$2" ;;
    server-side) kube diff --server-side --force-conflicts --field-manager=stowage --filename="$2" ;;
  esac >/dev/null 2>&1
}

# put VERB FILE: a create that was killed half-way finds half of its objects: what counts is that all are there in the end.
put() {
  local said
  case $1 in
    create)
      said=$(kube create --filename="$2" 2>&1) || there create "$2" || die "kubectl create $2: $said" "put right what it says, then run this again"
      ;;
    apply) kube apply --filename="$2" ;;
    server-side) kube apply --server-side --force-conflicts --field-manager=stowage --filename="$2" ;;
  esac
}

# wait_for WORDS: kubectl wait, which fails at once while the object does not exist; so in short turns.
wait_for() {
  local words
  read -r -a words <<<"$1"
  bounded "$WAIT_SECONDS" "$1" kubectl "--kubeconfig=$ADMIN_CONF" wait "${words[@]}" --timeout=5s ||
    die "not there after $WAIT_SECONDS s: $1" "kubectl get pods -A -o wide; then run this again"
}

stowage_main "$@"

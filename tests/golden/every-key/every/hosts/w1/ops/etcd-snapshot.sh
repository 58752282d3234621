#!/usr/bin/env bash
# etcd-snapshot: saves what etcd holds into a file. On any control plane; before an upgrade, and regularly.
#
# usage: bash ops/etcd-snapshot.sh [--plan] [--to DIRECTORY]
#
#   --plan          says what would be done, changes nothing
#   --to DIRECTORY  where the file goes (default: /var/lib/stowage/CLUSTER/snapshots)
#
# The file has every Secret of the cluster in it, as a rule in clear: keep it 0600 and off this host. A restore also needs the files
# of /etc/kubernetes/pki (ops/handoff.sh packs them, encrypted). Old snapshots stay until you remove them.
# Exit status: 0 done, 1 failed, 2 usage.
set -euo pipefail
STEP=etcd-snapshot TITLE="saves what etcd holds"
# shellcheck source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../scripts/lib.sh"
# shellcheck source=kube.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../scripts/kube.sh"
TO=''

step_option() { [[ $1 == --to && -n ${2-} ]] && TO=$2 TAKEN=2; }

step_check() {
  [[ $ROLE == control-plane && -f $MANIFESTS/etcd.yaml ]] || die "$HOST has no etcd" "run it on a control plane"
  TO=${TO:-$VAR/snapshots}
  [[ -d $TO || $TO == "$VAR/snapshots" ]] || die "there is no directory $TO" "make it, or mount the medium"
}

step_do() {
  local file
  file=$TO/$CLUSTER-$HOST-$(date -u +%Y%m%dT%H%M%SZ).db
  act "save $file" save "$file"
  finish "etcd is saved in $file" "keep the file where this host's loss does not take it along"
}

# save FILE: etcdctl may run in the container, which shares no directory with the host but etcd's own.
save() {
  local here=$ETCD_DATA_DIR/.stowage-snapshot.db
  (umask 077 && mkdir -p "$TO")
  rm -f -- "$here" "$here.part"
  etcd_ctl --command-timeout=30m snapshot save "$here"
  (umask 077 && cat -- "$here" >"$1.part")
  rm -f -- "$here"
  sync -- "$1.part"
  mv -fT -- "$1.part" "$1"
}

stowage_main "$@"

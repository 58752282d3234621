#!/usr/bin/env bash
# 65-join: this worker joins.
#
# usage: bash 65-join.sh [--plan] [--handoff FILE]
#
#   --plan          says what would be done, changes nothing
#   --handoff FILE  takes the worker handoff from FILE (a stick, read-only will do)
#                   instead of /var/lib/stowage/CLUSTER/handoff/worker.handoff
#
# The handoff comes from the first control plane. It holds the certificate of the CA and a token that ends (bootstrapToken.ttl), no key;
# a bundle made with --secrets has both in secrets/. After: the kubelet runs with a certificate of its own. The node is not Ready yet: the pod network is step 80. The copy in
# /var/lib/stowage is removed when the join is done; one given with --handoff stays, for the other workers.
# Run again after a kill: what the killed kubeadm left is reset first. A join that finished is never reset.
# Exit status: 0 done, 1 failed, 2 usage, 3 waits for something that is not there yet.
set -euo pipefail
STEP=65 TITLE="worker joins"
HANDOFF='' # it takes one
# shellcheck source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=kube.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/kube.sh"

step_check() {
  here_only worker "workers"
  if marked 65-finished; then return; fi
  if ! marked 65-started; then no_former_cluster; fi
  handoff_find worker
}

step_do() {
  if ! marked 65-finished; then join; fi
  bounded 120 "the kubelet of this host" joined || die "the kubelet has not joined" "journalctl -u kubelet; then run this again"
  handoff_tidy
  if [[ $HANDOFF && ! $PLAN ]]; then note "$HANDOFF stays for the other workers; its token ends $TOKEN_TTL after it was made"; fi
  finish "$HOST is a worker of $CLUSTER" "step 65 on the other workers, then step 70 on the control planes"
}

joined() { [[ -s $KUBE/kubelet.conf ]] && systemctl is-active --quiet kubelet.service; }

join() {
  lay
  reload_changed
  handoff_take stowage-discovery.conf
  if marked 65-started; then act "reset a kubeadm join that did not finish" reset_worker; fi
  no_ready_node
  act "kubeadm join --config $BUNDLE/kubeadm/join.yaml" kubeadm_run join "$BUNDLE/kubeadm/join.yaml"
}

# reset_worker: kubeadm refuses to join where the certificate of the CA lies already.
reset_worker() {
  kubeadm_reset || : # a worker has no member
  rm -f -- "$KUBE/pki/ca.crt"
  unmark 65-started
}

stowage_main "$@"

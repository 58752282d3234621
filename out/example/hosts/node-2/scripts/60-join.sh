#!/usr/bin/env bash
# 60-join: this control plane joins. One host after the other.
#
# usage: bash 60-join.sh [--plan] [--handoff FILE]
#
#   --plan          says what would be done, changes nothing
#   --handoff FILE  takes the control-plane handoff from FILE (a stick, read-only will do)
#                   instead of /var/lib/stowage/CLUSTER/handoff/control-plane.handoff
#
# The handoff comes from the first control plane; its passphrase is asked for, or read from the file that the variable
# STOWAGE_PASSPHRASE_FILE names. A bundle that brings keys (stowage bundle --secrets) has in secrets/ what it would hold. After: this API server is ready and its etcd votes. The node is not Ready yet: the pod network is
# step 80. The archive is removed when the join is done, not before: run again after a kill, this resets what the killed kubeadm
# left and takes the archive in once more. A join that finished is never reset.
# Exit status: 0 done, 1 failed, 2 usage, 3 waits for something that is not there yet.
set -euo pipefail
STEP=60 TITLE="control plane joins"
HANDOFF='' # it takes one
# shellcheck source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=kube.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/kube.sh"

step_check() {
  here_only control-plane "the other control planes"
  [[ -z $FIRST ]] || die "$HOST is the first control plane: it runs step 50" "run.sh runs the steps of this host"
  if marked 60-finished; then return; fi
  if ! marked 60-started; then no_former_cluster; fi
  handoff_find control-plane
}

step_do() {
  if ! marked 60-finished; then join; fi
  bounded 240 "this API server" api_ready "$(host_port "$(node_address)" "$API_PORT")" ||
    die "the API server of this host is not ready" "crictl ps -a; journalctl -u kubelet; then run this again"
  vip_on
  bounded 240 "etcd to count $HOST as a voter" etcd_votes "$HOST" ||
    die "the etcd of this host does not vote" "etcdctl member list on $(first_control_plane); then run this again"
  tidy
  finish "$HOST is a control plane of $CLUSTER" "step 60 on the next control plane, then step 65 on the workers"
}

join() {
  vip_off # until its own API server is ready, this host has to reach the others through the VIP
  lay
  reload_changed
  handoff_take "${SHARED_PKI[@]}" stowage-discovery.conf
  if marked 60-started; then act "reset a kubeadm join that did not finish" reset_member; fi
  no_ready_node
  act "install the shared CA files, then kubeadm join --config $BUNDLE/kubeadm/join.yaml" install_and_join
}

# reset_member: kubeadm reset, when it can take this host's etcd member out of the cluster: a voter that comes back with an empty log has
# forgotten its votes.
reset_member() {
  if [[ -e $MANIFESTS/etcd.yaml && -e $ADMIN_CONF ]] && ! api_ready "$SERVER" >/dev/null 2>&1; then
    wait_for_peer "the API server at $SERVER, to take the etcd member of this host out first" "repair the control plane, then run this again"
  fi
  kubeadm_reset || die "the etcd member of $HOST may have stayed in the cluster" \
    "on $(first_control_plane): bash ops/remove-member.sh $HOST; then run this again"
  unmark 60-started
}

install_and_join() {
  install_pki "$PRIVATE"
  kubeadm_run join "$BUNDLE/kubeadm/join.yaml"
}

# tidy: a handoff on a stick goes with the last control plane; until then another host needs it.
tidy() {
  local missing
  handoff_tidy
  if [[ -z $HANDOFF || ! -e $HANDOFF || $PLAN ]]; then return; fi
  missing=$(missing_nodes) || { warn "$HANDOFF holds the CA keys, and the cluster does not say who needs it yet"; return; }
  missing=$(comm -12 <(printf '%s' "$missing") <(names_of "$CONTROL_PLANES" | sort) | paste -s -d ' ')
  if [[ $missing ]]; then warn "$HANDOFF holds the CA keys; it is needed yet by: $missing"
  elif rm -f -- "$HANDOFF" 2>/dev/null; then note "removed $HANDOFF"
  else warn "$HANDOFF holds the CA keys and cannot be removed from here: destroy it"; fi
}

stowage_main "$@"

#!/usr/bin/env bash
# 50-init: makes the cluster on the first control plane (kubeadm init) and the handoff archives for the others.
#
# usage: bash 50-init.sh [--plan]
#
#   --plan   says what would be done, changes nothing
#
# Before: no cluster was ever here, and the VIP (step 40) is reachable. After: this API server is ready, here and through the
# endpoint, and /var/lib/stowage/CLUSTER/handoff/ holds what the other hosts need to join. The control-plane archive is encrypted:
# the passphrase is asked for twice, or read from the file that the variable STOWAGE_PASSPHRASE_FILE names.
# A bundle that brings keys (stowage bundle --secrets) needs neither: its CAs are taken, its token is made, and nothing is carried.
#
# Run again after a kill: a kubeadm init that did not finish is reset first, as long as etcd has no other member. One that
# finished is never reset. Leaving the cluster is ops/reset.sh.
# Exit status: 0 done, 1 failed, 2 usage, 3 waits for something that is not there yet.
set -euo pipefail
STEP=50 TITLE="kubeadm init, handoff archives"
# shellcheck source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=kube.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/kube.sh"

step_check() {
  here_only control-plane "the first control plane"
  [[ $FIRST ]] || die "step 50 is for the first control plane, $(first_control_plane); this is $HOST" "the others join by step 60"
  if marked 50-finished; then pki_fits; return; fi
  if ! marked 50-started; then no_former_cluster; no_cluster_elsewhere; fi
  if [[ $ENDPOINT ]]; then vip_answers || not_yet "the VIP $VIPS" "finish step 40 on the load balancers: ${LB_HOSTS:-none}"; fi
}

# no_cluster_elsewhere: a first control plane that was reset or replaced would make a second cluster beside the one that the others run.
no_cluster_elsewhere() {
  local pair
  for pair in ${CONTROL_PLANES#* }; do
    if [[ ${pair#*=} == "$(node_address)" ]]; then continue; fi
    if can_connect "${pair#*=}" "$API_PORT"; then
      die "an API server answers on ${pair%%=*}: $CLUSTER is there already, and init would make another one" \
        "name ${pair%%=*} as the first control plane in the inventory, build and carry the bundle; then step 60 here"
    fi
  done
}

# vip_answers: a load balancer has the VIP, maybe this one. The API server is not up yet: nginx takes the connection and drops it; with IPVS
# it is refused, but a neighbour has the VIP. Past a VIP on lo or tunl0 nobody can be asked: it counts when this step put it there, for then
# a load balancer had answered.
vip_answers() {
  local vip
  for vip in $VIPS; do
    if has_address "$vip" "$INTERFACE"; then return; fi
    if has_address "$vip"; then
      if own_vip && [[ $(unit_state "$VIP_UNIT") == *' active' ]]; then return; fi
      continue
    fi
    if can_connect "$vip" "$ENDPOINT_PORT"; then return; fi
    if neighbour "$vip" >/dev/null; then return; fi
  done
  return 1
}

step_do() {
  if marked 50-finished; then vip_on; else init; fi
  bounded 240 "this API server" api_ready "$(host_port "$(node_address)" "$API_PORT")" ||
    die "the API server of this host is not ready" "crictl ps -a; journalctl -u kubelet; then run this again"
  bounded 60 "the API server through $SERVER" api_ready "$SERVER" ||
    die "$SERVER does not lead to this API server" "step 40 on the load balancers: nginx and the VIP; then run this again"
  handoff
  finish "the control plane of $CLUSTER is up (export KUBECONFIG=$ADMIN_CONF)" "${NEXT:-step 70 here}"
}

init() {
  if ! keys_brought && [[ ! $PLAN && $(handoff_names) == *control-plane* ]]; then passphrase twice; fi # while somebody is there to type
  if marked 50-started; then act "reset a kubeadm init that did not finish" reset_alone; fi
  lay
  reload_changed
  if [[ ! $PLAN ]]; then config_valid "$BUNDLE/kubeadm/init.yaml"; fi
  vip_on # kubeadm init reaches this API server through the endpoint
  if keys_brought; then act "install the CA files of the bundle" install_pki "$SECRETS"; fi # kubeadm keeps what it finds
  act "kubeadm init --config $BUNDLE/kubeadm/init.yaml" kubeadm_run init "$BUNDLE/kubeadm/init.yaml" --skip-token-print
}

keys_brought() { brought bootstrap-token "${SHARED_PKI[@]}"; }

# reset_alone: kubeadm reset, unless etcd may have another member, whose quorum this one would take along.
reset_alone() {
  local other peers
  vip_off
  if peers=$(etcd_ctl member list 2>/dev/null); then
    (($(grep -c . <<<"$peers") <= 1)) || die "etcd has other members already, so this init did finish" "look at them; if all is well: touch $VAR/state/50-finished"
  else
    for other in ${CONTROL_PLANES#* }; do
      other=${other#*=}
      if [[ $other != "$(node_address)" ]] && can_connect "$other" 2380; then
        die "an etcd runs on $other, and this one does not answer: it may be a member of that cluster" "repair it; or bash $BUNDLE/ops/reset.sh"
      fi
    done
  fi
  kubeadm_reset || note "etcd was alone: nothing has stayed behind"
  unmark 50-started
}

# handoff: archives, or the token of the bundle, only as long as a planned node is missing, and new ones only when those here no longer do.
handoff() {
  local missing=''
  if [[ ! $PLAN ]] || marked 50-finished; then missing=$(missing_nodes) || die "the cluster does not say which nodes it has"; fi
  if [[ -z $missing && ! $PLAN ]]; then note "every planned node has joined, no handoff is needed"; return; fi
  if [[ -z $(handoff_names) ]]; then return; fi
  if keys_brought; then
    if ! bundle_token_there; then act "make the bootstrap token of the bundle, for $TOKEN_TTL" token_put; fi
    note "every other host has in its own folder what it needs to join: nothing is carried"
    NEXT="step 60 on the other control planes, one after the other"
    if [[ $CONTROL_PLANES != *' '* ]]; then NEXT="step 65 on the workers"; fi
    return
  fi
  if ! handoff_current; then act "write the handoff archives ($(handoff_names | paste -s -d ' '))" handoff_write; fi
  handoff_say
  NEXT="copy the archives, then step 60 on the other control planes, one after the other"
  if [[ $CONTROL_PLANES != *' '* ]]; then NEXT="copy the archive, then step 65 on the workers"; fi
}

stowage_main "$@"

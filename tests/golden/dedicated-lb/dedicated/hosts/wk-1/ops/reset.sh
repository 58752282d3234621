#!/usr/bin/env bash
# reset: this host leaves the cluster. What Kubernetes keeps here is lost.
#
# usage: bash ops/reset.sh [--plan] [--yes HOST] [--last] [--all]
#
#   --plan      says what would be done, changes nothing
#   --yes HOST  the name of this host, instead of typing it when asked
#   --last      also when this is the last member of etcd: the cluster is gone then
#   --all       also what kubeadm reset leaves: /etc/cni/net.d, network interfaces of flannel and Calico, IPVS rules of kube-proxy
#
# kubeadm reset takes the member of this host out of etcd, stops its containers and removes its files. That needs a healthy etcd:
# a reset with another member down could take the quorum along, so it is refused. Packages, images, nginx, keepalived and the VIP
# stay as they are (steps 10 to 40 have --rollback). Afterwards, on a control plane: kubectl delete node HOST.
# Exit status: 0 done, 1 failed, 2 usage.
set -euo pipefail
STEP=reset TITLE="this host leaves the cluster"
# shellcheck source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../scripts/lib.sh"
# shellcheck source=kube.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../scripts/kube.sh"
YES='' LAST='' ALL=''

step_option() {
  case $1 in
    --yes) [[ -n ${2-} ]] && YES=$2 TAKEN=2 ;;
    --last) LAST=1 ;;
    --all) ALL=1 ;;
    *) return 1 ;;
  esac
}

step_check() {
  [[ $KUBERNETES ]] || die "no Kubernetes on this host" "steps 10 to 40 have --rollback"
  if [[ $ROLE == control-plane && -f $MANIFESTS/etcd.yaml && ! $LAST ]]; then leave_etcd; fi
  if [[ $PLAN ]]; then return; fi
  if [[ -z $YES ]]; then
    { : </dev/tty; } 2>/dev/null || die "no terminal to ask on" "--yes $HOST"
    read -r -p "type the name of this host to make it leave cluster $CLUSTER: " YES </dev/tty 2>/dev/tty
  fi
  [[ $YES == "$HOST" ]] || die "this is $HOST, not '$YES'; nothing was changed" "run it on the host that is to leave"
}

# leave_etcd: the others have to be able to go on without this one.
leave_etcd() {
  local members
  members=$(etcd_ctl member list 2>/dev/null) ||
    die "the etcd of this host does not answer, so it cannot be taken out of the cluster from here" \
      "repair it; or on another control plane: bash ops/remove-member.sh $HOST, then here with --last"
  (($(grep -c ', started, ' <<<"$members") > 1)) || die "this is the last member of etcd: the cluster would be lost" "--last, if that is meant"
  etcd_ctl endpoint health --cluster >/dev/null 2>&1 ||
    die "another member of etcd is not healthy: without this one there may be no quorum" "repair or remove that member first (ops/remove-member.sh)"
}

step_do() {
  local mark
  vip_off # kubeadm reset asks another API server
  act "kubeadm reset" reset_here
  for mark in {50,60,65}-{started,finished,tidied} 70-started token-id; do
    if marked "$mark"; then act "forget the mark $mark" unmark "$mark"; fi
  done
  act "remove handoff archives and token" rm -rf -- "$DISCOVERY" "$VAR/handoff" "/run/stowage-$CLUSTER" "$VAR/backup/etcd.yaml"
  if [[ $ALL ]]; then clean_network; else note "/etc/cni/net.d and the interfaces of the pod network stay (--all removes them)"; fi
  note "iptables and nftables rules of kube-proxy and the pod network go with the next boot; /root/.kube is yours"
  if [[ -d $SECRETS ]]; then note "$SECRETS stays, with what it holds of the cluster: destroy it, unless $HOST is to join again"; fi
  if [[ -z $LAST ]]; then note "on a control plane: kubectl delete node $HOST"; fi
  finish "$HOST has left $CLUSTER" "reboot; then step 50, 60 or 65 to join again, or take it out of the inventory"
}

reset_here() {
  kubeadm_reset || [[ $LAST ]] || die "the member of $HOST may have stayed in etcd" "on another control plane: bash ops/remove-member.sh $HOST"
}

# clean_network: on a load balancer IPVS rules stay: they may be keepalived's.
clean_network() {
  local interface
  if compgen -G '/etc/cni/net.d/*' >/dev/null; then act "remove /etc/cni/net.d" rm -rf -- /etc/cni/net.d; fi
  for interface in $(ip -o link show | awk -F ': ' '{ sub(/@.*/, "", $2); print $2 }'); do
    case $interface in
      cni0 | flannel.* | flannel-v6.* | vxlan.calico | vxlan-v6.calico | cali* | tunl0 | kube-ipvs0 | nodelocaldns)
        act "remove the interface $interface" remove_interface "$interface" ;;
    esac
  done
  if [[ $PROXY_MODE == ipvs && -z $LB && -s /proc/net/ip_vs ]] && command -v ipvsadm >/dev/null; then act "clear the IPVS rules" ipvsadm --clear; fi
}

# remove_interface NAME: tunl0 belongs to its module and cannot be deleted, only brought down.
remove_interface() { ip link delete "$1" 2>/dev/null || ip link set "$1" down || :; }

stowage_main "$@"

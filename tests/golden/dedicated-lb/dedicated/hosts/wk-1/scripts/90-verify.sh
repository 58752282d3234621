#!/usr/bin/env bash
# 90-verify: what runs is what was planned. On every host.
#
# usage: bash 90-verify.sh [--plan] [--attest FILE]
#
#   --plan          says what would be checked
#   --attest FILE   also writes what this host is (files, units, the VIP, etcd, certificates, versions; no secret) as FILE, whether or not all
#                   checks pass, to be carried back to `stowage attest`; an older attestation is replaced
#
# Reads only, but for FILE. Every check is a line; all that failed is named at the end, and then the exit status is 1. A control plane answers for the cluster: nodes, versions, every API server through every path,
# etcd and its manifest, certificates; a load balancer for nginx, its watcher, keepalived and the VIP; a worker for its kubelet.
# Before: the pod network (step 80 on the first control plane).
# Exit status: 0 all checks passed, 1 some failed, 2 usage, 3 there is no pod network yet.
set -euo pipefail
STEP=90 TITLE="what runs is what was planned"
READ_ONLY=1 # no lock, no state
# shellcheck source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=kube.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/kube.sh"
# shellcheck source=attest.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/attest.sh"

NODES_SECONDS=300
ATTEST=''
FAILED=() PASSED=0
declare -A HOLDERS=() # VIP -> who answered for it

step_option() { [[ $1 == --attest && -n ${2-} && $2 != -* ]] && ATTEST=$2 TAKEN=2; }

# check WHAT CMD...: one line; what CMD says on stdout is the reason of a failure.
check() {
  local what=$1 said status=0
  shift
  if [[ $PLAN ]]; then note "would check: $what"; return; fi
  said=$("$@" 2>&1) || status=$?
  if ((status == 0)); then PASSED=$((PASSED + 1)); note "ok: $what"; return; fi
  said=${said//$'\n'/; }
  FAILED+=("$what${said:+: ${said:0:300}}")
  note "FAILED: ${FAILED[-1]}"
}

# silent CMD...: true when CMD succeeds and prints nothing; what it prints is the trouble.
silent() {
  local said
  if said=$("$@" 2>&1) && [[ -z $said ]]; then return; fi
  printf '%s\n' "$said"
  return 1
}

# step_check: without a pod network no node gets ready, however long one waits.
step_check() {
  local trouble daemons
  if [[ $ATTEST ]]; then attest_ready "$ATTEST"; fi
  if [[ $PLAN || $ROLE != control-plane ]]; then return; fi
  trouble=$(node_trouble 2>/dev/null)
  if [[ $trouble != *' is not ready'* ]]; then return; fi
  if [[ $CNI == none ]]; then
    if [[ $(kube get nodes 2>/dev/null) =~ [[:space:]]Ready ]]; then return; fi # one is: it is there
    waits "your pod network (cni is none)" "apply it, then run this again"
  fi
  daemons=$(kube get daemonsets --all-namespaces --output=name 2>/dev/null) || return 0
  if [[ ! $daemons =~ /(kube-flannel-ds|calico-node) ]]; then
    waits "step 80 on $(first_control_plane), the pod network" "go on there, then run this again"
  fi
}

# waits WHAT REMEDY: as wait_for_peer; the attestation says it too.
waits() {
  FAILED+=("waits for $1")
  if [[ $ATTEST ]]; then attest "$ATTEST"; fi
  wait_for_peer "$@"
}

step_do() {
  if [[ $KUBERNETES ]]; then verify_kubelet; fi
  if [[ $LB ]]; then verify_load_balancer; fi
  if [[ $VIPS ]]; then verify_vip; fi
  if own_vip; then
    check "$VIP_UNIT is active" systemctl is-active "$VIP_UNIT"
    check "$VIP_UNIT comes back with the host" systemctl is-enabled "$VIP_UNIT"
  fi
  if [[ $ROLE == control-plane ]]; then
    verify_nodes
    verify_paths
    verify_etcd
  fi
  if [[ $PLAN && $ATTEST ]]; then note "would write $ATTEST"; fi
  if [[ $PLAN ]]; then finish "" "nothing"; return; fi
  if [[ $ATTEST ]]; then attest "$ATTEST"; fi
  if ((${#FAILED[@]})); then
    say "$SCRIPT: ${#FAILED[@]} of $((PASSED + ${#FAILED[@]})) checks failed on $HOST:"
    printf '  %s\n' "${FAILED[@]}"
    die "$HOST is not as it was planned" "put right what is named above, then run this again"
  fi
  say "$SCRIPT: all $PASSED checks passed on $HOST. Next: nothing, once every host says so"
}

# --- one host --------------------------------------------------------------------------------------------------------

verify_kubelet() {
  check "kubelet.service is active" systemctl is-active kubelet.service
  check "kubelet.service comes back with the host" systemctl is-enabled kubelet.service
  check "certificates are valid for 30 days and more" silent certificates
  check "no handoff and no token lie about" silent leftovers
  if [[ $ROLE == worker ]]; then
    check "no CA key on a worker" silent find "$KUBE/pki" -name '*.key'
    if command -v kubectl >/dev/null; then
      check "the API server answers at $SERVER" kubectl "--kubeconfig=$KUBE/kubelet.conf" --request-timeout=10s get --raw=/readyz
    fi
  fi
}

leftovers() { find "$VAR/handoff" "$DISCOVERY" "/run/stowage-$CLUSTER" \( -name '*.handoff' -o -name '*.conf' \) -print 2>/dev/null || :; }

# certificate_files: those with a certificate of this host or its CAs, also kubeconfigs that have one inside.
certificate_files() {
  local file
  for file in "$KUBE"/pki/*.crt "$KUBE"/pki/etcd/*.crt /var/lib/kubelet/pki/kubelet-client-current.pem "$KUBE"/*.conf; do
    if [[ -f $file && ($file != *.conf || $(certificate "$file")) ]]; then printf '%s\n' "$file"; fi
  done
}

# certificate FILE: prints what FILE has; of a kubeconfig, the one inside.
certificate() {
  if [[ $1 == *.conf ]]; then sed -n 's/^ *client-certificate-data: *//p' "$1" | base64 -d; else sed '/^-----BEGIN.*PRIVATE KEY/,/^-----END/d' "$1"; fi
}

# certificates: those that end within 30 days, one a line.
certificates() {
  local file text
  while IFS= read -r -u 8 file; do
    text=$(certificate "$file")
    if openssl x509 -noout -checkend $((30 * 86400)) <<<"$text" >/dev/null 2>&1; then continue; fi
    printf '%s: %s\n' "$file" "$(openssl x509 -noout -enddate <<<"$text" 2>&1)"
  done 8< <(certificate_files)
}

# balancer_units: those that a load balancer is made of.
balancer_units() {
  if [[ $LB ]]; then echo keepalived.service; fi
  if [[ $LB_ENGINE == nginx ]]; then printf '%s\n' nginx.service stowage-watcher.service; fi
}

verify_load_balancer() {
  local unit address port
  for unit in $(balancer_units); do
    check "$unit is active" systemctl is-active "$unit"
    check "$unit comes back with the host" systemctl is-enabled "$unit"
  done
  if [[ $LB_ENGINE == nginx && $LB_CHECK ]]; then
    read -r address port <<<"$LB_CHECK"
    check "nginx answers its health check at $LB_CHECK" can_connect "$address" "$port"
  fi
}

# --- the VIP ---------------------------------------------------------------------------------------------------------

verify_vip() {
  local vip
  for vip in $VIPS; do
    if [[ $LB ]]; then # the others may be behind a router, where ARP says nothing
      if has_address "$vip" "$INTERFACE"; then note "this host holds the VIP $vip"; fi
      if [[ ! $PLAN ]]; then HOLDERS[$vip]=$(holders "$vip") || :; fi
      check "one host answers for the VIP $vip" one_holder "$vip"
    fi
    check "$(host_port "$vip" "$ENDPOINT_PORT") takes connections" can_connect "$vip" "$ENDPOINT_PORT"
  done
}

# one_holder VIP: says who, where it is not one.
one_holder() {
  local who=${HOLDERS[$1]}
  [[ $who && $who != *$'\n'* ]] || { echo "${who:-nobody} does" | paste -s -d ' '; return 1; }
}

# --- the cluster -----------------------------------------------------------------------------------------------------

verify_nodes() {
  bounded "$NODES_SECONDS" "every node to be ready" silent node_trouble 2>/dev/null || :
  check "every node of the inventory is there and ready, with v$KUBERNETES_VERSION" silent node_trouble
}

# node_trouble: one line for each node of the inventory that is missing, not ready or of another version.
node_trouble() {
  local nodes
  nodes=$(kube get nodes --output='jsonpath={range .items[*]}{.metadata.name} {.status.nodeInfo.kubeletVersion} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}') ||
    { echo "the API server does not list nodes"; return 0; }
  awk -v planned="$(names_of "$CONTROL_PLANES $WORKERS" | tr '\n' ' ')" -v version="v$KUBERNETES_VERSION" '
    NF { seen[$1]; if ($2 != version) print $1 " runs " $2; if ($3 != "True") print $1 " is not ready" }
    END { n = split(planned, name, " "); for (i = 1; i <= n; i++) if (!(name[i] in seen)) print name[i] " has not joined" }' <<<"$nodes"
}

# verify_paths: each API server by itself, then through each load balancer, then by the name in the kubeconfigs. A load balancer has no
# name in the certificate of the API server: there the one that all of them have is asked for.
verify_paths() {
  local pair at
  for pair in $CONTROL_PLANES; do
    at=$(host_port "${pair#*=}" "$API_PORT")
    check "${pair%%=*} answers at $at" api_ready "$at"
  done
  if [[ -z $ENDPOINT ]]; then return; fi
  if [[ $LB_ENGINE != ipvs ]]; then
    for pair in $LB_HOSTS; do
      at=$(host_port "${pair#*=}" "$ENDPOINT_PORT")
      check "an API server answers through ${pair%%=*} at $at" api_ready "$at" --tls-server-name=kubernetes
    done
  fi
  check "an API server answers at $SERVER" api_ready "$SERVER"
}

verify_etcd() {
  check "etcd has the control planes as members, all started, voting and healthy" silent etcd_trouble
  check "the etcd manifest lists all members and no state" silent manifest_trouble
  check "no other file in $MANIFESTS" silent other_manifests
}

manifest_trouble() {
  local listed name
  listed=$(sed -n 's/^    - --initial-cluster=//p' "$MANIFESTS/etcd.yaml" | tail -n 1) # etcd takes the last
  for name in $(names_of "$CONTROL_PLANES"); do
    [[ ",$listed" == *",$name="* ]] || echo "$name is not listed: run step 70"
  done
  if grep -q '^    - --initial-cluster-state' "$MANIFESTS/etcd.yaml"; then echo "it has --initial-cluster-state: run step 70"; fi
}

# other_manifests: the kubelet runs every file there whose name does not begin with a dot, a backup of a manifest too.
other_manifests() {
  find "$MANIFESTS" -maxdepth 1 -type f ! -name '.*' ! -name etcd.yaml ! -name kube-apiserver.yaml ! -name kube-controller-manager.yaml ! -name kube-scheduler.yaml
}

stowage_main "$@"

#!/usr/bin/env bash
# 00-preflight.sh [--json] [--plan] [--help]
#
# Looks at this host and changes nothing but its log. Says every failure at once, each with what to do. An error stops the bring-up
# sooner or later; a warning may; a note is for your information. Passes again on hosts that later steps have been through.
#   --json  prints the findings as one JSON document, without a log
#   --plan  the same as without
# Exit status: 0 no error, 1 errors, 2 usage.
set -euo pipefail
STEP=00 TITLE="read-only checks of this host"
# shellcheck disable=SC2034 # lib.sh reads it
READ_ONLY=1
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

JSON='' FINDINGS=()
step_option() { [[ $1 == --json ]] && JSON=1 NO_LOG=1; }
identity() { :; } # a finding among the others

# error, warning, info CHECK MESSAGE [REMEDY]
error() { FINDINGS+=(error "$1" "$2" "${3-}"); }
warning() { FINDINGS+=(warning "$1" "$2" "${3-}"); }
info() { FINDINGS+=(info "$1" "$2" "${3-}"); }

minor() { local rest=${KUBERNETES_VERSION#*.}; echo "${rest%%.*}"; }
at_least() { [[ $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]; } # at_least FLOOR VERSION
active() { [[ $(unit_state "$1") == *' active' ]]; }

interface_there() { ip link show dev "$INTERFACE" >/dev/null 2>&1; }

# --- who this is ---

check_system() {
  local id version like family='' machine
  # shellcheck source=/dev/null
  IFS='|' read -r id version like < <(. /etc/os-release && echo "${ID,,}|${VERSION_ID-}|${ID_LIKE-}")
  case " $id $like " in
    *' debian '* | *' ubuntu '*) family=debian ;;
    *' rhel '* | *' fedora '* | *' centos '* | *' openeuler '*) family=rhel ;;
  esac
  if [[ $family != "$OS_FAMILY" ]]; then error os "this is $id $version, of another family than $OS_ID $OS_VERSION" "correct os of this host in the inventory"
  elif [[ $id != "$OS_ID" || $version != "$OS_VERSION" && $version != "$OS_VERSION".* ]]; then
    warning os "this is $id $version, the inventory says $OS_ID $OS_VERSION" "correct os of this host: package names and versions follow from it"
  fi
  [[ $(uname -m) =~ ^(x86_64|aarch64)$ ]] || error architecture "$(uname -m) has no Kubernetes packages" "x86_64 or aarch64 hosts"
  [[ $(uname -n) == "$HOST" ]] || warning hostname "this machine calls itself $(uname -n); the node will be called $HOST" "hostnamectl set-hostname $HOST"
  machine=$(cat /etc/machine-id 2>/dev/null) || machine=''
  [[ $machine =~ ^[0-9a-f]{32}$ ]] || error machine-id "/etc/machine-id holds no id" "systemd-machine-id-setup"
  [[ -s /sys/class/dmi/id/product_uuid ]] || info product-uuid "this machine has no product_uuid; kubeadm wants unique ones where there are any"
}

check_addresses() {
  local address found hop
  if ! interface_there; then
    error interface "there is no interface $INTERFACE (there are: $(ip -o link show | awk -F ': ' '{ sub(/@.*/, "", $2); print $2 }' | xargs))" "correct interface of this host in the inventory"
    return
  fi
  for address in $ADDRESSES; do
    if ! has_address "$address" "$INTERFACE"; then
      error address "$INTERFACE does not carry $address: this is not $HOST, or its network is not set up" "run the folder of this host, or set the address up"
      continue
    fi
    found=$(ip -o address show dev "$INTERFACE" | awk -v ip="${address%/*}/" 'index($4, ip) == 1 { print $4 }')
    [[ -z $found || $found == "$address" ]] || warning address "$INTERFACE carries $found, the inventory says $address" "make the prefix lengths agree"
    if [[ $address != *:* ]] && arping -V 2>&1 | grep -q iputils && ! timeout 5 arping -q -D -c 2 -w 3 -I "$INTERFACE" "${address%/*}"; then
      error duplicate-address "another machine answers for ${address%/*} too" "find it; two hosts with one address take each other's connections"
    fi
    if [[ $address == *:* && $(cat /proc/sys/net/ipv6/conf/all/disable_ipv6) == 1 ]]; then error ipv6 "IPv6 is switched off in the kernel (disable_ipv6)" "switch it on, or leave IPv6 out of the inventory"; fi
  done
  for hop in $GATEWAY; do
    neighbour "$hop" >/dev/null || warning gateway "the gateway $hop does not answer on $INTERFACE" "is it up, and in this network?"
  done
}

# check_vip: nobody answers for it, unless it is one of our own load balancers
check_vip() {
  local vip mac host
  if ! interface_there; then return; fi
  for vip in $VIPS; do
    if has_address "$vip"; then
      if active stowage-vip.service && ! has_address "$vip" "$INTERFACE"; then continue; fi # behind IPVS, on lo or tunl0
      if ! active keepalived.service || [[ ! -e $VAR/backup/40/laid ]]; then error vip "this machine carries the VIP $vip, but not by keepalived of this bundle" "take it out of the network configuration"; fi
      continue
    fi
    mac=$(neighbour "$vip") || continue
    for host in $LB_HOSTS; do
      if ! has_address "${host#*=}" && [[ $(neighbour "${host#*=}" || :) == "$mac" ]]; then continue 2; fi
    done
    error vip "$mac answers for the VIP $vip and is no load balancer of this cluster" "free the address, or choose another VIP in the inventory"
  done
}

# --- what it has ---

check_size() {
  local memory free
  memory=$(($(awk '/^MemTotal:/ { print $2 }' /proc/meminfo) / 1024))
  free=$(($(df -Pk /var/lib | awk 'NR == 2 { print $4 }') / 1024))
  if [[ $ROLE == control-plane ]]; then
    (($(nproc --all) >= 2)) || error cpu "one processor; kubeadm wants 2 on a control plane" "give it another"
    ((memory >= 1700)) || error memory "$memory MB of memory; kubeadm wants 1700 on a control plane" "give it more"
  fi
  if [[ $KUBERNETES == 1 ]]; then
    if ((free < 2048)); then error disk "$free MB free in /var/lib; images alone need more" "make room: 10 GB at least"
    elif ((free < 10240)); then warning disk "$free MB free in /var/lib" "the kubelet drops pods when it runs out: 10 GB at least"; fi
  fi
  if [[ $SWAP == off && $(wc -l </proc/swaps) -gt 1 ]]; then info swap "swap is on; step 20 switches it off for good"; fi
}

# check_kernel: what kubeadm's SystemVerification accepts (k8s.io/system-validators by minor), cgroups, modules
check_kernel() {
  local kernel source module
  kernel=$(uname -r)
  kernel=${kernel%%[!0-9.]*}
  if [[ $KUBERNETES == 1 ]]; then
    if (($(minor) < 32)); then at_least 3.10 "$kernel" || error kernel "kernel $kernel is older than 3.10" "a newer release of the operating system"
    elif (($(minor) < 34)); then at_least 4.19 "$kernel" || error kernel "kubeadm $KUBERNETES_VERSION refuses kernel $kernel (4.19 or newer)" "a newer release of the operating system"
    elif [[ ! $kernel =~ ^(5\.4|5\.10|5\.15)(\.|$) ]] && ! at_least 6 "$kernel"; then warning kernel "kubeadm $KUBERNETES_VERSION will warn of kernel $kernel (5.4, 5.10, 5.15, 6 and newer are known to it)"; fi
    if [[ $PROXY_MODE == nftables ]] && ! at_least 5.13 "$kernel"; then error kernel "kube-proxy needs kernel 5.13 for nftables, this is $kernel" "proxy mode iptables"; fi
    if [[ ! -e /sys/fs/cgroup/cgroup.controllers ]]; then
      if (($(minor) >= 35)); then error cgroup "the kubelet of $KUBERNETES_VERSION refuses cgroup v1" "boot with systemd.unified_cgroup_hierarchy=1"
      else warning cgroup "this host runs cgroup v1, which ends with Kubernetes 1.35" "boot with systemd.unified_cgroup_hierarchy=1"; fi
    fi
  fi
  while read -r -u 8 source; do
    while read -r -u 9 module; do
      if [[ -z $module || $module == ['#;']* || -d /sys/module/${module//-/_} ]]; then continue; fi
      modprobe -n -q "$module" || error module "the kernel module $module is not there" "install the kernel's module package (RHEL: kernel-modules)"
    done 9<"$BUNDLE/$source"
  done 8< <(awk -F '\t' '$6 == "modules" { print $1 }' "$BUNDLE/files.tsv")
}

# check_commands: what this step and 10 use; then what later steps use, which step 10 may bring
check_commands() {
  local command
  for command in ip ss awk sed grep find xargs systemctl modprobe flock timeout sha256sum; do
    command -v "$command" >/dev/null || error command "$command is not there" "install the package that has it"
  done
  if [[ $KUBERNETES != 1 ]]; then return; fi
  for command in openssl tar gzip mount; do
    if command -v "$command" >/dev/null; then continue; fi
    if [[ " $PACKAGES " =~ " $command"(=|-[0-9]|" ") ]]; then info command "$command is not there; step 10 installs it"
    else warning command "$command is not there, and no package of that name is to be installed" "install the package that has it"; fi
  done
}

# check_packages: what is missing can only come out of the payload, if that is where it comes from
check_packages() {
  local package lacking='' found
  if [[ $PACKAGE_SOURCE != payload ]]; then return; fi
  if [[ -d $BUNDLE/payload ]]; then
    if [[ ! -e $BUNDLE/payload/SHA256SUMS ]]; then error payload "payload/ has no SHA256SUMS" "cd payload && find * -type f ! -name SHA256SUMS -exec sha256sum {} + >SHA256SUMS (on the machine that gathered it)"
    elif ! found=$("${VERIFY[@]}" payload 2>&1); then error payload "payload/ is not as it was built: ${found//$'\n'/; }" "copy it again"; fi
    return
  fi
  for package in $PACKAGES; do
    installed "$package" || lacking+=" $package"
  done
  [[ -z $lacking ]] || error payload "there is no payload/ and these packages are missing:$lacking" "gather them into payload/packages with a payload/SHA256SUMS and copy payload/ into $BUNDLE; or set packages: repository in the inventory"
}

# --- what stands in the way ---

# free_port PORT NAME: nobody listens there, or the one who is to (ss cuts names at 15 characters)
free_port() {
  local holder
  while read -r holder; do
    [[ $holder == "${2:0:15}" ]] || error port "TCP port $1, which $2 needs, is held by ${holder:-a program that ss cannot name}" "stop that program"
  done < <(ss -Hltnp "sport = :$1" | sed -E 's/.*users:\(\("([^"]*)".*/\1/; t; s/.*//' | sort -u)
}

check_ports() {
  if [[ $ROLE == control-plane ]]; then
    free_port "$API_PORT" kube-apiserver
    free_port 2379 etcd
    free_port 2380 etcd
    free_port 10257 kube-controller-manager
    free_port 10259 kube-scheduler
  fi
  if [[ $KUBERNETES == 1 ]]; then
    free_port 10250 kubelet
    free_port 10256 kube-proxy
  fi
  if [[ $LB == 1 && $LB_ENGINE == nginx ]]; then
    free_port "$ENDPOINT_PORT" nginx
    free_port "${LB_CHECK##* }" nginx
  fi
}

check_firewall() {
  local running=() unit
  for unit in firewalld ufw nftables iptables; do
    if active "$unit.service"; then running+=("$unit"); fi
  done
  if ((${#running[@]} > 1)) && [[ ${running[*]} != 'ufw nftables' ]]; then warning firewall "more than one firewall manager runs: ${running[*]}" "keep one: each flushes the rules of the others"; fi
  if ((${#running[@]})) && [[ $FIREWALL == none ]]; then warning firewall "${running[*]} runs and the inventory says to leave it alone" "open: $PORTS"; fi
  if [[ " ${running[*]-} " =~ ' '(nftables|iptables)' ' ]]; then info firewall "rules of ${BASH_REMATCH[1]}.service are yours to keep: open: $PORTS"; fi
  if command -v getenforce >/dev/null; then info selinux "SELinux is $(getenforce); step 20 labels ports and leaves the mode alone"; fi
}

# check_names: lines of others in /etc/hosts that send the endpoint elsewhere; the first line wins, and ours is not the first
check_names() {
  local address name
  if [[ -z $ENDPOINT_NAME || -z $VIPS ]]; then return; fi
  while read -r -u 8 address name; do
    if [[ " $VIPS " != *" $address "* ]]; then error hosts "/etc/hosts says that $name is $address, not $VIPS" "take that line out"; fi
  done 8< <(awk -v name="$ENDPOINT_NAME" '/^# BEGIN stowage /, /^# END stowage / { next } { sub(/#.*/, ""); for (i = 2; i <= NF; i++) if ($i == name) print $1, name }' /etc/hosts)
}

check_clock() {
  if command -v timedatectl >/dev/null && [[ $(timedatectl show -p NTPSynchronized --value 2>/dev/null) != yes ]]; then
    warning clock "the clock is not synchronised: it says $(date -u +%Y-%m-%dT%H:%MZ)" "certificates and etcd want clocks that agree; set ntpServers, or set the clock by hand"
  fi
}

# check_leftovers: traces of a cluster that is not this one
check_leftovers() {
  local file other
  for other in /var/lib/stowage/*/; do
    other=$(basename "$other")
    if [[ -d /var/lib/stowage/$other && $other != "$CLUSTER" ]]; then warning leftovers "this host was prepared for the cluster $other" "ops/reset.sh of that bundle, then remove /var/lib/stowage/$other"; fi
  done
  if compgen -G "$VAR/state/*" >/dev/null; then return; fi # our own steps have been here
  for file in /etc/kubernetes/{admin,kubelet,bootstrap-kubelet}.conf /etc/kubernetes/pki/ca.crt /etc/kubernetes/manifests/*.yaml; do
    if [[ -e $file ]] && ! grep -Fq "server: https://$SERVER" "$file"; then error leftovers "$file is left from another cluster" "kubeadm reset, if that cluster is given up"; fi
  done
  if [[ $ROLE == control-plane && -d $ETCD_DATA_DIR && -n $(ls -A "$ETCD_DATA_DIR") ]] && [[ ! -e /etc/kubernetes/manifests/etcd.yaml ]]; then
    error leftovers "$ETCD_DATA_DIR is not empty" "move it away (a mount point: set etcd's data directory to a folder below it)"
  fi
}

# --- report ---

report_json() {
  local i comma=''
  printf '{"format": 1, "cluster": %s, "host": %s, "findings": [' "$(json "$CLUSTER")" "$(json "$HOST")"
  for ((i = 0; i < ${#FINDINGS[@]}; i += 4)); do
    printf '%s\n  {"severity": %s, "check": %s, "message": %s, "remedy": %s}' "$comma" "$(json "${FINDINGS[i]}")" "$(json "${FINDINGS[i + 1]}")" "$(json "${FINDINGS[i + 2]}")" "$(json "${FINDINGS[i + 3]}")"
    comma=,
  done
  printf '\n]}\n'
}

report_text() {
  local i
  for ((i = 0; i < ${#FINDINGS[@]}; i += 4)); do
    say "${FINDINGS[i]}: ${FINDINGS[i + 1]}: ${FINDINGS[i + 2]}"
    if [[ -n ${FINDINGS[i + 3]} ]]; then note "remedy: ${FINDINGS[i + 3]}"; fi
  done
}

count() { local i n=0; for ((i = 0; i < ${#FINDINGS[@]}; i += 4)); do [[ ${FINDINGS[i]} != "$1" ]] || n=$((n + 1)); done; echo "$n"; }

step_do() {
  local check errors
  for check in system addresses vip size kernel commands packages ports firewall names clock leftovers; do "check_$check"; done
  errors=$(count error)
  if [[ $JSON ]]; then report_json; else
    report_text
    say "$SCRIPT: $errors errors, $(count warning) warnings; nothing was changed. Next: $( ((errors)) && echo 'put the errors right, run this again' || echo '10-packages.sh, when all hosts are through 00')"
  fi
  ((errors == 0)) || { trap - ERR; exit 1; }
}

stowage_main "$@"

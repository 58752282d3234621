#!/usr/bin/env bash
# 40-load-balancer.sh [--plan | --rollback | --help]
#
# Lays nginx (or IPVS) and keepalived with their drop-ins, has the real binaries test them, and only then lets anything read them:
# where a test fails, what ran before is put back. Tells the host's network manager to leave the VIP alone. Starts nginx, waits until
# its check listener answers, then the watcher, then keepalived; then waits until exactly one host answers for the VIP, and says which.
#   --plan      says what it would change, changes nothing
#   --rollback  puts back files and unit states as they were; the VIP leaves this host
# Exit status: 0 done, 1 failed, 2 usage.
set -euo pipefail
STEP=40 TITLE="nginx or IPVS, keepalived, the VIP"
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

AUTH=/etc/keepalived/stowage-auth.conf
NM_VIP=/etc/NetworkManager/conf.d/90-stowage-vip.conf

# --- before anything changes ---

program() {
  if command -v "$1" >/dev/null; then return; fi
  if [[ $PLAN ]]; then note "$1 is not installed yet (step 10)"; else die "$1 is not installed" "bash run.sh 10"; fi
}

# ports_free: nobody but nginx listens where nginx is to listen
ports_free() {
  local port holder
  for port in "$ENDPOINT_PORT" "${LB_CHECK##* }"; do
    holder=$(ss -Hltnp "sport = :$port" | awk '!/"nginx"/ { if (!sub(/.*users:/, "")) $0 = "a program that ss cannot name"; print }')
    [[ -z $holder ]] || die "TCP port $port is held by ${holder%%$'\n'*}" "stop that program, or choose another port in the inventory"
  done
}

# vip_free: before keepalived runs here, nobody answers for the VIP but another load balancer of this cluster
vip_free() {
  local vip mac
  if [[ $(unit_state keepalived.service) == *' active' ]]; then return; fi
  for vip in $VIPS; do
    if has_address "$vip"; then die "$INTERFACE or another interface carries the VIP $vip already" "take it out of the host's network configuration; keepalived puts it there"; fi
    if mac=$(neighbour "$vip") && [[ $(name_of "$mac") == *'no load balancer'* ]]; then
      die "$vip is answered by $(name_of "$mac")" "free the address, or choose another VIP in the inventory"
    fi
  done
}

# password: the VRRP password, once per run and before any change; keepalived would cut it at 8 characters and read some of them as syntax
password() {
  if [[ -z $VRRP_AUTH ]]; then return; fi
  if [[ $PLAN ]] && ! secret_there "$VRRP_AUTH"; then note "would ask for the secret '$VRRP_AUTH'"; return; fi
  PASSWORD=$(secret "$VRRP_AUTH")
  [[ $PASSWORD =~ ^[A-Za-z0-9._+=/@%:,-]{1,8}$ ]] || die "the secret '$VRRP_AUTH' is no VRRP password: 1 to 8 of A-Z a-z 0-9 . _ + = / @ % : , -" "choose another on all load balancers"
}

step_check() {
  if [[ $LB != 1 ]]; then return; fi
  program keepalived
  if [[ $LB_ENGINE == nginx ]]; then
    program nginx
    ports_free
  fi
  vip_free
  PASSWORD=''
  password
}

# --- files ---

auth() {
  if [[ -z $VRRP_AUTH ]]; then unlay "$AUTH"; return; fi
  if [[ -z $PASSWORD ]]; then return; fi # a plan without the secret
  lay_text "$AUTH" 0600 root:root keepalived.service $'authentication {\n    auth_type PASS\n    auth_pass '"$PASSWORD"$'\n}'
}

# leave_vip_alone: networkd drops addresses that are not its own when it restarts (systemd#12050, #13555), unless the .network file of the
# interface says KeepConfiguration. NetworkManager leaves them until the link is lost; with ignore-carrier the host's address, which VRRP
# is sent from, outlives that too. A profile that is brought down by hand still loses the VIP: keepalived then hands it over.
leave_vip_alone() {
  local network
  if [[ $(unit_state systemd-networkd.service) == *' active' ]]; then
    network=$(networkctl --no-pager status "$INTERFACE" 2>/dev/null | sed -n 's/^ *Network File: *//p')
    if [[ $network == /* ]]; then
      lay_text "/etc/systemd/network/$(basename "$network").d/50-stowage-vip.conf" 0644 root:root systemd-networkd.service \
        $'# Stowage: keepalived puts the VIP on this interface; it is not to be removed.\n[Network]\nKeepConfiguration=yes'
    fi
  fi
  if [[ $(unit_state NetworkManager.service) == *' active' ]]; then
    lay_text "$NM_VIP" 0644 root:root NetworkManager.service \
      $'# Stowage: keepalived puts the VIP on this interface.\n[device-stowage-vip]\n'"match-device=interface-name:=$INTERFACE"$'\nignore-carrier=yes\nkeep-configuration=yes'
  fi
}

# --- tests ---

# test_keepalived: its exit status alone is not enough: 0 for a missing file, and for some complaints
test_keepalived() {
  local said
  [[ -s /etc/keepalived/keepalived.conf ]] || { echo "there is no /etc/keepalived/keepalived.conf"; return 1; }
  said=$(keepalived -t -f /etc/keepalived/keepalived.conf 2>&1) || { printf '%s\nkeepalived -t failed\n' "$said"; return 1; }
  if grep -Eiq 'error|unknown|invalid|disabling|not found|missing|insecure|truncat|security violation|ignoring' <<<"$said"; then printf '%s\n' "$said"; return 1; fi
}

test_files() {
  local paths=()
  mapfile -t paths < <(awk -F '\t' -v step="$STEP" '$5 == step && $6 == "tmpfiles" { print $2 }' "$BUNDLE/files.tsv")
  # nginx -t opens what these make; they only add what is not there
  if ((${#paths[@]})) && ! systemd-tmpfiles --create "${paths[@]}"; then return 1; fi
  if [[ $LB_ENGINE == nginx ]] && ! nginx -t -q; then return 1; fi
  test_keepalived
}

# --- waiting ---

# listener_answers: what the health check of keepalived reads
listener_answers() {
  # shellcheck disable=SC2016 # the inner shell expands it
  [[ $(timeout 3 bash -c 'exec 3<>"/dev/tcp/$1/$2" && head -n 1 <&3' - "${LB_CHECK% *}" "${LB_CHECK#* }") == ok* ]]
}

# held_by_us VIP: exactly one host answers for it, a load balancer of this cluster. Sets HOLDER and WHO.
held_by_us() {
  HOLDER=$(holders "$1") WHO=
  [[ -n $HOLDER && $HOLDER != *$'\n'* ]] || return 1
  WHO=$(name_of "$HOLDER")
  [[ $WHO != *'no load balancer'* ]]
}

# name_of HOLDER: the load balancer whose address has this MAC
name_of() {
  local host
  if [[ $1 == here ]]; then echo "this host"; return; fi
  for host in $LB_HOSTS; do
    if [[ $(neighbour "${host#*=}") == "$1" ]]; then echo "${host%%=*} ($1)"; return; fi
  done
  echo "$1, which is no load balancer of this cluster"
}

vip_held() {
  local vip
  for vip in $VIPS; do
    if ! bounded 30 "exactly one load balancer to answer for $vip" held_by_us "$vip"; then
      if [[ $WHO ]]; then die "$vip belongs to $WHO" "free the address, or choose another VIP in the inventory"; fi
      die "$vip is answered by $([[ $HOLDER ]] && tr '\n' ' ' <<<"$HOLDER" || echo nobody)" "journalctl -u keepalived on every load balancer; is VRRP (IP protocol 112) let through between them?"
    fi
    [[ $PLAN ]] || note "$vip is held by $WHO"
  done
}

step_do() {
  if [[ $LB != 1 ]]; then finish "" "this host carries no load balancer"; return; fi
  lay
  auth
  leave_vip_alone
  if [[ $PLAN ]]; then note "would test the files with nginx -t and keepalived -t"
  elif ! test_files; then
    lay_undo
    die "the new configuration does not pass its test (above); what ran before is back in place, nothing was reloaded" "correct the inventory, build and carry the bundle again"
  fi
  reload_changed
  if [[ $LB_ENGINE == nginx ]]; then
    unit_on nginx.service
    bounded 30 "nginx to answer on ${LB_CHECK/ /:}" listener_answers || die "nginx runs but does not answer" "journalctl -u nginx; tail /var/log/nginx/error.log"
    unit_on stowage-watcher.service
  fi
  unit_on keepalived.service
  vip_held
  finish "the load balancer is up" "50-init.sh on the first control plane, when all load balancers are through 40"
}

step_rollback() {
  restore
  finish "the load balancer is as it was" "nothing"
}

stowage_main "$@"

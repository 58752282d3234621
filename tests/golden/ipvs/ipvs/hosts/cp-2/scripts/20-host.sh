#!/usr/bin/env bash
# 20-host.sh [--plan | --rollback | --help]
#
# Prepares the host: lays its files (names, kernel modules, sysctl, time, proxies, runtime configuration ...), switches swap off
# for good, opens the firewall that is active, labels ports for SELinux (never its mode), starts the container runtime.
# The hostname is not touched: the node name is given to kubeadm.
#   --plan      says what it would change, changes nothing
#   --rollback  puts back files, units, swap, sysctl values, firewall rules and labels as they were; loaded modules stay until a reboot
# Exit status: 0 done, 1 failed, 2 usage.
set -euo pipefail
STEP=20 TITLE="names, kernel, time, firewall, runtime"
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

# rows_of UNIT: the destinations of this step whose unit is UNIT
rows_of() { awk -F '\t' -v step="$STEP" -v unit="$1" '$5 == step && $6 == unit { print $2 }' "$BUNDLE/files.tsv"; }

# lines_of UNIT: the lines of those files that are no comment, as the bundle has them
lines_of() { awk -F '\t' -v step="$STEP" -v unit="$1" '$5 == step && $6 == unit { print $1 }' "$BUNDLE/files.tsv" | while read -r source; do sed -E '/^[[:space:]]*([#;]|$)/d' "$BUNDLE/$source"; done; }

# --- kernel ---

module_there() { [[ -d /sys/module/${1//-/_} ]]; }

load_modules() {
  local module
  while read -r -u 8 module; do
    if ! module_there "$module"; then act "load the kernel module $module" modprobe "$module"; fi
  done 8< <(lines_of modules)
}

# sysctl_off: prints "key now" for every key of our files that has another value now. A leading - (a key that may be missing) is honoured.
sysctl_off() {
  local key wanted now path
  while IFS='=' read -r -u 8 key wanted; do
    key=${key//[[:space:]]/} wanted=$(xargs <<<"$wanted")
    path=/proc/sys/$(tr './' '/.' <<<"${key#-}")
    if [[ ! -e $path && ($key == -* || $PLAN) ]]; then continue; fi
    now=$(xargs <"$path") || die "the kernel has no sysctl ${key#-}" "a module may be missing: see /etc/modules-load.d"
    [[ $now == "$wanted" ]] || printf '%s %s\n' "${key#-}" "$now"
  done 8< <(lines_of sysctl)
}

set_sysctl() { printf '%s\n' "${*:2}" >"/proc/sys/$(tr './' '/.' <<<"$1")"; }

apply_sysctl() {
  local off key now files=()
  off=$(sysctl_off)
  if [[ -z $off ]]; then return; fi
  while read -r -u 8 key now; do undo set_sysctl "$key" "$now"; done 8<<<"$off"
  mapfile -t files < <(rows_of sysctl)
  act "set ${off//$'\n'/, } (as it is now) from ${files[*]}" /usr/lib/systemd/systemd-sysctl "${files[@]}"
  if [[ $PLAN ]]; then return; fi
  off=$(sysctl_off)
  [[ -z $off ]] || die "sysctl values did not take: $off" "a later file of /etc/sysctl.d or a security module sets them"
}

# --- swap ---

swap_files_off() {
  local zram=/etc/systemd/zram-generator.conf
  # shellcheck disable=SC2016 # awk's field
  if [[ -e /etc/fstab ]]; then lay_commented /etc/fstab '$3 == "swap"' systemd; fi
  if [[ -s $zram || -s /usr/lib/systemd/zram-generator.conf ]]; then
    lay_text "$zram" 0644 root:root systemd "# Stowage: no swap on this host. This file stands in for /usr/lib/systemd/zram-generator.conf."
  fi
}

# swap_off: what is on now, and the units that would switch it on again. Those of fstab and zram are gone by now: systemd has read both again.
swap_off() {
  local unit device
  while read -r -u 8 device; do
    undo swapon "$device"
    act "switch swap off on $device" swapoff "$device"
  done 8< <(awk 'NR > 1 { print $1 }' /proc/swaps)
  while read -r -u 8 unit; do
    if [[ -n $(systemctl show --property=FragmentPath --value "$unit") ]]; then unit_off "$unit"; fi # of a GPT swap partition, or the host's own
  done 8< <(systemctl list-units --all --type=swap --plain --no-legend | awk '{ print $1 }')
  for unit in zramswap.service zram-config.service; do
    if [[ $(unit_state "$unit") == 'enabled '* ]]; then unit_off "$unit"; fi
  done
}

# --- firewall ---

# firewall: rules for whichever of firewalld and ufw runs; another one is left to its owner
firewall() {
  if [[ $FIREWALL == none ]]; then note "firewall: left alone, as the inventory says; to be open: $PORTS"
  elif [[ $(unit_state firewalld.service) == *' active' ]]; then firewalld_rules
  elif command -v ufw >/dev/null && ufw status | grep -q '^Status: active'; then ufw_rules
  else note "firewall: neither firewalld nor ufw is active; if something else filters, open: $PORTS"; fi
}

# firewalld_add LIST OPTION VALUE WHERE...: adds VALUE where LIST (a listing, one a line) does not have it
firewalld_add() {
  if grep -Fxq -- "$3" <<<"$1"; then return; fi
  undo firewall-cmd -q "${@:4}" "--remove-$2=$3"
  act "firewalld (${*:4}): add $2 $3" firewall-cmd -q "${@:4}" "--add-$2=$3"
}

# uncovered LIST PORT: the part of PORT (6443/tcp, 2379-2380/tcp) that no port or range of LIST has, one range a line. firewalld merges what
# overlaps: to add what is open already, and to take it back, would cut a hole into a rule of others.
uncovered() {
  awk -F / -v port="$2" '
    function ends(text) { first = text + 0; last = text; sub(/.*-/, "", last); last += 0 }
    function range(a, b) { print (a == b ? a : a "-" b) "/" word[2] }
    BEGIN { split(port, word, "/"); ends(word[1]); from = first; to = last }
    NF == 2 && $2 == word[2] { ends($1); for (i = first > from ? first : from; i <= last && i <= to; i++) open[i] }
    END {
      for (i = from; i <= to + 1; i++) {
        if (i <= to && !(i in open)) { if (!begun) begun = i }
        else if (begun) { range(begun, i - 1); begun = 0 }
      }
    }' <<<"$1"
}

# firewalld_rules: permanent and at run time, without a reload, which would drop run time rules of others
firewalld_rules() {
  local zone item part when open rules sources
  zone=$(firewall-cmd --get-zone-of-interface="$INTERFACE" 2>/dev/null) || zone=$(firewall-cmd --get-default-zone)
  for when in --permanent ''; do
    open=$(firewall-cmd ${when:+"$when"} --zone="$zone" --list-ports | tr ' ' '\n')
    rules=$(firewall-cmd ${when:+"$when"} --zone="$zone" --list-rich-rules)
    sources=$(firewall-cmd ${when:+"$when"} --zone=trusted --list-sources | tr ' ' '\n')
    for item in $PORTS; do
      case $item in
        vrrp) firewalld_add "$rules" rich-rule 'rule protocol value="vrrp" accept' ${when:+"$when"} --zone="$zone" ;;
        ipip) firewalld_add "$rules" rich-rule 'rule protocol value="4" accept' ${when:+"$when"} --zone="$zone" ;; # its name differs in /etc/protocols
        *) for part in $(uncovered "$open" "$item"); do firewalld_add "$open" port "$part" ${when:+"$when"} --zone="$zone"; done ;;
      esac
    done
    for item in $TRUSTED_CIDRS; do firewalld_add "$sources" source "$item" ${when:+"$when"} --zone=trusted; done
  done
}

# ufw_add WORDS...: a rule as `ufw show added` prints it
ufw_add() {
  local route=()
  if grep -Eq "^ufw $*( comment .*)?\$" <<<"$UFW_ADDED"; then return; fi
  if [[ $1 == route ]]; then route=(route); shift; fi
  undo ufw --force "${route[@]}" delete "$@"
  act "ufw: ${route[*]} $*" ufw "${route[@]}" "$@"
}

ufw_rules() {
  local item block='' before
  UFW_ADDED=$(ufw show added)
  for item in $PORTS; do
    case $item in
      vrrp) block+=$'-A CHAIN -p 112 -j ACCEPT\n' ;;
      ipip) block+=$'-A CHAIN -p 4 -j ACCEPT\n' ;;
      *) ufw_add allow "${item//-/:}" ;; # ufw writes a range with a colon
    esac
  done
  for item in $TRUSTED_CIDRS; do
    ufw_add allow from "$item"
    ufw_add route allow from "$item"
    ufw_add route allow to "$item"
  done
  for before in ufw:/etc/ufw/before.rules ufw6:/etc/ufw/before6.rules; do
    if [[ -z $block || ! -e ${before#*:} ]]; then continue; fi
    # a table of our own at the end: ufw restores without flushing, so it adds to the chain that stands above
    lay_block "${before#*:}" 0640 root:root ufw.service "*filter"$'\n'"${block//CHAIN/${before%%:*}-before-input}COMMIT"
  done
}

# --- SELinux ---

# selinux: ports that nginx listens on, and its connections to the API servers; the mode is the host's own
selinux() {
  local port all custom
  if [[ -z $SELINUX_PORTS ]] || ! command -v selinuxenabled >/dev/null || ! selinuxenabled; then return; fi
  command -v semanage >/dev/null || die "SELinux is on and semanage is not there" "install policycoreutils-python-utils (step 10)"
  all=$(semanage port -l) custom=$(semanage port -l -C)
  for port in $SELINUX_PORTS; do
    if labelled "$all" "$port" | grep -Fxq http_port_t; then continue; fi
    undo label_back "$port" "$(labelled "$custom" "$port" | head -n 1)"
    act "label TCP port $port http_port_t" label "$port" http_port_t
  done
  if getsebool httpd_can_network_connect | grep -q off; then
    undo setsebool -P httpd_can_network_connect 0
    act "let nginx connect to the API servers (httpd_can_network_connect)" setsebool -P httpd_can_network_connect 1
  fi
}

# labelled LISTING PORT: the types that a listing of semanage gives this TCP port by its number alone
labelled() { awk -v port="$2" '$2 == "tcp" { type = $1; sub(/^[^ ]+ +tcp +/, ""); n = split($0, list, /, */); for (i = 1; i <= n; i++) if (list[i] == port) print type }' <<<"$1"; }
label() { semanage port -a -t "$2" -p tcp "$1" 2>/dev/null || semanage port -m -t "$2" -p tcp "$1"; } # -a refuses a port that has a type
label_back() { if [[ -n ${2-} ]]; then label "$1" "$2"; else semanage port -d -p tcp "$1"; fi; }

# --- units ---

clock() {
  local unit
  while read -r -u 8 unit; do unit_on "$unit"; done 8< <(awk -F '\t' -v step="$STEP" '$5 == step && $6 ~ /^(chrony|chronyd|systemd-timesyncd)\.service$/ && !seen[$6]++ { print $6 }' "$BUNDLE/files.tsv")
}

runtime() {
  local unit
  for unit in $RUNTIME_UNITS; do unit_on "$unit"; done
  if [[ $KUBERNETES == 1 ]]; then unit_on kubelet.service enable; fi # kubeadm starts it, when there is something to run
}

# step_check: containerd 1 ignores a configuration of version 3, without a word
step_check() {
  local config have=''
  config=$(awk -F '\t' '$2 == "/etc/containerd/config.toml" { print $1 }' "$BUNDLE/files.tsv")
  if [[ $RUNTIME != containerd || -z $config ]] || ! command -v containerd >/dev/null; then return; fi
  if [[ $(sed -n 's/^version *= *\([23]\).*/\1/p;T;q' "$BUNDLE/$config") != 3 ]]; then return; fi
  have=$(containerd --version | awk '{ sub(/^v/, "", $3); sub(/[^0-9.].*/, "", $3); print $3 }')
  if [[ $have != 1.* ]]; then return; fi
  have="containerd here is $have, the bundle's configuration is for containerd 2"
  if [[ $PLAN ]]; then note "$have"; return; fi
  die "$have" "set containerRuntimeVersion: \"1.6\" for this host in the inventory, or install containerd 2"
}

# registry_login: LOGIN, as HTTP Basic and the runtimes' files have it; it goes into rows of files.tsv that are laid as login
registry_login() {
  local login
  LOGIN=''
  if [[ -z $REGISTRY_SECRET ]]; then return; fi
  if [[ $PLAN ]] && ! secret_there "$REGISTRY_SECRET"; then note "would ask for the secret '$REGISTRY_SECRET'"; return; fi
  login=$(secret "$REGISTRY_SECRET")
  [[ $login =~ ^[^:[:cntrl:]]+:[^[:cntrl:]]+$ ]] || die "the secret '$REGISTRY_SECRET' is no login to $REGISTRY" "write user:password on one line, or remove $VAR/secrets/$REGISTRY_SECRET and run this again"
  LOGIN=$(printf '%s' "$login" | base64 -w 0)
}

step_do() {
  [[ $(uname -n) == "$HOST" ]] || warn "this machine calls itself $(uname -n); the node will be called $HOST"
  registry_login
  lay
  if [[ $SWAP == off ]]; then swap_files_off; else unlay /etc/fstab; fi
  load_modules
  apply_sysctl
  reload_changed
  if [[ $SWAP == off ]]; then swap_off; fi
  clock
  firewall
  reload_changed # of a firewall
  selinux
  runtime
  if [[ -n $PAUSE_IMAGE ]]; then note "the runtime keeps $PAUSE_IMAGE (its configuration names it), whatever it cleans up"; fi
  finish "the host is prepared" "30-images.sh (a dedicated load balancer: 40-load-balancer.sh), when all hosts are through 20"
}

step_rollback() {
  restore
  finish "the host is as it was" "nothing"
}

stowage_main "$@"

#!/bin/sh
# Installs the real programs that the tests use, on Debian and Ubuntu, as root; elsewhere says what is missing.
# usage: setup.sh [PACKAGE...]   (default: all that `make test` wants)
set -eu

# The editors' server, for tests/test_editor.py: where npm is, and a registry.
editor=yaml-language-server@1.18.0
folder=${XDG_CACHE_HOME:-$HOME/.cache}/stowage/$(echo "$editor" | tr @ -)
if [ $# = 0 ] && [ ! -d "$folder" ] && command -v npm >/dev/null; then
    echo "installing: $editor" >&2
    for try in 1 2 3; do
        rm -rf "$folder.new"
        if timeout 120 npm install --loglevel error --no-audit --no-fund --ignore-scripts --prefix "$folder.new" "$editor" >/dev/null; then
            mv "$folder.new" "$folder"
            break
        fi
        echo "not installed in try $try of 3: $editor (without it, its tests are skipped)" >&2
    done
fi

packages=${*:-nginx libnginx-mod-stream keepalived etcd-server etcd-client shellcheck iproute2 curl openssl dash containerd iputils-arping debootstrap debian-archive-keyring systemd-container dosfstools fusefat docker-registry skopeo apt-utils dpkg-dev createrepo-c zstd age openssh-client}

missing=
for package in $packages; do
    # Docker's containerd.io would be removed for Debian's.
    if [ "$package" = containerd ] && command -v containerd >/dev/null; then continue; fi
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "not installed, so their tests are skipped:$missing" >&2
    echo "   help: as root on Debian or Ubuntu, sh $0 installs them" >&2
    exit 0
fi

# nginx, keepalived and etcd must not start here: invoke-rc.d asks this file, and 101 means no.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

echo "installing:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
for attempt in 1 2 3; do
    # shellcheck disable=SC2086 # a list of package names
    if { apt-get -q update && apt-get -q -y --no-install-recommends install $missing; } >"$log" 2>&1; then
        rm -f "$log"
        exit 0
    fi
    echo "apt-get failed (attempt $attempt of 3)" >&2
    sleep 5
done
tail -n 20 "$log" >&2
rm -f "$log"
exit 1

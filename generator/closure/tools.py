"""
Which package brings a command, and what a minimal system carries already: data, and two questions to it.

The base of Debian and Ubuntu is what the archive gives the priorities *required* and *important*, with what these depend on (computed from
Debian 12's ``Packages``; 13, 22.04 and 24.04 differ in libraries, which are compared without their ``t64``); of the RHEL family it is the
group *core* of the installer (comps) with what it needs.  Commands are those of the packages' file lists.
"""

from __future__ import annotations

from functools import cache

# Package (``debian/rhel`` where the families differ, ``-`` where one has none): its commands, as far as scripts may want them.
_COMMANDS = {
    "bash": "bash",
    "dash/bash": "sh",
    "coreutils": """
        arch b2sum base32 base64 basename cat chcon chgrp chmod chown chroot cksum comm cp csplit cut date dd df dir dircolors
        dirname du echo env expand expr factor false fmt fold groups head hostid id install join link ln logname ls md5sum mkdir
        mkfifo mknod mktemp mv nice nl nohup nproc numfmt od paste pathchk pr printenv printf ptx pwd readlink realpath rm rmdir
        runcon seq sha1sum sha224sum sha256sum sha384sum sha512sum shred shuf sleep sort split stat stdbuf stty sum sync tac tail
        tee test timeout touch tr true truncate tsort tty uname unexpand uniq unlink users vdir wc who whoami yes [
        """,
    "mawk/gawk": "awk",
    "sed": "sed",
    "grep": "grep egrep fgrep",
    "gzip": "gzip gunzip zcat",
    "findutils": "find xargs",
    "diffutils": "cmp diff diff3 sdiff",
    "tar": "tar",
    "util-linux": """blkid blockdev dmesg findmnt flock getopt hwclock ionice lsblk lscpu logger losetup mountpoint nsenter partx prlimit
        renice setsid swaplabel unshare wipefs mkswap""",
    "mount/util-linux": "mount umount swapon swapoff",
    "bsdutils/util-linux": "renice script wall",
    "procps/procps-ng": "free pgrep pidof pkill ps sysctl top uptime w watch",
    "hostname": "hostname",
    "kmod": "depmod insmod lsmod modinfo modprobe rmmod",
    "iproute2/iproute": "ip ss bridge rtmon tc",
    "systemd": """hostnamectl journalctl localectl loginctl systemctl systemd-analyze systemd-cat systemd-detect-virt
        systemd-machine-id-setup systemd-run systemd-sysctl systemd-tmpfiles timedatectl udevadm""",
    "systemd/systemd-networkd": "networkctl",
    "libc-bin/glibc-common": "getent iconv locale ldconfig ldd",
    "login/util-linux": "su",
    "passwd/shadow-utils": "chpasswd groupadd useradd usermod",
    "dpkg/-": "dpkg dpkg-deb dpkg-query dpkg-divert",
    "apt/-": "apt apt-get apt-cache apt-mark apt-config",
    "-/rpm": "rpm",
    "-/dnf": "dnf yum",
    "-/libselinux-utils": "getenforce getsebool selinuxenabled setenforce matchpathcon",
    "-/policycoreutils": "restorecon setsebool load_policy fixfiles",
    "-/policycoreutils-python-utils": "semanage",
    "iputils-arping/iputils": "arping",
    "iputils-ping/iputils": "ping",
    "iptables": "iptables iptables-restore iptables-save ip6tables ip6tables-restore ip6tables-save",
    "nftables": "nft",
    "conntrack/conntrack-tools": "conntrack",
    "socat": "socat",
    "ethtool": "ethtool",
    "openssl": "openssl",
    "openssh-client/openssh": "ssh-keygen",
    "curl": "curl",
    "ipvsadm": "ipvsadm",
    "chrony": "chronyc chronyd",
    "nginx": "nginx",
    "keepalived": "keepalived",
    "kubeadm": "kubeadm",
    "kubelet": "kubelet",
    "kubectl": "kubectl",
    "cri-tools": "crictl",
    "containerd.io|containerd": "containerd ctr runc",
    "docker-ce": "docker dockerd",
    "cri-dockerd": "cri-dockerd",
    "cri-o": "crio",
    "skopeo": "skopeo",
    "podman": "podman",
    "ufw": "ufw",
    "firewalld": "firewall-cmd",
    "zstd": "zstd",
    "xz-utils/xz": "xz",
}

# A script comes to these only on a host where ``host.env`` says so: one value of one name, or any where it is empty here.
_ONLY = {
    "KUBERNETES": ("1", "kubeadm kubelet kubectl crictl etcdctl openssl tar"),
    "LB": ("1", "arping"),
    "LB_ENGINE": ("nginx", "nginx"),
    "SELINUX_PORTS": ("", "semanage getsebool setsebool"),
    "OS_FAMILY=debian": ("debian", "dpkg dpkg-deb dpkg-query apt-get apt-mark apt-cache"),
    "OS_FAMILY=rhel": ("rhel", "rpm dnf restorecon semanage getsebool setsebool"),
    "RUNTIME=containerd": ("containerd", "ctr"),
    "RUNTIME=docker": ("cri-dockerd", "docker"),
    "RUNTIME=cri-o": ("cri-o", "skopeo podman"),
}

# Managers of the host that a script talks to only where their unit is active: then they are there.  And ssh-keygen, which verify.sh comes
# to with --signers alone.
OWN = frozenset(("firewall-cmd", "ufw", "networkctl", "ssh-keygen"))

_DEBIAN = """
    adduser apt apt-utils base-files base-passwd bash bsdutils coreutils cpio cron dash debconf debianutils diffutils dmidecode dmsetup
    dpkg e2fsprogs fdisk findutils gcc-12-base gcc-13-base gcc-14-base gpgv grep gzip hostname ifupdown init init-system-helpers
    iproute2 iputils-ping kmod less libacl1 libapparmor1 libapt-pkg6.0 libapt-pkg7.0 libargon2-1 libattr1 libaudit-common libaudit1
    libblkid1 libbpf0 libbpf1 libbsd0 libbz2-1.0 libc-bin libc6 libcap-ng0 libcap2 libcap2-bin libcom-err2 libcrypt1 libcryptsetup12
    libdb5.3 libdebconfclient0 libdevmapper1.02.1 libedit2 libelf1 libext2fs2 libfdisk1 libffi7 libffi8 libgcc-s1 libgcrypt20
    libgdbm-compat4 libgdbm6 libgmp10 libgnutls30 libgpg-error0 libgssapi-krb5-2 libhogweed6 libidn2-0 libip4tc2 libjansson4 libjson-c5
    libk5crypto3 libkeyutils1 libkmod2 libkrb5-3 libkrb5support0 liblz4-1 liblzma5 libmd0 libmnl0 libmount1 libncursesw6 libnettle8
    libnewt0.52 libnftables1 libnftnl11 libp11-kit0 libpam-modules libpam-modules-bin libpam-runtime libpam0g libpcre2-8-0 libpopt0
    libproc2-0 libprocps8 libreadline8 libseccomp2 libselinux1 libsemanage-common libsemanage2 libsepol2 libslang2 libsmartcols1 libss2
    libssl3 libstdc++6 libsystemd-shared libsystemd0 libtasn1-6 libtinfo6 libtirpc-common libtirpc3 libudev1 libunistring2 libunistring5
    libuuid1 libxtables12 libxxhash0 libzstd1 login logrotate logsave lsb-base mawk mount nano ncurses-base ncurses-bin netbase nftables
    passwd perl-base procps readline-common sed sensible-utils systemd systemd-sysv sysvinit-utils tar tzdata udev usrmerge util-linux
    vim-common vim-tiny whiptail zlib1g
"""
_RHEL = """
    audit audit-libs authselect authselect-libs basesystem bash bzip2-libs ca-certificates chkconfig coreutils coreutils-common cpio
    cracklib cracklib-dicts crontabs cronie crypto-policies crypto-policies-scripts cryptsetup-libs curl curl-minimal dbus dbus-broker
    dbus-common device-mapper device-mapper-libs diffutils dnf dnf-data dnf-plugins-core dracut e2fsprogs e2fsprogs-libs elfutils-libelf
    elfutils-libs expat file-libs filesystem findutils firewalld firewalld-filesystem gawk gdbm-libs glib2 glibc glibc-common
    glibc-minimal-langpack gmp gnupg2 gnutls grep grub2-tools groff-base gzip hostname ima-evm-utils initscripts-service iproute
    iproute-tc ipset ipset-libs iptables-libs iputils irqbalance jansson json-c kbd kernel kernel-core kernel-modules kernel-tools
    kexec-tools keyutils-libs kmod kmod-libs krb5-libs less libacl libarchive libassuan libattr libblkid libbpf libcap libcap-ng
    libcap-ng-python3 libcom_err libcurl libcurl-minimal libdnf libeconf libedit libevent libfdisk libffi libgcc libgcrypt libgomp
    libgpg-error libidn2 libkcapi libmnl libmount libndp libnetfilter_conntrack libnfnetlink libnftnl libnghttp2 libnl3 libpwquality
    librepo libseccomp libselinux libselinux-utils libsemanage libsepol libsigsegv libsmartcols libsolv libss libssh libssh-config
    libstdc++ libsysfs libtasn1 libtirpc libunistring libuser libutempter libuuid libverto libxcrypt libxml2 libyaml libzstd logrotate
    lua-libs lz4-libs lzo man-db mpfr ncurses ncurses-base ncurses-libs nettle NetworkManager NetworkManager-libnm nftables npth
    numactl-libs openldap openssh openssh-clients openssh-server openssl-libs os-prober p11-kit p11-kit-trust pam parted passwd pcre
    pcre2 pcre2-syntax policycoreutils polkit popt procps-ng psmisc publicsuffix-list-dafsa python3 python3-libs readline rootfiles rpm
    rpm-libs sed selinux-policy selinux-policy-targeted setup sg3_utils shadow-utils slang snappy sqlite-libs sssd-client sssd-common
    sudo systemd systemd-libs systemd-pam systemd-rpm-macros systemd-udev tzdata util-linux util-linux-core vim-minimal which xfsprogs
    xz xz-libs yum zlib
"""


@cache
def base(os: str) -> frozenset[str]:
    """Packages of a minimal installation of *os*; none of one that isn't known."""
    system = os.partition("-")[0]
    text = _DEBIAN if system in ("debian", "ubuntu") else _RHEL if system in ("rocky", "rhel", "almalinux", "openeuler") else ""
    return frozenset(text.split())


@cache
def _packages() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for package, commands in _COMMANDS.items():
        for command in commands.split():
            found[command] = (*found.get(command, ()), package)
    return found


@cache
def packages(command: str, family: str) -> tuple[str, ...]:
    """Packages of *family* that bring *command*, by one of them; none for a command that isn't known."""
    names: list[str] = []
    for entry in _packages().get(command, ()):
        debian, _, rhel = entry.partition("/")
        names += (debian if family == "debian" or not rhel else rhel).split("|")
    return tuple(name for name in names if name != "-")


@cache
def _conditions() -> dict[str, tuple[tuple[str, str], ...]]:
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for key, (value, commands) in _ONLY.items():
        for command in commands.split():
            found[command] = (*found.get(command, ()), (key.partition("=")[0], value))
    return found


def condition(command: str) -> tuple[tuple[str, str], ...]:
    """Names of ``host.env`` with the values (empty: any) without which no script comes to *command*."""
    return _conditions().get(command, ())

"""The steps that make the cluster (50 to 90) and ops/, on fake hosts.

There is no kubeadm here: ``KUBEADM``, ``KUBECTL`` and ``CRICTL`` below refuse what the real ones refuse, leave what they leave, phase by
phase, and share one "cluster", a directory.  A phase named in ``stop-at`` waits there to be killed.  The etcd of step 70 is a real one.
"""

from __future__ import annotations

import hashlib
import io
import random
import shutil
import stat
import subprocess
import tarfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fakehost import FakeHost

from generator import compiler, keys, secrets

pytestmark = pytest.mark.needs("root", "unshare", "ip", "openssl", "etcd", "etcdctl")

PASSPHRASE = "canary of fifteen barges"
SHARED = ["ca.crt", "ca.key", "sa.key", "sa.pub", "front-proxy-ca.crt", "front-proxy-ca.key", "etcd/ca.crt", "etcd/ca.key"]

MANIFEST = """\
apiVersion: v1
kind: Pod
metadata:
  labels:
    component: etcd
    tier: control-plane
  name: etcd
  namespace: kube-system
spec:
  containers:
  - command:
    - etcd
    - --advertise-client-urls=https://ADDRESS:2379
    - --data-dir=DATA
    - --initial-cluster=HOST=https://ADDRESS:2380
STATE    - --name=HOST
    - --snapshot-count=10000
    image: registry.k8s.io/etcd:3.5.16-0
    name: etcd
status: {}
"""

# What the real one refuses: facts.md 1.9 (flags beside --config), 1.16 (preflight), 1.4 (the discovery file exists), 3.4 (the shared files).
KUBEADM = r"""#!/bin/bash
K=/etc/kubernetes; . "$FAKE/identity"
echo "kubeadm $*" >>"$FAKE/argv"
refuse() { echo "error execution phase: $*" >&2; exit 1; }
phase() { echo "[$1]"; if [[ $1 == "$(cat "$FAKE/stop-at" 2>/dev/null)" ]]; then touch "$FAKE/reached"; sleep 60; exit 1; fi; sleep "${PAUSE:-0}"; }
unused() { for path; do [[ ! -e $path ]] || refuse "[ERROR FileAvailable-${path//\//-}]: $path already exists"; done; }
config() {
  for word; do case $word in --config=*) CONFIG=${word#*=} ;; --skip-*) ;; *) refuse "can not mix '--config' with arguments [${word#--}]" ;; esac; done
  [[ -f $CONFIG ]] || refuse "unable to read config"
  [[ -d $(sed -n 's/^  directory: //p' "$CONFIG") ]] || refuse "could not list patch files"
  unused $K/kubelet.conf $K/bootstrap-kubelet.conf $K/manifests/{etcd,kube-apiserver,kube-controller-manager,kube-scheduler}.yaml
  [[ -z $(ls -A "$DATA" 2>/dev/null) ]] || refuse "[ERROR DirAvailable-$DATA]: $DATA is not empty"
}
manifest() { mkdir -p $K/manifests "$DATA/member"; sed "s,ADDRESS,$ADDRESS,;s,HOST,$HOST,g;s,DATA,$DATA,;s,STATE,$1," "$FAKE/manifest" | (umask 077; cat >$K/manifests/etcd.yaml); }
keeps() { # a CA that lies there is the cluster's; so is the service account key
  local name
  for name in ca front-proxy-ca etcd/ca; do
    if [[ ! -e $K/pki/$name.crt ]]; then continue; fi
    [[ $(openssl x509 -noout -pubkey -in $K/pki/$name.crt) == "$(openssl pkey -pubout -in $K/pki/$name.key)" ]] || refuse "failure loading $name certificate"
    openssl x509 -noout -text -in $K/pki/$name.crt | grep -q CA:TRUE || refuse "$name certificate is not a CA"
    cp $K/pki/$name.{crt,key} "$(dirname "$CLOUD/pki/$name")/"
  done
  if [[ -e $K/pki/sa.key ]]; then [[ -e $K/pki/sa.pub ]] || refuse "no sa.pub"; cp $K/pki/sa.{key,pub} "$CLOUD/pki/"; fi
}
leaves() { mkdir -p $K/pki/etcd; for name in apiserver etcd/server etcd/healthcheck-client; do cp "$CLOUD/pki/leaf.crt" $K/pki/$name.crt; done; }
conf() { (umask 077; for name; do printf 'server: https://%s\n' "$SERVER" >$K/$name.conf; done); }
online() { systemctl start kubelet.service; for name in apiserver controller-manager scheduler; do echo >$K/manifests/kube-$name.yaml; done; touch "$CLOUD/api/$ADDRESS"; }
discovered() {
  [[ -f $K/stowage-discovery.conf ]] || refuse "discovery: Invalid value: \"\": not a valid HTTPS URL or a file on disk"
  [[ $(stat -c %a $K/stowage-discovery.conf) == 600 ]] || refuse "test: discovery file is not 0600"
  [[ -e $CLOUD/tokens/$(sed -n 's/^ *token: //p' $K/stowage-discovery.conf) ]] || refuse "couldn't validate the identity of the API Server"
  [[ -n $(ls "$CLOUD/api") ]] || refuse "the API server does not answer"
}
case $1 in
  version) echo v1.29.3 ;;
  config) [[ $3 == --help || $3 == *init.yaml || -f $K/stowage-discovery.conf ]] || refuse "not a valid HTTPS URL or a file on disk" ;;
  token)
    [[ -f $K/admin.conf ]] || refuse "no admin.conf"
    case $2 in
      create) token=$(od -An -N11 -tx1 /dev/urandom | tr -d ' \n'); token=${token:0:6}.${token:6:16}; touch "$CLOUD/tokens/$token"; echo "$token" ;;
      delete) rm "$CLOUD/tokens/${!#}".* ;;
    esac ;;
  init)
    [[ " $* " == *" --skip-token-print "* ]] || refuse "test: would print the token"
    config "${@:2}"
    phase preflight; mkdir -p $K/pki/etcd; keeps; for name in ca.crt ca.key sa.key; do cp "$CLOUD/pki/$name" $K/pki/; done
    phase certs; cp -r "$CLOUD/pki/." $K/pki/; leaves
    phase kubeconfig; conf admin super-admin kubelet controller-manager scheduler
    phase etcd; manifest ''; echo "$HOST $ADDRESS false" >"$CLOUD/members"
    phase control-plane; online
    phase upload; touch "$CLOUD/nodes/$HOST"; echo "Your Kubernetes control-plane has initialized successfully!" ;;
  join)
    config "${@:2}"
    ((0$(cat "$CLOUD/nodes/$HOST" 2>/dev/null) == 0)) || refuse "a Node with name \"$HOST\" and status \"Ready\" already exists in the cluster"
    if grep -q '^controlPlane:' "$CONFIG"; then
      for name in ca.crt ca.key sa.key sa.pub front-proxy-ca.crt front-proxy-ca.key etcd/ca.crt etcd/ca.key; do [[ -f $K/pki/$name ]] || refuse "failure loading certificate: $name"; done
      cmp -s $K/pki/ca.key "$CLOUD/pki/ca.key" || refuse "wrong CA"
      discovered
      phase preflight; leaves
      phase kubeconfig; conf admin kubelet controller-manager scheduler
      phase etcd; grep -q "^$HOST " "$CLOUD/members" || echo "$HOST $ADDRESS true" >>"$CLOUD/members"
      phase learner; manifest '    - --initial-cluster-state=existing\n'
      phase promote; sed -i "s/^$HOST .*/$HOST $ADDRESS false/" "$CLOUD/members"
      phase control-plane; online
    else
      unused $K/pki/ca.crt; discovered
      phase preflight; mkdir -p $K/pki; cp "$CLOUD/pki/ca.crt" $K/pki/
      phase ca; conf bootstrap-kubelet
      phase bootstrap; rm $K/bootstrap-kubelet.conf; conf kubelet; systemctl start kubelet.service
    fi
    touch "$CLOUD/nodes/$HOST"; phase last; echo "This node has joined the cluster" ;;
  reset)
    [[ $2 == -f && $3 == --cri-socket=unix://* ]] || refuse "found multiple CRI endpoints, or asked for confirmation"
    touch "$FAKE/was-reset"
    if [[ -e $K/manifests/etcd.yaml && -e $K/admin.conf ]] && grep -q "^$HOST " "$CLOUD/members"; then
      if [[ $(wc -l <"$CLOUD/members") -gt 1 ]]; then
        if [[ -e $CLOUD/quorum-lost ]]; then echo "[reset] Failed to remove etcd member: x, please manually remove this etcd member using etcdctl"
        else sed -i "/^$HOST /d" "$CLOUD/members"; fi
      fi
      rm -rf "$DATA"/*
    fi
    rm -f "$CLOUD/api/$ADDRESS"; systemctl stop kubelet.service
    phase reset-half
    rm -rf $K/manifests/* $K/pki/* $K/{admin,super-admin,kubelet,bootstrap-kubelet,controller-manager,scheduler}.conf ;;
  *) refuse "unknown command $1" ;;
esac
"""

KUBECTL = r"""#!/bin/bash
. "$FAKE/identity"
echo "kubectl $*" >>"$FAKE/argv"
conf='' server='' file='' words=()
for word; do
  case $word in --kubeconfig=*) conf=${word#*=} ;; --server=*) server=${word#*=} ;; --filename=*) file=${word#*=} ;; --*=* | --server-side | --force-conflicts) ;; *) words+=("$word") ;; esac
done
[[ -f $conf ]] || { echo "error: stat $conf: no such file" >&2; exit 1; }
: "${server:=$(sed -n 's/^ *server: //p' "$conf")}"
server=${server#https://} server=${server%:*}
if [[ $server == backend || $server == 192.0.2.31 ]]; then [[ -n $(ls "$CLOUD/api") ]]; else [[ -e $CLOUD/api/$server ]]; fi || { echo "The connection to the server $server was refused" >&2; exit 1; }
if ca=$(sed -n 's/^ *certificate-authority-data: //p' "$conf" | base64 -d); [[ $ca && $ca != "$(cat "$CLOUD/pki/ca.crt")" ]]; then
  echo "Unable to connect to the server: tls: failed to verify certificate: x509: certificate signed by unknown authority" >&2; exit 1
fi
if token=$(sed -n 's/^ *token: //p' "$conf"); [[ $token && ! -e $CLOUD/tokens/$token ]]; then echo "error: You must be logged in to the server (Unauthorized)" >&2; exit 1; fi
# What the API server, its authenticator of bootstrap tokens and kubeadm's roles want of one (kubernetes.io, Authenticating with Bootstrap Tokens).
bootstrap() {
  local text name value id='' secret='' end=''
  text=$(cat)
  [[ $text == *$'\n'"  namespace: kube-system"$'\n'* && $text == *$'\n'"type: bootstrap.kubernetes.io/token"$'\n'* ]] || { echo "test: no bootstrap token" >&2; exit 1; }
  [[ $text == *"usage-bootstrap-authentication: 'true'"* && $text == *"auth-extra-groups: 'system:bootstrappers:kubeadm:default-node-token'"* ]] || { echo "test: nobody can join with it" >&2; exit 1; }
  while read -r name value; do
    value=${value//\'/}
    case $name in token-id:) id=$value ;; token-secret:) secret=$value ;; expiration:) end=$value ;; esac
  done <<<"$text"
  [[ $text == *$'\n'"  name: bootstrap-token-$id"$'\n'* && $id.$secret =~ ^[a-z0-9]{6}\.[a-z0-9]{16}$ ]] || { echo "test: name and id differ" >&2; exit 1; }
  [[ $end =~ ^[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}Z$ ]] || { echo "test: no time: $end" >&2; exit 1; }
  if compgen -G "$CLOUD/tokens/$id.*" >/dev/null; then [[ $1 == replace ]] || { echo "Error from server (AlreadyExists)" >&2; exit 1; }; rm "$CLOUD/tokens/$id".*
  else [[ $1 == create ]] || { echo "Error from server (NotFound)" >&2; exit 1; }; fi
  echo "$end" >"$CLOUD/tokens/$id.$secret"; echo "secret/bootstrap-token-$id ${1}d"
}
case "${words[*]}" in
  "get nodes") if [[ $* == *jsonpath* ]]; then for node in "$CLOUD"/nodes/*; do echo "${node##*/} v1.29.3 $(cat "$CLOUD/ready" 2>/dev/null || echo False)"; done; else ls "$CLOUD/nodes" | sed 's,^,node/,'; fi ;;
  "get node "*)
    left=$(cat "$CLOUD/nodes/${words[2]}" 2>/dev/null) || exit 0
    if ((0$left > 0)); then printf True; echo $((left - 1)) >"$CLOUD/nodes/${words[2]}"; fi ;;
  "get daemonsets "*) cat "$CLOUD/daemonsets" 2>/dev/null || : ;;
  "get secret "*) id=${words[2]#bootstrap-token-}; compgen -G "$CLOUD/tokens/$id.*" >/dev/null ;;
  "delete node "*) rm "$CLOUD/nodes/${words[2]}" ;;
  get | diff) if [[ $* == *--raw=* ]]; then echo ok; else cmp -s "$file" "$CLOUD/objects/${file##*/}"; fi ;;
  create | replace) if [[ $file == - ]]; then if [[ -e $CLOUD/no-tokens ]]; then echo "Error from server: denied: $(cat)" >&2; exit 1; fi; bootstrap "${words[0]}"; exit; fi; [[ ! -e $CLOUD/objects/${file##*/} ]] || { echo "Error from server (AlreadyExists)" >&2; exit 1; }; cp "$file" "$CLOUD/objects/" ;;
  apply) cp "$file" "$CLOUD/objects/"; echo True >"$CLOUD/ready" ;;
  wait*) [[ -n $(ls "$CLOUD/objects") ]] ;;
  *) echo "kubectl stand-in: ${words[*]}" >&2; exit 1 ;;
esac
"""
CRICTL = r"""#!/bin/bash
. "$FAKE/identity"
echo "crictl $*" >>"$FAKE/argv"
[[ $1 == --runtime-endpoint=unix://* ]] || exit 1
case $2 in
  ps) if [[ -e /etc/kubernetes/manifests/etcd.yaml ]]; then echo cafe01; fi ;;
  exec)
    [[ $3 == --sync && $4 == cafe01 && $5 == etcdctl ]] || exit 1
    if [[ -e $FAKE/real-etcd ]]; then shift 5; words=(); for word; do case $word in --cacert=* | --cert=* | --key=*) ;; *) words+=("${word/https:/http:}") ;; esac; done; exec /usr/bin/etcdctl --dial-timeout=500ms "${words[@]}"; fi
    case $* in
      *"member list") while read -r name address learner; do echo "8e9e05c52164694d, started, $name, https://$address:2380, https://$address:2379, $learner"; done <"$CLOUD/members" ;;
      *"member remove "*) sed -i "/^${GONE:-master-3} /d" "$CLOUD/members" ;;
      *"endpoint health --cluster") [[ ! -e $CLOUD/ill ]] ;;
      *) exit 1 ;;
    esac ;;
esac
"""


class Cloud:
    """What the hosts of one test share: the cluster that the stand-ins play."""

    def __init__(self, root: Path, pki: Path) -> None:
        self.root = root / "cloud"
        for name in ("api", "nodes", "tokens", "objects"):
            (self.root / name).mkdir(parents=True)
        (self.root / "members").write_text("")
        shutil.copytree(pki, self.root / "pki")
        self.phrase = root / "phrase"
        self.phrase.write_text(PASSPHRASE + "\n")
        self.hosts = root

    def host(self, name: str, number: int, **environment: str) -> Kube:
        return Kube(self, name, number, **environment)

    def members(self) -> list[str]:
        return (self.root / "members").read_text().splitlines()

    def nodes(self) -> list[str]:
        return sorted(path.name for path in (self.root / "nodes").iterdir())

    def tokens(self) -> list[str]:
        return [path.name for path in (self.root / "tokens").iterdir()]


class Kube(FakeHost):
    """A fake host with the stand-ins; *number* is the last part of its address."""

    def __init__(self, cloud: Cloud, name: str, number: int, **environment: str) -> None:
        role = "worker" if name.startswith("node") else "control-plane"
        defaults = {
            "HOST": name, "ROLE": role, "FIRST": "1" if name == "master-1" else "", "ADDRESSES": f"192.0.2.{number}/24", "ETCD_DATA_DIR": "/var/lib/stacked-etcd" if role == "control-plane" else "",
            "CONTROL_PLANES": "master-1=192.0.2.25 master-2=192.0.2.126 master-3=192.0.2.127",  # on this host too: nobody there refuses at once
            "WORKERS": "node-1=192.0.2.28 node-2=192.0.2.29" if role == "control-plane" else "", "LB": "1" if role == "control-plane" else "",
        }  # fmt: skip
        super().__init__(cloud.hosts / name, **(defaults | environment))
        self.cloud = cloud
        self.carries += " 192.0.2.31/32 192.0.2.126/32 192.0.2.127/32"
        for command, text in (("kubeadm", KUBEADM), ("kubectl", KUBECTL), ("crictl", CRICTL)):
            self.stand_in(command, text)
        self.stand_in("etcdctl", "#!/bin/sh\nexit 1\n")
        (self.fake / "identity").write_text(
            f"HOST={name} ADDRESS=192.0.2.{number} DATA=/var/lib/stacked-etcd CLOUD='{cloud.root}' SERVER={self.environment['SERVER']}\nPATH=/usr/bin:/bin:$PATH\nsystemctl() {{ '{self.bin}/systemctl' \"$@\"; }}\n"
        )
        (self.fake / "manifest").write_text(MANIFEST)
        self.unit("kubelet.service")
        (self.bundle / "kubeadm").mkdir()
        text = "apiVersion: kubeadm.k8s.io/v1beta3\npatches:\n  directory: /etc/kubernetes/patches\n"
        (self.bundle / "kubeadm" / "init.yaml").write_text(text)
        (self.bundle / "kubeadm" / "join.yaml").write_text(text + ("" if role == "worker" else "controlPlane:\n"))
        step = {"master": "60", "node": "65"}[name.partition("-")[0]] if name != "master-1" else "50"
        self.row("/etc/kubernetes/patches/kubeletconfiguration.yaml", "maxPods: 200\n", step=step)

    def watch(self) -> None:
        """From here on, the command lines of what handles secrets are written down."""
        for command in ("openssl", "tar", "base64", "sha256sum", "awk", "sed", "grep", "cat", "cmp", "rm", "mv", "sync", "chmod"):
            self.stand_in(command, f'#!/bin/sh\necho "{command} $*" >>"$FAKE/argv"\nPATH=/usr/bin:/bin exec {command} "$@"\n')

    def do(self, script: str, *options: str, passphrase: bool = True, pause: str = "0") -> subprocess.CompletedProcess[str]:
        words = [f"PAUSE={pause}", *([f"STOWAGE_PASSPHRASE_FILE={self.cloud.phrase}"] if passphrase else [])]
        return self.sh("env", *words, "bash", str(self.path(script)), *options)

    def killed_at(self, phase: str, script: str, *options: str) -> None:
        """Runs *script* until kubeadm is in *phase*, then kills everything at once, as a power cut does."""
        (self.fake / "stop-at").write_text(phase)
        (self.fake / "reached").unlink(missing_ok=True)
        self.killed(script, *options, when=(self.fake / "reached").exists)
        (self.fake / "stop-at").unlink()

    def killed(self, script: str, *options: str, when: Callable[[], bool]) -> None:
        command, environment = self.command("bash", str(self.path(script)), *options)
        environment |= {"STOWAGE_PASSPHRASE_FILE": str(self.cloud.phrase), "PAUSE": "0.05"}
        end = time.monotonic() + 20
        with (self.root / "output").open("w") as output:
            process = subprocess.Popen(
                command, env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
            while not when() and process.poll() is None and time.monotonic() < end:
                time.sleep(0.01)
            process.kill()
            process.wait()
        assert time.monotonic() < end, (self.root / "output").read_text()

    def reset_was(self) -> bool:
        path = self.fake / "was-reset"
        there = path.exists()
        path.unlink(missing_ok=True)
        return there

    def handoff(self, name: str) -> Path:
        return self.file(f"/var/lib/stowage/example/handoff/{name}.handoff")

    def take(self, other: Kube, name: str) -> None:
        """Copies an archive from *other*, as a person does."""
        self.handoff(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(other.handoff(name), self.handoff(name))

    def there(self, path: str) -> bool:
        return self.file(path).exists() and not stat.S_ISCHR(self.file(path).lstat().st_mode)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA and what else init makes; real certificates, for step 90 reads their dates."""
    root = tmp_path_factory.mktemp("pki")
    (root / "etcd").mkdir()
    new = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=kubernetes",
        "-days",
        "365",
    ]
    subprocess.run([*new, "-keyout", root / "ca.key", "-out", root / "ca.crt"], check=True, capture_output=True)
    for name in ("front-proxy-ca", "etcd/ca", "leaf"):
        shutil.copyfile(root / "ca.key", root / f"{name}.key")
        shutil.copyfile(root / "ca.crt", root / f"{name}.crt")
    (root / "sa.key").write_text("canary-service-account-key\n")
    (root / "sa.pub").write_text("public\n")
    return root


@pytest.fixture
def cloud(tmp_path: Path, pki: Path) -> Cloud:
    return Cloud(tmp_path, pki)


@pytest.fixture
def first(cloud: Cloud) -> Kube:
    return cloud.host("master-1", 25)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, pki: Path) -> Kube:
    host = Cloud(tmp_path_factory.mktemp("up"), pki).host("master-1", 25)
    ok(host.do("50-init.sh"))
    return host


@pytest.fixture
def up(first: Kube, made: Kube) -> Kube:
    """The first control plane after step 50; a copy of *made*, for a test may change it."""
    for source, target in (
        (made.cloud.root, first.cloud.root),
        (made.root / "layers", first.root / "layers"),
        (made.fake / "units", first.fake / "units"),
    ):
        target.mkdir(exist_ok=True)
        subprocess.run(["cp", "-a", "--", f"{source}/.", target], check=True)
    return first


def ok(done: subprocess.CompletedProcess[str], status: int = 0) -> str:
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def no_secret_seen(*hosts: Kube) -> None:
    """No passphrase, token or key in a command line, a log or a file that is not meant for it."""
    cloud = hosts[0].cloud
    secrets = [PASSPHRASE, "canary-service-account-key", *cloud.tokens()]
    for host in hosts:
        texts = [host.fake / "argv", *host.file("/var/log/stowage").glob("*")]
        for path in texts:
            text = path.read_text() if path.exists() else ""
            assert not [secret for secret in secrets if secret in text], path
            assert path.name == "argv" or stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not (host.root / "layers" / "run" / "stowage-example").exists()


# --- 50 --------------------------------------------------------------------------------------------------------------


def test_init(first: Kube) -> None:
    up = first
    up.watch()
    ok(up.do("50-init.sh"))
    assert up.cloud.nodes() == ["master-1"]
    calls = (up.fake / "argv").read_text()
    assert "kubeadm init --config=" in calls
    assert "--skip-token-print" in calls
    assert up.states()["kubelet.service"] == {"active"}
    for name in ("control-plane", "worker"):
        assert stat.S_IMODE(up.handoff(name).stat().st_mode) == 0o600
    with tarfile.open(up.handoff("worker")) as archive:
        assert sorted(archive.getnames()) == ["SHA256SUMS", "stowage-discovery.conf"]
        text = archive.extractfile("stowage-discovery.conf").read().decode()
        assert "server: https://backend:16443" in text
        assert "PRIVATE" not in text
    plain = subprocess.run(
        [
            "openssl",
            "enc",
            "-d",
            "-aes-256-cbc",
            "-pbkdf2",
            "-iter",
            "600000",
            "-pass",
            f"file:{up.cloud.phrase}",
            "-in",
            up.handoff("control-plane"),
        ],
        capture_output=True,
        check=True,
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        assert sorted(archive.getnames()) == sorted(["SHA256SUMS", "stowage-discovery.conf", *(f"pki/{name}" for name in SHARED)])
    no_secret_seen(up)
    before = up.snapshot(), up.handoff("worker").read_bytes(), up.cloud.tokens()
    assert "nothing to change" in ok(up.do("50-init.sh"))
    assert (up.snapshot(), up.handoff("worker").read_bytes(), up.cloud.tokens()) == before
    assert not up.reset_was()


def test_init_makes_a_new_handoff_when_the_token_is_gone(up: Kube) -> None:
    (old,) = up.cloud.tokens()
    (up.cloud.root / "tokens" / old).unlink()
    assert "1 changed" in ok(up.do("50-init.sh"))
    assert up.cloud.tokens() not in ([], [old])


@pytest.mark.parametrize("phase", ["certs", "etcd", "upload"])
def test_init_killed(first: Kube, phase: str) -> None:
    first.killed_at(phase, "50-init.sh")
    if phase == "etcd":  # and once more, in the middle of the reset
        first.killed_at("reset-half", "50-init.sh")
    assert "master-1 is up" not in ok(first.do("50-init.sh"))
    assert first.reset_was()
    assert first.cloud.nodes() == ["master-1"]
    assert first.handoff("worker").exists()
    assert "nothing to change" in ok(first.do("50-init.sh"))
    assert not first.reset_was()


def test_init_whose_etcd_has_members_is_not_reset(first: Kube) -> None:
    first.killed_at("upload", "50-init.sh")
    with (first.cloud.root / "members").open("a") as members:
        members.write("master-2 192.0.2.126 false\n")
    assert "other members" in ok(first.do("50-init.sh"), 1)
    assert not first.reset_was()


def test_init_killed_in_the_handoff(first: Kube) -> None:
    """kubeadm is done: no reset, and the archives are made whole."""
    first.killed("50-init.sh", when=lambda: first.file("/var/lib/stowage/example/handoff/.control-plane.handoff").exists())
    assert not first.file("/var/lib/stowage/example/handoff/token-id").exists()
    ok(first.do("50-init.sh"))
    assert not first.reset_was()
    assert first.handoff("control-plane").exists()


def test_a_kubeadm_that_outlives_its_script_keeps_the_lock(first: Kube) -> None:
    (first.fake / "stop-at").write_text("certs")
    phrase = f"STOWAGE_PASSPHRASE_FILE={first.cloud.phrase}"
    text = (
        'bash "$0" & for i in {1..200}; do [[ ! -e $FAKE/reached ]] || break; sleep 0.05; done; kill -9 $!; rm "$FAKE/stop-at"; bash "$0"'
    )
    assert "another Stowage script is running" in ok(first.sh("env", phrase, "bash", "-c", text, str(first.path("50-init.sh"))), 1)
    assert not first.reset_was()


def test_init_refuses(first: Kube) -> None:
    first.put("/etc/kubernetes/manifests/kube-apiserver.yaml", "x")
    assert "ops/reset.sh" in ok(first.do("50-init.sh"), 1)
    first.file("/etc/kubernetes/manifests/kube-apiserver.yaml").unlink()
    first.carries = "192.0.2.25/24"  # and nobody has the VIP
    assert "waits for: the VIP 192.0.2.31" in ok(first.do("50-init.sh"), 3)
    assert not (first.fake / "argv").exists()


def test_a_short_passphrase_makes_nothing(first: Kube) -> None:
    first.cloud.phrase.write_text("short\n")
    assert "shorter than 12" in ok(first.do("50-init.sh"), 1)
    assert not first.cloud.tokens()
    assert not first.handoff("worker").exists()
    first.cloud.phrase.write_text(PASSPHRASE)
    ok(first.do("50-init.sh"))
    assert not first.reset_was()


def test_one_control_plane_alone_needs_no_passphrase(cloud: Cloud) -> None:
    alone = cloud.host(
        "master-1",
        25,
        CONTROL_PLANES="master-1=192.0.2.25",
        ENDPOINT="",
        VIPS="",
        SERVER="192.0.2.25:6443",
        LB="",
        WORKERS="node-1=192.0.2.28",
    )
    assert "step 65" in ok(alone.do("50-init.sh", passphrase=False))
    assert alone.handoff("worker").exists()
    assert not alone.handoff("control-plane").exists()


# --- 60 --------------------------------------------------------------------------------------------------------------


def test_join(up: Kube) -> None:
    second = up.cloud.host("master-2", 126)
    waits = ok(second.do("60-join.sh"), 3)
    assert "waits for: the handoff from master-1" in waits
    assert "control-plane.handoff" in waits
    second.take(up, "control-plane")
    second.watch()
    assert "would" in ok(second.do("60-join.sh", "--plan", passphrase=False))
    ok(second.do("60-join.sh"))
    assert up.cloud.members()[1] == "master-2 192.0.2.126 false"
    assert not second.handoff("control-plane").exists()
    assert not second.there("/etc/kubernetes/stowage-discovery.conf")
    modes = {name: stat.S_IMODE(second.file(f"/etc/kubernetes/pki/{name}").stat().st_mode) for name in SHARED}
    assert modes == {name: 0o600 if name.endswith(".key") else 0o644 for name in SHARED}
    no_secret_seen(up, second)
    second.take(up, "control-plane")  # a later handoff, made here: not ours to remove
    before = second.snapshot()
    assert "nothing to change" in ok(second.do("60-join.sh"))
    assert second.snapshot() == before
    assert second.handoff("control-plane").exists()
    assert not second.reset_was()


@pytest.mark.parametrize("phase", ["preflight", "etcd", "learner", "last"])
def test_join_killed(up: Kube, phase: str) -> None:
    second = up.cloud.host("master-2", 126)
    second.take(up, "control-plane")
    second.killed_at(phase, "60-join.sh")
    assert second.handoff("control-plane").exists()
    if phase == "learner":
        second.killed_at("reset-half", "60-join.sh")
    ok(second.do("60-join.sh"))
    assert second.reset_was()
    assert up.cloud.members() == ["master-1 192.0.2.25 false", "master-2 192.0.2.126 false"]
    assert not second.handoff("control-plane").exists()
    assert "nothing to change" in ok(second.do("60-join.sh"))
    no_secret_seen(up, second)


def test_join_killed_at_random(up: Kube) -> None:
    second = up.cloud.host("master-2", 126)
    second.take(up, "control-plane")
    chance = random.Random(60)
    for _ in range(4):
        at = time.monotonic() + chance.uniform(0.2, 1.2)
        second.killed("60-join.sh", when=lambda at=at: time.monotonic() > at)
    ok(second.do("60-join.sh"))
    assert [line.split()[0] for line in up.cloud.members()] == ["master-1", "master-2"]
    assert "nothing to change" in ok(second.do("60-join.sh"))


def test_a_member_that_cannot_be_taken_out_stops_the_rerun(up: Kube) -> None:
    second = up.cloud.host("master-2", 126)
    second.take(up, "control-plane")
    second.killed_at("control-plane", "60-join.sh")
    (up.cloud.root / "quorum-lost").touch()
    assert "remove-member.sh master-2" in ok(second.do("60-join.sh"), 1)


def test_join_from_a_stick(up: Kube, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    shutil.copyfile(up.handoff("control-plane"), stick)
    second, third = up.cloud.host("master-2", 126), up.cloud.host("master-3", 127)
    assert "needed yet by: master-3" in ok(second.do("60-join.sh", "--handoff", str(stick)))
    assert stick.exists()
    ok(third.do("60-join.sh", "--handoff", str(stick)))
    assert not stick.exists()


def forged(path: Path, **files: str) -> None:
    """An archive in which all sums are right, and something else is not."""
    with tarfile.open(path, "w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name.replace("__", "../"))
            if text.startswith("-> "):
                entry.type, entry.linkname = tarfile.SYMTYPE, text[3:]
                archive.addfile(entry)
            else:
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text.encode()))


def test_bad_archives_change_nothing(up: Kube) -> None:
    second, node = up.cloud.host("master-2", 126), up.cloud.host("node-1", 28)
    second.take(up, "control-plane")
    up.cloud.phrase.write_text("another canary of a passphrase")
    assert "wrong passphrase" in ok(second.do("60-join.sh"), 1)
    up.cloud.phrase.write_text(PASSPHRASE)
    data = bytearray(second.handoff("control-plane").read_bytes())
    data[2000] ^= 1
    second.handoff("control-plane").write_bytes(data)
    assert "not as it was made" in ok(second.do("60-join.sh"), 1)
    node.take(up, "worker")
    good = node.handoff("worker").read_bytes()
    with tarfile.open(node.handoff("worker")) as archive:
        conf, total = (archive.extractfile(name).read().decode() for name in ("stowage-discovery.conf", "SHA256SUMS"))
    name = "stowage-discovery.conf"
    for files in (
        {name: conf, "SHA256SUMS": total, "__etc/cron.d/x": "x"},
        {name: "-> /etc/shadow", "SHA256SUMS": total},
        {name: conf + "#", "SHA256SUMS": total},
        {name: conf},
    ):
        forged(node.handoff("worker"), **files)
        assert "not as it was made" in ok(node.do("65-join.sh"), 1)
    node.handoff("worker").write_bytes(good)
    node.seal(CLUSTER="example", SERVER="other:16443")
    assert "another cluster" in ok(node.do("65-join.sh"), 1)
    node.seal(SERVER="backend:16443")
    for token in up.cloud.tokens():
        (up.cloud.root / "tokens" / token).unlink()
    assert "token" in ok(node.do("65-join.sh"), 1)
    for host in (second, node):
        assert not [path for path in host.snapshot() if "/etc/kubernetes/" in path and "patches" not in path]
        assert not host.reset_was()
        assert not (host.fake / "argv").exists() or "kubeadm join" not in (host.fake / "argv").read_text()


def test_one_changed_bit_of_the_encrypted_archive(up: Kube) -> None:
    """Also where tar has nothing but zeros; the salt and the last block too."""
    second = up.cloud.host("master-2", 126)
    whole = up.handoff("control-plane").read_bytes()
    second.handoff("control-plane").parent.mkdir(parents=True)
    for at in (9, 16, 700, len(whole) // 2, len(whole) - 4000, len(whole) - 90, len(whole) - 1):
        second.handoff("control-plane").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        said = ok(second.do("60-join.sh"), 1)
        assert "is not as it was made" in said or "does not open" in said, at
    second.handoff("control-plane").write_bytes(whole[:-512])
    assert "copy it again" in ok(second.do("60-join.sh"), 1)
    assert not second.there("/etc/kubernetes/pki")
    second.handoff("control-plane").write_bytes(whole)
    ok(second.do("60-join.sh"))


def test_what_a_killed_join_leaves_is_for_root_alone(up: Kube) -> None:
    second = up.cloud.host("master-2", 126)
    second.take(up, "control-plane")
    second.killed_at("preflight", "60-join.sh")
    left = [path for path in (second.root / "layers" / "run" / "stowage-example").rglob("*") if path.is_file()]
    assert "ca.key" in {path.name for path in left}
    assert not [path for path in left if path.stat().st_mode & 0o077]


def test_a_passphrase_of_the_environment_is_nobodys(first: Kube) -> None:
    done = first.sh("env", f"PASSPHRASE={PASSPHRASE}", "bash", str(first.path("50-init.sh")))
    assert "no terminal to ask for the passphrase" in ok(done, 1)


# --- behind IPVS -----------------------------------------------------------------------------------------------------


def behind_ipvs(host: Kube) -> Kube:
    """An API server with the VIP on lo once its unit runs; a load balancer elsewhere answers ARP."""
    host.carries = f"{host.environment['ADDRESSES']} 192.0.2.126/32 192.0.2.127/32"
    host.unit("stowage-vip.service")
    host.row("/etc/systemd/system/stowage-vip.service", "[Service]\n", unit="systemd")
    host.seal(LB="", LB_ENGINE="ipvs", LB_HOSTS="balancer-1=192.0.2.50")
    for verb, change in (("start", "add"), ("stop", "del")):
        hook = host.fake / "hooks" / f"{verb}-stowage-vip.service"
        hook.write_text(f"#!/bin/sh\nip address {change} 192.0.2.31/32 dev lo\n")
        hook.chmod(0o755)
    before = 'if [ -e "$FAKE/units/stowage-vip.service/active" ]; then ip address add 192.0.2.31/32 dev lo; fi\n'
    before += 'if [ ! -e "$FAKE/no-balancer" ]; then ip neigh add 192.0.2.31 lladdr 02:00:00:00:00:50 dev "$NIC" nud permanent; fi\n'
    (host.root / "layers").mkdir(exist_ok=True)
    (host.root / "layers" / "before.sh").write_text(before)
    return host


def test_the_vip_of_an_api_server_behind_ipvs(cloud: Cloud) -> None:
    vip = "stowage-vip.service"
    on = [f"enable {vip}", f"start {vip}"]
    off = [f"stop {vip}", f"disable {vip}"]

    def calls(host: Kube) -> list[str]:
        return [call for call in host.calls() if vip in call or call == "start kubelet.service"]

    first = behind_ipvs(cloud.host("master-1", 25))
    (first.fake / "no-balancer").touch()
    with (first.root / "layers" / "before.sh").open("a") as file:  # somebody put it on lo: no load balancer holds it by that
        file.write('if [ -e "$FAKE/no-balancer" ]; then ip address add 192.0.2.31/32 dev lo; fi\n')
    assert "waits for: the VIP" in ok(first.do("50-init.sh"), 3)
    assert calls(first) == []
    (first.fake / "no-balancer").unlink()
    first.killed_at("certs", "50-init.sh")
    assert calls(first) == on
    ok(first.do("50-init.sh"))
    assert calls(first) == [*off, *on, "start kubelet.service"]  # there when kubeadm asks for it
    assert "nothing to change" in ok(first.do("50-init.sh"))

    second = behind_ipvs(cloud.host("master-2", 126))
    second.unit(vip, "enabled", "active")  # left from a former life
    second.take(first, "control-plane")
    ok(second.do("60-join.sh"))
    assert calls(second) == [*off, "start kubelet.service", *on]  # not before its own API server is ready
    assert "nothing to change" in ok(second.do("60-join.sh"))
    ok(second.do("ops/reset.sh", "--yes", "master-2"))
    assert calls(second) == off


# --- 65 --------------------------------------------------------------------------------------------------------------


def test_worker(up: Kube) -> None:
    node = up.cloud.host("node-1", 28)
    assert "worker.handoff" in ok(node.do("65-join.sh"), 3)
    node.take(up, "worker")
    node.watch()
    ok(node.do("65-join.sh", passphrase=False))
    assert "node-1" in up.cloud.nodes()
    assert not node.handoff("worker").exists()
    assert not node.there("/etc/kubernetes/stowage-discovery.conf")
    assert not list(node.file("/etc/kubernetes/pki").rglob("*.key"))
    assert "nothing to change" in ok(node.do("65-join.sh"))
    no_secret_seen(up, node)


@pytest.mark.parametrize("phase", ["ca", "last"])
def test_worker_killed(up: Kube, phase: str) -> None:
    node = up.cloud.host("node-1", 28)
    node.take(up, "worker")
    node.killed_at(phase, "65-join.sh")
    ok(node.do("65-join.sh"))
    assert node.reset_was()
    assert "node-1" in up.cloud.nodes()
    assert not node.handoff("worker").exists()
    assert "nothing to change" in ok(node.do("65-join.sh"))


@pytest.mark.parametrize(("step", "name", "number", "archive"), [("60", "master-2", 126, "control-plane"), ("65", "node-1", 28, "worker")])
def test_a_join_waits_until_the_former_node_counts_as_gone(up: Kube, step: str, name: str, number: int, archive: str) -> None:
    """kubeadm refuses the name of a node that is Ready, and one that was reset is so until its heartbeats are missed."""
    (up.cloud.root / "nodes" / name).write_text("3\n")  # the fake kubectl says "Ready" as often as this, then no more
    host = up.cloud.host(name, number)
    host.take(up, archive)
    assert "waiting for the cluster to see that the former node" in ok(host.do(f"{step}-join.sh"))
    assert name in up.cloud.nodes()


def test_a_worker_of_another_cluster_is_left_alone(up: Kube) -> None:
    node = up.cloud.host("node-1", 28)
    node.take(up, "worker")
    node.put("/etc/kubernetes/pki/ca.crt", "another CA")
    assert "ops/reset.sh" in ok(node.do("65-join.sh"), 1)
    assert node.file("/etc/kubernetes/pki/ca.crt").read_text() == "another CA"
    assert not node.reset_was()


# --- 70, with a real etcd --------------------------------------------------------------------------------------------

ADDRESSES = {"master-1": "192.0.2.25", "master-2": "192.0.2.126", "master-3": "192.0.2.127"}
ALL = ",".join(f"{name}=http://{address}:2380" for name, address in ADDRESSES.items())

# Three members on three addresses of one sandbox; "kubelet" runs the first one as its manifest says and notices a change a little late.
ETCD = r"""
set -u
cd "$FAKE"; manifest=/etc/kubernetes/manifests/etcd.yaml
member() { # NAME ADDRESS CLIENT-URLS DATA
  etcd --name="$1" --data-dir="$4" --listen-client-urls="$3" --advertise-client-urls="http://$2:2379" --listen-peer-urls="http://$2:2380" \
    --initial-advertise-peer-urls="http://$2:2380" --initial-cluster="$ALL" --heartbeat-interval=50 --election-timeout=500 --logger=zap >"etcd-$1.log" 2>&1 &
}
all() { etcdctl --endpoints=http://192.0.2.25:2379,http://192.0.2.126:2379,http://192.0.2.127:2379 endpoint health >/dev/null 2>&1; }
mkdir -p "$DATA" /etc/kubernetes/manifests /var/lib/peers
member master-2 192.0.2.126 http://192.0.2.126:2379 /var/lib/peers/2
member master-3 192.0.2.127 http://192.0.2.127:2379 /var/lib/peers/3
member master-1 192.0.2.25 http://127.0.0.1:2379,http://192.0.2.25:2379 "$DATA"; pid=$!
for i in {1..100}; do all && break; sleep 0.1; done
kubelet() {
  local last='' now
  for i in {1..600}; do
    now=$(cat $manifest)
    if [[ $now != "$last" ]]; then
      if [[ $last ]]; then sleep 0.5; fi # late, and the old process lives on
      kill "$pid" 2>/dev/null; wait "$pid" 2>/dev/null
      mapfile -t words < <(sed -n 's/^    - \(--.*\)/\1/p' $manifest)
      etcd "${words[@]}" >>etcd-master-1.log 2>&1 & pid=$!
      last=$now
    fi
    sleep 0.1
  done
}
kill "$pid"; wait "$pid" 2>/dev/null; sleep 0 & pid=$!
cp "$FAKE/manifest" $manifest; chmod 0600 $manifest
kubelet &
for i in {1..100}; do all && break; sleep 0.1; done
step() { bash "$SCRIPT" "$@" >"$FAKE/out" 2>&1; status=$?; }
show() { echo "at $SECONDS s"; echo "=== $1 $status $(sha256sum <$manifest | cut -c 1-8) $(stat -c '%a %U' $manifest) $(ls -A /etc/kubernetes/manifests | paste -sd ,)"; cat "$FAKE/out"; }
seal() { (cd "$BUNDLE" && find . -type f ! -name SHA256SUMS -printf '%P\n' | sort | tr '\n' '\0' | xargs -0 sha256sum >SHA256SUMS); }
status=0; : >"$FAKE/out"; show before
step --plan; show plan
bash "$SCRIPT" >"$FAKE/out" 2>&1 & script=$!
before=$(cat $manifest); for i in {1..300}; do [[ $(cat $manifest) == "$before" ]] || break; sleep 0.02; done
kill -9 $script; show killed
flock -w 5 /var/lib/stowage/example/lock true # its last sleep outlives it for a second, with the lock
step; show rerun
step; show again
sed 's,^    - --initial-cluster=.*,    - --initial-cluster=master-1=http://192.0.2.25:2380,' $manifest >"$FAKE/upgraded"
sed -i "/^    - --snapshot-count/a\\    - --initial-cluster=$ALL" "$FAKE/upgraded"; cat "$FAKE/upgraded" >$manifest
step; show upgraded
cp -a /var/lib/stowage/example/backup/etcd.yaml "$FAKE/kept"
sed -i "/^    - --snapshot-count/{n;s|=.*|=master-1=http://192.0.2.25:2380|}" "$FAKE/upgraded"; cat "$FAKE/upgraded" >$manifest
step; show spoilt
cp -a "$FAKE/kept" /var/lib/stowage/example/backup/etcd.yaml
bash "$BUNDLE/ops/etcd-snapshot.sh" >"$FAKE/out" 2>&1; status=$?; etcdctl snapshot status /var/lib/stowage/example/snapshots/*.db >>"$FAKE/out"; stat -c %a /var/lib/stowage/example/snapshots/*.db >>"$FAKE/out"; show snapshot
step --rollback; show rollback
sed -i 's/^set\t.*/set\tno-such-flag\t1/' "$BUNDLE/etcd/manifest-patch.tsv"; sed -i 's/_SECONDS=180/_SECONDS=3/g' "$SCRIPT"
seal
step; show bad
for i in {1..100}; do all && break; sleep 0.1; done
cp $manifest $manifest.bak
step; show backup
rm $manifest.bak
sed -i "s,^CONTROL_PLANES='.*,CONTROL_PLANES='master-1=192.0.2.25 master-2=192.0.2.126 master-3=192.0.2.127 master-4=192.0.2.128'," "$BUNDLE/host.env"; seal
step; show early
"""


def test_etcd(cloud: Cloud) -> None:
    host = cloud.host("master-1", 25)
    (host.bin / "etcdctl").unlink()
    (host.fake / "real-etcd").touch()
    (cloud.root / "api" / "192.0.2.25").touch()
    host.put("/etc/kubernetes/admin.conf", "server: https://backend:16443\n")
    text = (
        MANIFEST.replace("https://", "http://")
        .replace("ADDRESS", "192.0.2.25")
        .replace("DATA", "/var/lib/stacked-etcd")
        .replace("HOST", "master-1")
    )
    extra = "    - --listen-client-urls=http://127.0.0.1:2379,http://192.0.2.25:2379\n    - --listen-peer-urls=http://192.0.2.25:2380\n"
    extra += "    - --initial-advertise-peer-urls=http://192.0.2.25:2380\n    - --initial-cluster-state=existing\n"
    (host.fake / "manifest").write_text(text.replace("STATE", extra))
    (host.bundle / "etcd").mkdir()
    (host.bundle / "etcd" / "manifest-patch.tsv").write_text(
        f"#action\tflag\tvalue\nset\tinitial-cluster\t{ALL}\nremove\tinitial-cluster-state\t-\n"
    )
    script = host.bundle / "scripts" / "70-etcd.sh"
    script.write_text(script.read_text().replace("BEFORE_SECONDS=30", "BEFORE_SECONDS=1"))
    host.row("/etc/kubernetes/patches-upgrade/etcd.json", "[]\n", step="70")
    done = host.sh(
        "env", f"ALL={ALL}", "DATA=/var/lib/stacked-etcd", f"SCRIPT={script}", f"BUNDLE={host.bundle}", "bash", "-c", ETCD, timeout=60
    )
    parts = {part.split()[0]: part for part in done.stdout.split("=== ")[1:]}
    sums = {name: part.split()[2] for name, part in parts.items()}
    status = {name: int(part.split()[1]) for name, part in parts.items()}
    assert all(part.split()[3:5] == ["600", "root"] for part in parts.values()), done.stdout
    assert all(part.splitlines()[0].endswith(" etcd.yaml") for name, part in parts.items() if name != "backup")
    expected = {
        "before": 0,
        "plan": 0,
        "killed": 0,
        "rerun": 0,
        "again": 0,
        "upgraded": 0,
        "spoilt": 0,
        "rollback": 0,
        "bad": 1,
        "backup": 1,
        "early": 3,
    }
    assert {name: status[name] for name in expected} == expected, done.stdout
    assert sums["before"] == sums["plan"] == sums["rollback"] == sums["bad"]
    assert sums["again"] == sums["killed"] == sums["rerun"] != sums["before"]
    assert f"+    - --initial-cluster={ALL}" in parts["plan"]
    assert "-    - --initial-cluster-state=existing" in parts["plan"]
    assert "waiting for etcd running with the flags" in parts["rollback"]
    assert "etcd.json" in parts["killed"]
    assert "nothing to change" in parts["again"]
    assert "nothing to change" in parts["upgraded"]  # kubeadm upgrade leaves two --initial-cluster; the last is ours
    assert sums["upgraded"] not in (sums["again"], sums["before"])
    assert sums["spoilt"] == sums["again"]  # and when it is not, one is left
    assert status["snapshot"] == 0
    assert "\n600\n" in parts["snapshot"]
    assert ".stowage-snapshot" not in parts["again"]
    assert "the old manifest is back" in parts["bad"]
    assert "etcd.yaml.bak is a second manifest" in parts["backup"]
    assert "waits for: etcd (master-4 is not a started member)" in parts["early"]


def test_etcd_refuses_a_manifest_that_it_does_not_know(up: Kube) -> None:
    for name in ("master-2", "master-3"):
        with (up.cloud.root / "members").open("a") as members:
            members.write(f"{name} {ADDRESSES[name]} false\n")
    (up.bundle / "etcd").mkdir()
    (up.bundle / "etcd" / "manifest-patch.tsv").write_text(f"set\tinitial-cluster\t{ALL}\n")
    up.seal()
    manifest = up.file("/etc/kubernetes/manifests/etcd.yaml")
    good = manifest.read_text()
    for bad in (
        good.replace("--name=master-1", "--name=master-9"),
        good.replace("    - --snap", "    - '--snap"),
        good + "  - command:\n    - etcd\n",
        good.replace("--data-dir", "--dir"),
    ):
        manifest.write_text(bad)
        assert "does not look as kubeadm writes it" in ok(up.do("70-etcd.sh"), 1)
        assert manifest.read_text() == bad


# --- 80, 90 and ops ----------------------------------------------------------------------------------------------------


def network(host: Kube) -> None:
    (host.bundle / "manifests").mkdir()
    (host.bundle / "payload" / "manifests").mkdir(parents=True)
    (host.bundle / "manifests" / "20-flannel.yaml").write_text("kind: DaemonSet\n")
    text = "kind: CustomResourceDefinition\n"
    rows = f"server-side\tpayload/manifests/crds.yaml\t{hashlib.sha256(text.encode()).hexdigest()}\t--for=condition=Established crd --all\n"
    (host.bundle / "manifests" / "order.tsv").write_text(rows + "create\tmanifests/20-flannel.yaml\t-\t-\n")
    host.seal()


def test_network(up: Kube) -> None:
    network(up)
    assert "payload/manifests/crds.yaml" in ok(up.do("80-network.sh"), 3)
    crds = up.bundle / "payload" / "manifests" / "crds.yaml"
    crds.write_text("kind: Other\n")
    up.seal()
    assert "not the file that the bundle was made for" in ok(up.do("80-network.sh"), 1)
    crds.write_text("kind: CustomResourceDefinition\n")
    up.seal()
    assert "2 changed" in ok(up.do("80-network.sh"))
    assert up.handoff("worker").exists()  # hosts have yet to join
    assert "nothing to change" in ok(up.do("80-network.sh"))
    for name in ("master-2", "master-3", "node-1", "node-2"):
        (up.cloud.root / "nodes" / name).touch()
    assert "1 changed" in ok(up.do("80-network.sh"))
    assert not up.handoff("worker").exists()
    assert not up.cloud.tokens()
    assert "no handoff is needed" in ok(up.do("50-init.sh"))  # and step 50 makes no new ones


def test_network_of_ones_own(up: Kube) -> None:
    up.seal(CNI="none")
    assert "cni is none" in ok(up.do("80-network.sh"))


def whole(up: Kube) -> None:
    """A cluster in which all is as planned."""
    cloud = up.cloud.root
    for name, address in ADDRESSES.items():
        (cloud / "nodes" / name).touch()
        (cloud / "api" / address).touch()
    for name in ("node-1", "node-2"):
        (cloud / "nodes" / name).touch()
    for address in ("192.0.2.31", *ADDRESSES.values()):
        (cloud / "api" / address).touch()
    (cloud / "members").write_text("".join(f"{name} {address} false\n" for name, address in ADDRESSES.items()))
    (cloud / "ready").write_text("True\n")
    for unit in ("nginx.service", "stowage-watcher.service", "keepalived.service"):
        up.unit(unit, "enabled", "active")
    up.unit("kubelet.service", "enabled", "active")
    manifest = up.file("/etc/kubernetes/manifests/etcd.yaml")
    manifest.write_text(manifest.read_text().replace("--initial-cluster=master-1=https://192.0.2.25:2380", f"--initial-cluster={ALL}"))
    for path in up.handoff("worker").parent.iterdir():
        path.unlink()
    before = up.root / "layers" / "before.sh"
    before.write_text(
        "python3 -m http.server -b 192.0.2.31 16443 >/dev/null 2>&1 & python3 -m http.server -b 127.0.0.1 16444 >/dev/null 2>&1 & sleep 0.5\n"
    )


def test_verify(up: Kube) -> None:
    up.environment["LB_HOSTS"] = " ".join(f"{name}={address}" for name, address in ADDRESSES.items())
    up.seal()
    whole(up)
    manifest = up.file("/etc/kubernetes/manifests/etcd.yaml")
    own = "    - --initial-cluster=master-1=https://192.0.2.25:2380\n"
    manifest.write_text(manifest.read_text().replace("    - --initial-cluster=", own + "    - --initial-cluster="))  # as after an upgrade
    text = ok(up.do("90-verify.sh"))
    assert "FAILED" not in text, text
    assert "checks passed" in text
    manifest.write_text(manifest.read_text().replace("    - --snapshot", own + "    - --snapshot"))
    assert "master-2 is not listed: run step 70" in ok(up.do("90-verify.sh"), 1)
    manifest.write_text(manifest.read_text().replace(own, ""))
    up.put("/etc/kubernetes/manifests/etcd.yaml.bak", "x")
    (up.cloud.root / "api" / "192.0.2.127").unlink()
    (up.cloud.root / "members").write_text("master-1 192.0.2.25 false\nmaster-2 192.0.2.126 true\n")
    (up.cloud.root / "nodes" / "node-2").unlink()
    (up.fake / "units" / "keepalived.service" / "active").unlink()
    script = up.bundle / "scripts" / "90-verify.sh"
    script.write_text(script.read_text().replace("NODES_SECONDS=300", "NODES_SECONDS=1"))
    up.put("/var/lib/stowage/example/handoff/worker.handoff", "x")
    up.seal()
    text = ok(up.do("90-verify.sh"), 1)
    for part in ("etcd.yaml.bak", "master-3 answers at 192.0.2.127:6443", "master-2 is a learner", "master-3 is not a started member", "node-2 has not joined",
                 "keepalived.service is active: inactive", "worker.handoff", "7 of "):  # fmt: skip
        assert part in text, part + "\n" + text


def test_verify_waits_for_the_pod_network(up: Kube) -> None:
    up.environment["LB_HOSTS"] = ""
    whole(up)
    (up.cloud.root / "ready").write_text("False\n")
    script = up.bundle / "scripts" / "90-verify.sh"
    script.write_text(script.read_text().replace("NODES_SECONDS=300", "NODES_SECONDS=1"))
    up.seal()
    assert "waits for: step 80 on master-1" in ok(up.do("90-verify.sh"), 3)
    (up.cloud.root / "daemonsets").write_text("daemonset.apps/kube-proxy\ndaemonset.apps/kube-flannel-ds\n")
    assert "node-1 is not ready" in ok(up.do("90-verify.sh"), 1)
    up.seal(CNI="none")
    assert "waits for: your pod network" in ok(up.do("90-verify.sh"), 3)


def test_verify_names_certificates_that_end(up: Kube) -> None:
    up.environment["LB_HOSTS"] = ""
    whole(up)
    up.seal()
    new = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=x",
        "-days",
        "20",
        "-keyout",
        "/dev/null",
    ]
    subprocess.run([*new, "-out", up.file("/etc/kubernetes/pki/apiserver.crt")], check=True, capture_output=True)
    assert "/etc/kubernetes/pki/apiserver.crt: notAfter=" in ok(up.do("90-verify.sh"), 1)


def test_reset(up: Kube) -> None:
    second = up.cloud.host("master-2", 126)
    second.take(up, "control-plane")
    ok(second.do("60-join.sh"))
    assert "no terminal" in ok(second.do("ops/reset.sh"), 1)
    assert "not 'master-1'" in ok(second.do("ops/reset.sh", "--yes", "master-1"), 1)
    (up.cloud.root / "ill").touch()
    assert "not healthy" in ok(second.do("ops/reset.sh", "--yes", "master-2"), 1)
    (up.cloud.root / "ill").unlink()
    assert not second.reset_was()
    ok(second.do("ops/reset.sh", "--yes", "master-2", "--all"))
    assert len(up.cloud.members()) == 1
    assert not list(second.file("/var/lib/stowage/example/state").iterdir())
    assert "last member" in ok(up.do("ops/reset.sh", "--yes", "master-1"), 1)
    ok(up.do("ops/reset.sh", "--yes", "master-1", "--last"))
    (up.cloud.root / "nodes" / "master-1").unlink()
    ok(up.do("50-init.sh"))  # and again, from the beginning


def test_remove_member(up: Kube) -> None:
    (up.cloud.root / "nodes" / "master-3").touch()
    with (up.cloud.root / "members").open("a") as members:
        members.write("master-3 192.0.2.127 false\n")
    ok(up.do("ops/remove-member.sh", "master-3"))
    assert len(up.cloud.members()) == 1
    assert up.cloud.nodes() == ["master-1"]
    assert "nothing to change" in ok(up.do("ops/remove-member.sh", "master-3"))


def test_handoff_again(up: Kube) -> None:
    old = up.cloud.tokens()
    ok(up.do("ops/handoff.sh"))
    assert len(up.cloud.tokens()) == 2
    ok(up.do("ops/handoff.sh", "--remove"))
    assert up.cloud.tokens() == old
    assert not up.handoff("control-plane").exists()
    assert "nothing to change" in ok(up.do("ops/handoff.sh", "--remove"))


# --- keys that the bundle brings -------------------------------------------------------------------------------------

INVENTORY = b"""\
version: 1
cluster: {name: example, kubernetesVersion: 1.29.3}
controlPlaneEndpoint: {name: backend, address: 192.0.2.31/24, port: 16443}
loadBalancer: {keepalived: {virtualRouterId: 61}}
hostDefaults: {interface: ens160, os: debian-12}
hosts:
- {name: master-1, role: control-plane, address: 192.0.2.25/24}
- {name: master-2, role: control-plane, address: 192.0.2.126/24}
- {name: master-3, role: control-plane, address: 192.0.2.127/24}
- {name: node-1, role: worker, address: 192.0.2.28/24}
- {name: node-2, role: worker, address: 192.0.2.29/24}
"""


def new_keys(seed: int) -> dict[str, bytes]:
    now = datetime.now(UTC)
    made = keys.make("ECDSA-P256", now - timedelta(hours=1), now + timedelta(days=365), (), random.Random(seed).choice)
    return {**made, secrets.TOKEN: made[secrets.TOKEN].strip()}


@pytest.fixture(scope="module")
def known() -> dict[str, bytes]:
    return new_keys(1)


def bring(host: Kube, known: dict[str, bytes]) -> None:
    """The overlay of *host*, as ``stowage bundle --secrets`` makes it."""
    cluster = compiler.check("example", INVENTORY).cluster
    folder = host.bundle / "secrets"
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in secrets.overlay(cluster, known)[host.environment["HOST"]].items():
        (folder / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o600)
    host.seal()


def nothing_leaks(known: dict[str, bytes], *hosts: Kube) -> None:
    """No key and no token in a command line or a log, nor in a file that others may read."""
    no_secret_seen(*hosts)
    canaries = [known[secrets.TOKEN].split(b".")[1], *(known[name].splitlines()[2] for name in secrets.PKI if name.endswith(".key"))]
    for host in hosts:
        files = [path for path in (host.root / "layers").rglob("*") if path.is_file() and not path.is_symlink()]
        for path in (path for path in files if any(canary in path.read_bytes() for canary in canaries)):
            assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
            assert "/log/" not in str(path)
        argv = (host.fake / "argv").read_bytes() if (host.fake / "argv").exists() else b""
        assert not [canary for canary in canaries if canary in argv]


def test_one_trip(cloud: Cloud, known: dict[str, bytes]) -> None:
    """Every host has its folder, and nothing is carried between them."""
    first, second, node = cloud.host("master-1", 25), cloud.host("master-2", 126), cloud.host("node-1", 28)
    third = cloud.host("master-3", 127)
    said = ""
    for host in (first, second, third, node):
        bring(host, known)
        host.watch()
        said += ok(
            host.do(
                {"m": "50-init.sh" if host is first else "60-join.sh", "n": "65-join.sh"}[host.environment["HOST"][0]],
                "--plan",
                passphrase=False,
            )
        )
        assert not host.snapshot()
    for host, step in ((second, "60"), (node, "65")):
        waits = ok(host.do(f"{step}-join.sh", passphrase=False), 3)
        assert "the API server at backend:16443" in waits
        assert "master-1" in waits
        assert not host.there("/etc/kubernetes/pki")
    first.seal(TOKEN_TTL="1h30m")
    said += ok(first.do("50-init.sh", passphrase=False))
    token = known[secrets.TOKEN].decode()
    assert cloud.tokens() == [token]
    end = datetime.fromisoformat((cloud.root / "tokens" / token).read_text().strip())
    assert timedelta(minutes=88) < end - datetime.now(UTC) <= timedelta(minutes=90)
    assert not list(first.handoff("worker").parent.iterdir())
    for name in secrets.PKI:
        file = first.file(f"/etc/kubernetes/{name}")
        assert file.read_bytes() == known[name]
        assert stat.S_IMODE(file.stat().st_mode) == (0o600 if name.endswith(".key") else 0o644)
    before = first.snapshot(), (cloud.root / "tokens" / token).read_text()
    assert "nothing to change" in ok(first.do("50-init.sh", passphrase=False))
    assert (first.snapshot(), (cloud.root / "tokens" / token).read_text()) == before
    said += ok(second.do("60-join.sh", passphrase=False)) + ok(node.do("65-join.sh", passphrase=False))
    for host in (second, node):
        assert not host.there("/etc/kubernetes/stowage-discovery.conf")
        assert (host.bundle / "secrets" / "stowage-discovery.conf").exists()  # it may be read-only, and the next run may want it
        assert "nothing to change" in ok(host.do(f"{60 if host is second else 65}-join.sh", passphrase=False))
    assert not list(node.file("/etc/kubernetes/pki").rglob("*.key"))
    assert "node-2 has not joined" in ok(first.do("80-network.sh"))
    assert cloud.tokens() == [token]
    said += ok(third.do("60-join.sh", passphrase=False))
    (cloud.root / "nodes" / "node-2").touch()
    said += ok(first.do("80-network.sh"))
    assert cloud.tokens() == []
    assert "nothing to change" in ok(first.do("80-network.sh"))
    assert "no handoff is needed" in ok(first.do("50-init.sh", passphrase=False))
    nothing_leaks(known, first, second, third, node)
    assert known[secrets.TOKEN].split(b".")[1].decode() not in said
    assert cloud.members() == ["master-1 192.0.2.25 false", "master-2 192.0.2.126 false", "master-3 192.0.2.127 false"]


@pytest.mark.parametrize("moment", ["pki", "certs", "upload", "finished"])
def test_init_with_keys_killed(first: Kube, known: dict[str, bytes], moment: str) -> None:
    """Our own CA is no former cluster's, and a token that was not made is made by the next run."""
    bring(first, known)
    if moment == "pki":
        first.killed("50-init.sh", when=lambda: first.there("/etc/kubernetes/pki/ca.crt"))
    elif moment == "finished":
        first.killed("50-init.sh", when=lambda: first.there("/var/lib/stowage/example/state/50-finished"))
    else:
        first.killed_at(moment, "50-init.sh")
    ok(first.do("50-init.sh", passphrase=False))
    assert first.reset_was() == (moment != "finished")
    assert first.file("/etc/kubernetes/pki/ca.key").read_bytes() == known["pki/ca.key"]
    assert first.cloud.tokens() == [known[secrets.TOKEN].decode()]
    assert "nothing to change" in ok(first.do("50-init.sh", passphrase=False))
    nothing_leaks(known, first)


def test_join_with_keys_killed(first: Kube, known: dict[str, bytes]) -> None:
    second, node = first.cloud.host("master-2", 126), first.cloud.host("node-1", 28)
    for host in (first, second, node):
        bring(host, known)
    ok(first.do("50-init.sh", passphrase=False))
    for host, step, phase in ((second, "60", "learner"), (node, "65", "ca")):
        host.killed_at(phase, f"{step}-join.sh")
        ok(host.do(f"{step}-join.sh", passphrase=False))
        assert host.reset_was()
        assert not host.there("/etc/kubernetes/stowage-discovery.conf")
        assert "nothing to change" in ok(host.do(f"{step}-join.sh", passphrase=False))
    nothing_leaks(known, first, second, node)


def test_a_token_that_has_ended(first: Kube, known: dict[str, bytes]) -> None:
    """It gets a new life where the cluster is, and nobody carries anything."""
    node = first.cloud.host("node-1", 28)
    bring(first, known)
    bring(node, known)
    ok(first.do("50-init.sh", passphrase=False))
    token = first.cloud.root / "tokens" / known[secrets.TOKEN].decode()
    token.unlink()
    waits = ok(node.do("65-join.sh"), 3)
    assert "ops/handoff.sh there gives it a new life" in waits
    assert "stowage keys token" in waits
    assert not node.there("/etc/kubernetes/stowage-discovery.conf")
    assert "nothing is carried" in ok(first.do("ops/handoff.sh", passphrase=False))
    token.write_text("2001-01-01T00:00:00Z\n")
    ok(first.do("ops/handoff.sh", passphrase=False))  # one that is there is replaced
    assert not token.read_text().startswith("2001")
    ok(node.do("65-join.sh"))
    assert not list(first.handoff("worker").parent.iterdir())
    ok(first.do("ops/handoff.sh", "--remove"))
    assert not first.cloud.tokens()
    assert "nothing to change" in ok(first.do("ops/handoff.sh", "--remove"))
    assert "1 changed" in ok(first.do("50-init.sh", passphrase=False))  # node-2 has yet to join
    nothing_leaks(known, first, node)


def test_keys_of_another_cluster(first: Kube, known: dict[str, bytes]) -> None:
    node, second = first.cloud.host("node-1", 28), first.cloud.host("master-2", 126)
    bring(first, known)
    (first.cloud.root / "no-tokens").touch()
    refused = ok(first.do("50-init.sh", passphrase=False), 1)
    assert "does not take the bootstrap token" in refused
    assert known[secrets.TOKEN].decode().partition(".")[2] not in refused
    (first.cloud.root / "no-tokens").unlink()
    ok(first.do("50-init.sh", passphrase=False))
    assert not first.reset_was()
    other = new_keys(2)
    for host, step in ((second, "60"), (node, "65")):
        bring(host, other)
        assert "is not that of the API server at backend:16443" in ok(host.do(f"{step}-join.sh"), 1)
        bring(host, known)
        host.seal(SERVER="elsewhere:16443")
        assert "another cluster" in ok(host.do(f"{step}-join.sh"), 1)
        assert not host.there("/etc/kubernetes/pki")
    bring(first, other)
    for script in ("50-init.sh", "ops/handoff.sh"):
        assert "runs by another CA" in ok(first.do(script, passphrase=False), 1)
    (second.bundle / "secrets" / "pki" / "ca.key").write_text("another")
    assert "not as it was built" in ok(second.do("60-join.sh"), 1)


def test_a_changed_token(first: Kube, known: dict[str, bytes]) -> None:
    """Somebody may have seen the former one: it ends with step 50, or with what removes the new one."""
    bring(first, known)
    ok(first.do("50-init.sh", passphrase=False))
    for seed in (7, 8):
        changed = {**known, secrets.TOKEN: new_keys(seed)[secrets.TOKEN]}
        bring(first, changed)
        ok(first.do("50-init.sh" if seed == 7 else "ops/handoff.sh", passphrase=False))
        assert first.cloud.tokens() == [changed[secrets.TOKEN].decode()]
        assert "nothing to change" in ok(first.do("50-init.sh", passphrase=False))
    bring(first, known)
    ok(first.do("ops/handoff.sh", "--remove"))
    assert not first.cloud.tokens()
    nothing_leaks(known, first)


def test_secrets_that_a_stick_opened(first: Kube, known: dict[str, bytes]) -> None:
    """FAT has no modes: a copy of it is everybody's to read."""
    bring(first, known)
    subprocess.run(["chmod", "-R", "u=rwx,go=rx", first.bundle / "secrets"], check=True)
    assert "would take" in ok(first.do("50-init.sh", "--plan", passphrase=False))
    assert (first.bundle / "secrets" / "bootstrap-token").stat().st_mode & 0o077
    assert "from others than root, who could read it" in ok(first.do("50-init.sh", passphrase=False))
    assert not [path for path in (first.bundle / "secrets").rglob("*") if path.stat().st_mode & 0o077]
    assert (first.bundle / "run.sh").stat().st_mode & 0o044
    assert "others than root" not in ok(first.do("50-init.sh", passphrase=False))
    first.stand_in("chmod", '#!/bin/sh\n[ "$1" = -R ] || PATH=/usr/bin:/bin exec chmod "$@"\n')
    (first.bundle / "secrets" / "bootstrap-token").chmod(0o755)
    assert "mount it with umask=077" in ok(first.do("50-init.sh", passphrase=False))


def test_a_control_plane_with_the_secrets_of_a_worker(up: Kube, known: dict[str, bytes]) -> None:
    second = up.cloud.host("master-2", 126)
    bring(second, known)
    shutil.rmtree(second.bundle / "secrets" / "pki")
    second.seal()
    said = ok(second.do("60-join.sh"), 1)
    assert "is a worker's" in said
    assert "stowage bundle --secrets" in said
    assert not second.there("/etc/kubernetes/stowage-discovery.conf")


def test_reset_says_what_stays(first: Kube, known: dict[str, bytes]) -> None:
    bring(first, known)
    ok(first.do("50-init.sh", passphrase=False))
    said = ok(first.do("ops/reset.sh", "--yes", "master-1", "--last"))
    assert f"{first.bundle}/secrets stays" in said
    assert not list(first.file("/var/lib/stowage/example/state").iterdir())


def test_an_archive_beats_the_bundle(up: Kube, known: dict[str, bytes], tmp_path: Path) -> None:
    """--handoff FILE is what somebody says now."""
    node = up.cloud.host("node-1", 28)
    bring(node, known)
    stick = tmp_path / "stick"
    shutil.copyfile(up.handoff("worker"), stick)
    ok(node.do("65-join.sh", "--handoff", str(stick)))


def test_bash_and_python_write_the_same_discovery_file(first: Kube, known: dict[str, bytes]) -> None:
    bring(first, known)
    ok(first.do("50-init.sh", passphrase=False))
    script = 'STEP=x TITLE=x; . "$0/scripts/lib.sh"; . "$0/scripts/kube.sh"; open_bundle; discovery_conf "$(bundle_token)"'
    done = first.sh("bash", "-c", script, str(first.bundle))
    cluster = compiler.check("example", INVENTORY).cluster
    assert done.stdout.encode() == secrets.discovery(cluster, known["pki/ca.crt"], known[secrets.TOKEN])


SCRIPTS = [
    "50-init.sh",
    "60-join.sh",
    "65-join.sh",
    "70-etcd.sh",
    "80-network.sh",
    "90-verify.sh",
    "ops/handoff.sh",
    "ops/reset.sh",
    "ops/remove-member.sh",
    "ops/etcd-snapshot.sh",
]


def test_help_and_plan(cloud: Cloud) -> None:
    first, second, node = cloud.host("master-1", 25), cloud.host("master-2", 126), cloud.host("node-1", 28)
    (first.bundle / "etcd").mkdir()
    for script in SCRIPTS:
        text = ok(
            subprocess.run(
                ["bash", str(first.path(script)), "--help"], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}, check=False
            )
        )
        assert "usage: bash " in text
        assert len(text.splitlines()) > 5
    for host, script in ((first, "50"), (second, "60"), (node, "65"), (first, "70"), (first, "80"), (first, "90"), (node, "90")):
        name = next(path.name for path in (host.bundle / "scripts").glob(f"{script}-*"))
        assert "plan: " in ok(host.do(name, "--plan"))
    assert "would kubeadm reset" in ok(first.do("ops/reset.sh", "--plan"))
    for host in (first, second, node):
        assert not host.snapshot()
        assert not host.file("/var/lib/stowage").exists()
        assert not host.calls()

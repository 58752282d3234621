"""SEC: the VRRP password, which no finding ever shows, and the life of the token that hosts join with."""

from collections.abc import Iterator

from generator.diagnostics import Path, Related
from generator.lint import Finding, rule
from generator.lint.places import seconds
from generator.model import Cluster
from generator.wording import said

_PASSWORD: Path = ("loadBalancer", "keepalived", "authPass")
# Of the origin, KubeKey's template, kubeadm's guide, keepalived's samples.
_TUTORIAL = frozenset(("", "1111", "1234", "12345678", "42", "changeme", "k8s-test", "keepaliv", "password", "secret"))


def _literal(cluster: Cluster) -> str | None:
    """The password that stands in the inventory, or None; an empty one is one too."""
    if cluster.load_balancer is None:
        return None
    value = cluster.lock["loadBalancer"]["keepalived"].get("authPass")
    return value if isinstance(value, str) else None


@rule("SEC001", "error")
def literal_password(cluster: Cluster) -> Iterator[Finding]:
    """
    A password stands in the inventory.

    Why it hurts: inventories are committed, reviewed and mailed; a secret that was in one stays in its history for ever.

    Example: `authPass: ...` with the password itself.

    Use instead: `authPass: {secret: vrrp}`; the password comes from the directory of --secrets, or is asked for on the host.

    Source: design.md, section 4; checklist row 37.
    """
    if _literal(cluster) is not None:
        yield Finding(_PASSWORD, "the VRRP password stands in the inventory", "write `authPass: {secret: vrrp}`, and change the password")


@rule("SEC002", "error")
def long_password(cluster: Cluster) -> Iterator[Finding]:
    """
    A VRRP password of more than eight characters.

    Why it hurts: the field has eight bytes; keepalived cuts the rest off and reports an error.

    Example: a password of nine characters.

    Use instead: at most eight characters, as a secret.

    Source: RFC 2338, section 5.3.10; keepalived.conf(5), *auth_pass* (`-t` gives exit status 5).
    """
    text = _literal(cluster)
    if text is not None and len(text.encode()) > 8:
        yield Finding(
            _PASSWORD,
            said("the VRRP password has {size} bytes, VRRP has eight", size=len(text.encode())),
            "choose a shorter one, as a secret",
        )


@rule("SEC003", "warning")
def tutorial_password(cluster: Cluster) -> Iterator[Finding]:
    """
    The VRRP password of a tutorial.

    Why it hurts: the password keeps clusters of one segment apart; with everybody's it keeps nothing apart.

    Example: an empty one, or the digits of most examples.

    Use instead: a random one of eight characters, as a secret.

    Source: checklist row 37; KubeKey's template; keepalived's samples.
    """
    text = _literal(cluster)
    if text is not None and text.lower() in _TUTORIAL:
        yield Finding(_PASSWORD, "the VRRP password is empty or a tutorial's", "choose a random one of eight characters, as a secret")


@rule("SEC004", "error")
def password_with_version_3(cluster: Cluster) -> Iterator[Finding]:
    """
    A password with VRRP version 3.

    Why it hurts: version 3 has no authentication; keepalived reports an error and sends without it.

    Example: `authPass: {secret: vrrp}` with the default version 3.

    Use instead: remove it: unicast with named peers keeps clusters apart; or `vrrpVersion: 2` with `advertInterval: 1`.

    Source: RFC 5798, section 9; keepalived.conf(5), *authentication* (`-t` gives exit status 5).
    """
    balancer = cluster.load_balancer
    if (
        balancer is not None
        and balancer.keepalived.vrrp_version == 3
        and (balancer.keepalived.auth_secret or _literal(cluster) is not None)
    ):
        yield Finding(
            _PASSWORD,
            "VRRP version 3 has no password",
            "remove authPass, or write `vrrpVersion: 2` and `advertInterval: 1`",
            on_key=True,
            related=(Related(("loadBalancer", "keepalived", "vrrpVersion"), "the version"),),
        )


@rule("SEC006", "warning")
def token_ends_on_the_way(cluster: Cluster) -> Iterator[Finding]:
    """
    The bootstrap token ends before the last host has joined.

    Why it hurts: the hosts that are still to join are refused, and somebody has to go back to the first control plane; on a site without
    a network that may be a day's drive.

    Example: `bootstrapToken: {ttl: 24h, trip: 48h}`.

    Use instead: a life that covers the trip; step 80 removes the token as soon as every host has joined. Where one has ended all the same,
    ops/handoff.sh on the first control plane gives it a new life.

    Source: kubeadm, v1beta4/types.go (*BootstrapToken.ttl*, 24h by default); checklist row 57.
    """
    if cluster.trip and seconds(cluster.token_ttl) < seconds(cluster.trip):
        yield Finding(
            ("cluster", "bootstrapToken", "ttl"),
            said("a token of {ttl} ends on a trip of {trip}", ttl=cluster.token_ttl, trip=cluster.trip),
            said("write `ttl: {trip}` or longer", trip=cluster.trip),
            related=(Related(("cluster", "bootstrapToken", "trip"), "the trip"),),
        )

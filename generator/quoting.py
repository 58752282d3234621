"""One quoting function a syntax; each refuses what its syntax can't hold.

Values were validated long before; these functions hold even for values that were not, so that no template can be broken out of.
"""

from __future__ import annotations

import re

_CONTROL = re.compile("[\x00-\x1f\x7f\u0085\u2028\u2029]")
_SHELL_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,-]+")
_NGINX_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,\[\]=-]+")
_KEEPALIVED_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=-]+")
_SYSTEMD_SPECIAL = re.compile(r'["\\%$\s;\']')


def _refuse_control(value: str, syntax: str) -> None:
    found = _CONTROL.search(value)
    if found:
        raise ValueError(f"control character U+{ord(found[0]):04X} can't stand in {syntax}")


def shell(value: str) -> str:
    """One word of POSIX sh, always in single quotes (``host.env`` reads the same for every value)."""
    _refuse_control(value, "a shell word")
    return "'" + value.replace("'", "'\\''") + "'"


def shell_word(value: str) -> str:
    """As :func:`shell`, but plain where that is the same word: for text that people read."""
    return value if _SHELL_PLAIN.fullmatch(value) else shell(value)


def nginx(value: str) -> str:
    """
    One parameter of an nginx directive.

    Quotes where needed; a ``$`` would start a variable, for which nginx has no escape, so it is refused (ngx_conf_file.c).
    """
    _refuse_control(value, "an nginx parameter")
    if "$" in value:
        raise ValueError("a dollar sign can't stand in an nginx parameter")
    if value and _NGINX_PLAIN.fullmatch(value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def keepalived(value: str) -> str:
    """
    One word of keepalived.conf.

    ``!`` and ``#`` start a comment, ``$`` a parameter and ``~`` a sequence even inside quotes, so those are refused (keepalived.conf(5)).
    """
    _refuse_control(value, "a keepalived word")
    if re.search(r"[$~!#\"\\{}@]", value):
        raise ValueError(f"{value!r} can't stand in keepalived.conf")
    return value if value and _KEEPALIVED_PLAIN.fullmatch(value) else f'"{value}"'


def systemd(value: str) -> str:
    """
    One assignment value inside double quotes, as ``Environment="NAME=value"`` takes it (systemd.syntax(7): specifiers are doubled).

    A ``$`` is refused: ExecStart wants it doubled, Environment doesn't (systemd.exec(5)).
    """
    _refuse_control(value, "a unit file")
    if "$" in value:
        raise ValueError("a dollar sign can't stand in a unit file")
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")


def toml(value: str) -> str:
    """A TOML basic string with its quotes."""
    _refuse_control(value, "a TOML string")
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def line(value: str) -> str:
    """A value of a line-based file (hosts, sysctl, tab separated values): no quoting exists there, so whatever ends a field is refused."""
    _refuse_control(value, "a line")
    if "#" in value:
        raise ValueError("a hash sign can't stand in this file")
    return value


def markdown(value: str) -> str:
    """Text in a Markdown table cell or sentence."""
    _refuse_control(value, "Markdown")
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", value)

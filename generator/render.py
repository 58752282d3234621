"""Strict Jinja for the text formats: what is undefined, None or a boolean never reaches an output, and every print names its quoting.

Templates load through ``resources`` under their real names, so that an error says ``templates/nginx/nginx.conf.j2`` and its line, also from
a wheel.  The text of a template file begins below its first comment, which says what it is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from generator import emit, quoting, resources

if TYPE_CHECKING:
    from jinja2 import Environment, Template


def _printable(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        raise TypeError(f"{value} in output: a template prints text and numbers only")
    return value


def _quoted(function: Any) -> Any:
    """A quoting function as a filter: numbers are text, anything else is an error."""

    def apply(value: Any) -> str:
        return str(function(str(_printable(value))))

    return apply


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    def load(name: str) -> tuple[str, str, None]:
        return resources.text(name), name, None

    environment = Environment(
        loader=FunctionLoader(load),
        undefined=StrictUndefined,
        finalize=_printable,
        autoescape=False,  # noqa: S701 - not HTML; every print carries the quoting filter of its own syntax, and a test looks
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # default() would swallow a misspelt attribute.
    for name in ("default", "d"):
        del environment.filters[name]
    for name in ("shell", "shell_word", "nginx", "keepalived", "systemd", "toml", "line", "markdown"):
        environment.filters[name] = _quoted(getattr(quoting, name))
    environment.filters["yaml"] = lambda value: emit.scalar(_printable(value))
    return environment


@cache
def _template(name: str) -> Template:
    return _environment().get_template(name)


def render(name: str, view: Mapping[str, Any]) -> str:
    """
    The text of template *name* (``templates/nginx/nginx.conf.j2``) for *view*; raises on anything undefined, None or boolean.

    A view of immutable values is rendered once for all hosts that have the same.
    """
    items = tuple(view.items())
    try:
        hash(items)
    except TypeError:
        return _template(name).render(view)
    return _rendered(name, items)


@lru_cache(maxsize=256)
def _rendered(name: str, items: tuple[tuple[str, Any], ...]) -> str:
    return _template(name).render(items)

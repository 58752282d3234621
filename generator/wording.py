"""
Text for people, in English and ready for another language.

A message is English where it is made, and it is a ``str``: ``said("{name} has {count} hosts", name=..., count=...)`` compares, sorts and
prints as the sentence.  Beside it stand the template and the values, so that a report in another language can look the template up in
that language's catalogue and put the same values in.  A message without values is a plain literal, its own template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any


class Said(str):
    """A sentence with the *template* and the *values* it was made from; values may be sentences themselves."""

    __slots__ = ("template", "values")
    template: str
    values: Mapping[str, Any]


def said(template: str, /, **values: Any) -> Said:
    """*template* filled by ``str.format``; wrap a literal that becomes the value of another one, so that it is looked up too."""
    text = Said(template.format(**values))
    text.template, text.values = template, values
    return text


def joined(separator: str, parts: Sequence[str]) -> Said:
    """*parts* with *separator* between them, each looked up by itself; a template of holes alone needs no entry in a catalogue."""
    holes = separator.join(f"{{p{number}}}" for number in range(len(parts)))
    return said(holes, **{f"p{number}": part for number, part in enumerate(parts)})


def conjoined(parts: Sequence[str], template: str = "{first} and {last}") -> str:
    """*parts* as ``a and b and c``, or with the word that *template* has between two of them."""
    return reduce(lambda first, last: said(template, first=first, last=last), parts)


def in_words_of(catalogue: Mapping[str, str], text: str) -> str:
    """*text* in the language of *catalogue*; what the catalogue doesn't have stays as it is."""
    if not isinstance(text, Said):
        return catalogue.get(text, text)
    values = {name: in_words_of(catalogue, value) if isinstance(value, Said) else value for name, value in text.values.items()}
    return catalogue.get(text.template, text.template).format(**values)

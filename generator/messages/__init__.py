"""
What stowage says, in languages other than English: a folder of catalogues for each; what makes a message knows nothing of them.

English stands where it is made (``generator.wording``).  A catalogue's ``[messages]`` give the language's own template for each English
one, its ``[titles]`` and, in files of their own, its ``[essays]`` the texts of a rule by its code.  They are read when a language is asked
for, and never before.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from generator import resources
from generator.wording import in_words_of

ENGLISH = "en"
LANGUAGES = (ENGLISH, "zh_CN")

_SIMPLIFIED = ("zh", "zh_cn", "zh_sg", "zh_hans")


def language(tag: str) -> str | None:
    """The language that *tag* (``zh``, ``zh-CN``, ``zh_CN.UTF-8``, ``en_US``) asks for; None for one that stowage doesn't speak."""
    words = tag.partition(".")[0].partition("@")[0].replace("-", "_").lower()
    if words in _SIMPLIFIED or words.startswith("zh_hans_"):
        return "zh_CN"
    return ENGLISH if words.partition("_")[0] == "en" else None


def translated(text: str, language: str) -> str:
    """*text* in *language*; what its catalogue doesn't have stays English."""
    return text if language == ENGLISH else in_words_of(_catalogue(language, "messages"), text)


def title(code: str, english: str, language: str) -> str:
    """The title of rule *code*, which is *english* in English."""
    return english if language == ENGLISH else _catalogue(language, "titles").get(code, english)


def essay(code: str, english: str, language: str) -> str:
    """The essay of rule *code*, which is *english* in English."""
    return english if language == ENGLISH else _catalogue(language, "essays").get(code, english)


@cache
def _catalogue(language: str, table: str) -> Mapping[str, str]:
    """One table of all files of *language*; essays stand in their own files, which nothing else needs to read."""
    import tomllib

    entries: dict[str, str] = {}
    for name in resources.names(f"messages/{language}"):
        if name.endswith(".essays.toml") == (table == "essays"):
            read = tomllib.loads(resources.text(name)).get(table, {})
            entries |= {key: text.removesuffix("\n") for key, text in read.items()}
    return entries

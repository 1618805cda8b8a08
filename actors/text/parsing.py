"""What the model's output string means: language, text, and what is odd about it.

The model answers `language English<asr_text>Hello.`, or `language None<asr_text>` where nothing was said. Where a language was
forced, the prompt already ends with `language English<asr_text>` and only the text should follow.
"""

from __future__ import annotations

import re

from actors.text.languages import normalize_language, normalize_language_name
from actors.text.repetitions import collapse_loops, fix_repetitions, is_repetitive

__all__ = ["collapse_loops", "fix_repetitions", "parse_output", "parse_output_compatible"]

_TAG = "<asr_text>"
_PREFIX = "language "
# White space (none lies beyond U+3000), and what shows as nothing.
_BLANK = "".join(chr(c) for c in range(0x3001) if chr(c).isspace()) + "\x00\u200b\u2060\ufeff"
# A tag in the middle of the text: the model changed language, or started over.
_INNER_TAG = re.compile(r"\s*(?:language[ \t]+[^\s<>]{1,40}[ \t]*)?<asr_text>\s*", re.IGNORECASE)
_CONTROL_TOKEN = re.compile(r"<\|[a-z_]{1,40}\|>")


def parse_output(raw: str | None, forced: str | None = None) -> tuple[str | None, str, tuple[str, ...]]:
    """Read the model's output.

    Better than the reference where that leaks or loses: `language None<asr_text>` under a forced language is silence and not text;
    numbers said many times are kept; loops of long phrases are cut; tags and control tokens never end up in the text; a language
    that is not one of the 30 is not passed on as if it were.

    Args:
        raw: the decoded string after the prompt, special tokens removed; None counts as empty.
        forced: English name of the language that the prompt forced.

    Returns:
        English name of the language (None: nothing said, or not known), the text, and flags out of `loop_collapsed`, `repetitive`,
        `no_language_tag`, `unknown_language:NAME`, `several_languages`, `language_none_with_text`, `language_not_forced`, `tag_removed`.
    """
    body = (raw or "").strip(_BLANK)
    flags: list[str] = []
    meta: str | None = None
    if _TAG in body and (forced is None or _is_meta(body.split(_TAG, 1)[0])):
        meta, body = body.split(_TAG, 1)
    text = _CONTROL_TOKEN.sub(" ", _INNER_TAG.sub(" ", body)).strip(_BLANK)
    if text != body.strip(_BLANK):
        flags.append("tag_removed")
    text, collapsed = collapse_loops(text)
    if collapsed:
        flags.append("loop_collapsed")
    elif is_repetitive(text):
        flags.append("repetitive")
    if not text or _says_nothing(meta, text):
        return None, "", tuple(flags)
    if forced is not None:
        said = _language_of(meta)[0] if meta else forced
        return forced, text, (*flags, "language_not_forced") if said != forced else tuple(flags)
    if meta is None:
        return None, text, (*flags, "no_language_tag")
    language, oddities = _language_of(meta)
    return language, text, (*flags, *oddities)


def parse_output_compatible(raw: str | None, user_language: str | None = None) -> tuple[str, str]:
    """Read the model's output exactly as the reference's `parse_asr_output` does, its defects included.

    Returns `(language, text)`; the language is "" where there is none, and not checked against the 30.
    """
    body = (raw or "").strip()
    if not body:
        return "", ""
    body = fix_repetitions(body)
    if user_language:
        return user_language, body
    if _TAG not in body:
        return "", body
    meta, text = body.split(_TAG, 1)
    text = text.strip()
    if "language none" in meta.lower():
        return "", text
    for line in meta.splitlines():
        name = _name_in(line)
        if name:
            return normalize_language_name(name), text
    return "", text


def _says_nothing(meta: str | None, text: str) -> bool:
    """Whether the text only repeats the answer for silence: the tag cut short, or "None" behind `language None`."""
    if meta is None:
        return text.lower() == "language none"
    return text.lower() == "none" and (_name_in(meta) or "").lower() == "none"


def _name_in(line: str) -> str | None:
    """What stands behind "language " in a line; None where the line does not begin so."""
    line = line.strip()
    return line[len(_PREFIX) :].strip() if line.lower().startswith(_PREFIX) else None


def _is_meta(head: str) -> bool:
    """Whether the text before a tag is only the model naming a language."""
    return (
        not head.strip() or re.fullmatch(r"language[ \t]+\S{1,40}", head.strip(), re.IGNORECASE) is not None
    )


def _language_of(meta: str) -> tuple[str | None, tuple[str, ...]]:
    """The language that the part before the tag names, and flags about it."""
    name = next((found for found in map(_name_in, meta.splitlines()) if found), None)
    if name is None:
        return None, ("no_language_tag",)
    if name.lower() == "none":
        return None, ("language_none_with_text",)
    parts = [part for part in re.split(r"[,;/&\s]+", name) if part]
    known = [language for language in map(_known, parts) if language]
    if not known:
        return None, (f"unknown_language:{name[:40]}",)
    return known[0], ("several_languages",) if len(parts) > 1 else ()


def _known(part: str) -> str | None:
    try:
        return normalize_language(part.strip(".:"))
    except ValueError:
        return None

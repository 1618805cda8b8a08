"""Parsing of the model's output: language, text, and flags about anything unusual.

The output is `language English<asr_text>Hello.`, or `language None<asr_text>` where nothing was said. Where a
language is forced, the prompt already ends with `language English<asr_text>` and only the text should follow.
"""

from __future__ import annotations

import re

from actors.text.languages import normalize_language, normalize_language_name
from actors.text.repetitions import collapse_loops, fix_repetitions, is_repetitive

__all__ = ["collapse_loops", "fix_repetitions", "parse_output", "parse_output_compatible"]

_TAG = "<asr_text>"
_PREFIX = "language "
# White space (there is none beyond U+3000) and invisible characters.
_BLANK = "".join(chr(c) for c in range(0x3001) if chr(c).isspace()) + "\x00\u200b\u2060\ufeff"
# A tag within the text: the model changed the language, or started again.
_INNER_TAG = re.compile(r"\s*(?:language[ \t]+[^\s<>]{1,40}[ \t]*)?<asr_text>\s*", re.IGNORECASE)
_CONTROL_TOKEN = re.compile(r"<\|[a-z_]{1,40}\|>")
# Only the model's words for silence, "None" and "language None", any number of times; the last one may be cut
# off. The branches of the loop begin with different characters, so the time is linear.
_ONLY_NONE = re.compile(r"(?:none|language|[\W_])+(?:non?|n|la?n?g?u?a?g?)?", re.IGNORECASE)


def parse_output(raw: str | None, forced: str | None = None) -> tuple[str | None, str, tuple[str, ...]]:
    """Parse the model's output.

    Differences from the reference:

    - `language None<asr_text>` under a forced language is silence, not text.
    - "None None None ..." is no text: the mark for silence, repeated. Without a forced language it is that
      at any length, because text has a tag there; with one only as a loop, because people say "None, none."
    - Numbers that are said many times are kept.
    - Loops of long phrases are cut.
    - Tags and control tokens never get into the text.
    - A language that is not one of the 30 is not returned as if it were.

    Args:
        raw: the decoded string after the prompt, special tokens removed; None counts as empty.
        forced: English name of the language that the prompt forced.

    Returns:
        English name of the language (None: nothing was said, or the language is unknown), the text, and
        flags. The flags are `loop_collapsed`, `repetitive`, `no_language_tag`, `unknown_language:NAME`,
        `several_languages`, `language_none_with_text`, `language_not_forced` and `tag_removed`.
    """
    body = (raw or "").strip(_BLANK)
    flags: list[str] = []
    head: str | None = None
    if _TAG in body and (forced is None or _is_language_name(body.split(_TAG, 1)[0])):
        head, body = body.split(_TAG, 1)
    text = _CONTROL_TOKEN.sub(" ", _INNER_TAG.sub(" ", body)).strip(_BLANK)
    if text != body.strip(_BLANK):
        flags.append("tag_removed")
    text, collapsed = collapse_loops(text)
    if collapsed:
        flags.append("loop_collapsed")
    elif is_repetitive(text):
        flags.append("repetitive")
    if (
        head is None
        and (collapsed or (forced is None and not _is_silence(head, text)))
        and _is_only_none(text)
    ):
        return None, "", (*flags, "no_language_tag")
    if not text or _is_silence(head, text):
        return None, "", tuple(flags)
    if forced is not None:
        found = _language_of(head)[0] if head else forced
        return forced, text, (*flags, "language_not_forced") if found != forced else tuple(flags)
    if head is None:
        return None, text, (*flags, "no_language_tag")
    language, language_flags = _language_of(head)
    return language, text, (*flags, *language_flags)


def parse_output_compatible(raw: str | None, user_language: str | None = None) -> tuple[str, str]:
    """Parse the model's output exactly as the reference's `parse_asr_output` does, including its defects.

    Args:
        raw: see `parse_output`.
        user_language: English name of the forced language.

    Returns:
        `(language, text)`; the language is "" where there is none, and need not be one of the 30.
    """
    body = (raw or "").strip()
    if not body:
        return "", ""
    body = fix_repetitions(body)
    if user_language:
        return user_language, body
    if _TAG not in body:
        return "", body
    head, text = body.split(_TAG, 1)
    text = text.strip()
    if "language none" in head.lower():
        return "", text
    for line in head.splitlines():
        name = _name_in(line)
        if name:
            return normalize_language_name(name), text
    return "", text


def _is_silence(head: str | None, text: str) -> bool:
    """Whether the text only repeats the output for silence.

    It is an incomplete tag then, or "None" after `language None`.
    """
    if head is None:
        return text.lower() == "language none"
    return (_name_in(head) or "").lower() == "none" and _is_only_none(text)


def _is_only_none(text: str) -> bool:
    """Whether a text consists of the model's words for silence."""
    return "none" in text.lower() and _ONLY_NONE.fullmatch(text) is not None


def _name_in(line: str) -> str | None:
    """The text after "language " in a line; None where the line does not begin with it."""
    line = line.strip()
    return line[len(_PREFIX) :].strip() if line.lower().startswith(_PREFIX) else None


def _is_language_name(head: str) -> bool:
    """Whether the text before a tag is only the name of a language."""
    return (
        not head.strip() or re.fullmatch(r"language[ \t]+\S{1,40}", head.strip(), re.IGNORECASE) is not None
    )


def _language_of(head: str) -> tuple[str | None, tuple[str, ...]]:
    """The language that the text before the tag names, and flags about it."""
    name = next((found for found in map(_name_in, head.splitlines()) if found), None)
    if name is None:
        return None, ("no_language_tag",)
    if name.lower() == "none":
        return None, ("language_none_with_text",)
    parts = [part for part in re.split(r"[,;/&\s]+", name) if part]
    known = [language for language in map(_known_language, parts) if language]
    if not known:
        return None, (f"unknown_language:{name[:40]}",)
    return known[0], ("several_languages",) if len(parts) > 1 else ()


def _known_language(part: str) -> str | None:
    try:
        return normalize_language(part.strip(".:"))
    except ValueError:
        return None

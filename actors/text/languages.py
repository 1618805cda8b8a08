"""The languages of the models: English names, ISO codes, spellings of both, and which languages use spaces.

The models use English names ("German"); rows and manifests use ISO codes ("de"). Both are accepted
everywhere.
Source: Qwen3-ASR technical report (arXiv 2601.21337), section 2, and the tables of the published package.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from actors.errors import UsageError

CODES: dict[str, str] = {
    "Chinese": "zh",
    "English": "en",
    "Cantonese": "yue",
    "Arabic": "ar",
    "German": "de",
    "French": "fr",
    "Spanish": "es",
    "Portuguese": "pt",
    "Indonesian": "id",
    "Italian": "it",
    "Korean": "ko",
    "Russian": "ru",
    "Thai": "th",
    "Vietnamese": "vi",
    "Japanese": "ja",
    "Turkish": "tr",
    "Hindi": "hi",
    "Malay": "ms",
    "Dutch": "nl",
    "Swedish": "sv",
    "Danish": "da",
    "Finnish": "fi",
    "Polish": "pl",
    "Czech": "cs",
    "Filipino": "fil",
    "Persian": "fa",
    "Greek": "el",
    "Romanian": "ro",
    "Hungarian": "hu",
    "Macedonian": "mk",
}
NAMES: dict[str, str] = {code: name for name, code in CODES.items()}
ASR_LANGUAGES: tuple[str, ...] = tuple(CODES)
ALIGNER_LANGUAGES: frozenset[str] = frozenset(
    {
        "Cantonese",
        "Chinese",
        "English",
        "French",
        "German",
        "Italian",
        "Japanese",
        "Korean",
        "Portuguese",
        "Russian",
        "Spanish",
    }
)
UNSPACED_LANGUAGES: frozenset[str] = frozenset({"Chinese", "Cantonese", "Japanese", "Thai"})

# After "zh" or "Chinese" in a tag.
_CANTONESE = frozenset({"yue", "cantonese"})
_AUTO = frozenset({"", "auto", "null", "none"})
# Other names and codes in use: ISO 639-2 (both forms), 639-3, retired codes. Speech with the region Hong Kong
# or Macau is Cantonese.
_ALIASES: dict[str, str] = {
    **dict.fromkeys(("zho", "chi", "cmn", "mandarin", "putonghua"), "Chinese"),
    **dict.fromkeys(("zh-yue", "zh-hk", "zh-mo", "zh-hant-hk", "zh-hant-mo"), "Cantonese"),
    **dict.fromkeys(("eng",), "English"),
    **dict.fromkeys(("ara", "arb"), "Arabic"),
    **dict.fromkeys(("deu", "ger"), "German"),
    **dict.fromkeys(("fra", "fre"), "French"),
    **dict.fromkeys(("spa", "castilian"), "Spanish"),
    **dict.fromkeys(("por",), "Portuguese"),
    **dict.fromkeys(("ind", "in"), "Indonesian"),
    **dict.fromkeys(("ita",), "Italian"),
    **dict.fromkeys(("kor",), "Korean"),
    **dict.fromkeys(("rus",), "Russian"),
    **dict.fromkeys(("tha",), "Thai"),
    **dict.fromkeys(("vie",), "Vietnamese"),
    **dict.fromkeys(("jpn",), "Japanese"),
    **dict.fromkeys(("tur",), "Turkish"),
    **dict.fromkeys(("hin",), "Hindi"),
    **dict.fromkeys(("msa", "may", "zsm"), "Malay"),
    **dict.fromkeys(("nld", "dut", "flemish"), "Dutch"),
    **dict.fromkeys(("swe",), "Swedish"),
    **dict.fromkeys(("dan",), "Danish"),
    **dict.fromkeys(("fin",), "Finnish"),
    **dict.fromkeys(("pol",), "Polish"),
    **dict.fromkeys(("ces", "cze"), "Czech"),
    **dict.fromkeys(("tl", "tgl", "tagalog"), "Filipino"),
    **dict.fromkeys(("fas", "per", "pes", "farsi"), "Persian"),
    **dict.fromkeys(("ell", "gre"), "Greek"),
    **dict.fromkeys(("ron", "rum"), "Romanian"),
    **dict.fromkeys(("hun",), "Hungarian"),
    **dict.fromkeys(("mkd", "mac"), "Macedonian"),
}
_SPELLINGS: dict[str, str] = {**_ALIASES, **NAMES, **{name.lower(): name for name in CODES}}


class UnknownLanguage(UsageError, ValueError):
    """A language that the model does not know; also a ValueError, so that settings report their field."""

    def __init__(self, message: str, code: str = "unsupported_language") -> None:
        super().__init__(message, code)


def normalize_language(value: str | None) -> str | None:
    """The model's name of a language that was given as an English name or an ISO code.

    Args:
        value: in any case, with or without script and region.

    Returns:
        The English name; None (let the model decide) for None, "", "auto", "null" and "none".

    Raises:
        UnknownLanguage: the model does not know the language; the message lists those that it knows. It is a
            UsageError and a ValueError.
    """
    key = re.sub(r"[_\s]+", "-", value.strip().lower().removesuffix(".utf-8")) if value is not None else ""
    if key in _AUTO:
        return None
    tags = re.split(r"[-()]+", key)
    # The longest prefix first, so that "zh-yue" and "zh-hk" with further tags do not become Mandarin.
    name = next(
        (
            _SPELLINGS[prefix]
            for end in range(len(tags), 0, -1)
            if (prefix := "-".join(tags[:end])) in _SPELLINGS
        ),
        None,
    )
    if name == "Chinese" and not _CANTONESE.isdisjoint(tags):
        name = "Cantonese"
    if name is None:
        known = ", ".join(f"{name} ({code})" for name, code in CODES.items())
        raise UnknownLanguage(
            f"unknown language {value!r}: give one of {known}, or leave it empty to let the model decide"
        )
    return name


def language_set(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """The model's names of several languages, each once, in the order given.

    Args:
        value: names or ISO codes, as a list or as text with commas; None and "" are none.

    Raises:
        UnknownLanguage: the model does not know one of them.
    """
    parts = re.split(r"[,;|+]", value) if isinstance(value, str) else list(value or ())
    names = (normalize_language(str(part)) for part in parts)
    return tuple(dict.fromkeys(name for name in names if name))


def code_of(name: str | None) -> str | None:
    """ISO code of an English name; lower case of a name that is not in the table; None of None."""
    if not name:
        return None
    return CODES.get(name, name.lower())


def name_of(code: str | None) -> str | None:
    """English name of an ISO code, as rows have it; the inverse of `code_of`."""
    if not code:
        return None
    return NAMES.get(code, code[:1].upper() + code[1:])


def is_spaced(language: str | None, text_left: str, text_right: str) -> bool:
    """Whether a space belongs between two pieces of text that follow each other.

    Languages with spaces (including Korean) get one. Chinese, Cantonese, Japanese and Thai get none, unless
    letters of a script with spaces meet at the seam ("用 iPhone" + "Pro"). There is never one next to an
    existing space or before closing punctuation.

    Args:
        language: English name of the language of both pieces; None (unknown, or they differ): the script
            decides.
        text_left: the piece before the seam.
        text_right: the piece after it.
    """
    if not text_left or not text_right or text_left[-1].isspace() or text_right[0].isspace():
        return False
    if unicodedata.category(text_right[0]) in ("Pe", "Pf") or text_right[0] in ",.;:!?%":
        return False
    if unicodedata.category(text_left[-1]) in ("Ps", "Pi"):
        return False
    if language is not None and language not in UNSPACED_LANGUAGES:
        return True
    left = next((c for c in reversed(text_left) if c.isalnum()), None)
    right = next((c for c in text_right if c.isalnum()), None)
    # Only punctuation at the seam of a language without spaces.
    if language is not None and (left is None or right is None):
        return False
    return not (is_unspaced_script(left or text_left[-1]) or is_unspaced_script(right or text_right[0]))


def is_unspaced_script(char: str) -> bool:
    """Whether a character belongs to a script without spaces between words.

    These are Han, kana, Thai, Lao, Khmer and Burmese, with their punctuation.
    """
    point = ord(char)
    return (
        0x0E00 <= point <= 0x0EFF  # Thai, Lao
        or 0x1000 <= point <= 0x109F  # Burmese
        or 0x1780 <= point <= 0x17FF  # Khmer
        or 0x2E80 <= point <= 0x312F  # CJK radicals, punctuation, kana, bopomofo
        # Kanbun, kana extensions, enclosed and unified ideographs; without Hangul jamo.
        or 0x3190 <= point <= 0x9FFF
        or 0xF900 <= point <= 0xFAFF  # compatibility ideographs
        or 0xFF01 <= point <= 0xFF0F  # full-width punctuation
        or 0xFF1A <= point <= 0xFF20
        or 0xFF61 <= point <= 0xFF9F  # half-width kana
        or 0x20000 <= point <= 0x323AF  # ideographs beyond the basic plane
    )


def normalize_language_name(name: str | None) -> str:
    """Spell a language name as the reference does: stripped, only the first letter in upper case.

    Raises:
        ValueError: the name is empty.
    """
    text = "" if name is None else str(name).strip()
    if not text:
        raise ValueError("the language name is empty")
    return text[:1].upper() + text[1:].lower()


def validate_language(name: str) -> None:
    """Raise ValueError unless `name` is exactly one of the model's 30 names (the reference's check)."""
    if name not in CODES:
        raise ValueError(f"unsupported language {name!r}: one of {', '.join(ASR_LANGUAGES)}")

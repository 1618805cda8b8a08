"""Cues as SubRip, WebVTT and TTML. Pure."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from pipelines.subtitles.cues import Cue, CueLine

_TT = "http://www.w3.org/ns/ttml"
_TTM, _TTS, _TTP = f"{_TT}#metadata", f"{_TT}#styling", f"{_TT}#parameter"
_OWN = "urn:scriptorium:transcript"
_XML = "http://www.w3.org/XML/1998/namespace"
for _prefix, _uri in (("", _TT), ("ttm", _TTM), ("tts", _TTS), ("ttp", _TTP), ("scriptorium", _OWN)):
    ET.register_namespace(_prefix, _uri)


def srt(cues: Iterable[Cue]) -> str:
    """Cues as SubRip. The format has no place for speakers, confidence and flags."""
    blocks = [
        f"{number}\n{_time(cue.start, ',')} --> {_time(cue.end, ',')}\n{cue.text}\n"
        for number, cue in enumerate(cues, 1)
    ]
    return "\n".join(blocks)


def vtt(
    cues: Iterable[Cue],
    names: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    highlight: bool = False,
    low_confidence: float | None = None,
) -> str:
    """Cues as WebVTT, with voice spans where speakers are known.

    Args:
        cues: in order.
        names: names of speakers by `speaker`.
        notes: comments at the beginning: facts about the recording, such as its flags.
        highlight: put the time of each word before it, so that players can mark it (`::cue(:past)`).
        low_confidence: words below it have the class `low-confidence`.
    """
    blocks = ["WEBVTT\n", *(f"NOTE {_note(note)}\n" for note in notes)]
    for cue in cues:
        lines = "\n".join(_vtt_line(cue, line, names or {}, highlight, low_confidence) for line in cue.lines)
        blocks.append(f"{_time(cue.start, '.')} --> {_time(cue.end, '.')}\n{lines}\n")
    return "\n".join(blocks)


def cue_rows(cues: Iterable[Cue], names: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Cues for programs: `start` and `end` in seconds, `text`, and `vtt`, the text with WebVTT's markup."""
    return [
        {
            "start": cue.start / 1000,
            "end": cue.end / 1000,
            "text": cue.text,
            "vtt": "\n".join(_vtt_line(cue, line, names or {}, False, None) for line in cue.lines),
        }
        for cue in cues
    ]


def ttml(
    cues: Sequence[Cue],
    language: str | None = None,
    names: Mapping[str, str] | None = None,
    facts: Mapping[str, str] | None = None,
) -> str:
    """Cues as TTML 1 in Netflix's and EBU-TT-D's common subset: media time, centred at the bottom.

    Speakers are agents (`ttm:agent`). Confidence and flags are attributes in a namespace of our own, which
    players ignore.

    Args:
        cues: in order.
        language: ISO code of the document.
        names: names of speakers by `speaker`.
        facts: attributes of the document, such as flags and status.
    """
    root = ET.Element(f"{{{_TT}}}tt", {f"{{{_XML}}}lang": language or "", f"{{{_TTP}}}timeBase": "media"})
    root.set(f"{{{_TTP}}}cellResolution", "32 15")
    for name, value in (facts or {}).items():
        root.set(f"{{{_OWN}}}{name}", value)
    head = ET.SubElement(root, f"{{{_TT}}}head")
    speakers = list(dict.fromkeys(line.speaker for cue in cues for line in cue.lines if line.speaker))
    metadata = ET.SubElement(head, f"{{{_TT}}}metadata")
    agents = {speaker: f"speaker{number}" for number, speaker in enumerate(speakers, 1)}
    for speaker, identity in agents.items():
        agent = ET.SubElement(metadata, f"{{{_TTM}}}agent", {"type": "person", f"{{{_XML}}}id": identity})
        ET.SubElement(agent, f"{{{_TTM}}}name", {"type": "full"}).text = (names or {}).get(speaker) or speaker
    styling = ET.SubElement(head, f"{{{_TT}}}styling")
    style = {
        "textAlign": "center",
        "fontFamily": "proportionalSansSerif",
        "fontSize": "100%",
        "color": "white",
    }
    ET.SubElement(
        styling,
        f"{{{_TT}}}style",
        {f"{{{_XML}}}id": "s", **{f"{{{_TTS}}}{key}": value for key, value in style.items()}},
    )
    layout = ET.SubElement(head, f"{{{_TT}}}layout")
    area = {"origin": "10% 80%", "extent": "80% 10%", "displayAlign": "after"}
    ET.SubElement(
        layout,
        f"{{{_TT}}}region",
        {f"{{{_XML}}}id": "bottom", **{f"{{{_TTS}}}{key}": value for key, value in area.items()}},
    )
    body = ET.SubElement(root, f"{{{_TT}}}body", {"style": "s", "region": "bottom"})
    division = ET.SubElement(body, f"{{{_TT}}}div")
    for number, cue in enumerate(cues, 1):
        _ttml_cue(division, number, cue, agents, language)
    ET.indent(root)
    text: str = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _ttml_cue(
    division: ET.Element, number: int, cue: Cue, agents: Mapping[str, str], language: str | None
) -> None:
    paragraph = ET.SubElement(division, f"{{{_TT}}}p", {f"{{{_XML}}}id": f"c{number}"})
    paragraph.set("begin", _time(cue.start, "."))
    paragraph.set("end", _time(cue.end, "."))
    if cue.language and cue.language != language:
        paragraph.set(f"{{{_XML}}}lang", cue.language)
    if cue.confidence is not None:
        paragraph.set(f"{{{_OWN}}}confidence", f"{cue.confidence:.3f}")
    for place, line in enumerate(cue.lines):
        if place:
            ET.SubElement(paragraph, f"{{{_TT}}}br")
        span = ET.SubElement(paragraph, f"{{{_TT}}}span")
        span.text = xml_text(line.text)
        if line.speaker:
            span.set(f"{{{_TTM}}}agent", agents[line.speaker])


def xml_text(text: str) -> str:
    """A text without the characters that XML 1.0 does not allow."""
    return "".join(
        char
        if char in "\t\n\r" or " " <= char <= "\ud7ff" or "\ue000" <= char <= "\ufffd" or char > "\uffff"
        else " "
        for char in text
    )


def _vtt_line(
    cue: Cue, line: CueLine, names: Mapping[str, str], highlight: bool, low_confidence: float | None
) -> str:
    parts = ["- "] if line.hyphen else []
    latest = cue.start
    for number, word in enumerate(line.words):
        text = html.escape(word.text, quote=False)
        if low_confidence is not None and word.confidence is not None and word.confidence < low_confidence:
            text = f"<c.low-confidence>{text}</c>"
        # Times within a cue must grow and lie within it.
        if highlight and latest < word.start < cue.end:
            text = f"<{_time(word.start, '.')}>{text}"
            latest = word.start
        parts.append(f"{' ' if word.space and number else ''}{text}")
    shown = "".join(parts)
    if not line.speaker:
        return shown
    name = " ".join(html.escape(names.get(line.speaker) or line.speaker, quote=False).split())
    return f"<v {name}>{shown}</v>"


def _note(text: str) -> str:
    return " ".join(text.split()).replace("-->", "→")


def _time(milliseconds: int, separator: str) -> str:
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{separator}{rest % 1000:03}"

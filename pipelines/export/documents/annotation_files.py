"""Transcripts for annotation programs: Praat, ELAN, Audacity. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import count
from xml.etree import ElementTree as ET

from actors.records import Row
from pipelines.export.documents.facts import speaker_label, speaker_names, spoken_turns, stated_facts
from pipelines.export.documents.tiers import Interval, SpeakerTier, speaker_tiers
from pipelines.subtitles.rendering import xml_text

_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_EAF = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"


def textgrid(row: Row) -> str:
    """Praat's TextGrid (long form): for each speaker turns, words, and confidence and flags if there are any.

    The tiers of words are named as those of the Montreal Forced Aligner: `SPEAKER - words`.
    """
    tiers: list[tuple[str, list[Interval]]] = []
    for tier in speaker_tiers(row):
        turns = tier.turns
        tiers.append((tier.name, [turn.interval for turn in turns]))
        tiers.append((f"{tier.name} - words", [word for turn in turns for word in turn.words]))
        for name in ("confidence", "flags"):
            said = [
                Interval(turn.interval.start, turn.interval.end, getattr(turn, name))
                for turn in turns
                if getattr(turn, name)
            ]
            if said:
                tiers.append((f"{tier.name} - {name}", said))
    tiers = tiers or [("speech", [])]
    ends = [interval.end for _, intervals in tiers for interval in intervals]
    end = max([_milliseconds(_end_of(row)), *ends, 1])
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {_praat(end)}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, intervals) in enumerate(tiers, 1):
        filled = list(_filled(intervals, end))
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f"        name = {_quoted(name)}",
        ]
        lines += [
            "        xmin = 0",
            f"        xmax = {_praat(end)}",
            f"        intervals: size = {len(filled)}",
        ]
        for place, interval in enumerate(filled, 1):
            lines.append(f"        intervals [{place}]:")
            lines.append(f"            xmin = {_praat(interval.start)}")
            lines.append(f"            xmax = {_praat(interval.end)}")
            lines.append(f"            text = {_quoted(interval.text)}")
    return "\n".join(lines) + "\n"


def eaf(row: Row) -> str:
    """ELAN's annotation format 3.0, with words, confidence and flags as tiers below those of the turns."""
    root = ET.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "scriptorium",
            "DATE": _date(row),
            "FORMAT": "3.0",
            "VERSION": "3.0",
            "xmlns:xsi": _XSI,
            "xsi:noNamespaceSchemaLocation": _EAF,
        },
    )
    header = ET.SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    audio = row["audio"] or ""
    url = audio if "://" in audio else f"file://{audio}"
    ET.SubElement(header, "MEDIA_DESCRIPTOR", {"MEDIA_URL": xml_text(url), "MIME_TYPE": "unknown"})
    for name, value in stated_facts(row).items():
        ET.SubElement(header, "PROPERTY", {"NAME": f"scriptorium:{name}"}).text = xml_text(value)
    order = ET.SubElement(root, "TIME_ORDER")
    document = _Document(root, order)
    for tier in speaker_tiers(row):
        document.add(tier)
    document.finish()
    ET.indent(root)
    text: str = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def audacity(row: Row) -> str:
    """Audacity's label track: start, end and `SPEAKER: text` of each turn, separated by tabs."""
    names = speaker_names(row)
    lines = []
    for turn in spoken_turns(row):
        speaker = speaker_label(turn, names)
        text = " ".join(turn["text"].split())
        label = f"{speaker}: {text}" if speaker else text
        lines.append(f"{turn['start']:.6f}\t{max(turn['end'], turn['start']):.6f}\t{label}\n")
    return "".join(lines)


class _Document:
    """Adds tiers to an EAF document, with the time slots and ids that they need."""

    def __init__(self, root: ET.Element, order: ET.Element) -> None:
        self._root, self._order = root, order
        self._slots, self._annotations = count(1), count(1)
        self._tiers: list[ET.Element] = []

    def add(self, tier: SpeakerTier) -> None:
        """One speaker's tiers."""
        attributes = {"PARTICIPANT": tier.speaker}
        turns = self._tier(tier.name, "turns", attributes)
        identities = [self._aligned(turns, turn.interval) for turn in tier.turns]
        words = self._tier(f"{tier.name} - words", "words", {**attributes, "PARENT_REF": tier.name})
        for turn in tier.turns:
            for word in turn.words:
                self._aligned(words, word)
        for name in ("confidence", "flags"):
            if not any(getattr(turn, name) for turn in tier.turns):
                continue
            attached = self._tier(f"{tier.name} - {name}", name, {**attributes, "PARENT_REF": tier.name})
            for turn, identity in zip(tier.turns, identities, strict=True):
                if getattr(turn, name):
                    self._referring(attached, identity, getattr(turn, name))

    def finish(self) -> None:
        """What stands behind the tiers: the kinds of tiers and their constraints."""
        kinds = {"turns": None, "words": "Included_In"}
        kinds |= dict.fromkeys(("confidence", "flags"), "Symbolic_Association")
        for name, constraint in kinds.items():
            alignable = "false" if constraint == "Symbolic_Association" else "true"
            attributes = {
                "GRAPHIC_REFERENCES": "false",
                "LINGUISTIC_TYPE_ID": name,
                "TIME_ALIGNABLE": alignable,
            }
            if constraint:
                attributes["CONSTRAINTS"] = constraint
            ET.SubElement(self._root, "LINGUISTIC_TYPE", attributes)
        described = {
            "Symbolic_Association": "1-1 association with a parent annotation",
            "Included_In": "Time alignable annotations within the parent annotation's time interval, gaps "
            "are allowed",
        }
        for stereotype, text in described.items():
            ET.SubElement(self._root, "CONSTRAINT", {"DESCRIPTION": text, "STEREOTYPE": stereotype})

    def _tier(self, name: str, kind: str, attributes: dict[str, str]) -> ET.Element:
        made = {"TIER_ID": xml_text(name), "LINGUISTIC_TYPE_REF": kind, **attributes}
        return ET.SubElement(self._root, "TIER", {key: xml_text(value) for key, value in made.items()})

    def _aligned(self, tier: ET.Element, interval: Interval) -> str:
        slots = []
        for time in (interval.start, interval.end):
            slots.append(f"ts{next(self._slots)}")
            ET.SubElement(self._order, "TIME_SLOT", {"TIME_SLOT_ID": slots[-1], "TIME_VALUE": str(time)})
        identity = f"a{next(self._annotations)}"
        annotation = ET.SubElement(ET.SubElement(tier, "ANNOTATION"), "ALIGNABLE_ANNOTATION")
        annotation.set("ANNOTATION_ID", identity)
        annotation.set("TIME_SLOT_REF1", slots[0])
        annotation.set("TIME_SLOT_REF2", slots[1])
        ET.SubElement(annotation, "ANNOTATION_VALUE").text = xml_text(interval.text)
        return identity

    def _referring(self, tier: ET.Element, identity: str, text: str) -> None:
        annotation = ET.SubElement(ET.SubElement(tier, "ANNOTATION"), "REF_ANNOTATION")
        annotation.set("ANNOTATION_ID", f"a{next(self._annotations)}")
        annotation.set("ANNOTATION_REF", identity)
        ET.SubElement(annotation, "ANNOTATION_VALUE").text = xml_text(text)


def _filled(intervals: Sequence[Interval], end: int) -> Iterable[Interval]:
    """The intervals with empty ones between them, from 0 to `end`: Praat's tiers have no gaps."""
    place = 0
    for interval in intervals:
        if interval.start > place:
            yield Interval(place, interval.start, "")
        yield interval
        place = interval.end
    if place < end:
        yield Interval(place, end, "")


def _end_of(row: Row) -> float:
    window = row.get("window") or {}
    return float((window.get("start") or 0.0) + (row["duration"] or 0.0))


def _date(row: Row) -> str:
    created = (row.get("provenance") or {}).get("created_at")
    return created.isoformat(timespec="seconds") if created else "1970-01-01T00:00:00+00:00"


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _praat(milliseconds: int) -> str:
    return f"{milliseconds / 1000:g}" if milliseconds % 1000 == 0 else f"{milliseconds / 1000:.3f}"


def _quoted(text: str) -> str:
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


def short_id(*parts: object) -> str:
    """A short id that is the same in every export of the same transcript."""
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogatepass")).hexdigest()[:10]

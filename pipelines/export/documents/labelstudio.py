"""Transcripts as tasks of Label Studio, with what the model said as predictions. Pure.

Source: Label Studio's documentation of tasks, predictions and audio regions. Regions of one turn share an
id: a label (the speaker), the text, and the confidence.
"""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree as ET

from actors.records import Row
from pipelines.export.documents.annotation_files import short_id
from pipelines.export.documents.facts import (
    metadata_of,
    speaker_label,
    speaker_names,
    spoken_turns,
    stated_facts,
)
from pipelines.output.transcript_filters import recording_confidence

# Speakers that the labelling configuration offers besides those of the transcript.
_SPEAKERS = 8
NO_SPEAKER = "Speech"


def task(row: Row) -> dict[str, Any]:
    """One task; `data` has the address of the audio and the facts about the recording."""
    names = speaker_names(row)
    result: list[dict[str, Any]] = []
    for number, turn in enumerate(spoken_turns(row)):
        region = {
            "id": short_id(row["recording_id"], number, turn["start"]),
            "to_name": "audio",
            "original_length": row["duration"],
        }
        span = {
            "start": turn["start"],
            "end": max(turn["end"], turn["start"]),
            "channel": _channel(turn["flags"]),
        }
        label = speaker_label(turn, names, NO_SPEAKER)
        score = {} if turn["confidence"] is None else {"score": turn["confidence"]}
        meta = {"meta": {"text": list(turn["flags"])}} if turn["flags"] else {}
        result.append(
            {
                **region,
                "from_name": "speaker",
                "type": "labels",
                "value": {**span, "labels": [label]},
                **score,
                **meta,
            }
        )
        result.append(
            {**region, "from_name": "text", "type": "textarea", "value": {**span, "text": [turn["text"]]}}
        )
    provenance = row.get("provenance") or {}
    version = f"{provenance.get('asr_model') or 'scriptorium'}@{provenance.get('config_hash') or ''}".rstrip(
        "@"
    )
    prediction: dict[str, Any] = {"model_version": version, "result": result}
    confidence = recording_confidence(row["segments"] or [])
    if confidence is not None:
        prediction["score"] = confidence
    data = {
        "audio": row["audio"],
        "recording_id": row["recording_id"],
        "duration": row["duration"],
        "text": row["text"],
        **{name: value for name, value in stated_facts(row).items() if name != "recording"},
        "metadata": metadata_of(row),
    }
    return {"data": data, "predictions": [prediction]}


def task_json(row: Row) -> str:
    """A file that Label Studio imports: a list with one task."""
    return json.dumps([task(row)], ensure_ascii=False, indent=1) + "\n"


def labelling_config(speakers: list[str] | None = None) -> str:
    """The XML of a labelling configuration that fits the tasks."""
    view = ET.Element("View")
    labels = ET.SubElement(view, "Labels", {"name": "speaker", "toName": "audio"})
    offered = [NO_SPEAKER, *(speakers or []), *(f"S{number}" for number in range(1, _SPEAKERS + 1))]
    for name in dict.fromkeys(offered):
        ET.SubElement(labels, "Label", {"value": name})
    ET.SubElement(view, "Audio", {"name": "audio", "value": "$audio"})
    ET.SubElement(
        view,
        "TextArea",
        {
            "name": "text",
            "toName": "audio",
            "perRegion": "true",
            "rows": "2",
            "editable": "true",
            "displayMode": "region-list",
            "whenTagName": "speaker",
        },
    )
    ET.indent(view)
    return ET.tostring(view, encoding="unicode") + "\n"


def _channel(flags: list[str] | None) -> int:
    return next((int(flag[8:]) for flag in flags or () if re.fullmatch(r"channel:\d+", flag)), 0)

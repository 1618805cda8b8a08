"""What is said between us and DashScope's own APIs for Qwen3-ASR (Alibaba Cloud Model Studio). Pure.

Sources, all public descriptions of the service, as of 2026: "Qwen-ASR API reference" (recorded files, asynchronous), "Upload local files to
get temporary URLs", "Client events" and "Server events for Qwen-ASR-Realtime". Never tried against the service itself.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from actors.backends.qwen.prompts import clean_context
from actors.backends.remote import openai_protocol
from actors.backends.remote.openai_protocol import Malformed
from actors.records import SAMPLING_RATE, Hypothesis, SegmentRequest
from actors.text.languages import code_of

LONGEST_UTTERANCE = 60.0  # seconds; what a client may commit at once over the real-time API
_PIECE = SAMPLING_RATE  # samples in one event
_MARGIN = 0.1  # of an upload's permission, so that it does not end on the way
_NO_SPEECH = ("NO_VALID_FRAGMENT", "NO_WORDS", "NOVALIDFRAGMENT", "NOWORDS")
_BUSY = ("THROTTLING", "RATE_LIMIT", "RATELIMIT", "INSUFFICIENT_QUOTA")
_PASSING = (
    "INTERNAL",
    "SYSTEM",
    "TIMEOUT",
    "UNAVAILABLE",
    "DOWNLOAD_FAILED",
    "DOWNLOADFAILED",
    "SERVER_ERROR",
    *_BUSY,
)


@dataclass(frozen=True)
class Permission:
    """To upload files into the service's temporary storage, where they stay for 48 hours."""

    address: str
    folder: str
    fields: dict[str, str]
    duration: float  # seconds that it may be used for

    def place(self, name: str) -> str:
        """The key of a file of this name."""
        return f"{self.folder}/{name}"

    def form(self, name: str) -> dict[str, str]:
        """What is sent beside the file's content."""
        return {**self.fields, "key": self.place(name), "success_action_status": "200"}


@dataclass(frozen=True)
class Task:
    """How a recorded file is doing: `running`, `done` with the address of its result, or `failed`."""

    state: Literal["running", "done", "failed"]
    number: str = ""
    address: str = ""
    code: str = ""
    message: str = ""


def permission(answer: Mapping[str, Any]) -> Permission:
    """What `GET /uploads?action=getPolicy` allows.

    Raises:
        Malformed: it is something else.
    """
    said: Any = answer.get("data")
    try:
        fields = {
            "OSSAccessKeyId": str(said["oss_access_key_id"]),
            "Signature": str(said["signature"]),
            "policy": str(said["policy"]),
            "x-oss-object-acl": str(said["x_oss_object_acl"]),
            "x-oss-forbid-overwrite": str(said["x_oss_forbid_overwrite"]),
        }
        address, folder = str(said["upload_host"]), str(said["upload_dir"])
        duration = float(said.get("expire_in_seconds") or 0) * (1 - _MARGIN)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Malformed(f"the answer has no data as upload policies have it: {error!r}") from None
    if not address.startswith(("https://", "http://")):
        raise Malformed("the answer's upload_host is no address")
    return Permission(address, folder.rstrip("/"), fields, duration)


def order(model: str, address: str, request: SegmentRequest) -> dict[str, Any]:
    """The body of `POST /services/audio/asr/transcription` for a file at an address. It has no field for a context."""
    parameters: dict[str, Any] = {"channel_id": [0], "enable_itn": False}
    if request.language:
        parameters["language"] = code_of(request.language)
    return {"model": model, "input": {"file_url": address}, "parameters": parameters}


def task(answer: Mapping[str, Any]) -> Task:
    """What the service says of a task, when it takes it and later (`GET /tasks/{number}`).

    Raises:
        Malformed: nothing about a task.
    """
    output = answer.get("output")
    if not isinstance(output, dict) or not isinstance(output.get("task_status"), str):
        raise Malformed("the answer has no output.task_status as tasks have it")
    number = str(output.get("task_id") or "")
    status = output["task_status"].upper()
    if status in ("PENDING", "RUNNING", "SUSPENDED"):
        return Task("running", number)
    result = output.get("result")
    address = result.get("transcription_url") if isinstance(result, dict) else None
    code = str(output.get("code") or "")
    if status == "SUCCEEDED" and isinstance(address, str) and address.startswith(("https://", "http://")):
        return Task("done", number, address, code)
    message = " ".join(str(output.get("message") or "").split())
    return Task("failed", number, "", code or status, message or f"the task is {status}")


def hypothesis_of_file(
    result: Mapping[str, Any], request: SegmentRequest, *, compatible: bool = False
) -> Hypothesis:
    """What the result file of a task says; its language is that of most of its text.

    Raises:
        Malformed: it does not say anything.
    """
    transcripts = result.get("transcripts")
    if not isinstance(transcripts, list) or not all(isinstance(entry, dict) for entry in transcripts):
        raise Malformed("the result has no transcripts")
    text = " ".join(said for entry in transcripts if (said := str(entry.get("text") or "").strip()))
    languages: Counter[str] = Counter()
    for entry in transcripts:
        for sentence in entry.get("sentences") or []:
            if isinstance(sentence, dict) and sentence.get("language"):
                languages[str(sentence["language"])] += len(str(sentence.get("text") or ""))
    return silent_or_said(
        text, max(languages, key=languages.__getitem__, default=None), request, compatible=compatible
    )


def silent_or_said(
    text: str, language: str | None, request: SegmentRequest, *, compatible: bool = False
) -> Hypothesis:
    """A text without tag, log-probabilities or tokens as a hypothesis; an empty one is the model's word for no speech."""
    raw = openai_protocol.tagged(text, language, request)
    return openai_protocol.read(raw, request, compatible, confidence=None, tokens=0, settled=request.prefix)


def is_silence(code: str) -> bool:
    """Whether the code of a failed task says that nobody speaks."""
    return code.upper().endswith(_NO_SPEECH)


def may_pass(code: str) -> bool:
    """Whether the code of an error is one of those that another attempt may not meet."""
    return (
        not code or any(part in code.upper() for part in _PASSING) or code.upper() in ("UNKNOWN", "CANCELED")
    )


def is_busy(code: str) -> bool:
    """Whether the code of an error asks to come back later."""
    return any(part in code.upper() for part in _BUSY)


def conversation(
    request: SegmentRequest, *, compatible: bool = False
) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """The events that have a segment recognised over the real-time API: the first, and those after it was confirmed.

    The client says where the utterance ends (`turn_detection` null), so the service does not cut it up by pauses of its own.
    """
    context = request.context if compatible else clean_context(request.context)
    transcription: dict[str, Any] = {"language": code_of(request.language)} if request.language else {}
    transcription |= {"corpus": {"text": context}} if context else {}
    session = {
        "modalities": ["text"],
        "input_audio_format": "pcm",
        "sample_rate": SAMPLING_RATE,
        "input_audio_transcription": transcription,
        "turn_detection": None,
    }
    return {"event_id": "update", "type": "session.update", "session": session}, _spoken(request.waveform)


def _spoken(waveform: np.ndarray) -> Iterator[dict[str, Any]]:
    samples = waveform.astype("<i2")
    for number, start in enumerate(range(0, len(samples), _PIECE)):
        audio = base64.b64encode(samples[start : start + _PIECE].tobytes()).decode()
        yield {"event_id": f"append_{number}", "type": "input_audio_buffer.append", "audio": audio}
    yield {"event_id": "commit", "type": "input_audio_buffer.commit"}
    yield {"event_id": "finish", "type": "session.finish"}


def complaint(event: Mapping[str, Any]) -> tuple[str, str, str]:
    """Type, code and message of an event that something failed; the message as one line."""
    error = event.get("error")
    if not isinstance(error, dict):
        return "", "", ""
    return (
        str(error.get("type") or ""),
        str(error.get("code") or ""),
        " ".join(str(error.get("message") or "").split()),
    )

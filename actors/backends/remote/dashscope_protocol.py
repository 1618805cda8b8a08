"""DashScope's own APIs for Qwen3-ASR (Alibaba Cloud Model Studio): requests, responses and events. Pure.

Sources, all public descriptions of the service, as of 2026: "Qwen-ASR API reference" (recorded files,
asynchronous), "Upload local files to get temporary URLs", "Client events" and "Server events for
Qwen-ASR-Realtime". Never tried against the service itself.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from actors.backends.qwen.prompts import clean_context
from actors.backends.remote.openai_protocol import Malformed
from actors.backends.remote.raw_output import parse_raw, with_language_tag
from actors.records import SAMPLING_RATE, Hypothesis, SegmentRequest
from actors.text.languages import code_of

# Seconds that a client may commit at once over the real-time API.
MAX_UTTERANCE_SECONDS = 60.0
_SAMPLES_PER_EVENT = SAMPLING_RATE
# Part of the duration of an upload policy that is not used, so that it does not expire during an upload.
_POLICY_MARGIN = 0.1
_NO_SPEECH = ("NO_VALID_FRAGMENT", "NO_WORDS", "NOVALIDFRAGMENT", "NOWORDS")
_BUSY = ("THROTTLING", "RATE_LIMIT", "RATELIMIT", "INSUFFICIENT_QUOTA")
_TRANSIENT = (
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
class UploadPolicy:
    """Permission to upload files to the service's temporary storage, which keeps them for 48 hours."""

    url: str
    folder: str
    fields: dict[str, str]
    duration: float  # seconds that the policy may be used for

    def key(self, name: str) -> str:
        """The storage key of a file with this name."""
        return f"{self.folder}/{name}"

    def form(self, name: str) -> dict[str, str]:
        """The form fields beside the file's content."""
        return {**self.fields, "key": self.key(name), "success_action_status": "200"}


@dataclass(frozen=True)
class Task:
    """State of the task for a recorded file."""

    state: Literal["running", "done", "failed"]
    id: str = ""
    result_url: str = ""  # of a task that is done
    code: str = ""
    message: str = ""


def parse_upload_policy(response: Mapping[str, Any]) -> UploadPolicy:
    """The policy in the response to `GET /uploads?action=getPolicy`.

    Raises:
        Malformed: the response has no policy.
    """
    data: Any = response.get("data")
    try:
        fields = {
            "OSSAccessKeyId": str(data["oss_access_key_id"]),
            "Signature": str(data["signature"]),
            "policy": str(data["policy"]),
            "x-oss-object-acl": str(data["x_oss_object_acl"]),
            "x-oss-forbid-overwrite": str(data["x_oss_forbid_overwrite"]),
        }
        url, folder = str(data["upload_host"]), str(data["upload_dir"])
        duration = float(data.get("expire_in_seconds") or 0) * (1 - _POLICY_MARGIN)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Malformed(f"the response has no data as upload policies have it: {error!r}") from None
    if not url.startswith(("https://", "http://")):
        raise Malformed("the response's upload_host is no URL")
    return UploadPolicy(url, folder.rstrip("/"), fields, duration)


def task_request(model: str, url: str, segment: SegmentRequest) -> dict[str, Any]:
    """The body of `POST /services/audio/asr/transcription`; it has no field for a context.

    Args:
        model: name of the model.
        url: where the file is.
        segment: the segment; only its language is used.
    """
    parameters: dict[str, Any] = {"channel_id": [0], "enable_itn": False}
    if segment.language:
        parameters["language"] = code_of(segment.language)
    return {"model": model, "input": {"file_url": url}, "parameters": parameters}


def parse_task(response: Mapping[str, Any]) -> Task:
    """The state of a task in a response, when it is created or later (`GET /tasks/{id}`).

    Raises:
        Malformed: the response is not about a task.
    """
    output = response.get("output")
    if not isinstance(output, dict) or not isinstance(output.get("task_status"), str):
        raise Malformed("the response has no output.task_status as tasks have it")
    task_id = str(output.get("task_id") or "")
    status = output["task_status"].upper()
    if status in ("PENDING", "RUNNING", "SUSPENDED"):
        return Task("running", task_id)
    result = output.get("result")
    url = result.get("transcription_url") if isinstance(result, dict) else None
    code = str(output.get("code") or "")
    if status == "SUCCEEDED" and isinstance(url, str) and url.startswith(("https://", "http://")):
        return Task("done", task_id, url, code)
    message = " ".join(str(output.get("message") or "").split())
    return Task("failed", task_id, "", code or status, message or f"the task is {status}")


def parse_result(
    result: Mapping[str, Any], segment: SegmentRequest, *, compatible: bool = False
) -> Hypothesis:
    """The hypothesis in the result file of a task; its language is that of most of its text.

    Raises:
        Malformed: the file has no transcripts.
    """
    transcripts = result.get("transcripts")
    if not isinstance(transcripts, list) or not all(isinstance(entry, dict) for entry in transcripts):
        raise Malformed("the result has no transcripts")
    texts = [str(entry.get("text") or "").strip() for entry in transcripts]
    # Characters of the text, by language.
    languages: Counter[str] = Counter()
    for entry in transcripts:
        for sentence in entry.get("sentences") or []:
            if isinstance(sentence, dict) and sentence.get("language"):
                languages[str(sentence["language"])] += len(str(sentence.get("text") or ""))
    language = max(languages, key=languages.__getitem__, default=None)
    return hypothesis(" ".join(filter(None, texts)), language, segment, compatible=compatible)


def hypothesis(
    text: str, language: str | None, segment: SegmentRequest, *, compatible: bool = False
) -> Hypothesis:
    """A hypothesis from a text without tag, log-probabilities or tokens; an empty text means no speech."""
    raw = with_language_tag(text, language, segment)
    return parse_raw(raw, segment, compatible, confidence=None, tokens=0, settled=segment.prefix)


def is_silence(code: str) -> bool:
    """Whether the code of a failed task means that nobody speaks."""
    return code.upper().endswith(_NO_SPEECH)


def is_transient(code: str) -> bool:
    """Whether another attempt may succeed after an error with this code."""
    upper = code.upper()
    return not code or any(part in upper for part in _TRANSIENT) or upper in ("UNKNOWN", "CANCELED")


def is_busy(code: str) -> bool:
    """Whether the code of an error asks to come back later."""
    return any(part in code.upper() for part in _BUSY)


def session_events(
    segment: SegmentRequest, *, compatible: bool = False
) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """The client events for one segment in the real-time API: the first, and those after its confirmation.

    The client marks the end of the utterance (`turn_detection` null), so that the service does not cut it at
    pauses.
    """
    context = segment.context if compatible else clean_context(segment.context)
    transcription: dict[str, Any] = {"language": code_of(segment.language)} if segment.language else {}
    transcription |= {"corpus": {"text": context}} if context else {}
    session = {
        "modalities": ["text"],
        "input_audio_format": "pcm",
        "sample_rate": SAMPLING_RATE,
        "input_audio_transcription": transcription,
        "turn_detection": None,
    }
    return {"event_id": "update", "type": "session.update", "session": session}, _audio_events(
        segment.waveform
    )


def _audio_events(waveform: np.ndarray) -> Iterator[dict[str, Any]]:
    samples = waveform.astype("<i2")
    for number, start in enumerate(range(0, len(samples), _SAMPLES_PER_EVENT)):
        audio = base64.b64encode(samples[start : start + _SAMPLES_PER_EVENT].tobytes()).decode()
        yield {"event_id": f"append_{number}", "type": "input_audio_buffer.append", "audio": audio}
    yield {"event_id": "commit", "type": "input_audio_buffer.commit"}
    yield {"event_id": "finish", "type": "session.finish"}


def error_of(event: Mapping[str, Any]) -> tuple[str, str, str]:
    """Type, code and message of an error event; the message as one line."""
    error = event.get("error")
    if not isinstance(error, dict):
        return "", "", ""
    message = " ".join(str(error.get("message") or "").split())
    return str(error.get("type") or ""), str(error.get("code") or ""), message

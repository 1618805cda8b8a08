"""Parsing of DashScope's responses, and what its error codes mean; without a server."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("httpx2", reason="DashScope's APIs need httpx2 (extra `openai`)")

from actors.backends.remote import dashscope_protocol, http, openai_protocol
from actors.records import SegmentRequest

POLICY_FIELDS = (
    "oss_access_key_id",
    "signature",
    "policy",
    "x_oss_object_acl",
    "x_oss_forbid_overwrite",
    "upload_dir",
    "upload_host",
)


def test_the_language_of_a_file_is_that_of_most_of_its_text() -> None:
    sentences = [{"text": "ja", "language": "de"}, {"text": "well, then", "language": "en"}, {"text": "x"}]
    result = {"transcripts": [{"channel_id": 0, "text": "ja well, then x", "sentences": sentences}]}
    request = SegmentRequest(np.zeros(16_000, np.int16))
    found = dashscope_protocol.parse_result(result, request)
    assert (found.text, found.language, found.confidence, found.flags) == (
        "ja well, then x",
        "English",
        None,
        (),
    )
    assert dashscope_protocol.parse_result({"transcripts": []}, request).text == ""
    for wrong in ({}, {"transcripts": None}, {"transcripts": ["text"]}):
        with pytest.raises(openai_protocol.Malformed):
            dashscope_protocol.parse_result(wrong, request)


@pytest.mark.parametrize(
    "response",
    [
        {},
        {"data": None},
        {"data": []},
        {"data": {"policy": "p"}},
        {"data": dict.fromkeys(POLICY_FIELDS, "x")},
    ],
)
def test_malformed_upload_policies_are_refused(response: dict[str, Any]) -> None:
    with pytest.raises(openai_protocol.Malformed):
        dashscope_protocol.parse_upload_policy(response)


@pytest.mark.parametrize(
    ("output", "state", "code"),
    [
        ({"task_status": "PENDING", "task_id": "7"}, "running", ""),
        ({"task_status": "SUCCEEDED", "result": {"transcription_url": "https://a/b"}}, "done", ""),
        (
            {"task_status": "SUCCEEDED", "result": {"transcription_url": "file:///etc/passwd"}},
            "failed",
            "SUCCEEDED",
        ),
        ({"task_status": "SUCCEEDED"}, "failed", "SUCCEEDED"),
        (
            {"task_status": "FAILED", "code": "InvalidFile.NoAudio", "message": "a\nb"},
            "failed",
            "InvalidFile.NoAudio",
        ),
        ({"task_status": "UNKNOWN"}, "failed", "UNKNOWN"),
    ],
)
def test_the_state_of_a_task(output: dict[str, Any], state: str, code: str) -> None:
    found = dashscope_protocol.parse_task({"output": output})
    assert (found.state, found.code) == (state, code)
    assert "\n" not in found.message


def test_what_error_codes_mean() -> None:
    codes = ("SUCCESS_WITH_NO_VALID_FRAGMENT", "ASR_RESPONSE_HAVE_NO_WORDS", "", "InvalidFile.NoAudio")
    assert [dashscope_protocol.is_silence(code) for code in codes] == [True, True, False, False]
    assert [
        dashscope_protocol.is_transient(code)
        for code in ("UNKNOWN", "InternalError", "insufficient_quota", "UNSUPPORTED_FORMAT")
    ] == [True] * 3 + [False]
    quota = b'{"code": "insufficient_quota", "message": "You exceeded your current quota"}'
    assert http.meaning_of(429, quota)[0] == "fatal"
    assert http.meaning_of(429, quota, of_dashscope=True)[0] == "busy"
    arrears = b'{"code": "Arrearage", "message": "Access denied"}'
    assert http.meaning_of(400, arrears, of_dashscope=True)[0] == "fatal"

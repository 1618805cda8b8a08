"""What the page is served: guards, audio by ranges, transcripts, documents, corrections."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from pipelines.browsing.audio import byte_range, wave_bytes, wave_header
from pipelines.browsing.guard import cookie_name
from pipelines.corrections import store
from pipelines.export.documents.formats import DOCUMENTS
from pipelines.export.documents.subtitle_files import SubtitleOptions
from tests.pipelines.browsing.conftest import Page
from tests.pipelines.export.transcripts import DEMO_AUDIO, HOSTILE_IDS, write_output

JAPANESE = "今日は天気がいいですね。"
PRIVATE = ["/api/overview", "/api/search", "/api/transcript?id=lesson", "/api/audio?id=lesson"]


@pytest.mark.parametrize("path", [*PRIVATE, "/api/download?id=lesson&format=srt", "/open/wrong", "/open/"])
def test_nothing_is_told_without_the_token(page: Page, path: str) -> None:
    assert page.ask(path, authorization="")[0] == 401
    assert page.ask(path, authorization="Bearer wrong")[0] == 401
    assert page.ask(path, authorization="", cookie=f"{cookie_name(page.port)}=wrong")[0] == 401


@pytest.mark.parametrize("path", PRIVATE)
def test_the_cookie_of_the_entrance_opens_everything(page: Page, path: str) -> None:
    assert page.ask(path, authorization="", cookie=f"{cookie_name(page.port)}={page.token}")[0] == 200


def test_the_entrance_sets_a_cookie_that_scripts_cannot_read(page: Page) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=30)
    connection.request("GET", f"/open/{page.token}")
    answer = connection.getresponse()
    cookie = answer.headers["set-cookie"].lower()
    assert (answer.status, answer.headers["location"]) == (303, "../")
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert "no-store" in answer.headers["cache-control"]


@pytest.mark.parametrize("path", ["/", *PRIVATE])
def test_another_host_name_is_refused(page: Page, path: str) -> None:
    assert page.ask(path, host="evil.example")[0] == 421


def test_pages_of_other_sites_cannot_correct(page: Page) -> None:
    body = {"recording_id": "lesson", "number": 0, "text": "x", "before": "y"}
    answer = page.ask("/api/corrections", body, content_type="application/json", origin="http://evil.example")
    assert answer[0] == 403
    assert not store.exists(page.out)


@pytest.mark.parametrize(
    "path",
    [
        "/page/../app.py",
        "/page/..%2fapp.py",
        "/page/%2e%2e/app.py",
        "/page/style.css/../../app.py",
        "/page/x.js",
    ],
)
def test_only_the_files_of_the_page_are_served(page: Page, path: str) -> None:
    status, _, body = page.ask(path)
    assert status == 404
    assert b"FastAPI" not in body


@pytest.mark.parametrize("name", ["/etc/passwd", "../../../etc/passwd", "front-desk.wav", "", "nobody"])
def test_only_audio_of_transcripts_is_served(page: Page, name: str) -> None:
    assert page.ask(f"/api/audio?id={quote(name)}")[0] == 404


def test_a_transcript_that_names_another_file_does_not_open_it(page: Page, tmp_path: Path) -> None:
    # /archive/../../etc/passwd is what the transcript of this id says.
    status, _, body = page.ask(f"/api/audio?id={quote(HOSTILE_IDS[0])}")
    assert status == 502
    assert b"root:" not in body


def test_the_page_may_load_nothing_from_elsewhere(page: Page) -> None:
    policy = page.ask("/", authorization="")[1]["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy and "unsafe" not in policy


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-", (0, 99)),
        ("bytes=10-19", (10, 19)),
        ("bytes=90-500", (90, 99)),
        ("bytes=-5", (95, 99)),
        ("bytes=-500", (0, 99)),
        ("bytes=5-2", None),
        ("bytes=0-1,4-5", None),
        ("items=0-5", None),
        ("bytes=x-", None),
        ("bytes=-", None),
        ("bytes=²-", None),
    ],
)
def test_ranges_are_read_as_http_says(header: str | None, expected: tuple[int, int] | None) -> None:
    assert byte_range(header, 100) == expected


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=-0", "bytes=500-600"])
def test_ranges_behind_the_end_are_refused(header: str) -> None:
    with pytest.raises(ValueError, match="100 bytes"):
        byte_range(header, 100)


def test_a_header_describes_its_file() -> None:
    size = wave_bytes(1.5)
    samples, rate = soundfile.read(io.BytesIO(wave_header(size) + bytes(size - 44)))
    assert (len(samples), rate) == (24_000, 16_000)
    assert wave_bytes(1e6) < 1 << 32


@pytest.mark.parametrize("name", ["lesson", "front-desk"])
def test_a_file_that_browsers_play_is_served_as_it_is(page: Page, name: str) -> None:
    address = f"/api/audio?id={name}"
    status, headers, whole = page.ask(address)
    source = next(path for path in DEMO_AUDIO.iterdir() if path.stem == name)
    assert (status, whole) == (200, source.read_bytes())
    status, headers, part = page.ask(address, range="bytes=1000-1999")
    assert (status, part) == (206, whole[1000:2000])
    assert headers["content-range"] == f"bytes 1000-1999/{len(whole)}"
    assert page.ask(address, range=f"bytes={len(whole)}-")[0] == 416
    status, headers, body = page.ask(address, method="HEAD")
    assert (status, headers["content-length"], body) == (200, str(len(whole)), b"")


def test_other_audio_is_decoded_for_any_range(page: Page) -> None:
    address = "/api/audio?id=lesson&decoded=1"
    status, headers, whole = page.ask(address)
    samples, rate = soundfile.read(io.BytesIO(whole), dtype="int16")
    assert (status, rate, headers["content-type"]) == (200, 16_000, "audio/wav")
    assert int(headers["content-length"]) == len(whole)
    assert np.abs(samples).max() > 1000
    for first, last in ((0, 20), (44, 44), (31, 5001), (100_001, 100_100)):
        assert page.ask(address, range=f"bytes={first}-{last}")[2] == whole[first : last + 1]


def test_audio_that_is_gone_is_an_error_before_it_begins(page: Page) -> None:
    for decoded in (0, 1):
        status, _, body = page.ask(f"/api/audio?id=zh.wav&decoded={decoded}")
        assert status == 502
        assert b"/archive/zh.wav" in body


def test_a_transcript_has_its_words_and_names(page: Page, browsed_rows: list[dict[str, Any]]) -> None:
    shown = page.get("transcript", id="interview 1.wav")
    row = browsed_rows[0]
    assert [segment["text"] for segment in shown["segments"]] == [one["text"] for one in row["segments"]]
    words = shown["segments"][0]["words"]
    assert [word[0] for word in words] == [word["start"] for word in row["segments"][0]["words"]]
    assert shown["speakers"][0]["name"] == "Ada L."


def test_addresses_are_redacted() -> None:
    from pipelines.browsing.library import view
    from tests.pipelines.export.transcripts import make_transcript

    shown = view(make_transcript("a", [], audio="https://me:secret@host/a.wav?sig=abcdef"))
    assert "secret" not in json.dumps(shown) and "abcdef" not in json.dumps(shown)


@pytest.mark.parametrize("form", DOCUMENTS)
def test_documents_are_those_of_the_export(page: Page, browsed_rows: list[dict[str, Any]], form: str) -> None:
    status, headers, body = page.ask(f"/api/download?id={quote('interview 1.wav')}&format={form}")
    assert status == 200
    assert headers["content-disposition"].endswith(quote(DOCUMENTS[form].suffix))
    row = page.library.row("interview 1.wav")
    assert row is not None
    assert body.decode() == DOCUMENTS[form].make({**row, "turns": None}, SubtitleOptions())[0]


def test_an_unknown_format_is_refused(page: Page) -> None:
    assert page.ask("/api/download?id=lesson&format=exe")[0] == 400


def test_a_correction_is_shown_found_exported_and_never_overwrites(copied: Path) -> None:
    page = Page(str(copied))
    try:
        before = {path: path.read_bytes() for path in (copied / "transcripts").iterdir()}
        body = {"recording_id": "ja.wav", "number": 0, "text": "明日は雨です。", "before": JAPANESE}
        status, _, answer = page.ask("/api/corrections", body, content_type="application/json")
        assert status == 200
        segment = json.loads(answer)["segments"][0]
        assert (segment["text"], segment["corrected"]["by"]) == (body["text"], "ada")
        assert segment["corrected"]["original"] == body["before"]
        assert page.found(q="雨") == page.found(corrected=True) == ["ja.wav"]
        assert page.found(q="天気") == []
        assert body["text"].encode() in page.ask("/api/download?id=ja.wav&format=txt")[2]
        # Who corrected the old text does not overwrite the new one.
        assert page.ask("/api/corrections", body, content_type="application/json")[0] == 409
        assert {path: path.read_bytes() for path in (copied / "transcripts").iterdir()} == before
        kept = pq.read_table(copied / "corrections").to_pylist()
        assert [(row["original"], row["after"], row["who"]) for row in kept] == [
            (body["before"], body["text"], "ada")
        ]
    finally:
        page.stop()


def test_corrections_of_others_are_taken_in(copied: Path) -> None:
    page = Page(str(copied), editor=None)
    try:
        row = page.library.row("ja.wav")
        assert row is not None
        store.add(str(copied), [store.correction_of(row, 0, "雨", who="bob", source="import")])
        page.library.refresh()
        assert page.found(q="雨") == ["ja.wav"]
        body = {"recording_id": "ja.wav", "number": 0, "text": "x", "before": "雨"}
        assert page.ask("/api/corrections", body, content_type="application/json")[0] == 403
    finally:
        page.stop()


@pytest.mark.parametrize(
    "change",
    [{"number": 99}, {"recording_id": "nobody"}, {"number": -1}, {"text": "x" * 20_001}, {"text": None}],
)
def test_corrections_of_nothing_are_refused(page: Page, change: dict[str, Any]) -> None:
    body = {"recording_id": "lesson", "number": 0, "text": "x", "before": "y", **change}
    assert page.ask("/api/corrections", body, content_type="application/json")[0] in (400, 404)
    assert not store.exists(page.out)


def test_an_object_store_is_searched_heard_and_corrected(
    s3_bucket: str, tmp_path: Path, browsed_rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # Small objects are read at once; a larger one by ranges.
    lesson = next(row for row in browsed_rows if row["recording_id"] == "lesson")
    large = tmp_path / "large.wav"
    samples = np.random.default_rng(0).integers(-9000, 9000, 5 << 20).astype(np.int16)
    soundfile.write(large, samples, 16_000, subtype="PCM_16")
    row = {**lesson, "audio": f"{s3_bucket}/browsed/large.wav", "duration": len(samples) / 16_000}
    row["provenance"] = {"codec": "pcm_s16le"}
    out = write_output(tmp_path / "out", [row])
    store_files = fsspec.filesystem("s3")
    store_files.put(str(large), row["audio"])
    store_files.put(out, f"{s3_bucket}/browsed/out", recursive=True)
    page = Page(f"{s3_bucket}/browsed/out")
    try:
        assert page.found() == ["lesson"]
        whole = large.read_bytes()
        for first, last in ((0, 99), (8_000_000, 8_000_999), (len(whole) - 5, len(whole) - 1)):
            status, headers, body = page.ask("/api/audio?id=lesson", range=f"bytes={first}-{last}")
            assert (status, headers["x-decoded"], body) == (206, "0", whole[first : last + 1])
        decoded = page.ask("/api/audio?id=lesson&decoded=1", range="bytes=5000000-5000099")[2]
        assert decoded == whole[5_000_000:5_000_100]
        body = {"recording_id": "lesson", "number": 0, "text": "neu", "before": row["segments"][0]["text"]}
        assert page.ask("/api/corrections", body, content_type="application/json")[0] == 200
        assert page.found(q="neu") == ["lesson"]
        assert page.library.refresh().recordings == 0
    finally:
        page.stop()

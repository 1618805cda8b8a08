"""Which audio manifests may name: the default rules, and the prefixes of `plan.allowed_uris`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.errors import UsageError
from pipelines.config import RunConfig
from pipelines.manifests.columns import Recording
from pipelines.manifests.manifest import read_manifest
from pipelines.planning import planner, uri_policy
from pipelines.planning.uri_policy import check_allowed, check_readable

LOCAL, BUCKET, WEB = "/m/m.jsonl:1", "s3://in/m.jsonl:1", "https://host/m.jsonl:1"
REFUSED = [
    *[("simplecache::https://x/a.wav", one) for one in (LOCAL, BUCKET)],
    ("zip://a.wav::http://x/a.zip", LOCAL),
    ("filecache::file:///etc/passwd", LOCAL),
    ("memory://a.wav", LOCAL),
    ("FILE:///etc/passwd", LOCAL),
    ("data:audio/wav;base64,AAAA://", LOCAL),
    ("reference://a", LOCAL),
    ("sftp://host/a.wav", LOCAL),
    ("github://a:b@/c", BUCKET),
    *[
        (f"{scheme}://{host}/latest/meta-data/iam", LOCAL)
        for scheme in ("http", "https", "HTTP")
        for host in (
            "169.254.169.254",
            "169.254.169.254:80",
            "user@169.254.169.254",
            "2852039166",
            "0xA9FEA9FE",
            "0xa9.254.43518",
            "0251.0376.0251.0376",
            "[::ffff:169.254.169.254]",
            "[::ffff:a9fe:a9fe]",
            "[fe80::1%25eth0]",
            "[fd00:ec2::254]",
            "metadata.google.internal",
            "Metadata.Google.Internal.",
            "100.100.100.200",
            "%31%36%39.254.169.254",
        )
    ],
    *[("/etc/passwd", one) for one in (BUCKET, WEB)],
    *[("http://localhost:8000/a.wav", one) for one in (BUCKET, WEB)],
    *[
        (f"http://{host}/a.wav", WEB)
        for host in ("127.0.0.1", "127.1", "0", "[::1]", "x.localhost", "2130706433")
    ],
]
ALLOWED = [
    ("/data/a.wav", LOCAL),
    ("s3://b/a.wav", LOCAL),
    ("gs://b/a.wav", BUCKET),
    ("https://example.org/a.wav?token=1", BUCKET),
    ("http://10.0.0.7/a.wav", WEB),
    ("http://localhost:8000/a.wav", LOCAL),
    ("sftp://host/a.wav", "sftp://host/list.csv:4"),
    ("zip://a.wav::s3://b/x.zip", "zip://m.jsonl::s3://b/x.zip:3"),
]


def recording(audio: str, origin: str = LOCAL) -> Recording:
    return Recording("a", audio, None, None, None, None, None, {}, origin)


@pytest.mark.parametrize(("audio", "origin"), REFUSED)
def test_an_unsafe_address_is_refused_by_default(audio: str, origin: str) -> None:
    with pytest.raises(UsageError, match=r"plan\.allowed_uris") as error:
        check_allowed(recording(audio, origin), [])
    assert error.value.message.startswith(origin) and audio in error.value.message


@pytest.mark.parametrize(("audio", "origin"), ALLOWED)
def test_an_ordinary_address_is_allowed_by_default(audio: str, origin: str) -> None:
    check_allowed(recording(audio, origin), [])


@pytest.mark.parametrize(
    ("audio", "prefix", "fits"),
    [
        ("s3://b/in/a.wav", "s3://b/in", True),
        ("s3://b/in/a.wav", "s3://b/in/", True),
        ("s3://b/in/a.wav", "s3://", True),
        ("s3://b/input/a.wav", "s3://b/in", False),
        ("s3://b/in/../a.wav", "s3://b/in", False),
        ("s3://bb/in/a.wav", "s3://b", False),
        ("s3a://b/in/a.wav", "s3://b", False),
        ("https://host/in/a.wav?x=/../", "https://host/in", True),
        ("https://HOST:443/in/a.wav", "https://host/in", True),
        ("https://host:8443/in/a.wav", "https://host/in", False),
        ("http://host/in/a.wav", "https://host/in", False),
        ("https://host.evil.org/in/a.wav", "https://host", False),
        ("https://host@evil.org/in/a.wav", "https://host", False),
        ("https://evil.org@host/in/a.wav", "https://host", False),
        ("https://host/in/%2e%2e/a.wav", "https://host/in", False),
        ("https://host/in/%252e%252e/a.wav", "https://host/in", False),
        ("https://host/in/..\\a.wav", "https://host/in", False),
        ("http://169.254.169.254/a", "http://", False),
        ("http://169.254.169.254/a", "http://169.254.169.254", True),
        ("simplecache::s3://b/a.wav", "s3://b", False),
        ("simplecache::s3://b/a.wav", "simplecache::s3://b/", True),
        ("/data/a.wav", "/data", True),
        ("/data/a.wav", "file:///data", True),
        ("/data/a.wav", "file://", True),
        ("/database/a.wav", "/data", False),
        ("/data/a.wav", "s3://data", False),
        ("sftp://host/a.wav", "sftp://host", True),
    ],
)
def test_a_prefix_allows_whole_names_below_it(audio: str, prefix: str, fits: bool) -> None:
    if fits:
        check_allowed(recording(audio), [prefix])
        return
    with pytest.raises(UsageError, match=r"is outside of what plan\.allowed_uris allows"):
        check_allowed(recording(audio), [prefix])


def test_links_and_dots_cannot_leave_an_allowed_folder(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret.wav").write_bytes(b"secret")
    (inside / "a.wav").write_bytes(b"a")
    (inside / "link.wav").symlink_to(outside / "secret.wav")
    (inside / "folder").symlink_to(outside)
    (inside / "alias.wav").symlink_to(inside / "a.wav")
    (tmp_path / "entrance").symlink_to(inside)
    manifest = inside / "m.jsonl"
    for audio, fits in {
        "a.wav": True,
        "alias.wav": True,
        str(tmp_path / "entrance" / "a.wav"): True,
        "folder/../a.wav": True,  # the path is normalised before anything is opened
        "link.wav": False,
        "folder/secret.wav": False,
        "../outside/secret.wav": False,
        str(outside / "secret.wav"): False,
        f"file://{outside}/secret.wav": False,
        "~root/x.wav": True,  # a relative folder of this name, not a home directory
    }.items():
        manifest.write_text(json.dumps({"audio": audio}) + "\n")
        config = RunConfig.model_validate({"plan": {"allowed_uris": [str(inside)]}})
        if fits:
            assert planner.collect(read_manifest(str(manifest)), config).num_rows == 1, audio
        else:
            with pytest.raises(UsageError, match=r"m\.jsonl:1"):
                planner.collect(read_manifest(str(manifest)), config)


def test_an_unknown_scheme_is_refused_before_the_start() -> None:
    with pytest.raises(UsageError, match=r"m\.jsonl:1: nosuch://b/a\.wav: unknown kind of address"):
        check_readable(recording("nosuch://b/a.wav"))


def test_a_missing_package_is_reported_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(scheme: str) -> None:
        raise ImportError(f"install a package to read {scheme}")

    uri_policy._problem_of_scheme.cache_clear()
    monkeypatch.setattr(uri_policy.fsspec, "get_filesystem_class", missing)
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(json.dumps({"audio": "gs://b/a.wav"}) + "\n")
    with pytest.raises(UsageError, match=r"m\.jsonl:1: gs://b/a\.wav: .*install a package to read gs"):
        planner.collect(read_manifest(str(manifest)), RunConfig())
    uri_policy._problem_of_scheme.cache_clear()


def test_schemes_are_case_insensitive(tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(json.dumps({"audio": "S3://Bucket/A.wav"}) + "\n")
    table = planner.collect(read_manifest(str(manifest)), RunConfig())
    assert table["audio"].to_pylist() == ["s3://Bucket/A.wav"]

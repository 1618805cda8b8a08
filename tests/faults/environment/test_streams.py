"""Closed standard streams, pipes whose reader goes away, and manifests that come through a pipe."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.faults.environment.commands import COMMAND, FAKE, ROOT, Environment, scriptorium

pytestmark = pytest.mark.faults

DEMO = ROOT / "configs/demo"


def shell(script: str, folder: Path, **options: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash, in which `$S` is the command."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", 'S=("$@"); ' + script.replace("$S", '"${S[@]}"'), "bash", *COMMAND],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
        **options,  # type: ignore[call-overload]
    )


@pytest.mark.parametrize("redirections", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_changes_no_exit_code(redirections: str, tmp_path: Path) -> None:
    environment = Environment(redirections=redirections)
    done = scriptorium("plan", DEMO / "manifest.jsonl", environment=environment)
    assert done.code == 0, done
    done = scriptorium("plan", tmp_path / "absent.jsonl", environment=environment)
    assert done.code == 2, done


@pytest.mark.ray
def test_a_run_without_streams_finishes(tmp_path: Path) -> None:
    """Otherwise the first files that it opens would get the numbers of the streams."""
    environment = Environment(redirections="<&- >&- 2>&-")
    done = scriptorium("transcribe", DEMO / "manifest.jsonl", tmp_path, *FAKE, environment=environment)
    assert done.code == 3
    assert json.loads((tmp_path / "run.json").read_text())["runs"][0]["finished_at"]
    assert (tmp_path / "report.html").read_text().startswith("<!")


def test_a_reader_that_goes_away_changes_no_exit_code(tmp_path: Path) -> None:
    manifest = DEMO / "manifest.jsonl"
    for line in (
        f"$S plan {manifest} | head -n 1",
        f"$S plan {manifest} --json | true",
        "$S --help | true",
        "$S transcribe --print-config | true",
    ):
        done = shell(line, tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), (line, done)


def test_piped_output_has_no_trailing_blanks(tmp_path: Path) -> None:
    manifest = DEMO / "manifest.jsonl"
    for line in (f"$S plan {manifest}", f"$S transcribe {manifest} out --dry-run"):
        done = shell(line, tmp_path)
        assert done.returncode == 0, done
        assert not [text for text in done.stdout.splitlines() if text != text.rstrip()], done.stdout


@pytest.mark.parametrize(
    "line",
    [
        "cat manifest.jsonl | $S plan - --json",
        "$S plan /dev/stdin --json < manifest.jsonl",
        "$S plan <(cat manifest.jsonl) --json",
        "mkfifo pipe; cat manifest.jsonl > pipe & $S plan pipe --json",
        "gzip -c manifest.jsonl | $S plan - --json",
    ],
)
def test_a_manifest_comes_through_a_pipe(line: str, tmp_path: Path) -> None:
    """Relative paths start from the working directory."""
    for name in ("hotline-8khz.wav", "front-desk.wav"):
        (tmp_path / name).symlink_to(DEMO / "audio" / name)
    rows = [{"audio": "hotline-8khz.wav"}, {"audio": "front-desk.wav"}]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = shell(line, tmp_path)
    assert done.returncode == 0, done
    figures = json.loads(done.stdout)
    assert (figures["recordings"], figures["failures"]) == (2, {})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("$S plan - < /dev/null", "-: no rows: the file is empty"),
        ("$S plan - <&-", "-: no rows: the file is empty"),
        ("echo '{\"audio\": 7}' | $S plan -", "-:1: `audio` must be the audio's path or URI, not 7"),
        ("echo '{' | $S plan /dev/stdin", "/dev/stdin: line 1: not JSON"),
        ("$S plan /dev/fd/77", "/dev/fd/77: cannot be read (No such file or directory)"),
    ],
)
def test_a_wrong_manifest_from_a_pipe_is_refused(line: str, expected: str, tmp_path: Path) -> None:
    done = shell(line, tmp_path)
    assert done.returncode == 2, done
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1

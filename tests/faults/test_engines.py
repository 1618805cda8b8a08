"""Models that cannot be loaded and GPUs that do not exist: reported at once with the cause; the run resumes
once repaired.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.faults.harness import checker
from tests.faults.harness.jobs import FAKE, ROOT, Job, archive

pytestmark = pytest.mark.faults

DEMO = ROOT / "configs/demo"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the demo's recogniser, to be damaged."""
    return Path(shutil.copytree(DEMO / "asr", tmp_path / "model"))


def spoil(model: Path, how: str) -> str:
    """Damage a checkpoint; returns what the message must contain."""
    weights = model / "model.safetensors"
    config = json.loads((model / "config.json").read_text())
    if how == "missing":
        shutil.rmtree(model)
        return "there is no folder"
    if how == "no config":
        (model / "config.json").unlink()
        return "no config.json"
    if how == "other architecture":
        (model / "config.json").write_text(json.dumps({**config, "model_type": "whisper"}))
        return "of type 'whisper', not a Qwen3-ASR model"
    if how == "aligner":
        (model / "config.json").write_text(
            json.dumps({**config, "architectures": ["Qwen3ASRForTokenClassification"]})
        )
        return "belongs in aligner.model"
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) // 2] if how == "truncated weights" else b"\xff" * 64 + data[64:])
    return "cannot be loaded: SafetensorError"


@pytest.mark.parametrize("how", ["missing", "no config", "other architecture", "aligner"])
def test_errors_in_config_json_are_reported_before_ray_starts(
    how: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipelines.cli import main

    manifest, _ = archive(tmp_path / "archive", 1)
    wanted = spoil(model, how)
    assert (
        main(
            [
                "transcribe",
                str(manifest),
                str(tmp_path / "out"),
                "--set",
                f"asr.model={model}",
                "--set",
                "aligner.backend=none",
            ]
        )
        == 2
    )
    said = capsys.readouterr().err
    assert wanted in said and str(model) in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("how", ["truncated weights", "overwritten weights"])
def test_damaged_weights_are_refused(how: str, model: Path) -> None:
    pytest.importorskip("torch")
    from actors.backends.transformers.loading import load
    from actors.config import ASRConfig
    from actors.errors import FatalError

    wanted = spoil(model, how)
    with pytest.raises(FatalError, match=wanted):
        load(str(model), "asr", ASRConfig())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_model_that_cannot_be_loaded_ends_the_run_at_once(model: Path, tmp_path: Path) -> None:
    """At once, not after cluster.no_progress_timeout (twenty minutes); the same command resumes with a
    repaired model.
    """
    pytest.importorskip("torch")
    manifest, _ = archive(tmp_path / "archive", 4)
    whole = (model / "model.safetensors").read_bytes()
    wanted = spoil(model, "truncated weights")
    job = Job(
        "transcribe",
        manifest,
        tmp_path / "out",
        settings=(f"asr.model={model}", "aligner.backend=none"),
        log=tmp_path / "log",
    )
    assert job.wait(240) == 1
    # Ray prints messages of its own besides.
    assert f"scriptorium: asr.model {str(model)!r} {wanted}" in job.said()
    checker.nobody_left(job.mark)
    assert len(whole) > (model / "model.safetensors").stat().st_size


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (("asr.pool.num_gpus=1", "cluster.num_gpus=0"), "needs 1 GPUs, the cluster has 0"),
        # The GPUs suffice in sum, but no single GPU has room for the last replica.
        pytest.param(
            (
                "cluster.num_gpus=2",
                "asr.pool.size=2",
                "asr.pool.num_gpus=0.7",
                "aligner.pool.size=1",
                "aligner.pool.num_gpus=0.6",
            ),
            "fits no node",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_gpus_that_do_not_exist_are_reported_at_once(
    settings: tuple[str, ...], wanted: str, tmp_path: Path
) -> None:
    manifest, _ = archive(tmp_path / "archive", 2)
    job = Job("transcribe", manifest, tmp_path / "out", settings=(*FAKE, *settings), log=tmp_path / "log")
    assert job.wait(240) == 2
    assert wanted in job.said()
    checker.nobody_left(job.mark)

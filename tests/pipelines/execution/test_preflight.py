"""`--dry-run` shows where a run would go, refuses a run that would never start, and writes nothing."""

import json
from pathlib import Path

import pytest

from pipelines.cli import main

FAKE = ("--set", "asr.backend=fake", "--set", "aligner.backend=fake")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps({"audio": f"{n}.wav", "duration": 1800}) + "\n" for n in range(6)))
    return path


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_nodes_that_are_alike_share_a_line(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = "(CPU=0),4x(CPU=8,GPU=2,type=L4,memory=20,store=6),2x(CPU=16)"
    assert (
        main(["transcribe", str(manifest), str(tmp_path / "out"), "--dry-run", "--nodes", kinds, *FAKE]) == 0
    )
    output = lines(capsys)
    assert "4 x L4 8 2 2: 0.7 of cards 0, 1 2: 0.3 of cards 0, 1 8 8 20.0 GiB 6.0 GiB" in output
    assert "2 x CPU node 16 0 - - 16 16 ? ?" in output
    assert any(
        line.startswith("decoding: up to 64 tasks at a time") and "on 6 of 7 nodes" in line for line in output
    )
    assert any(line.startswith("memory: 8 decoding tasks may take 32 GiB") for line in output)
    assert (
        "manifest: 6 recordings; `scriptorium plan` reads their headers and reports hours and cost" in output
    )
    assert {path.name for path in tmp_path.iterdir()} == {"m.jsonl"}


def test_this_machine_is_shown_as_ray_would_see_it(capsys: pytest.CaptureFixture[str]) -> None:
    """The slow test of `ray job submit` compares this with a running Ray."""
    settings = ("cluster.num_cpus=7", "cluster.num_gpus=2", "cluster.object_store_memory=0.5")
    options = [part for setting in settings for part in ("--set", setting)]
    assert main(["transcribe", "--dry-run", *FAKE, *options]) == 0
    assert any(
        line.startswith("GPU node 7 2 2: 0.7 of cards 0, 1 2: 0.3 of cards 0, 1 7 7") and "0.5 GiB" in line
        for line in lines(capsys)
    )


@pytest.mark.parametrize(
    ("kinds", "setting", "message"),
    [
        ("2x(CPU=2,GPU=1)", "asr.pool.num_cpus=2", "reserve 4 CPUs"),
        ("2x(CPU=8,GPU=1)", "asr.pool.num_gpus=2", "replica 1 of 1 with 2 GPUs and 0 CPUs fits no node"),
        ("2x(CPU=8,GPU=2,type=L4)", "asr.pool.accelerator=H100", "no node has such labels"),
        ("2x(CPU=8,GPU=2,type=L4)", "cluster.decode_nodes=cpu", "no node without GPUs"),
        ("2x(CPU=8,GPU=2", "asr.pool.size=1", "is no node"),
    ],
)
def test_a_run_that_would_never_start_is_bad_usage(
    kinds: str, setting: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["transcribe", "--dry-run", "--nodes", kinds, "--set", setting, *FAKE]) == 2
    assert message in capsys.readouterr().err


def test_wrong_models_manifests_and_directories_are_refused(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = ("--dry-run", "--nodes", "(CPU=8)")
    assert main(["transcribe", *nodes, "--set", "asr.model=./no/such/folder"]) == 2
    assert main(["align", str(manifest), *nodes, *FAKE]) == 2
    (tmp_path / "other" / "shards").mkdir(parents=True)
    (tmp_path / "other" / "shards" / "x.parquet").write_bytes(b"")
    assert main(["transcribe", str(manifest), str(tmp_path / "other"), *nodes, *FAKE]) == 2
    assert main(["transcribe", str(manifest), str(tmp_path / "out"), "--nodes", "(CPU=8)", *FAKE]) == 2
    output = capsys.readouterr().err
    for word in ("no/such/folder", "has no `text`", "no run.json", "--nodes needs --dry-run"):
        assert word in output


def test_the_time_for_the_rest_of_a_plan_is_estimated(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipelines.config import load_config
    from pipelines.manifests.manifest import read_manifest
    from pipelines.output import run_record
    from pipelines.planning import planner

    settings = [
        "plan.trust_durations=true",
        *FAKE[1::2],
        "estimate.asr_rtfx=100",
        "estimate.aligner_rtfx=300",
    ]
    config, out = load_config(None, settings), str(tmp_path / "out")
    run_id, _ = run_record.open_run(out, config, "transcribe", str(manifest))
    planner.extend_plan(out, planner.collect(read_manifest(str(manifest)), config), config, run_id)

    def dry_run(nodes: str, *more: str, command: str = "transcribe") -> int:
        options = [part for setting in (*settings, *more) for part in ("--set", setting)]
        return main([command, str(manifest), out, "--dry-run", "--nodes", nodes, *options])

    assert dry_run("2x(CPU=4,GPU=1)") == 0
    output = lines(capsys)
    # 3 h / 100 + 3 h / 300 are 144 s of one GPU, and there are two.
    assert f"planned and not done in {out}: 18 shards of 6 recordings, 3.00 h" in output
    assert "at the assumed speeds (section `estimate`): 72 s, bound by GPUs" in output

    nodes = "(CPU=4,GPU=1,type=H100),3x(CPU=4,GPU=1,type=L4)"
    pools = ("asr.pool.accelerator=H100", "aligner.pool.accelerator=L4")
    assert dry_run(nodes, "estimate.asr_rtfx=150", *pools) == 0
    # The recogniser's only card is the limit, however many cards the aligners have.
    assert "at the assumed speeds (section `estimate`): 72 s, bound by GPUs" in lines(capsys)

    # Once a run on such GPUs has measured its speed, that counts.
    record = run_record.require(out)
    speed = {"audio_seconds": 6000.0, "busy_seconds": 30.0, "rtfx": 200.0, "model": config.asr.model}
    run_record.note(out, record, run_id, model_costs={"recognise": {"NVIDIA H100": speed}})
    assert dry_run("2x(CPU=4,GPU=1,type=H100)") == 0
    assert f"at the speeds measured by run {run_id} on NVIDIA H100: 45 s, bound by GPUs" in lines(capsys)
    assert dry_run("2x(CPU=4,GPU=1,type=L4)") == 0
    assert "at the assumed speeds (section `estimate`): 72 s, bound by GPUs" in lines(capsys)

    assert dry_run("(CPU=8,GPU=1)", "asr.pool.num_gpus=0", "aligner.pool.num_gpus=0") == 0
    message = "no time is estimated: the recognisers and aligners run on CPUs"
    assert any(line.startswith(message) for line in lines(capsys))
    assert dry_run("(CPU=4)", "asr.language=de") == 2
    assert dry_run("(CPU=4)", command="align") == 2

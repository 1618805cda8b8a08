"""The figures of the `plan` command follow from the planned rows and the assumptions."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from actors.errors import RowError
from actors.records import Probe
from pipelines.config import RunConfig
from pipelines.config_sections import EstimateConfig
from pipelines.manifests.manifest import Recording
from pipelines.planning import estimate, planner
from pipelines.planning.codec_names import format_name

SETTINGS = EstimateConfig.model_validate(
    {"asr_rtfx": 100, "aligner_rtfx": 400, "decode_rtfx": 50, "gpus": 2, "cores": 4, "gpu_hour_price": 3}
)
# name: (seconds, codec, language)
AUDIO: dict[str, tuple[float | None, str, str | None]] = {
    "a": (7200.0, "flac", "de"),
    "b": (3600.0, "mp3", "de"),
    "c": (9.0, "mp3", None),
    "silent_header": (None, "mp3", None),
}


def _figures(settings: EstimateConfig = SETTINGS, broken: int = 2, **options: Any) -> estimate.Estimate:
    def probe(uri: str, scan: bool = False) -> Probe:
        if uri.startswith("broken"):
            raise RowError("x", "not_audio")
        seconds, codec, _ = AUDIO[uri]
        return Probe(seconds, codec, codec, 44100, 2, 10**6, "e")

    names = [*AUDIO, *(f"broken{number}" for number in range(broken))]
    recordings = [
        Recording(name, name, AUDIO[name][2] if name in AUDIO else None, None, None, None, None, {}, "m:1")
        for name in names
    ]
    return estimate.estimate(planner.plan_table(recordings, RunConfig(), probe=probe), settings, **options)


def test_recordings_and_hours_are_summed_by_codec_language_and_duration() -> None:
    figures = _figures()
    assert (figures.recordings, figures.shards) == (6, 12 + 6 + 4)
    assert figures.hours == pytest.approx(10809 / 3600)
    assert figures.audio_bytes == 4 * 10**6
    assert {name: share.recordings for name, share in figures.by_codec.items()} == {
        "flac": 1,
        "mp3": 3,
        "unknown": 2,
    }
    assert figures.by_codec["mp3"].hours == pytest.approx(3609 / 3600)
    assert {name: share.recordings for name, share in figures.by_language.items()} == {"de": 2, "auto": 4}
    assert [share.recordings for share in figures.by_duration.values()] == [1, 0, 0, 1, 1]
    assert sum(share.hours for share in figures.by_duration.values()) == pytest.approx(figures.hours)
    assert figures.unknown_duration == 1
    assert figures.failures == {"not_audio": 2}


def test_time_and_cost_follow_the_bottleneck() -> None:
    figures = _figures()
    assert figures.gpu_hours == pytest.approx(figures.hours / 100 + figures.hours / 400)
    assert figures.core_hours == pytest.approx(figures.hours / 50)
    # 2 GPUs at 80x against 4 cores at 50x: 160 < 200
    assert figures.bound_by == "gpu"
    assert figures.wall_hours == pytest.approx(figures.hours / 160)
    assert figures.cost == pytest.approx(figures.hours / 160 * 2 * 3)
    slow = _figures(SETTINGS.model_copy(update={"cores": 1}))
    assert (slow.bound_by, slow.wall_hours) == ("decode", pytest.approx(slow.hours / 50))
    assert slow.cost > figures.cost


def test_without_words_gpu_hours_and_output_are_smaller() -> None:
    figures = _figures(words=False)
    assert figures.gpu_hours == pytest.approx(figures.hours / 100)
    assert figures.output_bytes < _figures().output_bytes


def test_the_machine_provides_what_the_settings_leave_open() -> None:
    open_settings = SETTINGS.model_copy(update={"gpus": None, "cores": None})
    figures = _figures(open_settings, gpus=0, cores=3)
    assert (figures.gpus, figures.cores) == (0, 3)
    assert _figures(open_settings).gpus == estimate.gpus_here()


def test_without_gpus_the_models_run_on_cpus() -> None:
    """The speeds of GPUs would promise a thousand times too much."""
    settings = EstimateConfig(
        asr_rtfx_per_core=2, aligner_rtfx_per_core=4, decode_rtfx=100, core_hour_price=0.1, currency="EUR"
    )
    figures = _figures(settings, gpus=0, cores=3)
    assert (figures.gpus, figures.gpu_hours, figures.bound_by) == (0, 0.0, "cpu")
    assert figures.core_hours == pytest.approx(figures.hours * (1 / 2 + 1 / 4 + 1 / 100))
    assert figures.wall_hours == pytest.approx(figures.core_hours / 3)
    assert figures.cost == pytest.approx(figures.core_hours * 0.1)
    assert figures.assumptions.keys() >= {"asr_rtfx_per_core", "core_hour_price"}
    assert "asr_rtfx" not in figures.assumptions
    text = _rendered(figures)
    assert "EUR" in text
    assert "GPU time" not in text


def test_short_times_are_shown_in_minutes() -> None:
    text = _rendered(_figures())
    assert "0.00" not in text
    assert "9 s" in text


@pytest.mark.parametrize(
    ("codec", "container", "name"),
    [
        ("mp3float", "mp3", "MP3"),
        ("pcm_s16le", "wav", "PCM WAV"),
        ("pcm_s16be", "aiff", "PCM AIFF"),
        ("pcm_s24le", "matroska,webm", "PCM"),
        ("pcm_mulaw", "wav", "G.711 mu-law"),
        ("aac", "mov,mp4,m4a,3gp,3g2,mj2", "AAC"),
        ("libopus", "ogg", "Opus"),
        ("adpcm_ima_wav", "wav", "ADPCM"),
        ("cook", "rm", "cook"),
        (None, None, "unknown"),
    ],
)
def test_formats_have_the_names_that_people_know(codec: str | None, container: str | None, name: str) -> None:
    assert format_name(codec, container) == name


def _rendered(figures: estimate.Estimate) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(estimate.render(figures))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_stored_plans_have_no_failures() -> None:
    """`probe_error` is not stored: an estimate of OUT/plan counts such recordings as of unknown duration."""
    table = planner.plan_table(
        [Recording("a", "a", None, None, None, None, None, {}, "m:1")], RunConfig(), probe=_missing
    )
    figures = estimate.estimate(table.drop_columns(["probe_error"]), SETTINGS)
    assert (figures.failures, figures.unknown_duration, figures.hours, figures.cost) == ({}, 1, 0.0, 0.0)


def _missing(uri: str, scan: bool = False) -> Probe:
    raise FileNotFoundError(uri)


def test_the_estimate_is_available_as_json_and_as_a_table() -> None:
    figures = _figures()
    assert json.loads(json.dumps(figures.as_dict()))["by_codec"]["flac"] == {"recordings": 1, "hours": 2.0}
    console = Console(file=io.StringIO(), width=120)
    console.print(estimate.render(figures))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for expected in (
        "3.0 h",
        "bound by GPUs",
        "FLAC",
        "auto",
        "up to 10 s",
        "2 not_audio",
        "1 recording without a duration in its header is not included",
        "2 recordings cannot be read and would become dead letters",
        "assumed, not measured",
    ):
        assert expected in text

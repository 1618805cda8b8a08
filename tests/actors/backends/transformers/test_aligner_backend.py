"""The aligner on a tiny random model, against the stock processor's own way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from actors.backends.transformers.aligner import TransformersAligner  # noqa: E402
from actors.config import AlignerConfig  # noqa: E402
from actors.errors import RowError  # noqa: E402
from actors.records import AlignmentRequest  # noqa: E402

UNITS = [
    ("one", "two", "three"),
    ("four",),
    ("one", "two", "three", "four", "five"),
    ("eins", "zwei"),
    ("two", "one"),
    ("five", "five"),
]


@pytest.fixture(scope="module")
def backend(tiny_models) -> TransformersAligner:
    return TransformersAligner(AlignerConfig(model=str(tiny_models.aligner)))


@pytest.fixture
def requests(waveforms) -> list[AlignmentRequest]:
    return [AlignmentRequest(waveform, units) for waveform, units in zip(waveforms, UNITS, strict=True)]


def test_times_are_those_of_the_stock_processor(backend, requests, tiny_models) -> None:
    processor = transformers.AutoProcessor.from_pretrained(tiny_models.aligner)
    model = transformers.Qwen3ASRForTokenClassification.from_pretrained(tiny_models.aligner).eval()
    for request in requests:
        audio = [request.waveform.astype(np.float32) / 32768]
        inputs, words = processor.prepare_forced_aligner_inputs(
            audio=audio, transcript=[" ".join(request.units)]
        )
        assert words == [list(request.units)]
        assert [backend.prompts([request])[0].tokens] == inputs["input_ids"].tolist()
        with torch.inference_mode():
            logits = model(**inputs).logits
        [items] = processor.decode_forced_alignment(
            logits, inputs["input_ids"], words, model.config.timestamp_token_id
        )
        clamped = [
            (min(item["start_time"], request.duration), min(item["end_time"], request.duration))
            for item in items
        ]
        assert backend.align([request])[0] == clamped


def test_single_equals_batch_exactly(backend, requests) -> None:
    single = [backend.align([request])[0] for request in requests]
    assert backend.align(requests) == single
    assert backend.align(requests[::-1]) == single[::-1]
    assert len({str(times) for times in single}) == len(single)


def test_an_original_checkpoint_gives_the_same_times(backend, tiny_models, requests) -> None:
    original = TransformersAligner(AlignerConfig(model=str(tiny_models.aligner_original)))
    assert original.align(requests) == backend.align(requests)
    assert original.max_duration == backend.max_duration == pytest.approx(12.8)


def test_times_never_run_backwards_nor_leave_the_clip(backend, requests) -> None:
    for request, times in zip(requests, backend.align(requests), strict=True):
        flat = [time for pair in times for time in pair]
        assert len(times) == len(request.units)
        assert flat == sorted(flat) and flat[0] >= 0 and flat[-1] <= request.duration


def test_the_head_is_computed_at_the_slots_only(backend, requests, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    handle = backend.network.head.register_forward_hook(
        lambda module, inputs, output: rows.append(len(inputs[0]))
    )
    backend.align(requests)
    handle.remove()
    assert sum(rows) == 2 * sum(map(len, UNITS))


def test_no_units_no_times_and_no_model(backend, waveforms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_align", None)
    assert backend.align([AlignmentRequest(waveforms[0], ()), AlignmentRequest(waveforms[1], ())]) == [[], []]


def test_empty_ones_among_others_keep_their_place(backend, requests, waveforms) -> None:
    expected = backend.align(requests[:2])
    assert backend.align([requests[0], AlignmentRequest(waveforms[2], ()), requests[1]]) == [
        expected[0],
        [],
        expected[1],
    ]


def test_what_is_too_long_is_refused(backend) -> None:
    long = AlignmentRequest(np.zeros(16_000 * 13, dtype=np.int16), ("one",))
    with pytest.raises(RowError, match=r"13\.0 s is longer than the 12\.8 s") as caught:
        backend.align([long])
    assert caught.value.code == "alignment_failed"


def test_a_unit_with_a_control_token_is_refused(backend, waveforms) -> None:
    with pytest.raises(ValueError, match="control token"):
        backend.align([AlignmentRequest(waveforms[0], ("one<timestamp>", "two"))])


def test_out_of_memory_halves_the_batch(backend, requests, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = backend.align(requests)
    classify, sizes = backend.classify, []

    def failing(prompts: Any, batch: Any) -> Any:
        sizes.append(len(prompts))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return classify(prompts, batch)

    monkeypatch.setattr(backend, "classify", failing)
    assert backend.align(requests) == expected
    assert sizes == [1] * len(requests)  # a CPU takes clips one by one
    sizes.clear()
    assert backend.memory.run(requests, backend._align) == expected  # as elsewhere
    assert sizes[0] == 6 and sizes.count(6) == 1
    monkeypatch.setattr(backend.memory, "max_seconds", None)


def test_a_packed_batch_gives_the_same_times(backend, requests) -> None:
    """What runs on a GPU: all clips at once, in float32 equal as these clips have no near ties."""
    assert backend._align(requests) == [backend._align([request])[0] for request in requests]


def test_a_large_batch_runs_in_several_passes(backend, requests, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = backend.align(requests)
    monkeypatch.setattr("actors.backends.transformers.aligner.PASS_TOKENS", 200)
    sizes: list[int] = []
    classify = backend.classify
    monkeypatch.setattr(
        backend, "classify", lambda prompts, batch: sizes.append(len(prompts)) or classify(prompts, batch)
    )
    assert backend._align(requests) == expected
    assert sum(sizes) == 6 and 1 < len(sizes) < 6


def test_a_unit_with_a_control_token_fails_alone(backend, requests, waveforms) -> None:
    expected = backend.align(requests)
    bad = AlignmentRequest(waveforms[0], ("one<timestamp>", "two"))
    for align in (backend.align, backend._align):
        found = align([*requests[:2], bad, *requests[2:]])
        assert isinstance(found.pop(2), ValueError) and found == expected


def test_a_whole_table_in_one_call_as_on_a_gpu(backend, requests, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = backend.align(requests)
    monkeypatch.setattr(backend, "batches_itself", True)
    monkeypatch.setattr(type(backend), "on_gpu", True)
    monkeypatch.setattr("actors.backends.transformers.aligner.CALL_SECONDS", 15.0)
    assert backend.align(requests * 4) == expected * 4

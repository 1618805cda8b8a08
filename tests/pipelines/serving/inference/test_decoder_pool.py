"""The decoder pool: cancelled callers do not lose decoders, and the audio budget counts what was decoded."""

import asyncio
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import soundfile

from actors.config import AudioConfig, SegmenterConfig
from pipelines.serving.inference.decoder_pool import Budget, DecoderPool, Reservation
from tests.pipelines.serving.conftest import Make, voice


def test_a_caller_cancelled_before_its_work_starts_frees_the_decoder() -> None:
    async def main() -> str:
        decoders = DecoderPool(AudioConfig(), SegmenterConfig(backend="energy"), 1, 5.0)
        proceed = threading.Event()
        try:
            decoders._pool._threads.submit(proceed.wait, 30)  # occupies the thread
            cancelled = asyncio.create_task(decoders.run(lambda decoder: "never"))
            await asyncio.sleep(0)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            proceed.set()
            return await asyncio.wait_for(decoders.run(lambda decoder: "done"), 60)
        finally:
            proceed.set()
            decoders.close()

    assert asyncio.run(main()) == "done"


def test_a_caller_cancelled_during_its_work_frees_the_decoder_when_the_work_is_done() -> None:
    async def main() -> list[str]:
        decoders = DecoderPool(AudioConfig(), SegmenterConfig(backend="energy"), 1, 5.0)
        started, proceed, order = threading.Event(), threading.Event(), list[str]()

        def slow(decoder: object) -> None:
            started.set()
            proceed.wait(30)
            order.append("first")

        try:
            cancelled = asyncio.create_task(decoders.run(slow))
            await asyncio.to_thread(started.wait, 10)
            cancelled.cancel()
            second = asyncio.create_task(decoders.run(lambda decoder: order.append("second")))
            await asyncio.sleep(0.05)
            assert not second.done()
            proceed.set()
            await asyncio.wait_for(second, 60)
            return order
        finally:
            proceed.set()
            decoders.close()

    assert asyncio.run(main()) == ["first", "second"]


def test_a_corrected_reservation_above_the_budget_delays_others() -> None:
    async def main() -> list[str]:
        budget, order = Budget(100), list[str]()

        async def other() -> None:
            async with budget.reserve(50):
                order.append("other")

        async with budget.reserve(40) as reservation:
            reservation.correct(3600)
            waiting = asyncio.create_task(other())
            await asyncio.sleep(0.01)
            order.append("corrected")
            reservation.correct(50)
            await waiting
        async with budget.reserve(100):
            order.append("everything is released")
        return order

    assert asyncio.run(main()) == ["corrected", "other", "everything is released"]


def test_the_budget_counts_decoded_audio_if_the_header_is_wrong(
    serve: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve(cost="fake:0.02")
    file = io.BytesIO()
    soundfile.write(file, voice(40), 16_000, format="FLAC", subtype="PCM_16")
    data = file.getvalue()
    # STREAMINFO claims 16,000 samples: one second.
    wrong = bytes([*data[:21], data[21] & 0xF0, *(16_000).to_bytes(4), *data[26:]])
    assert served.application.service is not None
    budget, corrected = served.application.service.transcriber._decoded_audio, list[float]()
    correct = Reservation.correct

    def recording_correct(reservation: Reservation, amount: float) -> None:
        correct(reservation, amount)
        corrected.append(budget._reserved)

    monkeypatch.setattr(Reservation, "correct", recording_correct)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(served.transcribe, wrong).result()[0] == 200
    assert corrected == [pytest.approx(40, abs=1)] and budget._reserved == pytest.approx(0)

"""The decoders that all requests share: none is ever lost, and what is decoded is booked."""

import asyncio
import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import soundfile

from actors.config import AudioConfig, SegmenterConfig
from pipelines.serving.inference.decoder_pool import Budget, DecoderPool
from tests.pipelines.serving.conftest import Make, voice


def test_who_leaves_before_his_work_begins_gives_the_decoder_back() -> None:
    async def main() -> str:
        decoders = DecoderPool(AudioConfig(), SegmenterConfig(), 1, 5.0)
        hold = threading.Event()
        try:
            decoders._pool._threads.submit(hold.wait, 30)  # the thread is a moment late
            leaving = asyncio.create_task(decoders.run(lambda decoder: "never"))
            await asyncio.sleep(0)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            hold.set()
            return await asyncio.wait_for(decoders.run(lambda decoder: "done"), 10)
        finally:
            hold.set()
            decoders.close()

    assert asyncio.run(main()) == "done"


def test_who_leaves_while_his_work_goes_on_gives_the_decoder_back_when_it_is_done() -> None:
    async def main() -> list[str]:
        decoders = DecoderPool(AudioConfig(), SegmenterConfig(), 1, 5.0)
        begun, hold, order = threading.Event(), threading.Event(), list[str]()

        def slow(decoder: object) -> None:
            begun.set()
            hold.wait(30)
            order.append("first")

        try:
            leaving = asyncio.create_task(decoders.run(slow))
            await asyncio.to_thread(begun.wait, 10)
            leaving.cancel()
            second = asyncio.create_task(decoders.run(lambda decoder: order.append("second")))
            await asyncio.sleep(0.05)
            assert not second.done()
            hold.set()
            await asyncio.wait_for(second, 10)
            return order
        finally:
            hold.set()
            decoders.close()

    assert asyncio.run(main()) == ["first", "second"]


def test_who_has_more_than_he_said_makes_others_wait() -> None:
    async def main() -> list[str]:
        budget, order = Budget(100), list[str]()

        async def other() -> None:
            async with budget.reserve(50):
                order.append("other")

        async with budget.reserve(40) as held:
            held.correct(3600)
            waiting = asyncio.create_task(other())
            await asyncio.sleep(0.01)
            order.append("corrected")
            held.correct(50)
            await waiting
        async with budget.reserve(100):
            order.append("all is back")
        return order

    assert asyncio.run(main()) == ["corrected", "other", "all is back"]


def test_audio_of_a_header_that_lies_is_booked_as_it_is(serve: Make) -> None:
    served = serve(cost="fake:0.02")
    file = io.BytesIO()
    soundfile.write(file, voice(40), 16_000, format="FLAC", subtype="PCM_16")
    told = file.getvalue()
    lying = bytes([*told[:21], told[21] & 0xF0, *(16_000).to_bytes(4), *told[26:]])  # STREAMINFO: a second
    assert served.application.service is not None
    budget, most = served.application.service.transcriber._decoded, 0.0
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(served.transcribe, lying)
        while not asked.done():
            most = max(most, budget._taken)
            time.sleep(0.01)
        assert asked.result()[0] == 200
    assert most == pytest.approx(40, abs=1) and budget._taken == pytest.approx(0)

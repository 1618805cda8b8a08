"""The decoders that all requests share: none is ever lost, and what is decoded is booked."""

import asyncio
import threading

import pytest

from actors.config import AudioConfig, SegmenterConfig
from pipelines.serving.decoding import Decoders


def test_who_leaves_before_his_work_begins_gives_the_decoder_back() -> None:
    async def main() -> str:
        decoders = Decoders(AudioConfig(), SegmenterConfig(), 1, 5.0)
        hold = threading.Event()
        try:
            decoders._threads.submit(hold.wait, 30)  # the thread is a moment late
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
        decoders = Decoders(AudioConfig(), SegmenterConfig(), 1, 5.0)
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

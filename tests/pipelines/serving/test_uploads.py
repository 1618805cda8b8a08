"""Files of clients: nothing stays of one that could not be kept, and large bodies stand in nobody's way."""

import asyncio
import errno
import io
import shutil
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import starlette.formparsers

from pipelines.serving.uploads import Shelf
from tests.pipelines.serving.conftest import Make, voice, wav


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    made = Shelf()
    yield made
    made.close()


def full(*arguments: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_nothing_stays_of_a_file_that_has_no_room(serve: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve()

    def half(source: io.BytesIO, file: io.BytesIO, size: int) -> None:
        file.write(source.read(100))
        full()

    monkeypatch.setattr(shutil, "copyfileobj", half)
    status, headers, body = served.transcribe(wav(voice(1)))
    assert (status, body["error"]["code"], headers["retry-after"]) == (503, "disk_full", "30")
    assert served.application.service is not None and served.application.service.shelf.names == []
    monkeypatch.undo()
    monkeypatch.setattr(starlette.formparsers.UploadFile, "write", full)
    assert served.transcribe(wav(voice(1)))[0] == 503
    monkeypatch.undo()
    assert served.transcribe(wav(voice(1)))[0] == 200


def test_nothing_stays_of_a_file_whose_client_leaves_while_it_is_written(shelf: Shelf) -> None:
    begun, hold = threading.Event(), threading.Event()

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            begun.set()
            hold.wait(10)
            return super().read(size)

    async def main() -> None:
        async def keep() -> None:
            async with shelf.keep(Slow(bytes(1000)), "a"):
                pass

        leaving = asyncio.create_task(keep())
        await asyncio.to_thread(begun.wait, 10)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        hold.set()

    asyncio.run(main())  # waits for its threads
    assert shelf.names == []

"""Uploaded files: no file is left behind by a full disk or by a client that disconnects."""

import asyncio
import errno
import io
import shutil
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import starlette.formparsers

from pipelines.serving.web.forms.uploads import UploadStore
from tests.pipelines.serving.conftest import Make, voice, wav


@pytest.fixture
def uploads() -> Iterator[UploadStore]:
    store = UploadStore()
    yield store
    store.close()


def disk_full(*arguments: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_503_and_leaves_no_file(serve: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve()

    def copy_a_part(source: io.BytesIO, file: io.BytesIO, size: int) -> None:
        file.write(source.read(100))
        disk_full()

    monkeypatch.setattr(shutil, "copyfileobj", copy_a_part)
    status, headers, body = served.transcribe(wav(voice(1)))
    assert (status, body["error"]["code"], headers["retry-after"]) == (503, "disk_full", "30")
    assert served.application.service is not None and served.application.service.uploads.names == []
    monkeypatch.undo()
    monkeypatch.setattr(starlette.formparsers.UploadFile, "write", disk_full)
    assert served.transcribe(wav(voice(1)))[0] == 503
    monkeypatch.undo()
    assert served.transcribe(wav(voice(1)))[0] == 200


def test_a_client_that_disconnects_during_the_write_leaves_no_file(uploads: UploadStore) -> None:
    started, proceed = threading.Event(), threading.Event()

    class SlowFile(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            started.set()
            proceed.wait(10)
            return super().read(size)

    async def main() -> None:
        async def store() -> None:
            async with uploads.store(SlowFile(bytes(1000)), "a"):
                pass

        storing = asyncio.create_task(store())
        await asyncio.to_thread(started.wait, 10)
        storing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await storing
        proceed.set()

    asyncio.run(main())  # waits for its threads
    assert uploads.names == []

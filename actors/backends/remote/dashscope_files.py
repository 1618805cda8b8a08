"""DashScope's API for recorded files (`qwen3-asr-flash-filetrans`) as the recogniser: `asr.remote.endpoint=dashscope-files`.

It takes addresses instead of audio, and an archive has no public ones: each segment is uploaded into the service's own temporary storage
first, then a task is begun for it and looked at until it is done. A task that was begun, and will be billed, is not begun again because a
look at it failed.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable

from actors.backends.remote import dashscope_protocol, openai_protocol
from actors.backends.remote.base import RemoteASR
from actors.backends.remote.retry_policy import Call, TransientError
from actors.config import ASRConfig
from actors.errors import RetryableError, RowError
from actors.process.watchdog import heartbeat
from actors.records import Hypothesis, SegmentRequest

log = logging.getLogger(__name__)
logging.getLogger("httpx2").setLevel(
    logging.WARNING
)  # below, it writes addresses down, and those of results are signed

FIRST_LOOK, LONGEST_LOOK, SLOWER = 1.0, 10.0, 1.5  # seconds between two looks at a task, and how they grow
_STORED = {"X-DashScope-OssResourceResolve": "enable"}  # addresses begin with oss://
_LATER = {"X-DashScope-Async": "enable"}


class DashScopeFiles(RemoteASR):
    """A recogniser that is given files and asked for their texts later."""

    address_ends = "/api/v1"

    def __init__(self, config: ASRConfig) -> None:
        """See `RemoteASR`."""
        self._permission: tuple[dashscope_protocol.Permission, float] | None = (
            None  # and until when, in the loop's time
        )
        self._context_told = False
        super().__init__(config)

    def _attempts(self, request: SegmentRequest, call: Call) -> Callable[[int], Awaitable[Hypothesis]]:
        if request.context and not self._context_told:
            self._context_told = True
            log.warning(
                "DashScope's API for recorded files has no field for a context: it is left out (asr.remote.endpoint=dashscope takes one)"
            )
        task = ""

        async def attempt(before: int) -> Hypothesis:
            nonlocal task
            if not task:
                self.cost.repeated += before > 0
                task = await self._begin(request)
            try:
                address = await self._finished(task, request, call)
            except _Failed as error:
                task = ""
                raise TransientError(self._safe(str(error)), busy=error.busy) from None
            return (
                await self._read(address, request)
                if address
                else dashscope_protocol.silent_or_said("", None, request)
            )

        return attempt

    async def _begin(self, request: SegmentRequest) -> str:
        """Upload a segment and order its text; the number of the task."""
        about = f"a segment of {request.duration:.1f} s"
        self.cost.requests += 1
        self.cost.audio_seconds += request.duration
        permission = await self._may_upload()
        name = f"{uuid.uuid4().hex}.wav"
        file = ("segment.wav", openai_protocol.wav(request.waveform), "audio/wav")
        stored = await self._send(
            "POST", permission.address, known=False, data=permission.form(name), files={"file": file}
        )
        if stored.status in (401, 403):
            self._permission = None
            raise TransientError(f"the storage for uploads refuses with HTTP {stored.status}")
        if not 200 <= stored.status < 300:
            if stored.status in (408, 429) or stored.status >= 500:
                raise TransientError(
                    f"the storage for uploads answers HTTP {stored.status}", busy=stored.status == 429
                )
            raise RowError(
                f"the storage for uploads refuses {about} with HTTP {stored.status}", "model_failed"
            )
        order = dashscope_protocol.order(self.model, "oss://" + permission.place(name), request)
        url = f"{self.remote.base_url}/services/audio/asr/transcription"
        answer = await self._send("POST", url, headers={**_LATER, **_STORED}, json=order)
        self._must_be_fine(answer, about)
        begun = self._task(self._parsed(answer))
        if not begun.number:
            raise TransientError("the answer has no output.task_id")
        return begun.number

    async def _may_upload(self) -> dashscope_protocol.Permission:
        """A permission of the service, kept for as long as it holds: asking for one is limited to a hundred times a second."""
        now = self._loop.time()
        if self._permission is None or self._permission[1] <= now:
            url = f"{self.remote.base_url}/uploads"
            answer = await self._send("GET", url, params={"action": "getPolicy", "model": self.model})
            self._must_be_fine(answer)
            try:
                permission = dashscope_protocol.permission(self._parsed(answer))
            except openai_protocol.Malformed as error:
                raise TransientError(self._safe(str(error))) from None
            self._permission = permission, now + permission.duration
        return self._permission[0]

    async def _finished(self, number: str, request: SegmentRequest, call: Call) -> str:
        """The address of a task's result, once it is done; none where nobody speaks.

        Raises:
            _Failed: the task did, and another one may not.
            MayPass: nothing good was heard of it this time.
            RowError: it failed for good.
            RetryableError: it takes longer than the call may.
        """
        pause, heard = FIRST_LOOK, False
        while True:
            try:
                task = await self._look(number)
            except TransientError as error:
                error.heard = heard
                raise
            if dashscope_protocol.is_silence(task.code):
                return ""
            if task.state == "done":
                return task.address
            if task.state == "failed" and dashscope_protocol.may_pass(task.code):
                raise _Failed(
                    f"task {number} failed: {task.code}: {task.message}",
                    dashscope_protocol.is_busy(task.code),
                )
            if task.state == "failed":
                why = self._safe(f"{task.code}: {task.message}")
                raise RowError(
                    f"the recognition server gave up a segment of {request.duration:.1f} s: {why}",
                    "model_failed",
                )
            heard = True
            self._patience.renew()
            if self._loop.time() + pause > call.last_moment:
                raise RetryableError(
                    f"task {number} of the recognition server at {self.remote.base_url} was not done when it had to be: raise asr.timeout, "
                    "which is the time that all segments of a model call may take",
                    "server_unavailable",
                )
            heartbeat()
            await asyncio.sleep(pause)
            pause = min(pause * SLOWER, LONGEST_LOOK)

    async def _look(self, number: str) -> dashscope_protocol.Task:
        answer = await self._send("GET", f"{self.remote.base_url}/tasks/{number}", headers=_LATER)
        self._must_be_fine(answer, f"task {number}")
        return self._task(self._parsed(answer))

    async def _read(self, address: str, request: SegmentRequest) -> Hypothesis:
        answer = await self._send("GET", address, known=False)
        if not 200 <= answer.status < 300:
            raise TransientError(f"the result of a task is not to be had: HTTP {answer.status}")
        try:
            return dashscope_protocol.hypothesis_of_file(
                self._parsed(answer), request, compatible=self.config.compatible
            )
        except openai_protocol.Malformed as error:
            raise TransientError(self._safe(str(error))) from None

    def _task(self, answer: dict[str, object]) -> dashscope_protocol.Task:
        try:
            return dashscope_protocol.task(answer)
        except openai_protocol.Malformed as error:
            raise TransientError(self._safe(str(error))) from None

    async def _shown(self, silence: SegmentRequest, call: Call) -> None:
        # A task may take minutes in the queue of a service that is well.
        number = await self._begin(silence)
        await self._look(number)

    async def _offered(self) -> set[str]:
        self._permission = None  # so that it is asked
        await self._may_upload()
        return set()


class _Failed(Exception):
    """A task did, but another one may not."""

    def __init__(self, reason: str, busy: bool) -> None:
        super().__init__(reason)
        self.busy = busy

"""DashScope's API for recorded files (`qwen3-asr-flash-filetrans`) as the recogniser.

It is selected by `asr.remote.endpoint=dashscope-files`. The API takes URLs instead of audio, and an archive
has no public ones. So each segment is uploaded to the service's own temporary storage first, then a task is
created for it and polled until it is done. A task that was created will be billed, so it is not created again
because a poll failed.
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
# Below WARNING, httpx2 logs URLs, and those of results are signed.
logging.getLogger("httpx2").setLevel(logging.WARNING)

# Seconds between two polls of a task: the first interval, the longest, and the factor between two.
FIRST_POLL, LONGEST_POLL, POLL_FACTOR = 1.0, 10.0, 1.5
# The URL of the file begins with oss://.
_RESOLVE_OSS = {"X-DashScope-OssResourceResolve": "enable"}
_ASYNC = {"X-DashScope-Async": "enable"}


class DashScopeFiles(RemoteASR):
    """A recogniser that takes files and returns their texts later."""

    url_ending = "/api/v1"

    def __init__(self, config: ASRConfig) -> None:
        """See `RemoteASR`."""
        # A policy and the time of the event loop until which it is valid.
        self._policy: tuple[dashscope_protocol.UploadPolicy, float] | None = None
        self._warned_of_context = False
        super().__init__(config)

    def _attempts(self, request: SegmentRequest, call: Call) -> Callable[[int], Awaitable[Hypothesis]]:
        if request.context and not self._warned_of_context:
            self._warned_of_context = True
            log.warning(
                "DashScope's API for recorded files has no field for a context: it is left out "
                "(asr.remote.endpoint=dashscope takes one)"
            )
        task_id = ""

        async def attempt(before: int) -> Hypothesis:
            nonlocal task_id
            if not task_id:
                self.total_usage.repeated += before > 0
                task_id = await self._create_task(request)
            try:
                url = await self._wait_for_task(task_id, request, call)
            except _TaskFailedError as error:
                task_id = ""
                raise TransientError(self.server.without_key(str(error)), busy=error.busy) from None
            if not url:
                return dashscope_protocol.hypothesis("", None, request)
            return await self._fetch_result(url, request)

        return attempt

    async def _create_task(self, request: SegmentRequest) -> str:
        """Upload a segment and create a task for it; returns the task's id."""
        subject = f"a segment of {request.duration:.1f} s"
        self.total_usage.count_request(request.duration, repeated=False)
        key = await self._upload(request, subject)
        body = dashscope_protocol.task_request(self.model, f"oss://{key}", request)
        url = f"{self.remote.base_url}/services/audio/asr/transcription"
        response = await self.server.send("POST", url, headers={**_ASYNC, **_RESOLVE_OSS}, json=body)
        self.server.raise_for_error(response, subject)
        task = self._parse_task(self.server.json(response))
        if not task.id:
            raise TransientError("the response has no output.task_id")
        return task.id

    async def _upload(self, request: SegmentRequest, subject: str) -> str:
        """Upload a segment to the temporary storage; returns its key there."""
        policy = await self._upload_policy()
        name = f"{uuid.uuid4().hex}.wav"
        file = ("segment.wav", openai_protocol.wav(request.waveform), "audio/wav")
        response = await self.server.send(
            "POST", policy.url, with_key=False, data=policy.form(name), files={"file": file}
        )
        status = response.status
        if status in (401, 403):
            self._policy = None
            raise TransientError(f"the storage for uploads refuses with HTTP {status}")
        if status in (408, 429) or status >= 500:
            raise TransientError(f"the storage for uploads responds with HTTP {status}", busy=status == 429)
        if not 200 <= status < 300:
            raise RowError(f"the storage for uploads refuses {subject} with HTTP {status}", "model_failed")
        return policy.key(name)

    async def _upload_policy(self) -> dashscope_protocol.UploadPolicy:
        """A policy of the service, reused while it is valid: its requests are limited to 100 a second."""
        now = self._loop.time()
        if self._policy is None or self._policy[1] <= now:
            url = f"{self.remote.base_url}/uploads"
            response = await self.server.send("GET", url, params={"action": "getPolicy", "model": self.model})
            self.server.raise_for_error(response)
            try:
                policy = dashscope_protocol.parse_upload_policy(self.server.json(response))
            except openai_protocol.Malformed as error:
                raise TransientError(self.server.without_key(str(error))) from None
            self._policy = policy, now + policy.duration
        return self._policy[0]

    async def _wait_for_task(self, task_id: str, request: SegmentRequest, call: Call) -> str:
        """Poll a task until it is done; returns the URL of its result, or an empty one where nobody speaks.

        Raises:
            _TaskFailedError: the task failed, and another one may succeed.
            TransientError: a poll failed.
            RowError: the task failed for good.
            RetryableError: the task takes longer than the call may.
        """
        interval, had_progress = FIRST_POLL, False
        while True:
            try:
                task = await self._poll(task_id)
            except TransientError as error:
                error.had_progress = had_progress
                raise
            if dashscope_protocol.is_silence(task.code):
                return ""
            if task.state == "done":
                return task.result_url
            if task.state == "failed":
                self._raise_task_error(task_id, task, request)
            had_progress = True
            self._retries.record_success()
            if self._loop.time() + interval > call.deadline:
                raise RetryableError(
                    f"task {task_id} of the recognition server at {self.remote.base_url} was not done in "
                    "time: raise asr.timeout, which is the time that all segments of a model call may take",
                    "server_unavailable",
                )
            heartbeat()
            await asyncio.sleep(interval)
            interval = min(interval * POLL_FACTOR, LONGEST_POLL)

    def _raise_task_error(self, task_id: str, task: dashscope_protocol.Task, request: SegmentRequest) -> None:
        error = f"{task.code}: {task.message}"
        if dashscope_protocol.is_transient(task.code):
            raise _TaskFailedError(f"task {task_id} failed: {error}", dashscope_protocol.is_busy(task.code))
        raise RowError(
            f"the recognition server gave up a segment of {request.duration:.1f} s: "
            f"{self.server.without_key(error)}",
            "model_failed",
        )

    async def _poll(self, task_id: str) -> dashscope_protocol.Task:
        response = await self.server.send("GET", f"{self.remote.base_url}/tasks/{task_id}", headers=_ASYNC)
        self.server.raise_for_error(response, f"task {task_id}")
        return self._parse_task(self.server.json(response))

    async def _fetch_result(self, url: str, request: SegmentRequest) -> Hypothesis:
        response = await self.server.send("GET", url, with_key=False)
        if not 200 <= response.status < 300:
            raise TransientError(f"the result of a task cannot be fetched: HTTP {response.status}")
        try:
            return dashscope_protocol.parse_result(
                self.server.json(response), request, compatible=self.config.compatible
            )
        except openai_protocol.Malformed as error:
            raise TransientError(self.server.without_key(str(error))) from None

    def _parse_task(self, response: dict[str, object]) -> dashscope_protocol.Task:
        try:
            return dashscope_protocol.parse_task(response)
        except openai_protocol.Malformed as error:
            raise TransientError(self.server.without_key(str(error))) from None

    async def _check_working(self, silence: SegmentRequest, call: Call) -> None:
        # Only one poll: a task may wait for minutes in the queue of a service that works.
        task_id = await self._create_task(silence)
        await self._poll(task_id)

    async def _list_models(self) -> set[str]:
        # Without a stored policy the service itself is asked.
        self._policy = None
        await self._upload_policy()
        return set()


class _TaskFailedError(Exception):
    """A task failed, but another one may succeed."""

    def __init__(self, reason: str, busy: bool) -> None:
        super().__init__(reason)
        self.busy = busy

"""The command `scriptorium browse`: builds the index, listens, prints the address of the page."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import socket
import sys
import threading
from types import FrameType

from actors.errors import UsageError
from pipelines.browsing import guard, index
from pipelines.browsing.app import Browser
from pipelines.browsing.audio import AudioStore
from pipelines.browsing.library import Library
from pipelines.output.transcript_reader import find_parts
from pipelines.plurals import counted
from pipelines.serving.web.http_server import http_server
from pipelines.storage import files
from pipelines.supervision import shutdown

_MAX_MESSAGE = 1 << 16  # bytes of a WebSocket message; the page uses none


def run(given: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM; returns the exit code.

    Raises:
        UsageError: OUT is no output directory, or the address cannot be listened on.
    """
    if not 0 <= given.port <= 65535:
        raise UsageError(f"--port is a number from 0 to 65535, not {given.port}")
    out = files.absolute(given.out)
    find_parts(out)
    with _listener(given.host, given.port) as listener:
        path = index.index_path(out)
        index.create(path)
        library = Library(out, path)
        library.refresh(_progress)
        overview = library.overview()
        recordings, hours = counted(overview["recordings"], "recording"), overview["seconds"] / 3600
        _say(f"{recordings}, {hours:,.1f} h of audio, {counted(overview['segments'], 'segment')}")
        audio = AudioStore()
        try:
            _serve(given, library, audio, listener)
        finally:
            audio.close()
    return 0


def _serve(given: argparse.Namespace, library: Library, audio: AudioStore, listener: socket.socket) -> None:
    token, port = guard.make_token(), listener.getsockname()[1]
    editor = None if given.read_only else given.editor or _user()
    browser = Browser(library, audio, port, editor)
    server = http_server(
        guard.guarded(browser.api, token, given.host, port, given.allowed_host), _MAX_MESSAGE
    )
    # The application has nothing to start or end, and uvicorn logs a traceback where a second signal ends it.
    server.config.lifespan = "off"

    def stop(signum: int, frame: FrameType | None) -> None:
        # A second signal does not wait for browsers that still receive audio.
        server.force_exit = server.should_exit
        server.should_exit = True

    name = (given.allowed_host or [given.host])[0]
    address = f"http://{f'[{name}]' if ':' in name else name}:{port}{guard.ENTRANCE}{token}"
    _say(f"press Ctrl-C to stop; open\n{address}")
    if given.open:
        import webbrowser

        threading.Timer(0.5, webbrowser.open, [address]).start()
    with contextlib.ExitStack() as until_stopped:
        until_stopped.enter_context(shutdown.handled_by(stop))
        server.run(sockets=[listener])


def _listener(host: str, port: int) -> socket.socket:
    """A socket bound before anything is read."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}; try --port"
        ) from None
    return listener


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container without a name for its user
        return "unknown"


def _progress(done: int, count: int) -> None:
    if count > 1:
        end = "\n" if done == count else ""
        print(f"\rindexing: {done:,} of {count:,} files", end=end, file=sys.stderr, flush=True)


def _say(text: str) -> None:
    print(f"scriptorium: {text}", file=sys.stderr, flush=True)

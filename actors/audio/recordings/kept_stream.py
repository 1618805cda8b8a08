"""The container of a recording that stays open between its header and its first samples.

Opening a container costs as much as decoding a tenth of a second to several seconds of it: ffmpeg decodes the
first frames to learn about the streams, and an MP4 file has an index of every frame. An open one serves once:
decoders have a state that no seek resets (the noise of AAC), and two shards must get the same samples at
their border.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain

from actors.audio.containers import Opened, open_container
from actors.audio.files.audio_file import AudioFile
from actors.audio.formats.late_streams import open_with_audio
from actors.audio.frames import DecodeLosses, Frame, frames_of, take_frames

# Seconds of frames whose time stamps give a position.
ANCHOR = 1.0


class KeptStream:
    """The open container of a file, until samples were read from it.

    Args:
        file: the file.
        track: number of the audio track, from 0; None takes the one that ffmpeg selects.

    Attributes:
        file: the file, or a view of it in which ffmpeg finds the sound.
        opened: the container.
        first: the first frame, read by `begin`; None where there is none.

    Raises:
        RowError: the file cannot be opened.
        RetryableError: reading failed.
    """

    def __init__(self, file: AudioFile, track: int | None) -> None:
        self._stack = ExitStack()
        self.file, self.opened = self._stack.enter_context(open_with_audio(file, track))
        self.track = self.opened.track
        self.first: Frame | None = None
        self._losses = DecodeLosses()
        self._frames: Iterator[Frame] = iter(())
        # Where the container reads on. Others read in the file, too.
        self._place = 0

    def begin(self) -> Frame | None:
        """Read the first frame, in the rate of the header; what ffmpeg says about the stream may change."""
        self._frames = frames_of(self.opened, self.opened.sampling_rate, self._losses, True)
        self.first = next(self._frames, None)
        self._place = self.file.tell()
        return self.first

    def close(self) -> None:
        """Close the container; further reads open it again."""
        self._frames, self.first = iter(()), None
        self._stack.close()

    @contextmanager
    def from_start(self, rate: int) -> Iterator[tuple[Opened, Iterator[Frame], DecodeLosses]]:
        """The container, all its frames, and what is lost of them while they are read.

        Args:
            rate: sampling rate in Hz of the frames.
        """
        with self._take(rate) as begun:
            if begun is not None:
                yield self.opened, begun, self._losses
                return
        with open_container(self.file, track=self.track) as opened:
            losses = DecodeLosses()
            yield opened, frames_of(opened, rate, losses, True), losses

    @contextmanager
    def for_seek(self, rate: int, jump: bool) -> Iterator[tuple[Opened, list[Frame]]]:
        """The container, ready to seek in it, and the frames of the first second.

        Args:
            rate: sampling rate in Hz of the frames.
            jump: see `open_container`.
        """
        with self._take(None if jump else rate) as begun:
            if begun is not None:
                yield self.opened, take_frames(begun, ANCHOR * rate)
                return
        with open_container(self.file, jump, track=self.track) as opened:
            frames = frames_of(opened, rate, DecodeLosses(), False)
            yield opened, take_frames(frames, ANCHOR * rate)

    @contextmanager
    def _take(self, rate: int | None) -> Iterator[Iterator[Frame] | None]:
        """All frames of the open container, which is closed afterwards; None where they are not as wanted."""
        try:
            # A decoder may double the rate of the header. Then the first frame was resampled.
            if self.first is None or rate != self.opened.sampling_rate:
                yield None
                return
            self.file.seek(self._place)
            yield chain([self.first], self._frames)
        finally:
            self.close()

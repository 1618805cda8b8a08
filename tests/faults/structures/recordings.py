"""Healthy recordings to damage: one sound in every container that people have, written by the ffmpeg command.

The sound never pauses, so that every second of it can be missed.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

RATE = 16_000
FFMPEG = shutil.which("ffmpeg")
# Seconds before the sound of a film that begins late.
LATE = 7
_FILM = "-f lavfi -i testsrc2=size=96x64:rate=10:duration={film}"
# Name -> (suffix, options of the sound, options of the picture; None for sound alone).
FORMATS: dict[str, tuple[str, str, str | None]] = {
    "wav": ("wav", "-c:a pcm_s16le", None),
    "wav stereo": ("wav", "-c:a pcm_s16le -ac 2 -ar 44100", None),
    "wav 24": ("wav", "-c:a pcm_s24le", None),
    "wav float": ("wav", "-c:a pcm_f32le", None),
    "wav u8": ("wav", "-c:a pcm_u8", None),
    "wav mulaw": ("wav", "-c:a pcm_mulaw -ar 8000", None),
    "wav adpcm": ("wav", "-c:a adpcm_ms", None),
    "wav ima": ("wav", "-c:a adpcm_ima_wav", None),
    "wav gsm": ("wav", "-c:a libgsm_ms -ar 8000", None),
    "wav mp3": ("wav", "-c:a libmp3lame", None),
    "rf64": ("wav", "-c:a pcm_s16le -rf64 always", None),
    "w64": ("w64", "-c:a pcm_s16le", None),
    "aiff": ("aiff", "-c:a pcm_s16be", None),
    "aifc": ("aiff", "-c:a pcm_s16le", None),
    "aifc ima": ("aiff", "-c:a adpcm_ima_qt", None),
    "au": ("au", "-c:a pcm_s16be", None),
    "au mulaw": ("au", "-c:a pcm_mulaw -ar 8000", None),
    "caf": ("caf", "-c:a pcm_s16le", None),
    "caf alac": ("caf", "-c:a alac", None),
    "voc": ("voc", "-c:a pcm_u8", None),
    "sox": ("sox", "-c:a pcm_s32le", None),
    "flac": ("flac", "-c:a flac", None),
    "tta": ("tta", "-c:a tta", None),
    "wv": ("wv", "-c:a wavpack", None),
    "opus": ("opus", "-c:a libopus", None),
    "vorbis": ("ogg", "-c:a libvorbis", None),
    "speex": ("spx", "-c:a libspeex", None),
    "ogg flac": ("oga", "-c:a flac", None),
    "mp3": ("mp3", "-c:a libmp3lame -b:a 64k", None),
    "mp3 vbr": ("mp3", "-c:a libmp3lame -q:a 4 -ar 44100 -ac 2", None),
    "mp3 bare": ("mp3", "-c:a libmp3lame -write_xing 0 -id3v2_version 0", None),
    "mp2": ("mp2", "-c:a mp2", None),
    "adts": ("aac", "-c:a aac", None),
    "latm": ("latm", "-c:a aac", None),
    "ac3": ("ac3", "-c:a ac3 -ar 48000", None),
    "eac3": ("eac3", "-c:a eac3 -ar 48000", None),
    "dts": ("dts", "-c:a dca -strict -2 -ar 48000 -ac 2", None),
    "amr": ("amr", "", None),
    "m4a": ("m4a", "-c:a aac", None),
    "m4a fast": ("m4a", "-c:a aac -movflags +faststart", None),
    "m4a alac": ("m4a", "-c:a alac", None),
    "mp4 fragments": ("mp4", "-c:a aac -movflags frag_keyframe+empty_moov -frag_duration 500000", None),
    "3gp": ("3gp", "-c:a aac", None),
    "mov": ("mov", "-c:a pcm_s16le", None),
    "mka": ("mka", "-c:a aac", None),
    "mkv pcm": ("mkv", "-c:a pcm_s16le", None),
    "webm": ("webm", "-c:a libopus", None),
    "webm live": ("webm", "-c:a libopus -live 1", None),
    "avi": ("avi", "-c:a libmp3lame", None),
    "avi pcm": ("avi", "-c:a pcm_s16le", None),
    "wma": ("wma", "-c:a wmav2 -ar 44100", None),
    "flv": ("flv", "-c:a libmp3lame -ar 44100", None),
    "flv aac": ("flv", "-c:a aac", None),
    "nut": ("nut", "-c:a libopus", None),
    "ts": ("ts", "-c:a aac", None),
    "ts mp2": ("ts", "-c:a mp2", None),
    "ts ac3": ("ts", "-c:a ac3 -ar 48000", None),
    "m2ts": ("m2ts", "-c:a ac3 -ar 48000 -mpegts_m2ts_mode 1", None),
    "ps": ("mpg", "-c:a mp2 -ar 48000", None),
    "vob": ("vob", "-c:a ac3 -ar 48000", None),
    "rm": ("rm", "-c:a ac3 -ar 44100", None),
    "mxf": ("mxf", "-c:a pcm_s16le -ar 48000", "-c:v mpeg2video -r 25"),
    "mp4 film": ("mp4", "-c:a aac", "-c:v mpeg4"),
    "mkv film": ("mkv", "-c:a aac", "-c:v mpeg4"),
    "mkv late": ("mkv", "-c:a aac", "late -c:v mpeg4"),
    "avi film": ("avi", "-c:a libmp3lame", "-c:v mpeg4"),
    "avi late": ("avi", "-c:a libmp3lame", "late -c:v mpeg4"),
    "wmv late": ("wmv", "-c:a wmav2 -ar 44100", "late -c:v wmv2"),
    "flv late": ("flv", "-c:a libmp3lame -ar 44100", "late -c:v flv1"),
    "nut late": ("nut", "-c:a libopus", "late -c:v mpeg4"),
    "ts film": ("ts", "-c:a mp2", "-c:v mpeg2video -r 25"),
    "ts late": ("ts", "-c:a aac", "late -c:v mpeg2video -r 25"),
    "ps late": ("mpg", "-c:a mp2 -ar 48000", "late -c:v mpeg2video -r 25"),
}


@dataclass(frozen=True)
class Base:
    """A healthy recording."""

    name: str
    suffix: str
    data: bytes
    # Of its sound.
    seconds: float


def voice(seconds: float, seed: int) -> np.ndarray:
    """A sound like a voice that never pauses: float64 at `RATE`, about -18 dBFS."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = 140 + 40 * np.sin(2 * np.pi * rng.uniform(0.2, 0.5) * time + rng.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    wave = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, 14))
    loudness = 0.65 + 0.35 * np.sin(2 * np.pi * rng.uniform(3, 5) * time)
    return 0.15 * wave * loudness + 0.002 * rng.standard_normal(len(time))


def make(folder: Path, name: str, seconds: float, seed: int) -> Base | None:
    """Write one recording; None where this ffmpeg has no encoder for it.

    Args:
        folder: for the files.
        name: one of `FORMATS`.
        seconds: of sound.
        seed: of the sound.
    """
    suffix, sound, picture = FORMATS[name]
    path = folder / f"{name.replace(' ', '_')}-{seed}.{suffix}"
    wave = np.rint(voice(seconds, seed) * 32767).astype("<i2")
    if name == "amr":
        if not _write_amr(path, wave):
            return None
    else:
        _run_ffmpeg(path, wave, seconds, sound, picture)
    return Base(name, suffix, path.read_bytes(), seconds) if path.exists() and path.stat().st_size else None


def _run_ffmpeg(path: Path, wave: np.ndarray, seconds: float, sound: str, picture: str | None) -> None:
    assert FFMPEG is not None
    offset, film = "", []
    if picture is not None:
        late = picture.startswith("late ")
        offset = f"-itsoffset {LATE}" if late else ""
        film = _FILM.format(film=seconds + (LATE if late else 0)).split()
        picture = picture.removeprefix("late ")
    command = [FFMPEG, "-v", "error", "-y", "-hide_banner", *film, *offset.split()]
    command += ["-f", "s16le", "-ar", str(RATE), "-ac", "1", "-i", "pipe:0", *sound.split()]
    command += [*(picture or "").split(), "-threads", "1", str(path)]
    done = subprocess.run(command, input=wave.tobytes(), capture_output=True, timeout=120, check=False)
    if done.returncode:
        path.unlink(missing_ok=True)


def _write_amr(path: Path, wave: np.ndarray) -> bool:
    import av

    if "libopencore_amrnb" not in av.codecs_available:
        return False
    with av.open(str(path), "w", format="amr") as container:
        stream = container.add_stream("libopencore_amrnb", rate=8000, layout="mono", bit_rate=12_200)
        resampler = av.AudioResampler(format="s16", layout="mono", rate=8000, frame_size=160)
        frame = av.AudioFrame.from_ndarray(wave[None], "s16", "mono")
        frame.sample_rate = RATE
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return True

"""The demo's recordings and manifest, said by voices that training never heard.

Run from the repository root::

    python -m infra.demo_models.recordings CLIPS configs/demo
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
import soxr

from infra.demo_models.codecs import encoded
from infra.demo_models.utterances import RATE, Clips, coloured_noise
from infra.demo_models.words import BY_CODE

FILES: tuple[tuple[str, str, str, bool, int], ...] = (
    ("front-desk.wav", "en", "reception", True, 9),
    ("hotline-8khz.wav", "pt", "hotline", False, 9),
    ("two-channels.flac", "it", "hotline", True, 9),
    ("studio-44khz.flac", "ja", "studio", True, 8),
    ("message.mp3", "fr", "voicemail", False, 10),
    ("voice-note.ogg", "de", "voicemail", False, 10),
    ("memo.m4a", "es", "voicemail", True, 10),
    ("announcement.opus", "yue", "studio", False, 8),
    ("street.mp3", "zh", "field", False, 9),
    ("lesson.ogg", "ko", "studio", True, 9),
    ("interview.mp4", "ru", "video", False, 10),
)
"""File name, language, collection, whether the manifest tells the language, number of words."""

LONG = ("long-meeting.mp3", "en", "reception", 205.0)
"""File name, language, collection and length in seconds of the long recording."""


def said(
    clips: Clips, code: str, groups: list[int], rng: np.random.Generator, pause: tuple[float, float]
) -> tuple[np.ndarray, dict[str, Any]]:
    """Strings words together: groups of words with short gaps, and pauses between the groups."""
    language = BY_CODE[code]
    voice = clips.voices[code][next(k for k, name in enumerate(clips.names[code]) if "kokoro" in name)]
    parts, words, indices, at = [], [], [], 0

    def quiet(seconds: float) -> None:
        nonlocal at
        parts.append(np.zeros(int(seconds * RATE), np.float32))
        at += len(parts[-1])

    quiet(0.3)
    for group in groups:
        chosen = rng.permutation(sorted(voice))[:group]
        for word in chosen:
            wave = voice[int(word)].astype(np.float32) / 32768 * rng.uniform(0.8, 1.1)
            words.append(
                {
                    "text": language.words[int(word)],
                    "start": round(at / RATE, 3),
                    "end": round((at + len(wave)) / RATE, 3),
                }
            )
            indices.append(int(word))
            parts.append(wave)
            at += len(wave)
            quiet(rng.uniform(0.12, 0.4))
        if group is not groups[-1] or len(groups) > 1:
            quiet(rng.uniform(*pause))
    quiet(0.25)
    audio = np.concatenate(parts)
    audio = (audio + coloured_noise(len(audio), rng) * 0.0012).astype(np.float32)
    return audio, {"text": language.text(indices), "words": words}


def video(wave: np.ndarray) -> bytes:
    """An MP4 with AAC sound and a small moving picture."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        picture = output.add_stream("libx264" if "libx264" in av.codecs_available else "mpeg4", rate=5)
        picture.width, picture.height, picture.pix_fmt = 160, 120, "yuv420p"
        sound = output.add_stream("aac", rate=RATE)
        sound.bit_rate, sound.layout = 48_000, "mono"
        for number in range(int(len(wave) / RATE * 5)):
            image = np.full((120, 160, 3), 235, np.uint8)
            image[50:70, (number * 4) % 140 : (number * 4) % 140 + 20] = (40, 90, 160)
            output.mux(picture.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(picture.encode(None))
        fifo, resampler = av.AudioFifo(), av.AudioResampler(format=sound.format, layout="mono", rate=RATE)
        frame = av.AudioFrame.from_ndarray(
            (np.clip(wave, -1, 1) * 32767).astype(np.int16)[None], format="s16", layout="mono"
        )
        frame.sample_rate = RATE
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            piece.pts = None
            fifo.write(piece)
        while fifo.samples:
            output.mux(sound.encode(fifo.read(1024, partial=True)))
        output.mux(sound.encode(None))
    return buffer.getvalue()


def write(path: Path, wave: np.ndarray, rng: np.random.Generator) -> None:
    """Writes a recording in the form that its name asks for."""
    if path.name == "hotline-8khz.wav":
        soundfile.write(path, soxr.resample(wave, RATE, 8_000), 8_000, subtype="ULAW")
    elif path.name == "two-channels.flac":
        far = np.roll(wave, 24) * 0.4 + rng.standard_normal(len(wave)).astype(np.float32) * 0.002
        soundfile.write(path, np.stack([wave, far], 1), RATE, subtype="PCM_16")
    elif path.name == "studio-44khz.flac":
        soundfile.write(path, soxr.resample(wave, RATE, 44_100), 44_100, subtype="PCM_16")
    elif path.suffix in (".wav", ".flac"):
        soundfile.write(path, wave, RATE, subtype="PCM_16")
    elif path.suffix == ".mp3":
        path.write_bytes(encoded(wave, "mp3", "libmp3lame", RATE, 24_000))
    elif path.suffix in (".ogg", ".opus"):
        path.write_bytes(encoded(wave, "ogg", "libopus", 48_000, 20_000))
    elif path.suffix == ".m4a":
        path.write_bytes(encoded(wave, "ipod", "aac", RATE, 40_000))
    else:
        path.write_bytes(video(wave))


def make(clips: Clips, folder: Path, seed: int = 5) -> None:
    """Makes all recordings and the manifest."""
    rng = np.random.default_rng(seed)
    audio = folder / "audio"
    audio.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for name, code, collection, language_given, count in FILES:
        wave, reference = said(clips, code, [count], rng, (0.3, 0.6))
        write(audio / name, wave, rng)
        row: dict[str, Any] = {"audio": f"audio/{name}", "id": name.split(".")[0]}
        if language_given:
            row["language"] = code
        rows.append({**row, **reference, "collection": collection})
    name, code, collection, seconds = LONG
    groups: list[int] = []
    while sum(groups) * 0.68 + len(groups) * 1.3 < seconds:
        groups.append(int(rng.integers(3, 9)))
    wave, reference = said(clips, code, groups, rng, (0.7, 1.9))
    write(audio / name, wave, rng)
    rows.append({"audio": f"audio/{name}", "id": name.split(".")[0], **reference, "collection": collection})
    soundfile.write(audio / "silence.flac", np.zeros(6 * RATE, np.int16), RATE)
    rows.append(
        {"audio": "audio/silence.flac", "id": "silence", "text": "", "words": [], "collection": "field"}
    )
    (audio / "broken.mp3").write_bytes(b"ID3\x04\x00\x00" + rng.bytes(3000))
    rows.append({"audio": "audio/broken.mp3", "id": "broken", "collection": "field"})
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Makes the demo's recordings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path)
    parser.add_argument("demo", type=Path)
    arguments = parser.parse_args()
    make(Clips(arguments.clips, "test"), arguments.demo)


if __name__ == "__main__":
    main()

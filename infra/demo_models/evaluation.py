"""Judges demo checkpoints on seen voices, unseen voices, silence and noise, and real recorded digits.

Run from the repository root::

    python -m infra.demo_models.evaluation CLIPS --asr configs/demo/asr --aligner configs/demo/aligner \\
        --corpus ../shared/corpus

Errors are words in spaced languages and characters in Chinese, Cantonese, Japanese and Korean. AAS is the
mean absolute shift of the starts and ends of words, in ms, of the aligner given the reference text.
"""

from __future__ import annotations

import argparse
import json
import time
import unicodedata
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from transformers import AutoModelForMultimodalLM, AutoModelForTokenClassification, AutoProcessor

from infra.demo_models.utterances import RATE, Clips, Style, Utterance, silence, utterance
from infra.demo_models.words import LANGUAGES

PLAIN = {"silence": 0.0, "clean": 1.0, "stretch": 0.0, "snr": (25.0, 50.0), "codec": 0.0}
"""The voice as it is, with a little noise."""

CONDITIONS = (
    ("seen voices, 2-8 s", "train", Style(seconds=(2.0, 8.0), **PLAIN)),
    ("unseen voices, 1.5-4 s", "test", Style(seconds=(1.5, 4.0), **PLAIN)),
    ("unseen voices, 4-8 s", "test", Style(seconds=(4.0, 8.0), **PLAIN)),
    ("unseen voices, 8-16.5 s", "test", Style(seconds=(8.0, 16.5), **PLAIN)),
    ("unseen voices, 2-8 s, degraded", "test", Style(seconds=(2.0, 8.0), silence=0.0)),
)
"""What is judged. Degraded: rooms, channels, codecs, noise down to 8 dB, speed and pitch by 15 %."""

CHARACTERS = ("zh", "yue", "ja", "ko")
"""Languages judged by character."""


def distance(left: list[str], right: list[str]) -> int:
    """Edit distance of two sequences."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


def tokens(text: str, code: str) -> list[str]:
    """Lower-cased words, or characters where those are judged, without punctuation."""
    plain = "".join(c if unicodedata.category(c)[0] in "LNM" or c == "'" else " " for c in text.lower())
    return list(plain.replace(" ", "")) if code in CHARACTERS else plain.split()


class Recogniser:
    """A recogniser checkpoint; the log-mel of each clip is made alone and zero-padded, so a batch answers as
    its single clips do.
    """

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        self.processor = AutoProcessor.from_pretrained(folder)
        self.model = AutoModelForMultimodalLM.from_pretrained(folder, dtype=dtype).eval()

    def __call__(self, waves: list[np.ndarray], **request: Any) -> list[dict[str, str | None]]:
        """Answers ``{language, transcription}`` for each clip."""
        answers = []
        for first in range(0, len(waves), 16):
            singles = [
                self.processor.apply_transcription_request(audio=[wave], **request)
                for wave in waves[first : first + 16]
            ]
            length = max(single["input_ids"].shape[1] for single in singles)
            frames = max(single["input_features"].shape[2] for single in singles)
            pad = self.processor.tokenizer.pad_token_id

            def left(tensor: torch.Tensor, value: int, length: int = length) -> torch.Tensor:
                return torch.nn.functional.pad(tensor, (length - tensor.shape[1], 0), value=value)

            def right(tensor: torch.Tensor, frames: int = frames) -> torch.Tensor:
                return torch.nn.functional.pad(tensor, (0, frames - tensor.shape[-1]))

            with torch.inference_mode():
                out = self.model.generate(
                    input_ids=torch.cat([left(single["input_ids"], pad) for single in singles]),
                    attention_mask=torch.cat([left(single["attention_mask"], 0) for single in singles]),
                    input_features=torch.cat([right(single["input_features"]) for single in singles]).to(
                        self.model.dtype
                    ),
                    input_features_mask=torch.cat(
                        [right(single["input_features_mask"]) for single in singles]
                    ),
                    max_new_tokens=120,
                )
            answers += self.processor.decode(out[:, length:], return_format="parsed")
        return answers


class Aligner:
    """An aligner checkpoint."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        self.processor = AutoProcessor.from_pretrained(folder)
        self.model = AutoModelForTokenClassification.from_pretrained(folder, dtype=dtype).eval()

    def __call__(self, wave: np.ndarray, text: str, language: str) -> list[dict[str, Any]]:
        """Answers ``{text, start_time, end_time}`` for each unit of the text."""
        inputs, units = self.processor.prepare_forced_aligner_inputs(
            audio=[wave], transcript=[text], language=language
        )
        inputs["input_features"] = inputs["input_features"].to(self.model.dtype)
        with torch.inference_mode():
            logits = self.model(**inputs).logits
        return self.processor.decode_forced_alignment(
            logits, inputs["input_ids"], units, self.model.config.timestamp_token_id
        )[0]


def synthetic(clips: Clips, style: Style, each: int, seed: int = 7) -> list[Utterance]:
    """Fresh utterances, ``each`` of every language."""
    rng = np.random.default_rng(seed)
    return [utterance(clips, rng, style, language.code) for language in LANGUAGES for _ in range(each)]


def judge_recogniser(recogniser: Recogniser, items: list[Utterance]) -> dict[str, tuple[float, float, int]]:
    """Error rate, share of right languages and number of errors, by language and for ``all``."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for item, answer in zip(items, recogniser([item.audio for item in items]), strict=True):
        assert item.language is not None
        code = item.language.code
        reference = tokens(item.language.text(item.words), code)
        errors = distance(reference, tokens(answer["transcription"] or "", code))
        for key in (code, "all"):
            row = counts[key]
            row[0] += errors
            row[1] += len(reference)
            row[2] += answer["language"] == item.language.name
            row[3] += 1
    return {key: (row[0] / row[1], row[2] / row[3], row[0]) for key, row in counts.items()}


def judge_aligner(aligner: Aligner, items: list[Utterance]) -> tuple[dict[str, float], float]:
    """Mean absolute shift of starts and ends, ms, by language and for ``all``, and the median of all.

    The inner borders of a word's characters are left out, and so are the few Japanese utterances in which
    nagisa joins two words.
    """
    shifts: dict[str, list[float]] = defaultdict(list)
    for item in items:
        assert item.language is not None
        answer = aligner(item.audio, item.language.text(item.words), item.language.name)
        units = item.language.units(item.words)
        if len(answer) != len(units):
            continue
        for (_, position, k, pieces), unit in zip(units, answer, strict=True):
            start, end = item.spans[position]
            found = ([abs(unit["start_time"] - start)] if k == 0 else []) + (
                [abs(unit["end_time"] - end)] if k == pieces - 1 else []
            )
            shifts[item.language.code] += found
            shifts["all"] += found
    return {key: 1000 * float(np.mean(values)) for key, values in shifts.items()}, 1000 * float(
        np.median(shifts["all"])
    )


def real_digits(corpus: Path) -> list[tuple[np.ndarray, dict[str, Any]]]:
    """The recordings of real spoken digits in languages that the models know."""
    found = []
    for line in (corpus / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if "digits" in row["tags"] and row["language"] in [language.name for language in LANGUAGES]:
            wave, rate = soundfile.read(corpus / row["audio"], dtype="float32")
            wave = wave if wave.ndim == 1 else wave.mean(1)
            found.append((soxr.resample(wave, rate, RATE) if rate != RATE else wave, row))
    return found


def main() -> None:
    """Prints the tables of the README."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path)
    parser.add_argument("--asr", type=Path)
    parser.add_argument("--aligner", type=Path)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--each", type=int, default=20, help="utterances per language and condition")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dtype = getattr(torch, arguments.dtype)
    columns: dict[str, dict[str, str]] = {}
    recogniser = Recogniser(arguments.asr, dtype) if arguments.asr else None
    aligner = Aligner(arguments.aligner, dtype) if arguments.aligner else None
    banks = {split: Clips(arguments.clips, split) for split in ("train", "test")}
    for name, split, style in CONDITIONS:
        items = synthetic(banks[split], style, arguments.each)
        began = time.process_time()
        if recogniser:
            result = judge_recogniser(recogniser, items)
            speed = sum(len(item.audio) for item in items) / RATE / (time.process_time() - began)
            columns[f"{name}: error / language, %"] = {
                key: f"{100 * rate:.1f} / {100 * right:.0f}" for key, (rate, right, _) in result.items()
            }
            rate, right, _ = result["all"]
            print(
                f"{name}: {len(items)} utterances, error {100 * rate:.2f} %, language {100 * right:.1f} %, "
                f"{speed:.0f}x",
                flush=True,
            )
        if aligner:
            shift, median = judge_aligner(aligner, items)
            columns[f"{name}: AAS, ms"] = {key: f"{value:.0f}" for key, value in shift.items()}
            print(f"{name}: AAS {shift['all']:.1f} ms, median {median:.0f} ms", flush=True)
    print("| language | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 1))
    for key in [language.code for language in LANGUAGES] + ["all"]:
        print(f"| {key} | " + " | ".join(column.get(key, "") for column in columns.values()) + " |")
    if recogniser:
        rng = np.random.default_rng(11)
        answers = recogniser([silence(rng, rng.uniform(0.5, 12)) for _ in range(100)])
        print(
            "no speech answered None:",
            sum(answer["language"] in (None, "None") and not answer["transcription"] for answer in answers),
            "of 100",
        )
    if arguments.corpus:
        judge_digits(recogniser, aligner, arguments.corpus, arguments.verbose)


def judge_digits(recogniser: Recogniser | None, aligner: Aligner | None, corpus: Path, verbose: bool) -> None:
    """Prints the results on real recorded digits."""
    codes = {language.name: language.code for language in LANGUAGES}
    counts: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0, 0])
    shifts: list[float] = []
    for wave, row in real_digits(corpus):
        if recogniser:
            answer = recogniser([wave])[0]
            reference = tokens(row["text"], codes[row["language"]])
            errors = distance(reference, tokens(answer["transcription"] or "", codes[row["language"]]))
            if verbose:
                print(
                    f"  {row['audio']}: {answer['language']} {answer['transcription']} ({errors} errors of "
                    f"{len(reference)}: {row['text']})"
                )
            for key in (row["language"], "all"):
                counts[key] = [
                    a + b
                    for a, b in zip(
                        counts[key],
                        (errors, len(reference), answer["language"] == row["language"], 1),
                        strict=True,
                    )
                ]
        if aligner and row.get("words"):
            found = aligner(wave, row["text"], row["language"])
            for word, unit in zip(row["words"], found, strict=True):
                shifts += [abs(word["start"] - unit["start_time"]), abs(word["end"] - unit["end_time"])]
    for key, (errors, total, right, number) in counts.items():
        print(
            f"real digits {key}: error {100 * errors / total:.1f} % of {total:.0f} words, language "
            f"{right:.0f}/{number:.0f}"
        )
    if shifts:
        print(f"real digits: AAS {1000 * np.mean(shifts):.0f} ms")


if __name__ == "__main__":
    main()

"""Batches of utterances as the two models take them, with every training target that the exact word times
allow.

The log-mel is made per clip and then padded with zeros, as the product does, so that a clip's features never
depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen2Tokenizer, Qwen3ASRFeatureExtractor

from infra.demo_models.checkpoints import LABELS
from infra.demo_models.targets import IGNORE, MOST_WORDS, STEP, Batch, audio_tokens, token_starts, warped
from infra.demo_models.utterances import RATE, Clips, Style, Utterance, utterance
from infra.demo_models.words import FIRST_CLASS, LANGUAGES


class Batcher:
    """Makes batches of random utterances."""

    def __init__(
        self, tokenizer: Qwen2Tokenizer, clips: Clips, seed: int, aligner: bool, batch_seconds: float
    ) -> None:
        self._encode = lambda text: tokenizer(text, add_special_tokens=False).input_ids
        self._clips, self._rng, self._aligner, self._batch_seconds = (
            clips,
            np.random.default_rng(seed),
            aligner,
            batch_seconds,
        )
        self._extractor = Qwen3ASRFeatureExtractor()
        self._pad, self._audio, self._stamp = tokenizer.convert_tokens_to_ids(
            ["<|endoftext|>", "<|audio_pad|>", "<timestamp>"]
        )
        self._cache: dict[str, list[int]] = {}

    def _ids(self, text: str) -> list[int]:
        if text not in self._cache:
            self._cache[text] = self._encode(text)
        return self._cache[text]

    def features(self, wave: np.ndarray, masked: bool = True) -> np.ndarray:
        """Log-mel of one clip; in training now and then with bands and instants blanked out."""
        wave = np.pad(wave, (0, max(0, RATE // 2 - len(wave))))
        mel = self._extractor._torch_extract_fbank_features(wave[None])[0]
        if masked:
            if self._rng.random() < 0.4:
                mel = warped(mel, self._rng.uniform(0.93, 1.08))
            floor = mel.min()
            for _ in range(self._rng.integers(0, 3)):
                low, width = self._rng.integers(0, 128), self._rng.integers(1, 16)
                mel[low : low + width] = floor
            for _ in range(self._rng.poisson(mel.shape[1] / 400)):
                start = self._rng.integers(0, mel.shape[1])
                mel[:, start : start + self._rng.integers(1, 7)] = floor
        return mel

    def _context(self) -> str:
        if self._rng.random() < 0.7:
            return ""
        if self._rng.random() < 0.2:
            return "".join(
                self._rng.choice(list("abcdefghijklmnopqrstuvwxyz ,.0123456789"), self._rng.integers(1, 30))
            ).strip()
        language = LANGUAGES[self._rng.integers(len(LANGUAGES))]
        chosen = self._rng.integers(0, len(language.words), self._rng.integers(1, 7))
        return self._rng.choice([" ", ", "]).join(language.words[i] for i in chosen)

    def _heard(
        self, item: Utterance, centres: np.ndarray, frames: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What a causal model can know of the words in each audio token, how much that counts, and the word
        before.
        """
        heard, weights = frames.copy(), np.where(frames > 0, 0.15, 0.1).astype(np.float32)
        before, previous = np.full(len(frames), IGNORE, np.int64), 0
        for word, (_, end) in zip(item.words, item.spans, strict=True):
            assert item.language is not None
            ending = (centres >= end - STEP) & (centres < end + 1.5 * STEP)
            before[ending], previous = previous, FIRST_CLASS[item.language.code] + word
            heard[ending], weights[ending] = previous, 1.0
        return heard, weights, before

    def _targets(
        self, item: Utterance, count: int
    ) -> tuple[
        list[int],
        list[int],
        list[float],
        np.ndarray,
        np.ndarray,
        list[tuple[int, int, int, int]],
        np.ndarray,
        np.ndarray,
        np.ndarray,
    ]:
        """Token ids, labels, weights, frame classes, counts and pointers of one utterance with ``count``
        audio tokens.
        """
        starts = token_starts(count)
        centres = starts + STEP / 2
        frames, begun = np.zeros(count, np.int64), np.zeros(count, np.int64)
        for word, (start, end) in zip(item.words, item.spans, strict=True):
            assert item.language is not None
            frames[(centres >= start) & (centres < end)] = FIRST_CLASS[item.language.code] + word
            begun[centres >= start] += 1

        def span(start: float, end: float) -> tuple[int, int]:
            first = int(np.searchsorted(starts, start, side="right")) - 1
            last = int(np.searchsorted(starts, end, side="left")) - 1
            return max(0, min(first, count - 1)), max(0, min(max(first, last), count - 1))

        pointers = []
        ends = [span(end - STEP, end + STEP / 2) for _, end in item.spans]
        if self._aligner:
            ids = [*self._ids("<|audio_start|>"), *[self._audio] * count, *self._ids("<|audio_end|>")]
            offset = 1
            labels, weights = [IGNORE] * len(ids), [0.0] * len(ids)
            for k in range(count):
                low = int(starts[k] / STEP + 1e-6)
                labels[offset + k], weights[offset + k] = low, starts[k] / STEP - low
            for text, start, end in item.units():
                piece = self._ids(text)
                first, last = span(end - STEP, end + STEP / 2)
                pointers.append((1, len(ids) + len(piece) - 1, offset + first, offset + last))
                ids += [*piece, self._stamp, self._stamp]
                labels += [IGNORE] * len(piece)
                weights += [0.0] * len(piece)
                for moment in (start, end):
                    low = int(moment / STEP)
                    first, last = span(moment - STEP / 2, moment + STEP / 2)
                    pointers.append((0, len(labels), offset + first, offset + last))
                    labels.append(min(low, LABELS - 2))
                    weights.append(moment / STEP - low)
        else:
            head = self._ids(
                f"<|im_start|>system\n{self._context()}<|im_end|>\n<|im_start|>user\n<|audio_start|>"
            )
            offset = len(head)
            ids = [
                *head,
                *[self._audio] * count,
                *self._ids("<|audio_end|><|im_end|>\n<|im_start|>assistant\n"),
            ]
            labels = [IGNORE] * len(ids)
            if item.language is None:
                answer = self._ids("language None<asr_text><|im_end|>")
                ids, labels = ids + answer, labels + answer
            else:
                answer = self._ids(f"language {item.language.name}<asr_text>")
                ids, labels = ids + answer, labels + answer
                joiner = item.language.joiner
                for k, (word, (first, last)) in enumerate(zip(item.words, ends, strict=True)):
                    text = item.language.words[word]
                    piece = self._ids(joiner + text if k else text[0].upper() + text[1:])
                    pointers += [
                        (0, len(ids) + j - 1, offset + first, offset + last) for j in range(len(piece))
                    ]
                    pointers.append((1, len(ids) + len(piece) - 1, offset + first, offset + last))
                    ids, labels = ids + piece, labels + piece
                answer = self._ids(f"{item.language.stop}<|im_end|>")
                ids, labels = ids + answer, labels + answer
            weights = [0.0] * len(ids)
        for (first, last), (next_first, next_last) in pairwise(ends):
            if next_first > last:
                pointers += [
                    (1, offset + position, offset + first, offset + last)
                    for position in range(next_first, next_last + 1)
                ]
        counts = np.full(len(ids), IGNORE, np.int64)
        counts[offset : offset + count] = np.minimum(begun, MOST_WORDS - 1)
        heard, heard_weights = np.full(len(ids), IGNORE, np.int64), np.zeros(len(ids), np.float32)
        before, audio = np.full(len(ids), IGNORE, np.int64), slice(offset, offset + count)
        heard[audio], heard_weights[audio], before[audio] = self._heard(item, centres, frames)
        return ids, labels, weights, frames, counts, pointers, heard, heard_weights, before

    def batch(self, longest: float, ease: float = 0.0) -> Batch:
        """Makes a batch of utterances of similar length.

        Args:
            longest: no utterance is longer, seconds.
            ease: 1 for clean and dense speech, as at the start of training, 0 for everything.
        """
        rng = self._rng
        target = rng.uniform(min(1.2, longest / 2), longest)
        size = int(np.clip(self._batch_seconds / target, 4, 40))
        style = Style(
            seconds=(max(0.6, 0.75 * target), target),
            silence=0.0 if self._aligner else 0.05 - 0.03 * ease,
            clean=0.25 + 0.65 * ease,
            stretch=0.15 - 0.08 * ease,
            snr=(8 + 14 * ease, 50),
            codec=0.06 * (1 - ease),
            pace=1.0,
        )
        items = []
        while len(items) < size:
            item = utterance(
                self._clips,
                rng,
                style,
                code=LANGUAGES[rng.integers(len(LANGUAGES))].code if self._aligner else None,
            )
            if len(item.words) < MOST_WORDS:
                items.append(item)
        mels = [self.features(item.audio) for item in items]
        width = -(-max(mel.shape[1] for mel in mels) // 100) * 100
        features, mask = torch.zeros(size, 128, width), torch.zeros(size, width, dtype=torch.int32)
        rows = []
        for k, (item, mel) in enumerate(zip(items, mels, strict=True)):
            features[k, :, : mel.shape[1]] = torch.from_numpy(mel)
            mask[k, : mel.shape[1]] = 1
            rows.append(self._targets(item, audio_tokens(mel.shape[1])))
        length = max(len(row[0]) for row in rows)
        ids = torch.full((size, length), self._pad)
        labels, counts = torch.full((size, length), IGNORE), torch.full((size, length), IGNORE)
        weights, heard_weights = torch.zeros(size, length), torch.zeros(size, length)
        heard, before = torch.full((size, length), IGNORE), torch.full((size, length), IGNORE)
        pointers = []
        for k, (
            row_ids,
            row_labels,
            row_weights,
            _,
            row_counts,
            row_pointers,
            row_heard,
            row_heard_weights,
            row_before,
        ) in enumerate(rows):
            ids[k, : len(row_ids)] = torch.tensor(row_ids)
            labels[k, : len(row_ids)] = torch.tensor(row_labels)
            weights[k, : len(row_ids)] = torch.tensor(row_weights)
            counts[k, : len(row_ids)] = torch.from_numpy(row_counts)
            heard[k, : len(row_ids)] = torch.from_numpy(row_heard)
            heard_weights[k, : len(row_ids)] = torch.from_numpy(row_heard_weights)
            before[k, : len(row_ids)] = torch.from_numpy(row_before)
            pointers += [(kind, k, *pointer) for kind, *pointer in row_pointers]
        return Batch(
            ids,
            features,
            mask,
            labels,
            weights,
            torch.from_numpy(np.concatenate([row[3] for row in rows])),
            heard,
            heard_weights,
            before,
            counts,
            torch.tensor(pointers, dtype=torch.long).reshape(-1, 5),
            sum(len(item.audio) for item in items) / RATE,
        )


class Stream(torch.utils.data.IterableDataset):
    """An endless stream of batches for a data worker; how hard they are is read from a shared tensor, which
    the trainer updates.
    """

    def __init__(
        self,
        tokenizer: Qwen2Tokenizer,
        folder: Path,
        seed: int,
        aligner: bool,
        batch_seconds: float,
        schedule: torch.Tensor,
    ) -> None:
        super().__init__()
        self._arguments = (tokenizer, folder, seed, aligner, batch_seconds)
        self._schedule = schedule

    def __iter__(self) -> Iterator[Batch]:
        torch.set_num_threads(1)
        tokenizer, folder, seed, aligner, batch_seconds = self._arguments
        clips = Clips(folder, "train")
        batcher = Batcher(tokenizer, clips, seed, aligner, batch_seconds)
        made = 0
        while True:
            yield batcher.batch(*self._schedule.tolist())
            made += 1
            if made % 200 == 0:
                clips.refresh()

"""Recordings whose structure is damaged, in any number: (seed, number) always gives the same file.

    python -m tests.faults.structures.structure_fuzzer COUNT SEED [--first N] [--keep FOLDER]

This prints every file of which Scriptorium hears less than ffmpeg or libsndfile without saying so, and counts
by outcome.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from actors.config import AudioConfig, SegmenterConfig
from actors.decoder import Decoder
from tests.faults.structures import box_damage, chunk_damage, stream_damage
from tests.faults.structures.generic_damage import CARELESS, GENERIC, Damage, Damaging
from tests.faults.structures.hearing import (
    Heard,
    audible_seconds,
    by_ffmpeg,
    by_scriptorium,
    by_soundfile,
)
from tests.faults.structures.recordings import FORMATS, Base, make

# Seconds of the recordings; the longer ones are planned as several shards.
SHORT, LONG, SHARD = 5.0, 23.0, 10.0
# Share of what others hear that may be missing without a flag, and seconds that a codec's delay takes.
ALLOWED, DELAY = 0.02, 0.06
# By the suffix of the file.
_OWN: dict[str, tuple[Damage, ...]] = {
    "wav": chunk_damage.WAVE,
    **dict.fromkeys(("w64", "aiff", "caf"), chunk_damage.CHUNKS),
    "avi": chunk_damage.AVI,
    "au": chunk_damage.AU,
    "flac": stream_damage.FLAC,
    **dict.fromkeys(("opus", "ogg", "spx", "oga"), stream_damage.OGG),
    "mp3": stream_damage.MP3,
    **dict.fromkeys(("mp2", "aac", "latm", "ac3", "eac3", "dts", "amr"), stream_damage.FRAMES),
    **dict.fromkeys(("m4a", "mp4", "3gp", "mov"), box_damage.MP4),
    **dict.fromkeys(("mka", "mkv", "webm"), box_damage.MATROSKA),
    **dict.fromkeys(("wma", "wmv"), box_damage.ASF),
    "flv": box_damage.FLV,
    **dict.fromkeys(("ts", "m2ts"), stream_damage.TS),
    **dict.fromkeys(("mpg", "vob"), stream_damage.PS),
}


@dataclass(frozen=True)
class Damaged:
    """A damaged recording."""

    name: str
    data: bytes
    # Seconds of sound that it has at most.
    seconds: float
    is_long: bool


@dataclass(frozen=True)
class Verdict:
    """What was heard of a damaged recording."""

    heard: Heard
    # Seconds of sound that ffmpeg or libsndfile heard, the longer.
    others: float
    is_silent_loss: bool

    @property
    def is_refused(self) -> bool:
        """Whether it is a dead letter, although others hear much of it: no loss in silence, but a loss."""
        return self.heard.error_code is not None and self.others >= 1.0


def bases(folder: Path, names: Sequence[str] = tuple(FORMATS)) -> list[Base]:
    """Healthy recordings, two of each format that this machine's ffmpeg can write."""
    made = [make(folder, name, seconds, seed) for seed, seconds in ((1, SHORT), (2, LONG)) for name in names]
    return [one for one in made if one is not None]


def damaged(files: Sequence[Base], seed: int, number: int) -> Damaged:
    """Recording `number` of `seed`: damages of its own kind or of any kind, some with careless ones."""
    chance = random.Random(f"{seed}:{number}")
    names = sorted({base.name for base in files})
    name = names[number % len(names)]
    base = chance.choice([one for one in files if one.name == name])
    at = Damaging(chance, [one for one in files if one.seconds != LONG], base.seconds)
    own = _OWN.get(base.suffix, stream_damage.OTHER)
    chosen = [chance.choice(own) if chance.random() < 0.6 else chance.choice(GENERIC)]
    if chance.random() < 0.25:
        chosen.append(chance.choice((*own, *GENERIC)))
    if chance.random() < 0.25:
        chosen.append(chance.choice(CARELESS))
    data, done = base.data, []
    for damage in chosen:
        try:
            data = damage(data, at) or data
        except (IndexError, KeyError, ValueError):
            # What the damage before it left has no such structure.
            continue
        done.append(damage.__name__)
    title = f"{number:06d}-{base.name.replace(' ', '_')}-{'+'.join(done)}.{base.suffix}"
    return Damaged(title, data, at.seconds, base.seconds == LONG)


def judge(decoder: Decoder, one: Damaged, folder: Path) -> Verdict:
    """Compare what Scriptorium, ffmpeg and libsndfile hear of a damaged recording."""
    path = folder / one.name
    path.write_bytes(one.data)
    try:
        heard = by_scriptorium(decoder, path, SHARD)
        others = heard_by_others(by_ffmpeg(path), by_soundfile(path))
    finally:
        path.unlink()
    # More than was put in is no sound, but what a wrong reader takes for it.
    expected = min(others, one.seconds)
    short = heard.seconds < (1 - ALLOWED) * expected - DELAY
    return Verdict(heard, others, short and not heard.admits_losses)


def heard_by_others(ffmpeg: np.ndarray, libsndfile: np.ndarray) -> float:
    """Seconds that ffmpeg hears, or libsndfile where it reads on for longer.

    Where both read as far, they only differ in the noise of their decoders (Opus, IMA ADPCM).
    """
    seconds = audible_seconds(ffmpeg)
    if len(libsndfile) > (1 + ALLOWED) * len(ffmpeg):
        seconds = max(seconds, audible_seconds(libsndfile))
    return seconds


def make_decoder() -> Decoder:
    """A decoder as in a run, whose segments leave out nothing but silence."""
    return Decoder(AudioConfig(timeout=60, max_memory=2, retries=0), SegmenterConfig(backend="energy"))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="damage the structure of recordings and listen to them")
    parser.add_argument("count", type=int, metavar="COUNT")
    parser.add_argument("seed", type=int, metavar="SEED")
    parser.add_argument("--first", type=int, default=0, help="number of the first recording")
    parser.add_argument("--keep", type=Path, help="folder for the recordings with unflagged losses")
    given = parser.parse_args()
    outcomes: Counter[str] = Counter()
    decoder = make_decoder()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = bases(folder)
        for number in range(given.first, given.first + given.count):
            one = damaged(files, given.seed, number)
            verdict = judge(decoder, one, folder)
            outcomes[verdict.heard.outcome] += 1
            if number % 100 == 99:
                print(number + 1, dict(outcomes.most_common()), flush=True)
            if verdict.is_refused:
                outcomes["refused, and heard by others"] += 1
                print(f"{one.name}: {verdict.heard.error_code}, others {verdict.others:.2f} s", flush=True)
            if not verdict.is_silent_loss:
                continue
            outcomes["LOST WITHOUT A FLAG"] += 1
            heard = verdict.heard
            print(f"{one.name}: {heard.seconds:.2f} s of {min(verdict.others, one.seconds):.2f}, "
                  f"{heard.statuses} {sorted(heard.flags)}", flush=True)  # fmt: skip
            if given.keep:
                given.keep.mkdir(parents=True, exist_ok=True)
                (given.keep / one.name).write_bytes(one.data)
    decoder.close()
    print(dict(outcomes.most_common()))


if __name__ == "__main__":
    main()

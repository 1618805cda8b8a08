"""Damaged recordings in any number: real files, mutated so that (seed, number) always gives the same bytes.

    python -m tests.faults.harness.fuzzer COUNT SEED FOLDER

This writes COUNT files and FOLDER/manifest.jsonl. The sources are the demo's recordings and, if present, the
corpus (`CORPUS_DIR`, by default beside the repository).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SUFFIXES = (
    ".wav",
    ".flac",
    ".mp3",
    ".m4a",
    ".ogg",
    ".opus",
    ".mp4",
    ".aac",
    ".webm",
    ".mkv",
    ".aiff",
    ".amr",
    ".wma",
    ".txt",
    "",
)
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
# Names of fields and chunks next to which containers store lengths, rates and offsets.
MARKS = (
    b"fmt ",
    b"data",
    b"LIST",
    b"COMM",
    b"SSND",
    b"OggS",
    b"fLaC",
    b"moov",
    b"mdhd",
    b"stsd",
    b"stsz",
    b"stco",
    b"stts",
    b"stsc",
    b"esds",
)
MARKS += (
    b"elst",
    b"mvhd",
    b"tkhd",
    b"Xing",
    b"Info",
    b"ID3",
    b"OpusHead",
    b"vorbis",
    b"\x1a\x45\xdf\xa3",
    b"\x44\x89",
    b"caff",
    b"desc",
)

Mutation = Callable[[bytearray, random.Random, Callable[[], bytes]], bytearray]


@dataclass(frozen=True)
class Mutant:
    """A damaged file; `name` contains its number, the mutation and the source file."""

    name: str
    data: bytes


def sources(largest: int = 400_000) -> list[Path]:
    """Healthy recordings to damage, of at most `largest` bytes each, in a fixed order."""
    corpus = Path(os.environ.get("CORPUS_DIR") or ROOT.parent / "shared" / "corpus") / "audio"
    found = sorted((ROOT / "configs" / "demo" / "audio").iterdir()) + (
        sorted(corpus.iterdir()) if corpus.is_dir() else []
    )
    return [path for path in found if path.is_file() and 0 < path.stat().st_size <= largest]


def mutant(files: Sequence[Path], seed: int, number: int, largest: int = 400_000) -> Mutant:
    """Mutant `number` of `seed`: one of `files` with one to three mutations, at most `largest` bytes long."""
    chance = random.Random(f"{seed}:{number}")
    # Containers take turns whatever their share of the files: half of any archive is WAVE, which has the
    # simplest decoder.
    kinds = sorted({path.suffix for path in files})
    kind = kinds[number % len(kinds)]
    source = chance.choice([path for path in files if path.suffix == kind])

    def other() -> bytes:
        return chance.choice(files).read_bytes()

    data = bytearray(source.read_bytes())
    done = chance.sample(sorted(MUTATIONS), chance.choice((1, 1, 1, 2, 2, 3)))
    for name in done:
        data = (
            MUTATIONS[name](data, chance, other)[:largest] if data else data
            # An empty file cannot be damaged further.
        )
    suffix = chance.choice(SUFFIXES) if chance.random() < 0.2 else source.suffix
    return Mutant(f"{number:06d}_{'_'.join(done)}_{source.stem[:40]}{suffix}", bytes(data))


def write(folder: Path, count: int, seed: int, largest: int = 400_000, first: int = 0) -> Path:
    """Write mutants `first` to `first + count` of `seed` and their manifest; return the manifest's path."""
    folder.mkdir(parents=True, exist_ok=True)
    files = sources(largest)
    with open(folder / "manifest.jsonl", "w", encoding="utf-8") as manifest:
        for number in range(first, first + count):
            damaged = mutant(files, seed, number, largest)
            (folder / damaged.name).write_bytes(damaged.data)
            manifest.write(json.dumps({"id": damaged.name, "audio": damaged.name}) + "\n")
    return folder / "manifest.jsonl"


def _flip(data: bytearray, chance: random.Random, other: Callable[[], bytes]) -> bytearray:
    for _ in range(chance.choice((1, 4, 32, 256, 2048))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return data


def _header(data: bytearray, chance: random.Random, other: Callable[[], bytes]) -> bytearray:
    """Extreme numbers in the first bytes, where headers keep lengths and rates."""
    for _ in range(chance.choice((1, 2, 4))):
        _put(data, chance.randrange(min(len(data), 512)), chance)
    return data


def _field(data: bytearray, chance: random.Random, other: Callable[[], bytes]) -> bytearray:
    """Extreme numbers next to the name of a field or chunk, anywhere in the file."""
    places = [
        place for mark in MARKS if (place := data.find(mark, chance.choice((0, len(data) // 2)))) >= 0
    ] or [0]
    for _ in range(chance.choice((1, 2, 4))):
        _put(data, max(0, chance.choice(places) + chance.randrange(-4, 40)), chance)
    return data


def _put(data: bytearray, place: int, chance: random.Random) -> None:
    value = chance.choice((*EXTREMES, chance.getrandbits(32)))
    field = struct.pack(chance.choice(("<I", ">I")), value)[: chance.choice((1, 2, 4))]
    field = field if chance.random() < 0.8 else field * 2
    data[place : place + len(field)] = field


def _truncate(data: bytearray, chance: random.Random, other: Callable[[], bytes]) -> bytearray:
    return data[: chance.choice((chance.randrange(len(data)), chance.randrange(min(len(data), 256))))]


def _behead(data: bytearray, chance: random.Random, other: Callable[[], bytes]) -> bytearray:
    return data[chance.choice((chance.randrange(len(data)), chance.randrange(min(len(data), 256)))) :]


def _splice(data: bytearray, chance: random.Random, other: Callable[[], bytes]) -> bytearray:
    second = other()
    return data[: chance.randrange(len(data))] + second[chance.randrange(len(second)) :]


def _chain(data: bytearray, chance: random.Random, other: Callable[[], bytes]) -> bytearray:
    """Two whole files concatenated."""
    return data + other()


def _insert(data: bytearray, chance: random.Random, other: Callable[[], bytes]) -> bytearray:
    place, length = chance.randrange(len(data)), chance.choice((1, 7, 512, 20_000))
    block = chance.choice(
        (bytes(length), chance.randbytes(length), b"\xff" * length, bytes(data[place : place + length]))
    )
    return data[:place] + block + data[place:]


def _remove(data: bytearray, chance: random.Random, other: Callable[[], bytes]) -> bytearray:
    place = chance.randrange(len(data))
    return data[:place] + data[place + chance.choice((1, 7, 512, 20_000)) :]


def _blank(data: bytearray, chance: random.Random, other: Callable[[], bytes]) -> bytearray:
    place, length = chance.randrange(len(data)), chance.choice((4, 512, 20_000))
    data[place : place + length] = chance.choice((bytes(length), chance.randbytes(length)))
    return data


def _swap(data: bytearray, chance: random.Random, other: Callable[[], bytes]) -> bytearray:
    """The blocks of a file in another order, so that time stamps jump back and forth."""
    length = max(64, len(data) // chance.choice((4, 16, 64)))
    blocks = [data[place : place + length] for place in range(0, len(data), length)]
    head, rest = blocks[:1], blocks[1:]
    chance.shuffle(rest)
    return bytearray().join([*head, *rest])


MUTATIONS: dict[str, Mutation] = {
    "flip": _flip,
    "header": _header,
    "field": _field,
    "truncate": _truncate,
    "behead": _behead,
    "splice": _splice,
    "chain": _chain,
    "insert": _insert,
    "remove": _remove,
    "blank": _blank,
    "swap": _swap,
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="write damaged recordings and their manifest")
    parser.add_argument("count", type=int, metavar="COUNT")
    parser.add_argument("seed", type=int, metavar="SEED")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--largest", type=int, default=400_000, help="bytes of the largest file")
    given = parser.parse_args()
    print(write(given.folder, given.count, given.seed, given.largest))


if __name__ == "__main__":
    main()

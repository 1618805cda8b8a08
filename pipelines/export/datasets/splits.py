"""Divides recordings into parts of a training set, and into shards. Pure, seeded, the same every time."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence


def seeded_order(seed: int, key: object) -> int:
    """A number by which things are put in a random order that depends on nothing but the seed and the "
    "thing."""
    digest = hashlib.sha256(f"{seed}\0{key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big")


def components(keys: Sequence[Sequence[Hashable]]) -> list[int]:
    """The number of the group of each recording: recordings that share a key, directly or through others.

    Args:
        keys: of each recording, such as its speakers.

    Returns:
        For each recording the smallest index in its group.
    """
    parent = list(range(len(keys)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[Hashable, int] = {}
    for index, of_recording in enumerate(keys):
        for key in of_recording:
            other = root(first.setdefault(key, index))
            mine = root(index)
            parent[max(mine, other)] = min(mine, other)
    return [root(index) for index in range(len(keys))]


def split(
    recording_ids: Sequence[str],
    seconds: Sequence[float],
    keys: Sequence[Sequence[Hashable]],
    shares: Mapping[str, float],
    seed: int,
) -> list[str]:
    """The part of each recording.

    No two recordings that share a key are in different parts. Groups are taken in random order, the largest
    ones first where they are a large share of all, and each goes to the part that lacks most of its share.

    Args:
        recording_ids: unique.
        seconds: of each recording.
        keys: see `components`.
        shares: of the seconds by part; they add up to 1.
        seed: of the order.
    """
    groups: dict[int, list[int]] = defaultdict(list)
    for index, group in enumerate(components(keys)):
        groups[group].append(index)
    total = sum(seconds) or 1.0
    sizes = {group: sum(seconds[index] for index in members) for group, members in groups.items()}
    smallest = min(shares.values()) * total

    def order(group: int) -> tuple[float, int]:
        name = min(recording_ids[index] for index in groups[group])
        # A group that would fill a small part alone is placed first, where there is most room.
        large = sizes[group] if sizes[group] > smallest / 2 else 0.0
        return -large, seeded_order(seed, name)

    missing = {part: share * total for part, share in shares.items()}
    parts = [""] * len(recording_ids)
    for group in sorted(groups, key=order):
        # The part that lacks the largest share of what it should have; ties go to the first one.
        part = max(missing, key=lambda part: missing[part] / (shares[part] * total))
        if sizes[group] > missing[part]:
            part = max(missing, key=lambda part: missing[part])
        missing[part] -= sizes[group]
        for index in groups[group]:
            parts[index] = part
    return parts


def within_hours(
    recording_ids: Sequence[str],
    seconds: Sequence[float],
    values: Sequence[object],
    max_hours: float,
    seed: int,
) -> list[bool]:
    """Which recordings are kept so that no value has more than `max_hours`; random ones are."""
    kept = [False] * len(recording_ids)
    used: dict[object, float] = defaultdict(float)
    for index in sorted(
        range(len(recording_ids)), key=lambda index: seeded_order(seed, recording_ids[index])
    ):
        value = values[index]
        if used[value] + seconds[index] <= max_hours * 3600:
            used[value] += seconds[index]
            kept[index] = True
    return kept

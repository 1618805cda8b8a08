"""Training sets as manifests, which point into the recordings or to FLAC files: NeMo, lhotse's cuts, Kaldi.

Each shard writes its lines as pieces; at the end the pieces become the common files of each part.
"""

from __future__ import annotations

import gzip
import heapq
import io
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

from actors.records import Row
from pipelines.export.datasets.archives import copy_all, lhotse_cut
from pipelines.export.datasets.clips import cut_samples, shard_samples
from pipelines.export.datasets.job import DatasetJob, json_line, link_of, tally
from pipelines.export.datasets.plan import Shard
from pipelines.export.datasets.samples import Sample
from pipelines.export.names import flat_name
from pipelines.storage import files
from pipelines.storage.atomic_files import streamed_file

# The files of a data folder of Kaldi that a shard adds lines to; they are sorted by their first field.
KALDI_FILES = ("wav.scp", "segments", "text", "utt2spk", "utt2lang", "utt2dur", "reco2dur")
# Samples of several speakers, or of an unknown one.
_UNKNOWN = "unknown"


def write_manifest_shard(job: DatasetJob, shard: Shard) -> Counter[str]:
    """The pieces of one shard, and its audio files where audio is cut."""
    counts: Counter[str] = Counter()
    lines: dict[str, list[bytes]] = defaultdict(list)
    recordings = set()
    for row, sample, address in _located(job, shard, counts):
        recordings.add(row["recording_id"])
        tally(counts, shard.split, sample, 0)
        if job.form == "nemo":
            lines["manifest.jsonl"].append(json_line(nemo_line(sample, address, job.audio == "link")))
        elif job.form == "lhotse":
            lines["cuts.jsonl.gz"].append(json_line(_linked_cut(row, sample, address)))
        else:
            for name, line in kaldi_lines(row, sample, address, job.audio == "link").items():
                lines[name].append(line.encode("utf-8", "replace"))
    for name, found in lines.items():
        if job.form == "kaldi":
            found = sorted(set(found))
        data = b"".join(found)
        if name.endswith(".gz"):
            buffer = io.BytesIO()
            with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, filename="") as file:
                file.write(data)
            data = buffer.getvalue()
        files.write_atomic(job.piece(shard, name), data, sync=False)
    counts[f"recordings_{shard.split}"] = len(recordings)
    return counts


def join_pieces(job: DatasetJob, shards: Sequence[Shard]) -> int:
    """Join the pieces of all shards to the files of each part; returns the bytes written."""
    size = 0
    for split in dict.fromkeys(shard.split for shard in shards):
        members = [shard for shard in shards if shard.split == split]
        for name, target in _targets(job, split):
            pieces = [job.piece(shard, name) for shard in members]
            found = [uri for uri in pieces if files.exists(uri)]
            with streamed_file(target) as file:
                if job.form == "kaldi":
                    file.writelines(_merged(found))
                else:
                    for uri in found:
                        with files.open(uri) as piece:
                            copy_all(piece, file)
                size += file.tell()
            for uri in found:
                files.remove(uri)
        if job.form == "kaldi":
            size += _write_spk2utt(job, split)
    _remove_folder(job.address(".pieces"))
    return size


def nemo_line(sample: Sample, address: str, linked: bool) -> dict[str, Any]:
    """A line of a NeMo manifest."""
    line: dict[str, Any] = {
        "audio_filepath": address,
        "duration": round(sample.duration, 3),
        "text": sample.text,
    }
    if linked:
        line["offset"] = round(sample.start, 3)
    facts = sample.facts()
    facts["lang"] = facts.pop("language")
    if linked:
        facts.pop("start"), facts.pop("end")
    return line | {name: value for name, value in facts.items() if value not in (None, [], {})}


def kaldi_lines(row: Row, sample: Sample, address: str, linked: bool) -> dict[str, str]:
    """The lines of one sample in the files of a data folder of Kaldi.

    The id of an utterance begins with that of its speaker, so that both sort in the same way.
    """
    recording = flat_name(row["recording_id"], "_-")
    speaker = flat_name(sample.speaker, "_-") if sample.speaker else _UNKNOWN
    # Without names, S1 of one recording is not S1 of another.
    names = {entry["name"] for entry in row.get("speakers") or () if entry["name"]}
    speaker = speaker if sample.speaker in names else f"{recording}-{speaker}"
    utterance = f"{speaker}-{sample.key}"
    wav = recording if linked else utterance
    lines = {
        "wav.scp": f"{wav} {_command(address, row, sample, linked)}\n",
        "text": f"{utterance} {' '.join(sample.text.split())}\n",
        "utt2spk": f"{utterance} {speaker}\n",
        "utt2lang": f"{utterance} {sample.language or 'und'}\n",
        "utt2dur": f"{utterance} {sample.duration:.3f}\n",
    }
    lines["reco2dur"] = f"{wav} {_file_seconds(row, sample) if linked else sample.duration:.3f}\n"
    if linked:
        lines["segments"] = f"{utterance} {wav} {sample.start:.3f} {sample.end:.3f}\n"
    return lines


def _located(job: DatasetJob, shard: Shard, counts: Counter[str]) -> Iterator[tuple[Row, Sample, str]]:
    """The samples of a shard with the address of their audio, which is written here where it is cut."""
    rows = shard_samples(shard, job.filters, job.samples)
    if job.audio == "cut":
        skipped: Counter[str] = Counter()
        for row, sample, data, _ in cut_samples(job.out, rows, skipped):
            address = job.address("audio", shard.split, f"{shard.number:05d}", f"{sample.key}.flac")
            files.write_atomic(address, data, sync=False)
            counts["bytes"] += len(data)
            yield row, sample, address
        counts.update({f"skipped_{reason}": number for reason, number in skipped.items()})
        return
    for row, samples in rows:
        address_or_none = link_of(row)
        if address_or_none is None or any(char in address_or_none for char in "\r\n"):
            counts["skipped_audio_inside_a_file"] += len(samples)
            continue
        for sample in samples:
            yield row, sample, address_or_none


def _linked_cut(row: Row, sample: Sample, address: str) -> dict[str, Any]:
    provenance = row.get("provenance") or {}
    rate, channels = provenance.get("sampling_rate") or 16_000, provenance.get("channels") or 1
    seconds = _file_seconds(row, sample)
    recording = {
        "id": row["recording_id"],
        "sources": [
            {
                "type": "url" if files.is_remote(address) else "file",
                "channels": list(range(channels)),
                "source": address,
            }
        ],
        "sampling_rate": rate,
        "num_samples": round(seconds * rate),
        "duration": round(seconds * rate) / rate,
        "channel_ids": list(range(channels)),
    }
    clip = sample.clip
    channel = clip.channel if clip.channel is not None else 0 if channels == 1 else list(range(channels))
    return lhotse_cut(sample, recording, round(sample.start, 6), round(sample.duration, 6), channel)


def _file_seconds(row: Row, sample: Sample) -> float:
    """Seconds of the file, as far as it was decoded."""
    return float(max(((row.get("window") or {}).get("start") or 0.0) + (row["duration"] or 0.0), sample.end))


def _command(address: str, row: Row, sample: Sample, linked: bool) -> str:
    """The audio in wav.scp: a path to a WAV file with one channel, else a pipe that makes one."""
    provenance = row.get("provenance") or {}
    plain = not any(char.isspace() or char in "|'\"" for char in address)
    if linked and plain and address.lower().endswith(".wav") and (provenance.get("channels") or 1) == 1:
        return address
    channel = sample.clip.channel
    mix = "" if channel is None or not linked else f" -af 'pan=mono|c0=c{channel}'"
    return f"ffmpeg -nostdin -v error -i {shlex.quote(address)}{mix} -ac 1 -ar 16000 -f wav - |"


def _targets(job: DatasetJob, split: str) -> list[tuple[str, str]]:
    """The names of pieces, and the files that they become."""
    if job.form == "nemo":
        return [("manifest.jsonl", job.address(f"{split}_manifest.jsonl"))]
    if job.form == "lhotse":
        return [("cuts.jsonl.gz", job.address(f"{split}_cuts.jsonl.gz"))]
    names = [name for name in KALDI_FILES if name != "segments" or job.audio == "link"]
    return [(name, job.address(split, name)) for name in names]


def _merged(uris: Sequence[str]) -> Iterable[bytes]:
    """The lines of sorted files in the order of all, each once."""
    opened: list[BinaryIO] = []
    try:
        for uri in uris:
            opened.append(files.open(uri))
        before = b""
        for line in heapq.merge(*opened):
            if line != before:
                yield line
            before = line
    finally:
        for file in opened:
            file.close()


def _write_spk2utt(job: DatasetJob, split: str) -> int:
    """spk2utt from utt2spk, whose lines are sorted by speaker, as utterances begin with theirs."""
    by_speaker: dict[str, list[str]] = defaultdict(list)
    with files.open(job.address(split, "utt2spk")) as file:
        for line in file:
            utterance, speaker = line.decode().split()
            by_speaker[speaker].append(utterance)
    lines = sorted(f"{speaker} {' '.join(found)}\n".encode() for speaker, found in by_speaker.items())
    files.write_atomic(job.address(split, "spk2utt"), b"".join(lines))
    return sum(map(len, lines))


def _remove_folder(uri: str) -> None:
    """Remove the empty folders that pieces leave on a disk; object stores have none."""
    import shutil

    if not files.is_remote(uri):
        shutil.rmtree(files.absolute(uri), ignore_errors=True)

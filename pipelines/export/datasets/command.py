"""Writes a training set: plans parts and shards, writes the shards in parallel, and states the numbers."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
from typing import Literal

from actors.errors import UsageError
from pipelines.export import selection
from pipelines.export.datasets import archives, manifests
from pipelines.export.datasets.card import card
from pipelines.export.datasets.job import DatasetJob
from pipelines.export.datasets.plan import PlanOptions, Shard, plan_shards
from pipelines.export.datasets.samples import SampleOptions
from pipelines.export.parallel import LARGE_SECONDS, run_tasks, workers_for
from pipelines.output import run_record
from pipelines.output.transcript_filters import Filters
from pipelines.storage import files

# Bytes of FLAC for a second of speech, mono, 16 kHz: what a dry run expects.
_FLAC_BYTES = 17_000
_EMBEDDED = ("hf", "webdataset")
# What training sets consist of, by the end of the name.
_WRITTEN = (
    *(".parquet", ".tar", ".jsonl", ".jsonl.gz", ".flac", "/README.md", "/wav.scp", "/segments", "/text"),
    *("/utt2spk", "/spk2utt", "/utt2lang", "/utt2dur", "/reco2dur"),
)


def write_dataset(given: argparse.Namespace, out: str, dest: str, filters: Filters) -> Counter[str]:
    """Write the training set that the arguments describe.

    Args:
        given: arguments of `scriptorium export`.
        out: the output directory of the run.
        dest: the folder.
        filters: of the arguments; those of samples are taken from them.

    Returns:
        Counts, as `write_documents` returns them, and those of `tally`.
    """
    job = job_of(given, out, dest, filters)
    shards, counts = plan_shards(out, job.filters, job.samples, job.plan, given.parallel, given.address)
    if given.dry_run:
        return counts + _expected(job, counts)
    _clear(dest, given.overwrite)
    # Linking reads no audio.
    size = counts["planned_seconds"] if job.audio == "cut" else 0.0
    workers = workers_for(size, LARGE_SECONDS, len(shards), given.parallel)
    for found in run_tasks(_ShardWriter(job), shards, workers, given.address):
        counts.update(found)
    finish(job, shards, counts)
    return counts


def _clear(dest: str, overwrite: bool) -> None:
    """Make sure that no shard of an earlier export is taken for one of this.

    Raises:
        UsageError: the folder has files, and they shall not be replaced.
    """
    found = files.list(dest)
    if found and not overwrite:
        raise UsageError(
            f"{dest} is not empty: give a new folder, or --overwrite to replace the training set in it"
        )
    for uri in found:
        if uri.endswith(_WRITTEN):
            files.remove(uri)


def job_of(given: argparse.Namespace, out: str, dest: str, filters: Filters) -> DatasetJob:
    """The job that the arguments describe.

    Raises:
        UsageError: arguments do not fit together.
    """
    if given.audio == "link" and given.format in _EMBEDDED:
        raise UsageError(f"{given.format} holds the audio itself: leave --audio out")
    if given.max_duration is not None and given.max_duration < given.min_duration:
        raise UsageError("--max-duration is less than --min-duration")
    if given.shard_hours <= 0 or given.window <= 0:
        raise UsageError("--shard-hours and --window must be more than 0")
    if given.split_by and not given.split:
        raise UsageError("--split-by needs --split")
    samples = SampleOptions(
        given.unit,
        given.window,
        given.min_duration,
        given.max_duration,
        filters.min_confidence,
        filters.without_flags,
        filters.languages,
        tuple(given.speaker),
        selection.kept_keys(given.selection, given.unit) if given.selection else None,
    )
    plan = PlanOptions(
        given.split or {}, given.split_by, given.max_hours, given.per, given.seed, given.shard_hours
    )
    # These conditions hold for samples: a recording with one bad segment has many good ones.
    of_recordings = replace(filters, languages=(), min_confidence=None, without_flags=())
    audio: Literal["link", "cut"] = "cut" if given.format in _EMBEDDED else given.audio or "link"
    name = given.name or files.name_of(dest) or "transcripts"
    return DatasetJob(out, given.format, dest, audio, of_recordings, samples, plan, name, given.license)


def finish(job: DatasetJob, shards: list[Shard], counts: Counter[str]) -> None:
    """Write what belongs to all shards together: joined manifests, and the card."""
    if not (job.form in _EMBEDDED or (job.form == "lhotse" and job.audio == "cut")):
        counts["bytes"] += manifests.join_pieces(job, shards)
    text = card(job, shards, counts, _run_facts(job.out)).encode()
    files.write_atomic(job.address("README.md"), text)
    counts["bytes"] += len(text)


class _ShardWriter:
    """Writes one shard; a class, so that it can be pickled."""

    def __init__(self, job: DatasetJob) -> None:
        self._job = job

    def __call__(self, shard: Shard) -> Counter[str]:
        job = self._job
        if job.form == "hf":
            return archives.write_hf(job, shard)
        if job.form == "webdataset":
            return archives.write_webdataset(job, shard)
        if job.form == "lhotse" and job.audio == "cut":
            return archives.write_shar(job, shard)
        return manifests.write_manifest_shard(job, shard)


def _expected(job: DatasetJob, counts: Counter[str]) -> Counter[str]:
    seconds = counts["planned_seconds"]
    size = round(seconds * _FLAC_BYTES) if job.audio == "cut" else 400 * counts["planned_samples"]
    return Counter({"written": counts["planned_samples"], "seconds": seconds, "bytes": size})


def _run_facts(out: str) -> dict[str, str]:
    record = run_record.read(out) or {}
    models = record.get("models", {})
    return {
        "asr_model": models.get("asr", {}).get("model"),
        "aligner_model": models.get("aligner", {}).get("model"),
        "config_hash": record.get("config_hash"),
    }

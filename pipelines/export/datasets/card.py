"""The card of a training set, README.md: its numbers, and the metadata that Hugging Face's hub reads."""

from __future__ import annotations

from collections import Counter
from typing import Any

import yaml

from pipelines import __version__
from pipelines.export.datasets.job import DatasetJob
from pipelines.export.datasets.plan import Shard

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def card(job: DatasetJob, shards: list[Shard], counts: Counter[str], facts: dict[str, Any]) -> str:
    """The text of the card.

    Args:
        job: what was written.
        shards: of all parts.
        counts: of `tally` and of the plan.
        facts: `asr_model`, `aligner_model`, `config_hash` of the run; each may be missing.
    """
    splits = list(dict.fromkeys(shard.split for shard in shards))
    head = _head(job, splits, counts)
    lines = ["---", yaml.safe_dump(head, sort_keys=False, allow_unicode=True).strip(), "---", ""]
    lines += [f"# {job.name}", ""]
    models = [f"`{facts[name]}`" for name in ("asr_model", "aligner_model") if facts.get(name)]
    by = f" with {' and '.join(models)}" if models else ""
    lines += [f"Transcribed by Scriptorium {__version__}{by}, exported as {job.form}.", ""]
    lines += ["| part | samples | hours | recordings | mean seconds | characters a second |"]
    lines += ["|---|---|---|---|---|---|"]
    for split in splits:
        samples, seconds = counts[f"part_{split}_samples"], counts[f"part_{split}_seconds"]
        speed = counts[f"characters_{split}"] / seconds if seconds else 0.0
        mean = seconds / samples if samples else 0.0
        recordings = counts[f"recordings_{split}"]
        lines.append(
            f"| {split} | {samples:,} | {seconds / 3600:,.2f} | {recordings:,} | {mean:.1f} | {speed:.1f} |"
        )
    lines += ["", "| language | samples | hours |", "|---|---|---|"]
    for language in _values(counts, "language_", "_seconds"):
        samples = counts[f"language_{language}_samples"]
        lines.append(f"| {language} | {samples:,} | {counts[f'language_{language}_seconds'] / 3600:,.2f} |")
    lines += ["", "| confidence | samples |", "|---|---|"]
    lines += [
        f"| {name} | {counts[f'confidence_{name}_samples']:,} |"
        for name in sorted(_values(counts, "confidence_", "_samples"))
    ]
    lines += ["", *_rules(job), *_left_out(counts), ""]
    return "\n".join(lines)


def _head(job: DatasetJob, splits: list[str], counts: Counter[str]) -> dict[str, Any]:
    total = counts["written"]
    languages = [name for name in _values(counts, "language_", "_seconds") if name != "unknown"]
    size = next((name for limit, name in _SIZES if total < limit), "1M<n<10M")
    head: dict[str, Any] = {"pretty_name": job.name, "language": languages}
    if job.license:
        head["license"] = job.license
    head |= {"task_categories": ["automatic-speech-recognition"], "size_categories": [size]}
    if job.form == "hf":
        data = [{"split": split, "path": f"data/{split}-*.parquet"} for split in splits]
        head["configs"] = [{"config_name": "default", "data_files": data}]
    return head


def _rules(job: DatasetJob) -> list[str]:
    samples, plan = job.samples, job.plan
    unit = f"windows of at most {samples.window:g} s" if samples.unit == "window" else f"{samples.unit}s"
    rules = [f"- Samples are {unit}. Audio is {'FLAC, mono, 16 kHz' if job.audio == 'cut' else 'linked'}."]
    longest = "" if samples.max_duration is None else f" to {samples.max_duration:g} s"
    rules.append(f"- Duration: from {samples.min_duration:g} s{longest}.")
    if samples.min_confidence is not None:
        rules.append(f"- Confidence: at least {samples.min_confidence:g}.")
    if samples.without_flags:
        rules.append(f"- Without the flags {', '.join(samples.without_flags)}.")
    if samples.languages:
        rules.append(f"- Languages: {', '.join(samples.languages)}.")
    if job.filters.where:
        rules.append(f"- Recordings where `{job.filters.where}`.")
    if plan.max_hours is not None:
        per = f" for each {plan.per}" if plan.per else ""
        rules.append(f"- At most {plan.max_hours:g} h{per}, random recordings, seed {plan.seed}.")
    if plan.shares:
        shares = ", ".join(f"{part} {share:g}" for part, share in plan.shares.items())
        by = f", and no value of `{plan.split_by}`," if plan.split_by else ""
        rules.append(
            f"- Parts by hours: {shares}, seed {plan.seed}. No recording, no audio file, no speaker with a "
            f"name{by} is in two parts."
        )
    return rules


def _left_out(counts: Counter[str]) -> list[str]:
    reasons = _values(counts, "skipped_", "")
    return [f"- Left out ({name.replace('_', ' ')}): {counts[f'skipped_{name}']:,}." for name in reasons]


def _values(counts: Counter[str], prefix: str, suffix: str) -> list[str]:
    found = [
        name[len(prefix) : len(name) - len(suffix)]
        for name, count in counts.items()
        if name.startswith(prefix) and name.endswith(suffix) and count
    ]
    return sorted(found, key=lambda value: (-counts[f"{prefix}{value}{suffix}"], value))

"""The arguments of `scriptorium export`. Imports nothing heavy."""

from __future__ import annotations

import argparse

DOCUMENT_FORMATS = (
    *("srt", "vtt", "ttml", "txt", "json", "csv", "textgrid", "elan", "audacity", "ctm", "rttm", "stm"),
    "labelstudio",
)
DATASET_FORMATS = ("nemo", "lhotse", "hf", "webdataset", "kaldi")
FORMATS = (*DOCUMENT_FORMATS, *DATASET_FORMATS)
PROFILE_NAMES = ("netflix", "bbc", "youtube")

EXAMPLES = (
    "out srt subtitles/",
    "out vtt s3://bucket/captions --profile bbc --highlight",
    "out srt --beside-audio",
    "out ctm all.ctm --language German --status ok",
    "out json json/ --where \"duration > 60 AND metadata->>'$.show' = 'news'\" --dry-run",
    "out labelstudio tasks.json --min-confidence 0.5",
    "out hf dataset/ --min-confidence 0.9 --max-duration 30 --split train=0.9,dev=0.05,test=0.05",
    "out webdataset s3://bucket/shards --unit window --window 30",
    "out lhotse cuts/",
)
MORE = """formats, one file for each recording, or one file for all where DEST ends in the suffix (marked *):
  srt vtt ttml              subtitles that follow the rules of a broadcaster (--profile)
  txt* json* csv*           plain text, WhisperX's JSON, one line for each turn
  textgrid elan audacity    for Praat (.TextGrid), ELAN (.eaf), Audacity (label tracks)
  ctm* rttm* stm*           for NIST's scoring tools
  labelstudio*              tasks with predictions, and a labelling configuration
formats for training, a folder:
  nemo kaldi                manifests that point into the audio, or to audio that is cut (--audio cut)
  lhotse                    cuts that point into the audio; Shar with --audio cut
  hf webdataset             audio and text together: Parquet for Hugging Face's datasets, tar archives
"""


def run_export(given: argparse.Namespace) -> int:
    """Run `scriptorium export`; returns its exit code."""
    from pipelines.export import command

    return command.run(given)


def add_export_arguments(command: argparse.ArgumentParser, out_help: str) -> None:
    """Add the arguments of `scriptorium export` to its parser."""
    command.add_argument("out", metavar="OUT", help=out_help)
    command.add_argument("format", metavar="FORMAT", choices=FORMATS, help="see below")
    command.add_argument(
        "dest",
        metavar="DEST",
        nargs="?",
        help="folder, or for formats marked * a file with their suffix; a local path or any fsspec URI",
    )
    command.add_argument(
        "--dry-run", action="store_true", help="print what would be written, counts and sizes; write nothing"
    )
    command.add_argument("--json", action="store_true", help="print the summary as JSON")
    chosen = command.add_argument_group("which transcripts")
    chosen.add_argument(
        "--language", action="append", default=[], metavar="NAME", help="dominant language; may be repeated"
    )
    chosen.add_argument(
        "--status",
        action="append",
        default=[],
        metavar="STATUS",
        help="ok, partial or no_speech; may be repeated",
    )
    chosen.add_argument(
        "--min-confidence",
        type=float,
        metavar="P",
        help="mean confidence of the recording; for training formats of each sample",
    )
    chosen.add_argument(
        "--without-flags",
        type=_names,
        action="extend",
        default=[],
        metavar="FLAG,...",
        help="leave out recordings with one of these flags, also on a segment; for training formats samples",
    )
    chosen.add_argument(
        "--where",
        metavar="SQL",
        help="condition over the columns of docs/output.md in DuckDB's SQL (extra export)",
    )
    chosen.add_argument(
        "--selection",
        metavar="DIR",
        help="only what `scriptorium select` kept: its DEST; segments are for training sets only",
    )
    chosen.add_argument(
        "--original",
        action="store_true",
        help="what the model said, without what people corrected (OUT/corrections)",
    )
    running = command.add_argument_group("how it runs")
    running.add_argument(
        "--parallel", type=int, metavar="N", help="processes; by default one, and all cores for large outputs"
    )
    running.add_argument(
        "--address", metavar="ADDRESS", help="run on this Ray cluster (auto, ray://host:10001), or local"
    )
    running.add_argument(
        "--beside-audio", action="store_true", help="write next to the local audio files instead of into DEST"
    )
    running.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files that exist: beside audio, or of a training set",
    )
    _add_subtitle_arguments(command.add_argument_group("subtitles"))
    _add_dataset_arguments(command.add_argument_group("training sets"))


def _add_subtitle_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--profile",
        metavar="NAME",
        default="netflix",
        help=f"{', '.join(PROFILE_NAMES)}, or a YAML file with rules of your own (netflix)",
    )
    group.add_argument("--line-chars", type=int, metavar="N", help="characters of a line, in all languages")
    group.add_argument("--chars-per-second", type=float, metavar="N", help="reading speed, in all languages")
    group.add_argument(
        "--speaker-labels", action="store_true", help="begin each turn with the speaker's name"
    )
    group.add_argument(
        "--highlight", action="store_true", help="vtt: the time of each word, for highlighting"
    )
    group.add_argument(
        "--low-confidence",
        type=float,
        metavar="P",
        help="vtt: mark words below P with the class low-confidence",
    )


def _add_dataset_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--unit",
        choices=("segment", "window", "recording"),
        default="segment",
        help="a sample: a segment, segments together up to --window seconds, or a recording (segment)",
    )
    group.add_argument("--window", type=float, default=30.0, metavar="S", help="seconds of a window (30)")
    group.add_argument(
        "--audio",
        choices=("link", "cut"),
        help="nemo, kaldi, lhotse: point into the audio (link, the default) or cut it to FLAC, mono, 16 kHz",
    )
    group.add_argument(
        "--min-duration", type=float, default=0.1, metavar="S", help="seconds of a sample (0.1)"
    )
    group.add_argument("--max-duration", type=float, metavar="S", help="seconds of a sample")
    group.add_argument(
        "--speaker",
        action="append",
        default=[],
        metavar="NAME",
        help="only samples of this speaker; may be repeated",
    )
    group.add_argument(
        "--split",
        type=_shares,
        metavar="PART=SHARE,...",
        help="divide into parts by hours, such as train=0.9,dev=0.05,test=0.05; no recording and no "
        "speaker is in two parts",
    )
    group.add_argument(
        "--split-by",
        metavar="COLUMN",
        help="also keep recordings with the same value of this metadata column together",
    )
    group.add_argument(
        "--max-hours",
        type=float,
        metavar="H",
        help="at most so many hours, for each value of --per; random recordings",
    )
    group.add_argument(
        "--per", metavar="COLUMN", help="with --max-hours: language, speaker, or a column of the metadata"
    )
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random (0)")
    group.add_argument(
        "--shard-hours",
        type=float,
        default=1.0,
        metavar="H",
        help="hours of audio in one file of a shard (1)",
    )
    group.add_argument("--name", metavar="NAME", help="hf: name of the dataset in its card")
    group.add_argument(
        "--license", metavar="NAME", help="hf: licence in the dataset's card, as the hub names it"
    )


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _shares(text: str) -> dict[str, float]:
    """The parts of an argument such as `train=0.9,dev=0.1`, with shares that add up to 1."""
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if not equals or not name.isidentifier() or not 0 < share <= 1 or name in shares:
            raise argparse.ArgumentTypeError(f"{part!r} is not PART=SHARE, such as train=0.9")
        shares[name] = share
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise argparse.ArgumentTypeError(
            f"the shares of {text!r} add up to {sum(shares.values()):g}, not to 1"
        )
    return shares

"""What to do about a dead letter, by its error code. The report and docs/output.md show it."""

from __future__ import annotations

from typing import NamedTuple


class Advice(NamedTuple):
    """What people can do about an error code."""

    text: str
    retry: bool  # whether another attempt alone may succeed, without any change of the file


ADVICE: dict[str, Advice] = {
    "empty_file": Advice("copy the file again from its source; its upload was probably interrupted", False),
    "not_audio": Advice(
        "look at the file: it may be a web page or a text with the name of a recording; take it out of the "
        "manifest, or replace it",
        False,
    ),
    "no_audio_stream": Advice("the file has pictures only: take it out of the manifest", False),
    "no_samples": Advice("record or export the file again; its recorder was probably stopped early", False),
    "bad_header": Advice(
        "convert the file again; samples without a header need the manifest's column `raw_format`", False
    ),
    "corrupt_audio": Advice("copy the file again from its source, or convert it with FFmpeg", False),
    "unsupported_codec": Advice("convert the file, to FLAC for example", False),
    "audio_not_found": Advice("correct the address in the manifest, or put the file there; then retry", True),
    "access_denied": Advice(
        "give the run's account the right to read the file, or sign the URL anew; then retry", True
    ),
    "audio_changed": Advice(
        "the file was replaced after planning: run the manifest in a new output directory, or retry", True
    ),
    "storage_unavailable": Advice("retry when the store is reachable again", True),
    "decode_timeout": Advice(
        "retry if the store was slow; otherwise convert the file, or raise `audio.timeout`", True
    ),
    "decoder_crashed": Advice(
        "convert the file with another tool; please report files that crash the decoder", False
    ),
    "decode_out_of_memory": Advice(
        "convert the file to 16 kHz mono, or give each decoding task more memory", False
    ),
    "too_long": Advice(
        "check the file: its header and its length do not match; a live stream has no end", False
    ),
    "unsupported_language": Advice(
        "correct `language` in the manifest, or leave it out so that the model decides", False
    ),
    "model_failed": Advice("retry; if it fails again, look at the message and report it", True),
    "server_unavailable": Advice("retry when the recognition server answers again", True),
    "device_out_of_memory": Advice(
        "make segments shorter (`segmenter.max_duration`), or use a device with more memory; then retry", True
    ),
    "alignment_failed": Advice(
        "retry; texts without word times need no aligner (`aligner.backend=none`)", True
    ),
    "model_timeout": Advice("retry; if it fails again, the device may be overloaded or broken", True),
    "worker_lost": Advice(
        "retry; if it fails again, take the file out: it ends the process that works on it", True
    ),
    "internal_error": Advice("report it with the message; it is a bug in Scriptorium", False),
}

"""Names of audio formats that people know, for the decoders' names of FFmpeg."""

from __future__ import annotations

import re

# By the beginning of FFmpeg's name; the first that fits counts.
_NAMES = {
    "mp3": "MP3",
    "mp2": "MP2",
    "mp1": "MP1",
    "aac": "AAC",
    "opus": "Opus",
    "libopus": "Opus",
    "vorbis": "Vorbis",
    "flac": "FLAC",
    "alac": "ALAC",
    "pcm_mulaw": "G.711 mu-law",
    "pcm_alaw": "G.711 A-law",
    "adpcm_g722": "G.722",
    "g722": "G.722",
    "adpcm_g726": "G.726",
    "g726": "G.726",
    "g723": "G.723.1",
    "g729": "G.729",
    "adpcm": "ADPCM",
    "amrnb": "AMR-NB",
    "amr_nb": "AMR-NB",
    "libopencore_amrnb": "AMR-NB",
    "amrwb": "AMR-WB",
    "amr_wb": "AMR-WB",
    "libopencore_amrwb": "AMR-WB",
    "gsm": "GSM",
    "libgsm": "GSM",
    "speex": "Speex",
    "libspeex": "Speex",
    "wma": "WMA",
    "eac3": "E-AC-3",
    "ac3": "AC-3",
    "dca": "DTS",
    "truehd": "TrueHD",
    "wavpack": "WavPack",
    "ape": "Monkey's Audio",
    "tta": "TTA",
    "tak": "TAK",
}
_CONTAINERS = {
    "wav": "WAV",
    "w64": "WAV",
    "rf64": "WAV",
    "aiff": "AIFF",
    "caf": "CAF",
    "au": "AU",
    "raw": "raw",
}
_PCM = re.compile(r"pcm_|s302m")


def format_name(codec: str | None, container: str | None) -> str:
    """The name that people know of a codec; for uncompressed samples with that of the container.

    Args:
        codec: FFmpeg's name of the codec or decoder, such as `mp3float`; None: not known.
        container: FFmpeg's name of the container, such as `wav` or `mov,mp4,m4a,3gp,3g2,mj2`.
    """
    if not codec:
        return "unknown"
    known = next((name for start, name in _NAMES.items() if codec.lower().startswith(start)), None)
    if known:
        return known
    if _PCM.match(codec.lower()):
        return f"PCM {_CONTAINERS.get((container or '').lower().split(',')[0], '')}".strip()
    return codec

"""The formats that carry speech, by ffmpeg's names of their demuxers; no others are tried.

ffmpeg knows some 300 formats. Many of them have no mark of their own, such as the sound of old games, and
match samples without a header or an archive. Others open further files, addresses or devices by themselves.
"""

from __future__ import annotations

import functools

import av

# Films, broadcasts, and what cameras and phones record.
_FILMS = frozenset(
    {"asf", "avi", "dhav", "dv", "flv", "gxf", "lxf", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "mpeg",
     "mpegts", "mxf", "nsv", "nut", "nuv", "pva", "rm", "swf", "ty", "wtv"}
)  # fmt: skip
# Sound with a header.
_SOUND = frozenset(
    {"aiff", "amr", "ape", "au", "avr", "bonk", "caf", "codec2", "dsf", "dss", "dtshd", "epaf", "flac",
     "hcom", "iff", "ilbc", "ircam", "lc3", "mpc", "mpc8", "nistsphere", "nsp", "ogg", "oma", "osq", "paf",
     "pvf", "qcp", "qoa", "shn", "sox", "tak", "tta", "voc", "vqf", "w64", "wav", "wavarc",
     "wsd", "wv", "wve"}
)  # fmt: skip
# Frames without a header: `actors.audio.formats.elementary` looks at where they begin.
_FRAMES = frozenset({"aac", "ac3", "dts", "eac3", "gsm", "loas", "mlp", "mp3", "truehd"})


@functools.cache
def format_options() -> dict[str, str]:
    """Options with which ffmpeg opens no other files and decodes no pictures, which may be of any size."""
    decoders = [name for name in av.codecs_available if _is_audio_decoder(name)]
    return {
        "protocol_whitelist": "none",
        # ffmpeg compares each of the names that a format has.
        "format_whitelist": ",".join(sorted(_FILMS | _SOUND | _FRAMES)),
        "codec_whitelist": ",".join(sorted(decoders)),
    }


def _is_audio_decoder(name: str) -> bool:
    try:
        return av.Codec(name, "r").type == "audio"
    except ValueError:  # an encoder only
        return False

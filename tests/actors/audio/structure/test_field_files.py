"""Small files from the field, each of which stands for a kind, end as wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.actors.audio.structure.test_cut_offs import decode

FOLDER = Path(__file__).resolve().parents[4].parent / "shared" / "field"
# File -> status or error code, flags, seconds.
WANTED = {
    "wav_16_bits_in_24.wav": ("ok", [], 6.847),
    "wav_20_bits_in_32.wav": ("ok", [], 6.847),
    "wav_header_3s.wav": ("ok", ["header_says_less"], 6.847),
    "wav_cat_two.wav": ("ok", ["files_joined"], 14.07),
    "wav_data_first.wav": ("ok", [], 6.847),
    "wav_empty_data_list.wav": ("no_samples", [], 0.0),
    "wav_id3_front.wav": ("ok", [], 6.847),
    "wav_cut_off.wav": ("partial", ["truncated"], 4.33),
}


@pytest.mark.parametrize("name", WANTED)
def test_a_file_from_the_field_ends_as_wanted(name):
    if not (FOLDER / name).exists():
        pytest.skip(f"no {FOLDER}")
    row = decode(FOLDER / name)
    status, flags, seconds = WANTED[name]
    assert row["error_code"] or row["status"] == status
    assert row["error_code"] in (None, status)
    assert row["flags"] == flags
    assert row["decoded_end"] == pytest.approx(seconds, abs=0.01)

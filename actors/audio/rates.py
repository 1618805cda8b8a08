"""Whether an mp3 without a tag has one bit rate all through: then its size tells its length, and nothing has to be counted."""

from __future__ import annotations

from actors.audio.sources import AudioFile

_PLACES = 6  # looked at, evenly over the file
_LOOKED = 8 << 10  # bytes at each: several frames at any bit rate
_KBITS = {  # by the version's bits, of layer III
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


def is_constant(file: AudioFile) -> bool:
    """Whether all frames at a few places have the same bit rate; False where some place shows none."""
    found: set[int] = set()
    for number in range(_PLACES):
        file.seek(file.size * number // _PLACES)
        rates = _bit_rates(file.read(_LOOKED))
        # The first place may be a tag with a picture in it.
        if not rates and number:
            return False
        found |= rates
    return len(found) == 1


def _bit_rates(data: bytes) -> set[int]:
    """Bit rates of all frames that another one follows."""
    rates: set[int] = set()
    place = data.find(b"\xff")
    while 0 <= place < len(data) - 4:
        rate, length = _frame(data[place : place + 4])
        if length and _frame(data[place + length : place + length + 4])[1]:
            rates.add(rate)
            place += length
        else:
            place = data.find(b"\xff", place + 1)
    return rates


def _frame(head: bytes) -> tuple[int, int]:
    """Bit rate in kbit/s and length in bytes of the layer III frame that begins with `head`; zeros where none does."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return 0, 0
    version, bit_rate, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or not 0 < bit_rate < 15 or rate == 3:
        return 0, 0
    kbits = _KBITS[3 if version == 3 else 2][bit_rate]
    return kbits, (144_000 if version == 3 else 72_000) * kbits // _RATES[version][rate] + (head[2] >> 1 & 1)

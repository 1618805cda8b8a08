"""Addresses without user names, passwords and signatures."""

from __future__ import annotations

import pytest

from actors.errors import RowError, as_row_error
from actors.redaction import redacted, redacted_address

S3 = (
    "https://bucket.s3.amazonaws.com/a.wav?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AK%2F2026"
    "&X-Amz-Date=20261127T000000Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Signature=ff00"
)
AZURE = (
    "https://x.blob.core.windows.net/c/a.wav?sv=2026-01-01&sr=b&sp=r&se=2026-01-01T00:00:00Z&sig=ab%2Fc+/=="
)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://me:p@w@host/get?id=7&sig=abc", "https://***@host/get?id=7&sig=***"),
        ("s3://key:secret@bucket/a.wav", "s3://***@bucket/a.wav"),
        ("ftp://user@host/a@b.wav", "ftp://***@host/a@b.wav"),
        ("az://container/a.wav?sig=xx", "az://container/a.wav?sig=***"),
        ("https://host/a.wav?versionId=abcdefghijklmnopqrstuvwxyz0123&page=2",) * 2,
        ("https://host/a.wav?foo=AbCdEf0123456789AbCdEf0123456789", "https://host/a.wav?foo=***"),
        ("https://host/a.wav?AbCdEf0123456789AbCdEf", "https://host/a.wav?***"),
        (
            "zip://a.wav::https://u:p@host/z.zip?token=1::filecache",
            "zip://a.wav::https://***@host/z.zip?token=***::filecache",
        ),
        ("s3://bucket/really? why not; yes=no.wav",) * 2,
        ("/data/what?key=1/a.wav",) * 2,
    ],
)
def test_an_address_keeps_what_is_no_secret(address: str, expected: str) -> None:
    assert redacted_address(address) == expected


@pytest.mark.parametrize("address", [S3, AZURE])
def test_an_address_that_was_signed_again_is_the_same(address: str) -> None:
    """Otherwise a manifest with new signatures would list new recordings."""
    later = address.replace("2026", "2027").replace("ff00", "00ff").replace("ab%2Fc", "cd%2Fe")
    assert later != address
    assert redacted_address(later) == redacted_address(address)


def test_redacting_twice_changes_nothing() -> None:
    for address in (S3, AZURE, "https://me:pw@host/get?id=7&sig=abc"):
        assert redacted_address(redacted_address(address)) == redacted_address(address)
        assert redacted(redacted(address)) == redacted(address)


def test_the_message_of_a_dead_letter_has_no_credentials() -> None:
    code, message = as_row_error(RowError(f"the store refuses access to {S3}: 403", "access_denied"))
    assert code == "access_denied"
    assert message == "the store refuses access to https://bucket.s3.amazonaws.com/a.wav?***: 403"

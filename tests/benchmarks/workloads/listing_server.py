"""An object store that only lists: ListObjectsV2 of a bucket of any size."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

# Keys in one page of a listing: S3's limit.
KEYS_PER_PAGE = 1000
# Keys in one folder of the bucket.
FOLDER_KEYS = 1000


class ListedBucket(BaseHTTPRequestHandler):
    """Answers ListObjectsV2 for a bucket of `size` keys and nothing else: a server that really holds a
    million objects would cost more than the listing under test.
    """

    size = 0
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        """No object can be had, nor files that a data set in Kaldi's format would have."""
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        # "": all of them.
        folder = query.get("prefix", "").removeprefix("calls/").strip("/")
        if "delimiter" in query and not folder:
            names = [
                f"<CommonPrefixes><Prefix>calls/{k:04d}/</Prefix></CommonPrefixes>"
                for k in range(-(-self.size // FOLDER_KEYS))
            ]
            self._answer("".join(names), len(names), "")
            return
        if folder and not folder.isdigit():
            self._answer("", 0, "")
            return
        begin = int(folder) * FOLDER_KEYS if folder else 0
        end = min(self.size, begin + FOLDER_KEYS) if folder else self.size
        first = int(query.get("continuation-token", begin))
        last = min(end, first + int(query.get("max-keys", KEYS_PER_PAGE)))
        items = "".join(
            f"<Contents><Key>calls/{k // FOLDER_KEYS:04d}/call-{k:07d}.mp3</Key>"
            f"<LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f'<ETag>"{k:032x}"</ETag><Size>1000</Size><StorageClass>STANDARD</StorageClass></Contents>'
            for k in range(first, last)
        )
        self._answer(items, last - first, str(last) if last < end else "")

    def _answer(self, items: str, count: int, token: str) -> None:
        more = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
        body = (
            '<?xml version="1.0"?><ListBucketResult '
            'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>archive</Name><Prefix/>'
            f"<KeyCount>{count}</KeyCount><MaxKeys>{KEYS_PER_PAGE}</MaxKeys><IsTruncated>{str(bool(token)).lower()}</IsTruncated>"
            f"{more}{items}</ListBucketResult>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""

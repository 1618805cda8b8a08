"""A server with OpenAI's transcription API around faster-whisper: a stand-in for real recognisers.

It runs in any interpreter that has faster-whisper: `python whisper_server.py MODEL_FOLDER`. It prints its
port on the first line, and serves one request at a time until its standard input is closed.
"""

from __future__ import annotations

import email.parser
import email.policy
import io
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """POST /v1/audio/transcriptions with verbose_json, GET /v1/models."""

    model: Any = None

    def do_GET(self) -> None:
        self._send({"object": "list", "data": [{"id": "whisper", "object": "model"}]})

    def do_POST(self) -> None:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
        fields: dict[str, bytes] = {
            str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True)
            for part in form.iter_parts()
        }
        found, info = self.model.transcribe(
            io.BytesIO(fields["file"]),
            language=fields.get("language", b"").decode() or None,
            initial_prompt=fields.get("prompt", b"").decode() or None,
            beam_size=1,
            condition_on_previous_text=False,
        )
        parts = [
            {
                "id": number,
                "start": part.start,
                "end": part.end,
                "text": part.text,
                "avg_logprob": part.avg_logprob,
                "compression_ratio": part.compression_ratio,
                "no_speech_prob": part.no_speech_prob,
            }
            for number, part in enumerate(found)
        ]
        text = "".join(str(part["text"]) for part in parts).strip()
        self._send({"text": text, "language": info.language, "duration": info.duration, "segments": parts})

    def log_message(self, *_: Any) -> None: ...

    def _send(self, answer: dict[str, Any]) -> None:
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    """Serve until standard input is closed."""
    from faster_whisper import WhisperModel

    Handler.model = WhisperModel(sys.argv[1], device="cpu", compute_type="int8", cpu_threads=1)
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        print(server.server_address[1], flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()
        server.shutdown()


if __name__ == "__main__":
    main()

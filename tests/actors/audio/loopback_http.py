"""A web server on a loopback port of its own."""

import contextlib
import http.server
import threading


@contextlib.contextmanager
def running(handler):
    """Serve with a handler class; yields the server's address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()

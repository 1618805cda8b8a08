"""The server: the actors of the job behind HTTP, a WebSocket and a page. `server.py` is where it starts."""

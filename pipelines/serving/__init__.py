"""The transcription server: OpenAI-compatible HTTP, a realtime WebSocket and a web page.

`server.py` starts it.
"""

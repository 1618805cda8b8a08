"""What runs inside workers: audio, text and models. Plain Python, without Ray or Arrow."""

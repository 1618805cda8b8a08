"""What a run has stored for good so far, and what it keeps until then."""

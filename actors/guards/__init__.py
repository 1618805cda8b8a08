"""Guards: pure, cheap functions that find what a model got wrong, by what is known about a segment."""

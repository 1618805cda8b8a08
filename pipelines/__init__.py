"""What builds Datasets, stores rows and talks to people."""

__version__ = "0.1.0"

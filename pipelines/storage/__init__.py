"""Manifests in, tables out, on any fsspec URI."""

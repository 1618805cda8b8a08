"""Answers of models in the middle of a table: work in portions, kept until the table is committed."""

"""Repair of doubtful segments: they are decoded again in other ways, and the best text is kept.

A model is deterministic: decoding the same input again gives the same text. So each step of the ladder
changes the input or the model. What was tried and rejected stays in the row.
"""

"""The second pass of a run: a model of its own hears what the first one was not sure of."""

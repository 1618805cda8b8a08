"""How sure a model is of what it wrote: from the probabilities of its tokens to words and segments."""

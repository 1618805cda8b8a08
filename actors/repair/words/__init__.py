"""Word times that are wrong, and what they say about the text."""

"""The noiser, and the post maps of what it released."""

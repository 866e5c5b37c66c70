"""The grammar: spaces, values, stages, and how pipelines and plans are made of them."""

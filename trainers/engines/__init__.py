"""Engines: from a model and a microbatch to rows, and how many records go at a time."""

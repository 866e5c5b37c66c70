"""Planted bugs, each with who stops it: the table of docs/audits.md and its test."""

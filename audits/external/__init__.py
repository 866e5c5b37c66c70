"""Audits of what was trained elsewhere: scores, tables and models."""

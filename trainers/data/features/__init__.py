"""Fixed public features of records, computed from one record alone."""

NORM = 10.0
"""Of a record's features, in the maps that bring all records to one."""

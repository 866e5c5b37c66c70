"""Fixed public features of records, computed from one record alone."""

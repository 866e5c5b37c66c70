"""One phase at work: its slots, batches and records, and its steps."""

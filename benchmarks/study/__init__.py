"""The study: the paper's tables and figures by rigorous runs. See docs/results.md."""

"""Models, tasks, stages and samplers that tests and benchmarks share."""

"""Which coordinates are live at a step: importance scorers and mask schedulers."""

"""What both commands use: options, errors, output."""

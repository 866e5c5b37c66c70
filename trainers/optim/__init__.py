"""What happens to released gradients: optimizers and averages of weights."""

"""What a step costs by count: products, bytes and launches, and what that is on paper."""

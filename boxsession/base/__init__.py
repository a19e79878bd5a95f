"""What the rest is built on; it knows nothing of consoles."""

"""What the image cache remembers of its files: who uses them, when they were verified, which may go."""

"""The parts of `demo.py`: how it talks, its guests, and what it shows."""

"""What a guest finds in its memory before its first instruction."""

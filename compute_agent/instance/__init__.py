"""What an instance is: typed, versioned records. No I/O, and nothing here knows another room."""

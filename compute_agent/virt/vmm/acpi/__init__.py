"""What a guest reads about its machine: ACPI tables, made anew at each start."""

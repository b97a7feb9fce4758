"""The queue: the server, the client that a controller imports, the messages, the notifications."""

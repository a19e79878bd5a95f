"""Clients: their sockets, what they send, and what is done about it."""

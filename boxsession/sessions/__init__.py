"""Serves clients: their sockets, sessions, statements and requests."""

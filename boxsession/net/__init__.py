"""Listening addresses: binding, accepting clients, TLS."""

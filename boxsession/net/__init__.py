"""Listening addresses and TLS."""

"""The bottom layer: addresses, errors, sessions, redaction of secrets, counters. It does not know consoles."""

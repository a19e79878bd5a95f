"""Statements in Python."""

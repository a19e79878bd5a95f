"""Looks into the program around the console: its greenlets and its threads."""

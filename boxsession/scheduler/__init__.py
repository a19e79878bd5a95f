"""Whose turn it is in the event loop: turns.py has the rule, loop.py the loop that it needs."""

"""Schedules sessions on the event loop. turns.py has the rules, loop.py adapts gevent's loop to them."""

"""For operators: logs, audit file, metrics, statistics, the watch over the event loop, systemd."""

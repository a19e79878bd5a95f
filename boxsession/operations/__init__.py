"""What operators look at: logs, audit, metrics, readiness."""

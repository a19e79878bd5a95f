#!/bin/sh
# Checks a console, for cron, monitoring or a deploy script. Exit codes: 0 the console runs; 1 it does not answer as
# expected; 2 no connection.
#
#   examples/health.sh [HOST PORT]      (needs nc and python3 with PyYAML)
set -eu
host=${1:-127.0.0.1} port=${2:-3313}

# The reply to each statement is one YAML document. nc -N closes its side after the last statement; then the server closes
# the connection, too.
answer=$(mktemp)
trap 'rm -f "$answer"' EXIT
printf '%s\n' \
    'box.info.status' \
    '{id = box.session.id(), memory_kib = collectgarbage("count")}' |
nc -N -w 5 "$host" "$port" > "$answer" || { echo "cannot connect to $host:$port" >&2; exit 2; }
tail -c +129 "$answer" | python3 -c '
import sys, yaml

status, numbers = yaml.safe_load_all(sys.stdin.buffer)
for reply in status, numbers:
    if isinstance(reply[0], dict) and "error" in reply[0]:
        sys.exit("the console answered: %s (does a session there start as admin?)" % reply[0]["error"])
print("status:", status[0])
print("session:", numbers[0]["id"])
print("lua memory: %.0f KiB" % numbers[0]["memory_kib"])
sys.exit(0 if status == ["running"] else 1)
'

"""The protocol of a peer: one JSON request per line on stdin, one JSON answer per line on stdout."""
import json
import sys


def serve(handle):
    answers = sys.stdout
    sys.stdout = sys.stderr  # Libraries may print; only answers go to stdout.
    for line in sys.stdin:
        print(json.dumps(handle(json.loads(line))), file=answers, flush=True)

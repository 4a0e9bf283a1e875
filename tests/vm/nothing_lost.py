#!/usr/bin/env python3
"""Reads events that pipoctl printed as JSON, a line each, and says whether all are there or told as missed.

    nothing_lost.py FILE FROM [COUNT]

They have the numbers behind FROM and leave none out but what a gap tells; with COUNT, that many happened.
"""

import json
import sys


def main():
    path, last = sys.argv[1], int(sys.argv[2])
    came, missed, gaps = 0, 0, 0
    with open(path) as lines:
        for line in lines:
            event = json.loads(line)
            if event["kind"] == "gap":
                if (event["first"], event["events_count"]) != (last + 1, event["last"] - last):
                    sys.exit(f"a gap that does not follow {last}: {line}")
                missed, gaps, last = missed + event["events_count"], gaps + 1, event["last"]
            elif event["sequence"] != last + 1:
                sys.exit(f"behind {last} came {line}")
            else:
                came, last = came + 1, last + 1
    if came == 0 or len(sys.argv) > 3 and came + missed != int(sys.argv[3]):
        sys.exit(f"{came} came and {missed} were missed, of {sys.argv[3:]}")
    print(f"{came} came, {missed} were told as missed in {gaps} gaps")


main()

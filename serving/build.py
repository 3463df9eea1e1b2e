"""The process that checks a model folder and writes the file that predictors map (`served_model.py`).

Prints a JSON object: `{}`, or `{"error": …}` and ends with 1.
"""

import argparse
import json
import sys
from pathlib import Path

from feedrank.errors import FeedrankError
from serving.served_model import build, write


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--snapshot", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        write(build(arguments.bundle, arguments.snapshot), arguments.output)
    except (FeedrankError, OSError) as error:
        print(json.dumps({"error": str(error)}))
        sys.exit(1)
    print("{}")


if __name__ == "__main__":
    main()

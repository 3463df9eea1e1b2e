"""The predictor behind uvicorn's pure-Python protocol (h11): what the same bytes mean to another parser.

`python reference_server.py …` takes the options of `python -m serving`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
given, sys.argv = sys.argv[1:], sys.argv[:1]  # KServe parses the command line when it is imported

from uvicorn.protocols.http.h11_impl import H11Protocol  # noqa: E402

from serving.__main__ import main  # noqa: E402

if __name__ == "__main__":
    from serving import server

    server.protocol_for = lambda *_: H11Protocol  # type: ignore[assignment,return-value]
    sys.exit(main(given))

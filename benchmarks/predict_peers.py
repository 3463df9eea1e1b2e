"""What the predictor is measured against: `python -m benchmarks.predict_peers KIND --port N [--bundle DIR]`.

echo: a bare ASGI application that sends the body back, in uvicorn as it comes.
lean_echo: the same in uvicorn set up as the predictor is; without the access log its rate doubles.
stock: KServe's model server as it comes, with the model in eager torch behind V1, as most would write it.
"""

import argparse
import sys
from pathlib import Path
from typing import Any


async def echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Sends a request's body back."""
    message = await receive()
    body = message["body"]
    while message.get("more_body"):
        message = await receive()
        body += message["body"]
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


LEAN = {
    "loop": "uvloop", "http": "httptools", "access_log": False, "log_level": "warning",
    "lifespan": "off", "ws": "none", "proxy_headers": False, "server_header": False,
}  # fmt: skip


def serve_echo(port: int, settings: dict[str, Any]) -> None:
    """Runs the echo application."""
    import uvicorn

    uvicorn.run(echo, host="127.0.0.1", port=port, **settings)


def serve_stock(port: int, bundle_directory: Path) -> None:
    """Runs KServe's model server with its defaults."""
    import kserve
    import numpy as np
    import torch

    from feedrank import schema
    from feedrank.features.online import online_features
    from feedrank.model.bundle import ITEM_IDS, USER_IDS, load_bundle, rows_of
    from feedrank.model.inputs import to_inputs
    from feedrank.model.networks import build_ranker
    from serving.requests import convert
    from serving.service import microseconds

    bundle = load_bundle(bundle_directory)
    snapshot = bundle.snapshot
    known_users, known_items = bundle.arrays[USER_IDS], bundle.arrays[ITEM_IDS]
    ranker = build_ranker(bundle.config, num_users=len(known_users), num_items=len(known_items))
    weights = {
        name: torch.from_numpy(np.array(a)) for name, a in bundle.arrays.items() if name not in (USER_IDS, ITEM_IDS)
    }
    ranker.load_state_dict(weights)
    ranker.eval()

    class StockRanker(kserve.Model):
        def load(self) -> bool:
            self.ready = True
            return True

        def predict(self, payload: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
            return {"predictions": [self.rank(instance) for instance in payload["instances"]]}

        def rank(self, instance: dict[str, Any]) -> dict[str, Any]:
            request = convert(instance)
            assert request.context is not None
            assert request.context.timestamp is not None
            items = np.array(request.item_ids)
            device = schema.DEVICES.index(request.context.device or "mobile")
            time_us = microseconds(request.context.timestamp)
            features = online_features(
                snapshot, user_id=request.user_id, item_ids=items, time_us=time_us, device=device
            )
            user_rows = np.full(len(items), rows_of(known_users, np.array([request.user_id]))[0])
            with torch.inference_mode():
                logits = ranker(
                    torch.from_numpy(user_rows),
                    torch.from_numpy(rows_of(known_items, items)),
                    torch.from_numpy(to_inputs(features)),
                )
                scores, order = torch.sort(torch.sigmoid(logits), descending=True)
            pairs = zip(items[order.numpy()].tolist(), scores.tolist(), strict=True)
            ranked = [{"item_id": i, "score": s, "rank": n} for n, (i, s) in enumerate(pairs, start=1)]
            return {"user_id": request.user_id, "predictions": ranked, "model_version": bundle.metadata.model_version}

    model = StockRanker("ranker")
    model.load()
    kserve.ModelServer(http_port=port, enable_grpc=False).start([model])


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("echo", "lean_echo", "stock"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bundle", type=Path)
    arguments = parser.parse_args()
    sys.argv = sys.argv[:1]  # KServe parses the command line when it is imported
    if arguments.kind == "stock":
        serve_stock(arguments.port, arguments.bundle)
    else:
        serve_echo(arguments.port, LEAN if arguments.kind == "lean_echo" else {})


if __name__ == "__main__":
    main()

"""Ranks with KServe's own clients, in a process of its own: they and tritonclient define the same protobuf messages.

`python rank_kserve.py URL GRPC_ADDRESS MODEL INPUTS` prints the outputs of both clients, or what went wrong, as JSON.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable

url, grpc_address, model, given = sys.argv[1:]
sys.argv = sys.argv[:1]  # KServe parses the command line when it is imported

from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig  # noqa: E402
from kserve.protocol.infer_type import InferResponse  # noqa: E402

REQUEST = InferRequest(
    model_name=model,
    infer_inputs=[InferInput(i["name"], i["shape"], i["datatype"], list(i["data"])) for i in json.loads(given)],
)


async def rest() -> InferResponse:
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, model)
    return await client.infer(url, REQUEST, model_name=model)


async def rpc() -> InferResponse:
    async with InferenceGRPCClient(grpc_address) as client:
        assert await client.is_server_ready()
        assert await client.is_model_ready(model)
        return await client.infer(REQUEST)


async def outputs(answer: Awaitable[InferResponse]) -> object:
    try:
        return {output.name: output.as_numpy().tolist() for output in (await answer).outputs}
    except Exception as error:
        return {"problem": repr(error)}


async def both() -> dict[str, object]:
    return {"rest": await outputs(rest()), "grpc": await outputs(rpc())}


print(json.dumps(asyncio.run(both())))

"""Ranks with KServe's own clients, in a process of its own: they and tritonclient define the same protobuf messages.

`python kserve_clients.py rest|grpc ADDRESS MODEL INPUTS` prints the outputs as JSON.
"""

import asyncio
import json
import sys

kind, address, model, given = sys.argv[1:]
sys.argv = sys.argv[:1]  # KServe parses the command line when it is imported

from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig  # noqa: E402

REQUEST = InferRequest(
    model_name=model,
    infer_inputs=[InferInput(i["name"], i["shape"], i["datatype"], list(i["data"])) for i in json.loads(given)],
)


async def rest() -> object:
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_ready(address)
    assert await client.is_model_ready(address, model)
    return await client.infer(address, REQUEST, model_name=model)


async def rpc() -> object:
    async with InferenceGRPCClient(address) as client:
        assert await client.is_server_ready()
        assert await client.is_model_ready(model)
        return await client.infer(REQUEST)


answer = asyncio.run(rest() if kind == "rest" else rpc())
print(json.dumps({output.name: output.as_numpy().tolist() for output in answer.outputs}))

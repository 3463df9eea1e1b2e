// The gRPC library of JavaScript. node rank_grpc.mjs ADDRESS DESCRIPTORS REQUEST: prints readiness and two answers as JSON.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(process.env.FEEDRANK_NODE_MODULES + "/");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [address, descriptors, request] = process.argv.slice(2);
const loaded = loader.loadFileDescriptorSetFromBuffer(readFileSync(descriptors), { keepCase: true, longs: Number });
const { GRPCInferenceService } = grpc.loadPackageDefinition(loaded).inference;
const client = new GRPCInferenceService(address, grpc.credentials.createInsecure());

const call = (method, message) =>
  new Promise((resolve, reject) => {
    const deadline = Date.now() + 10_000;
    client[method](message, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });

const { ready } = await call("ServerReady", {});
const message = JSON.parse(request);
const answers = [await call("ModelInfer", message), await call("ModelInfer", message)];
console.log(JSON.stringify({ ready, answers }));
client.close();

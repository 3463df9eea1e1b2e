// Node's clients. node rank.mjs MODE URL: reads "METHOD\tPATH\tBODY" lines, writes "STATUS\tBODY" lines.
import http from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const JSON_TYPE = { "content-type": "application/json" };
const agent = new http.Agent({ keepAlive: true });

async function byFetch(url, method, body, options = {}) {
  const response = await fetch(url, method === "POST" ? { method, body, headers: JSON_TYPE, ...options } : { method });
  return [response.status, await response.text()];
}

const stream = (body) => new ReadableStream({ start: (sink) => (sink.enqueue(Buffer.from(body)), sink.close()) });

function byHttp(url, method, body) {
  return new Promise((resolve, reject) => {
    const headers = method === "POST" ? JSON_TYPE : {};
    const request = http.request(url, { method, headers, agent }, async (response) => {
      let text = "";
      for await (const part of response.setEncoding("utf8")) text += part;
      resolve([response.statusCode, text]);
    });
    request.on("error", reject).end(body);
  });
}

async function byAxios(url, method, body) {
  const axios = createRequire(process.env.FEEDRANK_NODE_MODULES + "/")("axios");
  const data = method === "POST" ? JSON.parse(body) : undefined;
  const response = await axios.request({ url, method, data, transformResponse: (text) => text, validateStatus: () => true });
  return [response.status, response.data];
}

const send = {
  fetch: byFetch,
  fetch_stream: (url, method, body) => byFetch(url, method, stream(body), { duplex: "half" }),
  http: byHttp,
  axios: byAxios,
}[process.argv[2]];
for await (const line of createInterface({ input: process.stdin })) {
  const [method, path, body] = line.split("\t");
  const [status, text] = await send(process.argv[3] + path, method, body);
  console.log(`${status}\t${text}`);
}
agent.destroy();

// Calls of gRPC-Web through foreshade-proxy, made by the client that pages use, over an XMLHttpRequest for Node.
//
//     node web.js ADDRESS
//
// The methods are those of calls.py. What is wrong ends the program with an error.
"use strict";

const assert = require("node:assert/strict");
const { GrpcWebClientBase, MethodDescriptor, StatusCode } = require("grpc-web");

globalThis.XMLHttpRequest = require("xhr2").XMLHttpRequest;

const SERVICE = "shop.Orders";
const [, , address] = process.argv;

const bytes = (text) => new TextEncoder().encode(text);
const text = (bytes) => new TextDecoder().decode(bytes);

// Messages are bytes, so that nothing has to be generated.
function descriptor(path, type) {
  return new MethodDescriptor(path, type, Uint8Array, Uint8Array, (sent) => sent, (came) => came);
}

// All that a call brings: its messages, what stands before and behind them, and its error.
function call(format, method, message, { service = SERVICE, streams = false, metadata = {} } = {}) {
  const client = new GrpcWebClientBase({ format });
  const path = `/${service}/${method}`;
  const begin = streams ? client.serverStreaming : client.rpcCall;
  const told = { messages: [], head: {}, tail: {}, error: null };
  return new Promise((done) => {
    const kind = descriptor(path, streams ? "server_streaming" : "unary");
    const over = (error, came) => {
      told.error = error;
      if (came) told.messages.push(came);
      if (error) done(told);
    };
    const stream = begin.call(client, `http://${address}${path}`, message, metadata, kind, over);
    stream.on("metadata", (head) => Object.assign(told.head, head));
    stream.on("status", (status) => Object.assign(told.tail, status.metadata));
    stream.on("end", () => done(told));
    if (streams) {
      stream.on("data", (came) => told.messages.push(came));
      stream.on("error", over);
    }
  });
}

async function unary(format) {
  const { messages, head, tail, error } = await call(format, "Get", bytes("one"));
  assert.equal(error, null);
  assert.deepEqual(messages.map(text), ["<one>"]);
  assert.equal(head["x-head"], "h");
  assert.equal(tail["x-tail"], "t");
  const large = await call(format, "Get", new Uint8Array(1_000_000));
  assert.equal(large.error, null);
  assert.equal(large.messages[0].length, 1_000_002);
}

async function errors(format) {
  const own = (await call(format, "Refuse", bytes(""))).error;
  assert.equal(own.code, StatusCode.FAILED_PRECONDITION);
  assert.equal(decodeURIComponent(own.message), "caf\u00e9 is closed");
  assert.equal(own.metadata["x-tail"], "t");
  assert.equal((await call(format, "Nothing", bytes(""))).error.code, StatusCode.UNIMPLEMENTED);
  const gone = (await call(format, "Get", bytes(""), { service: "shop.Gone" })).error;
  assert.equal(gone.code, StatusCode.UNAVAILABLE);
  assert.equal(decodeURIComponent(gone.message), "foreshade: the endpoint did not answer");
  // A route that is not there is told as HTTP tells it.
  assert.equal((await call(format, "Get", bytes(""), { service: "shop.Nobody" })).error.code, StatusCode.NOT_FOUND);
}

async function deadline(format) {
  const metadata = { "grpc-timeout": "300m" };
  assert.equal((await call(format, "Hang", bytes(""), { metadata })).error.code, StatusCode.DEADLINE_EXCEEDED);
}

async function streams() {
  const { messages, error } = await call("text", "Count", bytes("5000"), { streams: true });
  assert.equal(error, null);
  assert.deepEqual(messages.map((came) => Number(text(came))), [...Array(5000).keys()]);
}

async function main() {
  for (const format of ["text", "binary"]) {
    for (const part of [unary, errors, deadline]) await part(format);
  }
  await streams();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});

// The scenario that every client goes through, with vscode-jsonrpc, which carries
// VS Code's language clients. Its types are those that the extension uses.
//
//   node vscode.js COMMAND ARGUMENT…
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  CancellationTokenSource, createMessageConnection, ErrorCodes, type MessageConnection, ResponseError,
  StreamMessageReader, StreamMessageWriter,
} from "vscode-jsonrpc/node";
import * as protocol from "./protocol.js";

/** Client gives a connection the protocol's types. */
class Client {
  constructor(private readonly connection: MessageConnection) {}

  request<M extends keyof protocol.ClientRequests>(
    method: M, params: protocol.ClientRequests[M]["params"], token?: CancellationTokenSource,
  ): Promise<protocol.ClientRequests[M]["result"]> {
    return token ? this.connection.sendRequest(method, params, token.token) : this.connection.sendRequest(method, params);
  }

  notify<M extends keyof protocol.ClientNotifications>(method: M, params: protocol.ClientNotifications[M]): Promise<void> {
    return this.connection.sendNotification(method, params);
  }

  on<M extends keyof protocol.ServerNotifications>(
    method: M, heard: (params: protocol.ServerNotifications[M]) => void,
  ): void {
    this.connection.onNotification(method, heard);
  }
}

const [command, ...args] = process.argv.slice(2);
assert(command, "usage: node vscode.js COMMAND ARGUMENT…");
const server = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
const connection = createMessageConnection(new StreamMessageReader(server.stdout), new StreamMessageWriter(server.stdin));
const client = new Client(connection);

/** What has been heard of each generation. */
const streams = new Map<string, { text: string; seq: number; deltas: number; first?: () => void }>();
function stream(id: string) {
  let s = streams.get(id);
  if (!s) streams.set(id, s = { text: "", seq: 0, deltas: 0 });
  return s;
}
client.on("generate/status", (p) => assert.equal(p.seq, stream(p.generationId).seq++));
client.on("generate/delta", (p) => {
  const s = stream(p.generationId);
  assert.equal(p.seq, s.seq++, "no gap and no change of order");
  for (const part of p.parts) s.text += part.text;
  s.deltas++;
  s.first?.();
});
connection.listen();

/** started is done when a generation has said something. */
const started = (id: string) => new Promise<void>((resolve) => { stream(id).first = resolve; });
const text = (r: protocol.GenerateResult) => {
  assert(Array.isArray(r.message.content), "the server sends lists");
  return r.message.content.map((p) => p.text ?? "").join("");
};
const say = (content: string): protocol.Message[] => [{ role: "user", content }];

const opened = await client.request("initialize", {
  processId: process.pid, clientInfo: { name: "vscode-jsonrpc" }, capabilities: {}, trace: "messages",
});
assert.equal(opened.protocolVersion, protocol.protocolVersion);
const traced = new Promise<void>((resolve) => client.on("$/logTrace", () => resolve()));
await client.notify("initialized", {});
const models = await client.request("models/list", {});
assert.equal(models.models[0]?.id, "scripted");
await traced;

// Generate with streaming.
const answer = await client.request("generate", { generationId: "a", messages: say("Name three colours."), tools: [] });
assert.equal(answer.stopReason, "end_turn");
assert.equal(text(answer), stream("a").text, "the deltas are the answer");
assert(stream("a").deltas > 1 && stream("a").deltas < answer.usage.completionTokens, "in batches");

// Cancel by the method, and by VS Code's token.
const first = started("b");
const story = client.request("generate", { generationId: "b", messages: say("Tell me a story."), tools: [] });
await first;
assert.deepEqual(await client.request("cancel", { generationId: "b" }), { cancelled: true, state: "decoding" });
const ended = await story;
assert.equal(ended.stopReason, "cancelled");
assert.equal(text(ended), stream("b").text, "nothing that was said is lost");

const source = new CancellationTokenSource();
const second = started("c");
const another = client.request("generate", { generationId: "c", messages: say("Tell me a story."), tools: [] }, source);
await second;
source.cancel();
assert.equal((await another).stopReason, "cancelled");

// Tools.
const weather: protocol.ToolSpec = {
  name: "weather", description: "Tells the weather.",
  inputSchema: { type: "object", properties: { place: { type: "string" }, days: { type: "integer" } }, required: ["place"] },
};
const registered = await client.request("tool-register", { tools: [weather] });
const listed = await client.request("tools/list", {});
assert.equal(listed.tools[0]?.digest, registered.registered[0]?.digest);
assert.deepEqual(listed.tools[0]?.inputSchema, weather.inputSchema);

// Errors.
const failure = async (request: Promise<unknown>) => {
  const e: unknown = await request.then(() => assert.fail("an error was wanted"), (e: unknown) => e);
  assert(e instanceof ResponseError);
  return e as ResponseError<protocol.ErrorData>;
};
const unknown = await failure(connection.sendRequest("no/such", {}));
assert.equal(unknown.code, ErrorCodes.MethodNotFound);
const refused = await failure(connection.sendRequest("generate", { prompt: "a", sampling: { topK: "many" } }));
assert.equal(refused.code, protocol.errors.invalid_params.code);
assert.equal(refused.data?.errors?.[0]?.instancePath, "/sampling/topK");
const taken = await failure(client.request("tool-register", { tools: [weather] }));
assert.equal(taken.data?.kind, "tool_conflict");

// The end. Nobody closes the pipe: exit alone must do.
assert.equal(await client.request("shutdown", {}), null);
const exited = once(server, "exit");
await client.notify("exit", {});
assert.deepEqual(await exited, [0, null], "exit code 0");
connection.dispose();

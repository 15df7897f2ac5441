// The scenario that every client goes through, with vscode-jsonrpc, which carries
// VS Code's language clients. Its types are those that the extension uses.
//
//   node vscode.js COMMAND ARGUMENT…
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  type CancellationToken, CancellationTokenSource, createMessageConnection, ErrorCodes, type MessageConnection, ResponseError,
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

  serve<M extends keyof protocol.ServerRequests>(
    method: M,
    answer: (p: protocol.ServerRequests[M]["params"], token: CancellationToken) => Promise<protocol.ServerRequests[M]["result"]>,
  ): void {
    this.connection.onRequest(method, answer);
  }
}

const [command, ...args] = process.argv.slice(2);
assert(command, "usage: node vscode.js COMMAND ARGUMENT…");
const server = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
const connection = createMessageConnection(new StreamMessageReader(server.stdout), new StreamMessageWriter(server.stdin));
const client = new Client(connection);

/** What has been heard of each generation. */
const streams = new Map<string, { text: string; arguments: string; seq: number; deltas: number; first?: () => void }>();
function stream(id: string) {
  let s = streams.get(id);
  if (!s) streams.set(id, s = { text: "", arguments: "", seq: 0, deltas: 0 });
  return s;
}
client.on("generate/status", (p) => assert.equal(p.seq, stream(p.generationId).seq++));
const calls: string[] = [];
client.on("generate/toolCall", (p) => {
  assert.equal(p.seq, stream(p.generationId).seq++);
  calls.push(`${p.name} ${p.status}`);
});
client.on("generate/delta", (p) => {
  const s = stream(p.generationId);
  assert.equal(p.seq, s.seq++, "no gap and no change of order");
  for (const part of p.parts) {
    if (part.channel === "toolArguments") s.arguments += `${part.name ?? ""}${part.text}`;
    else s.text += part.text;
  }
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
  processId: process.pid, clientInfo: { name: "vscode-jsonrpc" }, trace: "messages",
  capabilities: { harmonyd: { protocolVersion: protocol.protocolVersion, tools: { call: true, approve: true } } },
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

// Tools: one that a person approves and that takes a moment, and one that waits for ever.
const weather: protocol.ToolSpec = {
  name: "weather", description: "Tells the weather.", approval: "ask",
  inputSchema: { type: "object", properties: { place: { type: "string" }, days: { type: "integer" } }, required: ["place"] },
};
const registered = await client.request("tool-register", { tools: [weather] });
for (const enabled of [false, true]) {
  const switched = await client.request("tools/setEnabled", { names: ["weather"], enabled });
  assert.equal(switched.tools[0]?.enabled, enabled);
}
const listed = await client.request("tools/list", {});
assert.equal(listed.tools[0]?.digest, registered.registered[0]?.digest);
assert.deepEqual(listed.tools[0]?.inputSchema, weather.inputSchema);

client.serve("tool/approve", async (p) => {
  const option = p.options.find((o) => o.kind === "allow_once");
  assert(option);
  return { outcome: "selected", optionId: option.optionId };
});
let waiting = () => {};
client.serve("tool/call", async (p, token) => {
  if (p.name === "wait") {
    waiting();
    await new Promise<void>((resolve) => token.onCancellationRequested(() => resolve()));
    throw new ResponseError(ErrorCodes.InternalError, "cancelled");
  }
  assert.deepEqual(p.arguments, { place: "Oslo" });
  await client.notify("tool/progress", { callId: p.callId, message: "asking", progress: 1, total: 2 });
  await new Promise((resolve) => setTimeout(resolve, 50));
  return { content: [{ type: "text", text: "4 degrees" }] };
});
const session = await client.request("session/new", { system: "Be brief.", tools: ["weather"] });
const cold = await client.request("generate", {
  generationId: "d", sessionId: session.sessionId, messages: say("How is the weather in Oslo?"), stream: { toolArguments: true },
});
assert.equal(cold.stopReason, "end_turn");
assert.equal(text(cold), "It is cold there.");
assert.equal(cold.usage.rounds, 2);
assert.deepEqual(calls, ["weather pending", "weather running", "weather running", "weather completed"]);
assert.match(stream("d").arguments, /^weather\{"place": ?"Oslo"\}$/, "seen while it was written");
assert.match(stream("d").text, /^Let me see\..*It is cold there\.$/s);
await client.request("session/close", { sessionId: session.sessionId });

await client.request("tools/register", { tools: [{ name: "wait", inputSchema: { type: "object" } }] });
const called = new Promise<void>((resolve) => { waiting = resolve; });
const never = client.request("generate", { generationId: "e", messages: say("Wait for ever."), tools: ["wait"] });
await called;
assert.deepEqual(await client.request("cancel", { generationId: "e" }), { cancelled: true, state: "tool" });
assert.equal((await never).stopReason, "cancelled", "the server waits for no tool");
assert.equal(calls.at(-1), "wait cancelled");

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

// Validates recordings against the published schema with ajv, which had no part in
// either: everything that the server says, and everything of the client's that it
// takes. What it refuses the params of must be invalid.
//
//   node validate.js SCHEMA RECORDING…
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import * as protocol from "./protocol.js";

interface Message {
  id?: string | number | null;
  method?: string;
  params?: unknown;
  result?: unknown;
  error?: protocol.Error;
}
interface Recorded { from: "client" | "server"; message: Message }
interface Method { method: string; side: "client" | "server"; kind: string }

const [schemaFile, ...recordings] = process.argv.slice(2);
assert(schemaFile && recordings.length > 0, "usage: node validate.js SCHEMA RECORDING…");
const document = JSON.parse(readFileSync(schemaFile, "utf8"));
const methods: Method[] = document["x-methods"];

const ajv = new Ajv2020({ allErrors: true, strict: true, strictRequired: false, strictTypes: false });
ajv.addVocabulary(["x-methods", "x-errors", "x-protocolVersion", "x-method", "x-side", "x-kind"]);
ajv.addSchema(document, "harmonyd");
const compiled = new Map<string, ValidateFunction>();
function validator(place: string): ValidateFunction {
  let v = compiled.get(place);
  if (!v) compiled.set(place, v = ajv.compile({ $ref: `harmonyd#${place}` }));
  return v;
}

let refusals = 0;
/** valid fails unless value is. Then it drops the members one by one, and some must be missed. */
function valid(place: string, value: unknown, what: string): void {
  const v = validator(place);
  assert(v(value), `${what}: ${ajv.errorsText(v.errors)}: ${JSON.stringify(value)}`);
  if (typeof value !== "object" || value === null || Array.isArray(value)) return;
  for (const member of Object.keys(value)) {
    const { [member]: _, ...less } = value as Record<string, unknown>;
    if (!v(less)) refusals++;
  }
}

/** place is where the schema has the params or the result of a method that one side sends. */
function place(m: Message, from: string, part: string): string {
  const i = methods.findIndex((row) => row.method === m.method && row.side !== from);
  assert(i >= 0, `the ${from} sent ${m.method}, which is not published`);
  return `/x-methods/${i}/${part}`;
}

/** With no mending of what the client wrote: absent params are empty ones. */
const params = (m: Message) => m.params ?? {};
/** What the server answers before it looks at params. */
const unread = new Set(["method_not_found", "invalid_request", "not_initialized"]);

const seen = new Map<string, number>();
const note = (what: string) => seen.set(what, (seen.get(what) ?? 0) + 1);

for (const file of recordings) {
  const all: Recorded[] = readFileSync(file, "utf8").trimEnd().split("\n").map((line) => JSON.parse(line));
  const key = (from: string, id: unknown) => `${from} ${JSON.stringify(id)}`;
  const asked = new Map<string, Message>();
  for (const { from, message: m } of all) {
    if (m.method === undefined || m.id === undefined) continue;
    assert(!asked.has(key(from, m.id)), `${file}: two requests with id ${m.id}`);
    asked.set(key(from, m.id), m);
  }
  for (const { from, message: m } of all) {
    if (m.method !== undefined) {
      note(m.method);
      if (from === "server" || m.id === undefined) valid(place(m, from, "params"), params(m), `${from}: ${m.method}`);
      continue;
    }
    const asker = from === "server" ? "client" : "server";
    const request = asked.get(key(asker, m.id));
    assert(request, `${file}: the ${from} answered ${JSON.stringify(m.id)}, which nobody asked or was answered before`);
    asked.delete(key(asker, m.id));
    const what = `${from}: answer to ${request.method}`;
    if (m.error && from === "client") continue; // JSON-RPC's own form
    if (m.error) {
      valid("/$defs/Error", m.error, what);
      note(m.error.data.kind);
      const row = protocol.errors[m.error.data.kind as keyof typeof protocol.errors];
      assert.equal(m.error.code, row?.code, `${what}: the code of ${m.error.data.kind}`);
      if (unread.has(m.error.data.kind)) continue;
    } else {
      valid(place(request, asker, "result"), m.result, what);
    }
    if (from === "client") continue; // its params were validated when the server sent them
    const ok = validator(place(request, asker, "params"));
    assert.equal(ok(params(request)), m.error?.data.kind !== "invalid_params", `${what}: ${ajv.errorsText(ok.errors)}`);
  }
  assert.deepEqual([...asked.values()], [], `${file}: requests without an answer`);
  console.log(`${basename(file)}: ${all.length} messages are valid`);
}
assert(refusals > 100, `only ${refusals} broken messages were refused: does the schema say anything?`);
for (const what of ["initialize", "generate", "generate/delta", "generate/status", "cancel", "tool-register", "tools/list",
  "session/new", "tool/approve", "tool/call", "tool/progress", "generate/toolCall", "agent/status", "shutdown", "exit", "invalid_params", "method_not_found"]) {
  assert(seen.get(what), `the recordings hold no ${what}`);
}
console.log(`seen: ${[...seen].map(([what, n]) => `${what} ${n}`).join(", ")}; ${refusals} broken messages refused`);

// Programs in @cloudflare/codemode over Mayfly; prints what came of each as JSON. The library imports two classes of
// Cloudflare's runtime, for which stand-ins are loaded.
import { register } from "node:module";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [modules, executorPath, programsPath] = process.argv.slice(2);
const stub = "export class RpcTarget {}; export class WorkerEntrypoint {}; export class DurableObject {}; export const env = {};";
register(
  "data:text/javascript," +
    encodeURIComponent(`
      export async function resolve(name, context, next) {
        if (name === "cloudflare:workers") return { url: "data:text/javascript,${encodeURIComponent(stub)}", shortCircuit: true };
        return next(name, context);
      }`),
);
const from = (path) => import(pathToFileURL(`${modules}/${path}`).href);
const { createCodeTool } = await from("@cloudflare/codemode/dist/ai.js");
const { tool } = await from("ai/dist/index.js");
const { z } = await from("zod/index.js");
const { MayflyExecutor } = await import(pathToFileURL(executorPath).href);

const executor = new MayflyExecutor({ timeout: 20000 });
const tools = {
  "get-price": tool({
    description: "The price of an item.",
    inputSchema: z.object({ item: z.string() }),
    execute: async ({ item }) => {
      if (item === "nothing") throw new Error("there is no item 'nothing'");
      return { item, price: item.length };
    },
  }),
};
const codemode = createCodeTool({ tools, executor });
const answers = [];
for (const code of JSON.parse(readFileSync(programsPath, "utf8"))) {
  try {
    answers.push(await codemode.execute({ code }, { toolCallId: "1", messages: [] }));
  } catch (error) {
    answers.push({ error: error.message });
  }
}
const direct = {
  plain: await executor.execute("async () => codemode.add(1, 2)", { add: async (a, b) => a + b }),
  several: await executor.execute("async () => [await a.f(), await b.f(), await b.local()]", [
    { name: "a", fns: { f: async () => "a" } },
    { name: "b", fns: { f: async () => "b" }, prelude: "b.local = () => 'here';" },
  ]),
  connector: await executor.execute("async () => db.query({ sql: 'x' })", [], {
    connectors: [{ name: "db", binding: { callTool: async (method, args) => ({ method, args }) } }],
  }),
  reserved: await executor.execute("async () => 1", [{ name: "process", fns: {} }]),
  refused: await new MayflyExecutor({ submission: { environment: "none" } }).execute("async () => 1", []),
  endless: await new MayflyExecutor({ timeout: 500 }).execute("async () => { for (;;); }", []),
  large: await executor.execute("async () => codemode.large()", { large: async () => "x".repeat(11 * 2 ** 20) }),
};

// A stream that is cut twice, in pieces of three bytes: what is asked for, and which events come of it.
const { follow } = await import(pathToFileURL(executorPath.replace("executor.js", "events.js")).href);
const streams = [
  'id: 1\nevent: stdout\ndata: {"text":"ü"}\n\n: keep\n\nid: 2\nevent: stdout\ndata: {"te',
  "",
  'id: 2\r\nevent: stdout\r\ndata: {"text":"b"}\r\n\r\nid: 3\nevent: done\ndata: {}\n\nid: 4\n\n',
];
const resumed = { asked: [], events: [] };
const fetched = globalThis.fetch;
globalThis.fetch = async (url, { headers }) => {
  resumed.asked.push(headers["Last-Event-ID"] ?? null);
  const bytes = new TextEncoder().encode(streams.shift());
  const pieces = Array.from({ length: Math.ceil(bytes.length / 3) }, (_, n) => bytes.subarray(3 * n, 3 * n + 3));
  return { ok: true, body: pieces };
};
for await (const event of follow("http://api.example", {}, new AbortController().signal)) {
  resumed.events.push([event.id, event.type, event.data]);
}
globalThis.fetch = fetched;
console.log(JSON.stringify({ resumed, description: codemode.description, answers, direct }));

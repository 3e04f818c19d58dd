// An Executor of @cloudflare/codemode: the model's code runs in a container of Mayfly, one for each call of `execute`;
// the functions of its providers and connectors run in this process. It never throws: errors are in `error`.

import { follow } from "./events.js";
import { TOOL, nameProblem, programOf } from "./program.js";

const JS_RESERVED = new Set(
  (
    "abstract arguments await boolean break byte case catch char class const continue debugger default " +
    "delete do double else enum eval export extends false final finally float for function " +
    "goto if implements import in instanceof int interface let long native new null package " +
    "private protected public return short static super switch synchronized this throw throws transient true " +
    "try typeof undefined var void volatile while with yield"
  ).split(" "),
);
const PENDING = new Set(["queued", "starting", "running"]);

export class MayflyExecutor {
  #url;
  #headers;
  #submission;

  constructor({ url, token, timeout, submission } = {}) {
    this.#url = `${(url ?? process.env.MAYFLY_URL ?? "http://127.0.0.1:8000").replace(/\/+$/, "")}/api/v1/executions`;
    this.#headers = { Authorization: `Bearer ${token ?? process.env.MAYFLY_TOKEN ?? ""}` };
    const limits = timeout === undefined ? {} : { limits: { wall_seconds: timeout / 1000 } };
    this.#submission = { environment: "node", ...limits, ...submission };
  }

  async execute(code, providersOrFns, options = {}) {
    const connectors = options.connectors ?? [];
    const connected = new Set(connectors.map((connector) => connector.name));
    const all = Array.isArray(providersOrFns) ? providersOrFns : [{ name: "codemode", fns: providersOrFns }];
    const providers = all.filter((provider) => !connected.has(provider.name));
    const names = [...providers, ...connectors].map((one) => one.name);
    const problem = nameProblem(names);
    if (problem) return { result: undefined, error: problem };
    const preludes = providers.filter((provider) => provider.prelude).map((provider) => provider.prelude);
    try {
      return await this.#run(programOf(code, names, preludes), dispatcher(providers, connectors));
    } catch (error) {
      return { result: undefined, error: error instanceof Error ? error.message : String(error) };
    }
  }

  async #run(code, call) {
    const submitted = await this.#ask("POST", "", { ...this.#submission, code, tools: [TOOL] });
    const path = `/${submitted.id}`;
    const ended = new AbortController();
    try {
      for await (const event of follow(`${this.#url}${path}/stream`, this.#headers, ended.signal)) {
        if (event.type === "tool_call" && event.data.arguments !== null) void this.#answer(path, event.data, call, ended.signal);
      }
    } finally {
      ended.abort();
    }
    return resultOf(await this.#ask("GET", path));
  }

  async #answer(path, { call_id, arguments: asked }, call, signal) {
    let body;
    try {
      body = { result: { result: await call(asked.namespace, asked.method, asked.args) } };
    } catch (error) {
      body = failure(error);
    }
    const target = `${path}/tool-results/${call_id}`;
    try {
      await this.#ask("POST", target, body, signal);
    } catch (error) {
      // A result that is refused, because it is too large for one; an ended or late call takes no answer.
      await this.#ask("POST", target, failure(error), signal).catch(() => undefined);
    }
  }

  async #ask(method, path, body, signal) {
    const headers = body === undefined ? this.#headers : { ...this.#headers, "Content-Type": "application/json" };
    const answer = await fetch(this.#url + path, { method, headers, body: body && JSON.stringify(body), signal });
    const text = await answer.text();
    if (!answer.ok) throw new Error(problemOf(text) ?? `Mayfly answered ${answer.status}`);
    return text ? JSON.parse(text) : undefined;
  }
}

function dispatcher(providers, connectors) {
  const functions = new Map(providers.map((provider) => [provider.name, bySanitizedName(provider.fns)]));
  const bindings = new Map(connectors.map((connector) => [connector.name, connector.binding]));
  return async (namespace, method, args) => {
    if (bindings.has(namespace)) return bindings.get(namespace).callTool(method, args[0]);
    const call = functions.get(namespace)?.get(method);
    if (!call) throw new Error(`Tool "${method}" not found`);
    return call(...args);
  };
}

// As @cloudflare/codemode spells the names of tools in the types that the model reads.
function bySanitizedName(fns) {
  return new Map(Object.entries(fns).map(([name, call]) => [sanitized(name), call]));
}

function sanitized(name) {
  const plain = name.replace(/[-.\s]/g, "_").replace(/[^a-zA-Z0-9_$]/g, "");
  if (plain === "") return "_";
  const started = /^[0-9]/.test(plain) ? `_${plain}` : plain;
  return JS_RESERVED.has(started) ? `${started}_` : started;
}

function resultOf(execution) {
  const logs = [execution.stdout, execution.stderr].flatMap((text) => (text ? text.replace(/\n$/, "").split("\n") : []));
  const named = execution.results.filter((result) => result.source === "named").at(-1);
  const report = named?.data["application/json"];
  if (execution.state === "succeeded" && report?.error === undefined) return { result: report?.result, logs };
  const reason = report?.error ?? execution.message ?? execution.reason ?? `the execution is ${execution.state}`;
  return { result: undefined, error: PENDING.has(execution.state) ? "the execution has not ended" : reason, logs };
}

function failure(error) {
  const message = error instanceof Error ? error.message : String(error);
  return { error: { message: message.slice(0, 4000) || "The tool failed." } };
}

function problemOf(text) {
  try {
    return JSON.parse(text).detail;
  } catch {
    return undefined;
  }
}

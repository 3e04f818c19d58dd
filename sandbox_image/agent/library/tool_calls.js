// A program's tools: `await tools.github.list_issues({ repo: 'x' })`.
//
// A call is one message on the first of two pipes with which the program was started, its answer one message on the
// second: see tool_calls.py. At most `at_once` calls are open; further ones wait here. Only the main thread has tools.
'use strict';
const fs = require('fs');
const { isMainThread } = require('worker_threads');

const [CALLS, ANSWERS] = [14, 15];
const DIRECTORY = '/tools';
const LENGTHS = 8; // bytes of two lengths, of a message's header and body
const NO_TOOLS = 'This execution has no tools. Name those that it may call in `tools` when you submit it.';
const NOT_FIRST = "Only the main thread of the program's first process can call tools. Pass the results on.";
const ENDED = 'The host has closed the line for tools.';

class ToolError extends Error {
  constructor({ code, message, valid_parameters = [], did_you_mean = [] }) {
    super(message);
    this.name = 'ToolError';
    this.code = code;
    this.validParameters = valid_parameters;
    this.didYouMean = did_you_mean;
  }
}

let socket = null; // for the answers, after the first call
let broken = '';
let atOnce = 8;
let requestBytes = 2 ** 20;
let seq = 0;
const open = new Map(); // what to do with each answer, by seq
const waiting = []; // calls
let pieces = []; // of answers, until they have `wanted` bytes
let size = 0;
let wanted = LENGTHS;
let names = null;

const unavailable = (message) => new ToolError({ code: 'tool_unavailable', message });

// Open the line, or throw if there is none.
function need() {
  if (broken) throw unavailable(broken);
  if (socket) return;
  let bounds;
  try {
    bounds = JSON.parse(fs.readFileSync(`${DIRECTORY}/bounds.json`, 'utf8'));
  } catch {
    throw unavailable(NO_TOOLS);
  }
  if (!isMainThread || ![CALLS, ANSWERS].every(isPipe)) throw unavailable(NOT_FIRST);
  atOnce = bounds.at_once;
  requestBytes = bounds.request_bytes;
  socket = new (require('net').Socket)({ fd: ANSWERS, readable: true, writable: false });
  socket.on('data', receive).on('error', end).on('close', end);
}

function isPipe(fd) {
  try {
    return fs.fstatSync(fd).isFIFO();
  } catch {
    return false;
  }
}

function call(server, tool, parameters) {
  return new Promise((resolve, reject) => {
    need();
    let body;
    try {
      body = Buffer.from(JSON.stringify(parameters ?? {}));
    } catch (error) {
      throw new ToolError({ code: 'tool_arguments_invalid', message: `The arguments are not plain data: ${error.message}` });
    }
    if (body.length > requestBytes) {
      const message = `The arguments have ${body.length} bytes; a call may have at most ${requestBytes}.`;
      throw new ToolError({ code: 'tool_bytes_exceeded', message });
    }
    const made = { header: { server, tool }, body, resolve, reject };
    socket.ref();
    if (open.size < atOnce) send(made);
    else waiting.push(made);
  });
}

function send({ header, body, resolve, reject }) {
  open.set(++seq, { resolve, reject });
  const head = Buffer.from(JSON.stringify({ seq, ...header }));
  const lengths = Buffer.alloc(LENGTHS);
  lengths.writeUInt32BE(head.length, 0);
  lengths.writeUInt32BE(body.length, 4);
  let rest = Buffer.concat([lengths, head, body]);
  try {
    while (rest.length) rest = rest.subarray(fs.writeSync(CALLS, rest));
  } catch {
    end();
  }
}

function receive(data) {
  pieces.push(data);
  size += data.length;
  if (size < wanted) return;
  let received = Buffer.concat(pieces);
  for (;;) {
    wanted = LENGTHS;
    if (received.length < wanted) break;
    const middle = LENGTHS + received.readUInt32BE(0);
    wanted = middle + received.readUInt32BE(4);
    if (received.length < wanted) break;
    settle(JSON.parse(received.toString('utf8', LENGTHS, middle)), received.toString('utf8', middle, wanted));
    received = received.subarray(wanted);
  }
  [pieces, size] = [[received], received.length];
  while (waiting.length && open.size < atOnce && !broken) send(waiting.shift());
  if (open.size === 0) socket.unref(); // without open calls the process may end
}

function settle({ seq: answered, ok }, body) {
  const made = open.get(answered);
  if (!made) return;
  open.delete(answered);
  if (ok) made.resolve(JSON.parse(body));
  else made.reject(new ToolError(JSON.parse(body)));
}

function end() {
  broken ||= ENDED;
  for (const { reject } of [...open.values(), ...waiting]) reject(unavailable(broken));
  open.clear();
  waiting.length = 0;
}

// The server and tool for each `server.tool` as programs spell it; empty if there are no stubs.
function real(server, tool) {
  if (names === null) {
    try {
      names = JSON.parse(fs.readFileSync(`${DIRECTORY}/names.json`, 'utf8'));
    } catch {
      names = {};
    }
  }
  return Object.hasOwn(names, `${server}.${tool}`) ? names[`${server}.${tool}`] : [server, tool];
}

// An object with a value for each name, except for those that JavaScript itself looks for (`await` for `then`).
const named = (make) =>
  new Proxy({}, { get: (_, name) => (typeof name === 'string' && name !== 'then' ? make(name) : undefined) });

const tools = named((server) => named((tool) => (parameters) => call(...real(server, tool), parameters)));
const searchTools = (query, options) => call('mayfly', 'search_tools', { query, ...options });

module.exports = { ToolError, searchTools, tools };

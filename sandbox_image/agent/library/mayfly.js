// The results of a program: result(x) names what the caller gets, display(x) shows a value beside it; and its tools
// (tool_calls.js).
//
// A result is a directory with one file for each MIME type: see bundles.py.
'use strict';
const fs = require('fs');
const { inspect } = require('util');
const { ToolError, searchTools, tools } = require('./tool_calls.js');

const DIRECTORY = '/tmp/.mayfly-results';
const MEDIA_TYPES = ['text/plain', 'application/json', 'text/html', 'image/png'];
const SHOWN = Symbol.for('Jupyter.display'); // a method that returns a value's representations
const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const MAX_DEPTH = 64;
const HAS_NAMED = Symbol.for('mayfly.hasNamed');
const KEEP = Symbol.for('mayfly.keep');
let kept = 0;

function result(value) {
  keep('named', value);
}

function display(...values) {
  for (const value of values) keep('display', value);
}

function keep(source, value) {
  const parts = representations(value, source === 'expression');
  fs.mkdirSync(DIRECTORY, { recursive: true, mode: 0o700 });
  const time = process.hrtime.bigint().toString().padStart(20, '0');
  const name = `${source}.${time}.${process.pid}.${kept++}`;
  fs.mkdirSync(`${DIRECTORY}/.${name}`, { mode: 0o700 });
  for (const [type, content] of parts) fs.writeFileSync(`${DIRECTORY}/.${name}/${type.replace('/', '.')}`, content);
  fs.renameSync(`${DIRECTORY}/.${name}`, `${DIRECTORY}/${name}`);
}

function hasNamed() {
  return fs.existsSync(DIRECTORY) && fs.readdirSync(DIRECTORY).some((name) => name.startsWith('named.'));
}

function representations(value, quoted) {
  const found = { 'text/plain': typeof value === 'string' && !quoted ? value : inspect(value) };
  if (isJson(value, MAX_DEPTH)) found['application/json'] = value;
  if (value instanceof Uint8Array && PNG.every((byte, index) => value[index] === byte)) found['image/png'] = value;
  if (value !== null && typeof value === 'object' && typeof value[SHOWN] === 'function') {
    Object.assign(found, value[SHOWN]());
  }
  const parts = [];
  for (const type of MEDIA_TYPES) {
    const content = found[type];
    if (content === undefined) continue;
    if (type === 'application/json') parts.push([type, JSON.stringify(content)]);
    else if (type === 'image/png') parts.push([type, typeof content === 'string' ? Buffer.from(content, 'base64') : content]);
    else parts.push([type, String(content)]);
  }
  return parts;
}

// Whether a value is plain JSON, which JSON.stringify neither changes nor shortens.
function isJson(value, depth) {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return true;
  if (typeof value === 'number') return Number.isFinite(value);
  if (typeof value !== 'object' || depth === 0) return false;
  if (Array.isArray(value)) return value.every((item) => isJson(item, depth - 1));
  const kind = Object.getPrototypeOf(value);
  return (kind === null || kind === Object.prototype) && Object.values(value).every((item) => isJson(item, depth - 1));
}

module.exports = { result, display, tools, searchTools, ToolError };
Object.defineProperty(module.exports, HAS_NAMED, { value: hasNamed });
Object.defineProperty(module.exports, KEEP, { value: keep });

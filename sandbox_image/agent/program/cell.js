// Runs a program as a cell: the value of its last expression is a result, and `await` and `import` work at its top.
//
// The cell's source becomes the body of an async function with the variables of a CommonJS module. Lines stay where
// they are, so stack traces are right; frames beneath the cell's own are cut off. wait.js calls run(), or the command
// `node cell.js program arguments` does.
'use strict';
const fs = require('fs');
const Module = require('module');
const path = require('path');
const { inspect } = require('util');
const vm = require('vm');

const HEAD = '(async function (exports, require, module, __filename, __dirname) {'; // a line before the first
const LOADER = vm.constants.USE_MAIN_CONTEXT_DEFAULT_LOADER;
const UNSETTLED = 13; // Node.js's exit code for a top-level await that never settles
const FLAGS = {
  ecmaVersion: 'latest',
  allowAwaitOutsideFunction: true,
  allowHashBang: true,
  allowImportExportEverywhere: true,
};
const OWN = ['acorn.js', 'cell.js', 'mayfly.js', 'tool_calls.js'].map((name) => path.join(__dirname, name));

function run(file) {
  const filename = path.resolve(file);
  const acorn = require('./acorn.js');
  const mayfly = require('./mayfly.js');
  const module = new Module(filename, null);
  Object.assign(module, { filename, paths: Module._nodeModulePaths(path.dirname(filename)) });
  process.mainModule = module;
  for (const own of OWN) delete require.cache[own];

  let over = false;
  process.once('exit', () => {
    if (over || process.exitCode !== undefined) return;
    process.exitCode = UNSETTLED;
    process._rawDebug('Warning: a top-level await of the cell was never settled');
  });
  evaluate(acorn, mayfly, filename, module).then(
    (value) => {
      over = true;
      module.loaded = true;
      if (value !== undefined && !mayfly[Symbol.for('mayfly.hasNamed')]()) {
        mayfly[Symbol.for('mayfly.keep')]('expression', value);
      }
    },
    (error) => {
      over = true;
      cutFrames(error);
      if (process.listenerCount('uncaughtException') || process.listenerCount('unhandledRejection')) throw error;
      process.stderr.write(`${report(error, filename)}\n\nNode.js ${process.version}\n`);
      process.exit(1);
    },
  );
}

async function evaluate(acorn, mayfly, filename, module) {
  const source = fs.readFileSync(filename, 'utf8').replace(/^\uFEFF/, '');
  if (/\bimport\b/.test(source)) await warnOfLoader();
  const script = new vm.Script(`${HEAD}\n${transformed(acorn, source)}\n})`, {
    filename,
    lineOffset: -1,
    importModuleDynamically: LOADER,
  });
  const body = script.runInThisContext();
  const require = Module.createRequire(filename);
  require.main = module;
  const directory = path.dirname(filename);
  Object.defineProperty(globalThis, 'display', { value: mayfly.display, configurable: true, writable: true });
  return body.call(module.exports, module.exports, require, module, filename, directory);
}

// Trigger, and suppress, Node.js's single warning that this loader of `import` is experimental.
function warnOfLoader() {
  const { emitWarning } = process;
  process.emitWarning = () => {};
  try {
    return new vm.Script('import("fs")', { importModuleDynamically: LOADER }).runInThisContext();
  } finally {
    process.emitWarning = emitWarning;
  }
}

// The source with its imports as calls, and its last expression as the function's return value.
function transformed(acorn, source) {
  let tree;
  try {
    tree = acorn.parse(source, FLAGS);
  } catch {
    return source.replace(/^#!/, '//'); // the engine's own message is the right one
  }
  const edits = [];
  for (const node of tree.body) {
    if (node.type === 'ImportDeclaration') edits.push([node.start, node.end, imported(source, node)]);
  }
  const last = tree.body.at(-1);
  if (last?.type === 'ExpressionStatement') {
    const { start, end } = last.expression;
    const [before, after] = [source.slice(last.start, start), source.slice(end, last.end)];
    edits.push([last.start, last.end, `return (${before}${source.slice(start, end)}${after.replace(/;\s*$/, '')});`]);
  }
  let text = source;
  for (const [start, end, by] of edits.reverse()) text = text.slice(0, start) + by + text.slice(end);
  return text.replace(/^#!/, '//');
}

// `import a, { b as c } from 'd'` as declarations on as many lines.
function imported(source, node) {
  const from = `await import(${JSON.stringify(node.source.value)})`;
  const named = [];
  let whole = '';
  for (const one of node.specifiers) {
    const local = one.local.name;
    if (one.type === 'ImportNamespaceSpecifier') whole = local;
    else if (one.type === 'ImportDefaultSpecifier') named.push(`default: ${local}`);
    else named.push(`${JSON.stringify(one.imported.name ?? one.imported.value)}: ${local}`);
  }
  const lines = source.slice(node.start, node.end).split('\n').length - 1;
  const target = `{ ${named.join(', ')} }`;
  let text = from;
  if (whole) text = `const ${whole} = ${from}${named.length ? `, ${target} = ${whole}` : ''}`;
  else if (named.length) text = `const ${target} = ${from}`;
  return `${text};${'\n'.repeat(lines)}`;
}

// Cut off the frames beneath the cell's own.
function cutFrames(error) {
  if (!(error instanceof Error) || typeof error.stack !== 'string') return;
  const lines = error.stack.split('\n');
  const first = lines.findIndex((line) => /^\s+at /.test(line) && (line.includes(__filename) || line.includes('(node:vm:')));
  if (first > 0) error.stack = lines.slice(0, first).join('\n');
}

// An uncaught error as Node.js prints it: the place, the line, the error with its stack.
function report(error, filename) {
  if (!(error instanceof Error)) return `Uncaught ${inspect(error)}`;
  const { stack } = error;
  if (typeof stack !== 'string' || !/^\s+at /m.test(stack)) return stack ?? String(error);
  const at = stack.split('\n').find((line) => /^\s+at /.test(line));
  const [, line] = at.includes(`${filename}:`) ? at.match(/:(\d+):\d+\)?$/) ?? [] : [];
  const source = line && fs.existsSync(filename) ? fs.readFileSync(filename, 'utf8').split('\n')[line - 1] : undefined;
  return `${source === undefined ? '' : `${filename}:${line}\n${source}\n\n`}${inspect(error)}`;
}

module.exports = { run };
if (require.main === module) {
  process.argv.splice(1, 1);
  process.argv[1] = path.resolve(process.argv[1]);
  run(process.argv[1]);
}

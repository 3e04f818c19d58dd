// Module syntax in plain code: imports, an await outside of any function, import.meta; nothing is said of it.
import assert from 'assert/strict';
import { execSync } from 'child_process';
import fs, { readFileSync } from 'fs';
import { createRequire } from 'module';
import { setTimeout as later } from 'timers/promises';
import { Worker } from 'worker_threads';

console.log(await Promise.resolve(1));
console.log(await later(5, 'later'), fs.readFileSync === readFileSync);
const require = createRequire(import.meta.url);
assert.equal(require('path').basename(new URL(import.meta.url).pathname), 'main.js');
const { default: beside, sum } = await import('./lib.mjs');
console.log(beside, sum(1, 2));
console.log(process.argv.length, process.execArgv, process._preload_modules, process.release.lts !== undefined);
const worker = new Worker('require("worker_threads").parentPort.postMessage([process.execArgv, process.argv.length])', {
  eval: true,
});
console.log(await new Promise((resolve) => worker.once('message', resolve)));
const text = execSync('echo one two | tr a-z A-Z; echo $((6 * 7)) | sed s/4/four/', { encoding: 'utf8' });
console.log(text.trim());
process.env.TZ = 'America/New_York';
console.log(new Date(1_720_000_000_000).toString());
console.log(execSync('date -d @1720000000 "+%T %Z"', { encoding: 'utf8' }).trim());

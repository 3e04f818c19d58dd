// Loaded before a program (node --require): waits for its request, then Node.js continues as usual.
//
// Node.js has started, and is about to run the file that its command line names. One JSON object arrives on descriptor
// 3: further arguments, the environment variables, whether the file is a cell (which cell.js runs), and whether it has
// tools; without tools the pipes for their calls and answers are closed. The program must see no trace of this file,
// also in its worker threads, which load this file too.
'use strict';

const PIPE_BYTES = 4096; // the most bytes of a request: see Ahead in program.py

// Do what most programs do first: load the module of a pipe, and format a line. The first time takes milliseconds. The
// first line of any console would open the program's stderr, whose colours it looks for: here it finds none instead.
function rehearse() {
  require('net');
  const { Console } = require('console');
  const nothing = () => true;
  const stderr = Object.getOwnPropertyDescriptor(process, 'stderr');
  Object.defineProperty(process, 'stderr', { ...stderr, get: () => undefined });
  new Console({ write: nothing, once: nothing, removeListener: nothing }).log(1, '');
  Object.defineProperty(process, 'stderr', stderr);
}

if (require('worker_threads').isMainThread) {
  const fs = require('fs');
  const sent = Buffer.alloc(PIPE_BYTES);
  let length = 0;
  const now = fs.openSync('/proc/self/fd/3', fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
  try {
    length = fs.readSync(now, sent); // all of a request or nothing, since one write sent it
  } catch {
    rehearse(); // no request is waiting
  }
  fs.closeSync(now);
  const request = JSON.parse(sent.toString('utf8', 0, length) + fs.readFileSync(3, 'utf8'));
  for (const end of request.tools ? [3] : [3, 14, 15]) fs.closeSync(end);
  process.argv.push(...request.args);
  Object.assign(process.env, request.env);
  if (request.cell) {
    const Module = require('module');
    const runMain = Module.runMain;
    Module.runMain = () => {
      Module.runMain = runMain;
      require('/usr/lib/mayfly/cell.js').run(process.argv[1]);
    };
  }
}
process.execArgv = [];
process._preload_modules.length = 0;
delete require.cache[__filename];

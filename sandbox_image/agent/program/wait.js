// Loaded before a program (node --require): waits for its request, then Node.js continues as usual.
//
// Node.js has started, and is about to run the file that its command line names. One JSON object arrives on descriptor
// 3: further arguments, the environment variables, whether the file is a cell (which cell.js runs), and whether it has
// tools; without tools the pipes for their calls and answers are closed. The program must see no trace of this file,
// also in its worker threads, which load this file too.
'use strict';

if (require('worker_threads').isMainThread) {
  const fs = require('fs');
  const request = JSON.parse(fs.readFileSync(3, 'utf8'));
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

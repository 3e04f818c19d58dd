// Loaded before a program (node --require): waits for its orders, then Node.js goes on as it always does.
//
// Node.js has started by now and is about to run the file that its command line names. One JSON object comes on
// descriptor 3: what is to be added to the arguments, and the environment variables. Nothing of this may be seen by
// the program, also not in its worker threads, which load this file too.
'use strict';

if (require('worker_threads').isMainThread) {
  const fs = require('fs');
  const orders = JSON.parse(fs.readFileSync(3, 'utf8'));
  fs.closeSync(3);
  process.argv.push(...orders.args);
  Object.assign(process.env, orders.env);
}
process.execArgv = [];
process._preload_modules.length = 0;
delete require.cache[__filename];

// child_process: execFile, spawn with pipes, fork with messages, exit codes and signals.
'use strict';
const { execFile, fork, spawn } = require('child_process');
const { promisify } = require('util');
const { once } = require('events');

if (process.argv[2] === 'child') {
  process.on('message', ({ numbers, quit }) => {
    if (quit) process.exit(quit);
    process.send({ pid: process.pid, product: numbers.reduce((a, b) => a * BigInt(b), 1n).toString() });
  });
} else {
  main();
}

async function main() {
  const { stdout } = await promisify(execFile)(process.execPath, ['-p', '6 * 7 + " " + process.argv.slice(1)', 'é']);
  console.log('execFile', stdout.trim());

  const upper = spawn(process.execPath, ['-e', `
    process.stdin.setEncoding('utf8').on('data', (text) => process.stdout.write(text.toUpperCase()));
    process.stdin.on('end', () => { process.stderr.write('ended'); process.exitCode = 5; });
  `]);
  let out = '', err = '';
  upper.stdout.on('data', (data) => { out += data; });
  upper.stderr.on('data', (data) => { err += data; });
  for (let line = 0; line < 2000; line++) upper.stdin.write(`line ${line}\n`);
  upper.stdin.end();
  const [code] = await once(upper, 'close');
  console.log('spawn', out.length, out.slice(-10).trim(), err, code);

  const child = fork(__filename, ['child']);
  child.send({ numbers: Array.from({ length: 20 }, (_, i) => i + 1) });
  const [{ pid, product }] = await once(child, 'message');
  console.log('fork', product, pid === child.pid, pid !== process.pid);
  child.send({ quit: 9 });
  console.log('quit', (await once(child, 'exit')).join(' '));

  const sleeper = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
  await once(sleeper, 'spawn');
  sleeper.kill('SIGTERM');
  console.log('killed', JSON.stringify(await once(sleeper, 'exit')));
  const missing = spawn('/no/such/program');
  console.log('missing', (await once(missing, 'error'))[0].code);
}

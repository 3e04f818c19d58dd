// Processes, signals, threads, the machine.
'use strict';
const assert = require('assert/strict');
const child_process = require('child_process');
const cluster = require('cluster');
const { once } = require('events');
const os = require('os');
const { promisify } = require('util');
const { Worker, MessageChannel, receiveMessageOnPort } = require('worker_threads');

const node = (source, options) => child_process.spawn(process.execPath, ['-e', source], options);

module.exports = {
  'process'() {
    assert.equal(process.cwd(), '/work');
    assert.equal(process.title.length > 0 && process.platform, 'linux');
    assert.ok(process.memoryUsage.rss() > 2 ** 20 && process.hrtime.bigint() > 0n && process.uptime() > 0);
    assert.ok(process.resourceUsage().userCPUTime > 0);
    assert.ok(process.getuid() > 0 && process.getuid() === process.geteuid());
    assert.throws(() => process.chdir('/nowhere'), { code: 'ENOENT' });
    assert.equal(process.umask(0o22), 0o22);
  },
  'os'() {
    assert.equal(os.type(), 'Linux');
    assert.ok(os.cpus().length >= 1 && os.totalmem() > os.freemem() && os.loadavg().length === 3);
    assert.equal(os.homedir(), '/work');
    assert.equal(os.tmpdir(), '/tmp');
    assert.equal(os.getPriority(), os.getPriority(process.pid)); // the engine's, from whoever started it
  },
  'os: networkInterfaces'() {
    assert.deepEqual(Object.keys(os.networkInterfaces()).filter((name) => name !== 'lo'), []);
  },
  'os: userInfo'() {
    assert.equal(os.userInfo().uid, process.getuid());
  },
  async 'child_process: pipes and codes'() {
    const child = node('process.stdin.pipe(process.stdout); process.exitCode = 3');
    child.stdin.end('through');
    let text = '';
    child.stdout.on('data', (data) => { text += data; });
    assert.deepEqual(await once(child, 'close'), [3, null]);
    assert.equal(text, 'through');
  },
  async 'child_process: exec, sync and fork'() {
    const { stdout } = await promisify(child_process.execFile)(process.execPath, ['-p', 'process.argv[1]', 'ä b']);
    assert.equal(stdout, 'ä b\n');
    const done = child_process.spawnSync(process.execPath, ['-e', 'console.error(process.env.X)'], { env: { X: 'y' } });
    assert.deepEqual([done.status, done.stderr.toString()], [0, 'y\n']);
    const child = child_process.fork('-', { execArgv: ['-e', 'process.on("message", (m) => { process.send(m.map((n) => n * 2)); process.disconnect(); })', '--'] });
    child.send([1, 2]);
    assert.deepEqual((await once(child, 'message'))[0], [2, 4]);
    await once(child, 'exit');
  },
  'child_process: shell'() {
    assert.equal(child_process.execSync('echo $((6 * 7))').toString(), '42\n');
  },
  async 'child_process: signals and timeouts'() {
    const child = node('process.on("SIGUSR2", () => process.exit(7)); setInterval(() => {}, 9e5); console.log("ready")');
    await once(child.stdout, 'data');
    child.kill('SIGUSR2');
    assert.deepEqual(await once(child, 'exit'), [7, null]);
    const late = child_process.spawnSync(process.execPath, ['-e', 'for (;;);'], { timeout: 300 });
    assert.equal(late.signal, 'SIGTERM');
  },
  async 'process: signals of its own'() {
    const seen = once(process, 'SIGWINCH');
    process.kill(process.pid, 'SIGWINCH');
    assert.deepEqual(await seen, ['SIGWINCH', 28]);
  },
  async 'worker_threads'() {
    const shared = new SharedArrayBuffer(4);
    const source = `
      const { parentPort, workerData } = require('worker_threads');
      const cell = new Int32Array(workerData);
      for (let i = 0; i < 1000; i++) Atomics.add(cell, 0, 1);
      Atomics.notify(cell, 0);
      parentPort.once('message', (buffer) => parentPort.postMessage(new Uint8Array(buffer).reduce((a, b) => a + b)));`;
    const workers = [1, 2, 3, 4].map(() => new Worker(source, { eval: true, workerData: shared }));
    for (const worker of workers) {
      const buffer = new Uint8Array([1, 2, 3]).buffer;
      worker.postMessage(buffer, [buffer]);
      assert.equal(buffer.byteLength, 0);
    }
    assert.deepEqual(await Promise.all(workers.map(async (worker) => (await once(worker, 'message'))[0])), [6, 6, 6, 6]);
    assert.equal(new Int32Array(shared)[0], 4000);
    const failing = new Worker('throw new TypeError("inside")', { eval: true });
    assert.equal((await once(failing, 'error'))[0].message, 'inside');
    const { port1, port2 } = new MessageChannel();
    port1.postMessage({ n: 1 });
    assert.deepEqual(receiveMessageOnPort(port2).message, { n: 1 });
  },
  async 'cluster'() {
    cluster.setupPrimary({ exec: __filename, args: ['cluster'] });
    const worker = cluster.fork();
    assert.equal((await once(worker, 'message'))[0], 'hello');
    const exit = once(worker, 'exit');
    worker.kill();
    await exit;
  },
};

if (cluster.isWorker) process.send('hello');

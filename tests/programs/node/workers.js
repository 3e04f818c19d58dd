// worker_threads: primes counted by ranges in parallel, a shared array with atomics, transferred buffers.
'use strict';
const { Worker, isMainThread, parentPort, workerData, threadId } = require('worker_threads');

function countPrimes(low, high) {
  let found = 0;
  for (let n = Math.max(2, low); n < high; n++) {
    let prime = true;
    for (let d = 2; d * d <= n; d++) {
      if (n % d === 0) { prime = false; break; }
    }
    if (prime) found++;
  }
  return found;
}

function work() {
  const counter = new Int32Array(workerData.shared);
  if (workerData.fail) throw new RangeError('told to fail');
  const found = countPrimes(workerData.low, workerData.high);
  for (let i = 0; i < 1000; i++) Atomics.add(counter, 0, 1);
  const squares = new Float64Array(10).map((_, i) => (workerData.low + i) ** 2);
  parentPort.postMessage({ found, threadId, squares }, [squares.buffer]);
  if (squares.length !== 0) throw new Error('not transferred');
}

function run(data) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(__filename, { workerData: data });
    let message;
    worker.on('message', (value) => { message = value; });
    worker.on('error', reject);
    worker.on('exit', (code) => resolve({ ...message, code }));
  });
}

async function main() {
  const shared = new SharedArrayBuffer(4);
  const parts = [0, 1, 2, 3].map((part) => run({ low: part * 10000, high: (part + 1) * 10000, shared }));
  const results = await Promise.all(parts);
  console.log('primes', results.reduce((sum, part) => sum + part.found, 0));
  console.log('threads', new Set(results.map((part) => part.threadId)).size, results.map((part) => part.code).join(''));
  console.log('counter', new Int32Array(shared)[0], results[1].squares[3]);
  try {
    await run({ shared, fail: true });
  } catch (error) {
    console.log('failed', error.name, error.message);
  }
}

if (isMainThread) main();
else work();

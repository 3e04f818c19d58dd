// An order desk on EventEmitter: listeners in order, once, errors, async iteration, timers and microtasks.
'use strict';
const { EventEmitter, once, on } = require('events');

class Desk extends EventEmitter {
  #stock;
  constructor(stock) {
    super();
    this.#stock = new Map(Object.entries(stock));
  }
  order(item, count) {
    const have = this.#stock.get(item);
    if (have === undefined) return this.emit('error', new Error(`no ${item}`));
    if (have < count) return this.emit('short', item, count - have);
    this.#stock.set(item, have - count);
    this.emit('sold', item, count);
    if (have === count) this.emit('empty', item);
    return true;
  }
}

async function main() {
  const desk = new Desk({ pen: 10, ink: 2 });
  const log = [];
  desk.on('sold', (item, count) => log.push(`sold ${count} ${item}`));
  desk.prependListener('sold', () => log.push('first'));
  desk.once('sold', () => log.push('once'));
  desk.on('short', (item, missing) => log.push(`short of ${missing} ${item}`));
  console.log(desk.order('pen', 3), desk.order('pen', 7), desk.order('pen', 1), desk.listenerCount('sold'));
  try {
    desk.order('hat', 1);
  } catch (error) {
    log.push(`thrown ${error.message}`);
  }
  desk.on('error', (error) => log.push(`handled ${error.message}`));
  desk.order('cup', 1);
  setImmediate(() => desk.order('ink', 2));
  const [item] = await once(desk, 'empty');
  log.push(`empty ${item}`);
  console.log(log.join('\n'));

  const ticks = new EventEmitter();
  let number = 0;
  const timer = setInterval(() => ticks.emit('tick', ++number), 1);
  let sum = 0;
  for await (const [value] of on(ticks, 'tick')) {
    sum += value;
    if (value === 10) break;
  }
  clearInterval(timer);
  console.log('ticks', sum);

  const order = [];
  setTimeout(() => order.push('timeout'), 0);
  Promise.resolve().then(() => order.push('promise'));
  process.nextTick(() => order.push('tick'));
  queueMicrotask(() => order.push('microtask'));
  order.push('sync');
  await new Promise((resolve) => setTimeout(resolve, 5));
  console.log(order.slice().sort().join(' '), order[0], order.at(-1));
}

process.on('exit', (code) => console.log('exit', code));
main().then(() => { process.exitCode = 4; });

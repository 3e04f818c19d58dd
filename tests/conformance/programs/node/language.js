// Events, timers, asynchronous context, URLs, formatting, virtual machines, modules, internationalisation.
'use strict';
const assert = require('assert/strict');
const { AsyncLocalStorage, createHook, executionAsyncId } = require('async_hooks');
const { EventEmitter, once } = require('events');
const { performance } = require('perf_hooks');
const timers = require('timers/promises');
const url = require('url');
const util = require('util');
const v8 = require('v8');
const vm = require('vm');

module.exports = {
  async 'events'() {
    const emitter = new EventEmitter({ captureRejections: true });
    const seen = [];
    emitter.once('x', (n) => seen.push(n)).on('x', (n) => seen.push(-n)).prependListener('x', () => seen.push(0));
    emitter.emit('x', 1);
    emitter.emit('x', 2);
    assert.deepEqual(seen, [0, 1, -1, 0, -2]);
    assert.throws(() => emitter.emit('error', new RangeError('r')), RangeError);
    emitter.on('async', async () => { throw new Error('later'); });
    setImmediate(() => emitter.emit('async'));
    assert.equal((await once(emitter, 'error'))[0].message, 'later');
    const target = new EventTarget();
    setImmediate(() => target.dispatchEvent(new Event('go')));
    assert.equal((await once(target, 'go'))[0].type, 'go');
  },
  async 'timers: order'() {
    const order = [];
    const end = new Promise((done) => setTimeout(() => { order.push('timeout'); setImmediate(done); }, 500));
    setImmediate(() => order.push('immediate'));
    process.nextTick(() => order.push('tick'));
    Promise.resolve().then(() => order.push('promise'));
    await end;
    assert.deepEqual(order, ['promise', 'tick', 'immediate', 'timeout']);
  },
  async 'timers: intervals and aborts'() {
    let count = 0;
    for await (const value of timers.setInterval(2, 'v')) if (value !== 'v' || ++count === 5) break;
    assert.equal(count, 5);
    await assert.rejects(timers.setTimeout(60000, null, { signal: AbortSignal.timeout(5) }), { name: 'AbortError' });
    const before = performance.now();
    await timers.setTimeout(50);
    assert.ok(performance.now() - before >= 49);
  },
  async 'async_hooks'() {
    const storage = new AsyncLocalStorage();
    const read = async () => { await timers.setTimeout(1); return storage.getStore(); };
    assert.deepEqual(await Promise.all([1, 2, 3].map((n) => storage.run(n, read))), [1, 2, 3]);
    const kinds = new Set();
    const hook = createHook({ init: (id, kind) => kinds.add(kind) }).enable();
    await timers.setImmediate();
    hook.disable();
    assert.ok(kinds.has('Immediate') && kinds.has('PROMISE') && executionAsyncId() >= 0);
  },
  'url'() {
    const parsed = new URL('../x y?b=2&a=%C3%A9#h', 'https://user@exämple.org:8443/p/q');
    assert.equal(parsed.href, 'https://user@xn--exmple-cua.org:8443/x%20y?b=2&a=%C3%A9#h');
    parsed.searchParams.sort();
    assert.equal(parsed.search, '?a=%C3%A9&b=2');
    assert.equal(url.fileURLToPath('file:///a%20b'), '/a b');
    assert.throws(() => new URL('no url'), { code: 'ERR_INVALID_URL' });
  },
  async 'util'() {
    assert.equal(util.format('%s %d %j %o', 'a', 1.5, { b: 1 }, [2]), "a 1.5 {\"b\":1} [ 2, [length]: 1 ]");
    assert.equal(util.inspect(new Map([['k', { deep: { er: {} } }]]), { depth: 1 }), "Map(1) { 'k' => { deep: [Object] } }");
    assert.ok(util.isDeepStrictEqual(new Set([{ a: 1 }]), new Set([{ a: 1 }])));
    assert.equal(await util.promisify((x, done) => done(null, x + 1))(1), 2);
    assert.deepEqual(util.parseArgs({ args: ['-v', 'f'], options: { v: { type: 'boolean', short: 'v' } }, allowPositionals: true }).positionals, ['f']);
    assert.deepEqual(structuredClone({ d: new Date(0), m: new Map([[1, 2n]]) }), { d: new Date(0), m: new Map([[1, 2n]]) });
  },
  'assert'() {
    assert.throws(() => assert.deepEqual({ a: [1] }, { a: [2] }), { code: 'ERR_ASSERTION' });
    assert.throws(() => assert.equal(1, 1n), assert.AssertionError);
    assert.match('text', /x/);
  },
  'vm'() {
    const context = vm.createContext({ x: 2 });
    assert.equal(vm.runInContext('var y = x * 21; y', context), 42);
    assert.equal(context.y, 42);
    assert.throws(() => vm.runInContext('for (;;);', context, { timeout: 20 }), { code: 'ERR_SCRIPT_EXECUTION_TIMEOUT' });
    assert.throws(() => new vm.Script('a b', { filename: 'f.js' }), SyntaxError);
  },
  'v8'() {
    const value = { list: [1, undefined, new Date(5)], big: 2n ** 70n };
    assert.deepEqual(v8.deserialize(v8.serialize(value)), value);
    assert.ok(v8.getHeapStatistics().heap_size_limit > 2 ** 25);
  },
  async 'modules'() {
    const { default: half, twice } = await import('data:text/javascript,export const twice = (x) => 2 * x; export default 0.5');
    assert.equal(twice(half), 1);
    assert.equal(require('module').builtinModules.includes('fs'), true);
    assert.throws(() => require('./missing'), { code: 'MODULE_NOT_FOUND' });
  },
  async 'WebAssembly'() {
    const bytes = Buffer.from('AGFzbQEAAAABBwFgAn9/AX8DAgEABwcBA2FkZAAACgkBBwAgACABagsAAAA=', 'base64').subarray(0, 41);
    const { instance } = await WebAssembly.instantiate(bytes);
    assert.equal(instance.exports.add(2, 40), 42);
  },
  'Intl'() {
    assert.equal(new Intl.NumberFormat('de-DE').format(1234567.891), '1.234.567,891');
    assert.equal(new Intl.DateTimeFormat('en-GB', { dateStyle: 'long', timeZone: 'Asia/Tokyo' }).format(0), '1 January 1970');
    assert.deepEqual(['z', 'ä', 'a'].sort(new Intl.Collator('sv').compare), ['a', 'z', 'ä']);
    assert.equal('İ'.toLocaleLowerCase('tr'), 'i');
    assert.equal('ﬁ'.normalize('NFKC'), 'fi');
  },
};

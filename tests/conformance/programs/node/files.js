// Files and paths.
'use strict';
const assert = require('assert/strict');
const { on } = require('events');
const fs = require('fs');
const os = require('os');
const path = require('path');
const timers = require('timers/promises');

const root = fs.mkdtempSync(path.join(os.tmpdir(), 'files-'));
const at = (name) => path.join(root, name);

module.exports = {
  'fs: write, append, read, copy, rename, remove'() {
    fs.writeFileSync(at('a'), 'one');
    fs.appendFileSync(at('a'), ' two');
    assert.equal(fs.readFileSync(at('a'), 'utf8'), 'one two');
    fs.copyFileSync(at('a'), at('b'));
    fs.renameSync(at('b'), at('c'));
    assert.equal(fs.statSync(at('c')).size, 7);
    assert.equal(fs.existsSync(at('b')), false);
    fs.rmSync(at('c'));
    assert.throws(() => fs.readFileSync(at('c')), { code: 'ENOENT', syscall: 'open' });
  },
  'fs: directories'() {
    fs.mkdirSync(at('x/y/z'), { recursive: true });
    fs.writeFileSync(at('x/y/file'), '');
    const types = fs.readdirSync(at('x/y'), { withFileTypes: true }).map((one) => [one.name, one.isDirectory()]);
    assert.deepEqual(types.sort(), [['file', false], ['z', true]]);
    fs.cpSync(at('x'), at('copy'), { recursive: true });
    fs.rmSync(at('x'), { recursive: true });
    assert.equal(fs.existsSync(at('x')), false);
    assert.ok(fs.statSync(at('copy/y/z')).isDirectory());
  },
  'fs: links, modes, times, access'() {
    fs.writeFileSync(at('target'), 'x', { mode: 0o640 });
    fs.symlinkSync('target', at('link'));
    fs.linkSync(at('target'), at('hard'));
    assert.equal(fs.readlinkSync(at('link')), 'target');
    assert.equal(fs.realpathSync(at('link')), fs.realpathSync(at('target')));
    assert.equal(fs.statSync(at('hard')).nlink, 2);
    fs.chmodSync(at('target'), 0o400);
    assert.equal(fs.statSync(at('target')).mode & 0o777, 0o400);
    fs.utimesSync(at('target'), 1, 2);
    assert.equal(fs.statSync(at('target')).mtimeMs, 2000);
    assert.throws(() => fs.accessSync(at('target'), fs.constants.W_OK), { code: 'EACCES' });
  },
  'fs: descriptors'() {
    const fd = fs.openSync(at('fd'), 'w+');
    fs.writeSync(fd, 'hello world');
    const bytes = Buffer.alloc(5);
    assert.equal(fs.readSync(fd, bytes, 0, 5, 6), 5);
    assert.equal(bytes.toString(), 'world');
    fs.ftruncateSync(fd, 5);
    fs.fsyncSync(fd);
    fs.closeSync(fd);
    assert.equal(fs.readFileSync(at('fd'), 'utf8'), 'hello');
  },
  async 'fs: promises'() {
    const handle = await fs.promises.open(at('p'), 'w+');
    await handle.writev([Buffer.from('ab'), Buffer.from('cd\nef')]);
    await handle.close();
    const lines = [];
    for await (const line of (await fs.promises.open(at('p'))).readLines()) lines.push(line);
    assert.deepEqual(lines, ['abcd', 'ef']);
  },
  async 'fs: streams'() {
    const data = Buffer.alloc(300000, 'stream ');
    await new Promise((done) => fs.createWriteStream(at('s')).on('close', done).end(data));
    const chunks = [];
    for await (const chunk of fs.createReadStream(at('s'), { start: 7, end: 200000 })) chunks.push(chunk);
    assert.ok(Buffer.concat(chunks).equals(data.subarray(7, 200001)));
  },
  async 'fs: watch'() {
    fs.writeFileSync(at('watched'), '');
    const watcher = fs.watch(root);
    const seen = (async () => {
      for await (const [, name] of on(watcher, 'change')) if (name === 'watched') return name;
    })();
    await timers.setTimeout(20);
    fs.writeFileSync(at('watched'), 'x');
    assert.equal(await seen, 'watched');
    watcher.close();
  },
  'fs: root and inputs are read-only'() {
    for (const name of ['/usr/x', '/inputs/x']) assert.throws(() => fs.writeFileSync(name, ''), /EROFS|EACCES/);
  },
  'path'() {
    assert.equal(path.resolve('/a', '..', 'b', './c'), '/b/c');
    assert.equal(path.relative('/a/b', '/a/c/d'), '../c/d');
    assert.equal(path.parse('/x/y.tar.gz').ext, '.gz');
    assert.equal(path.normalize('/a//b/../c/'), '/a/c/');
  },
};

// Buffers, digests and ciphers, compression, streams, text.
'use strict';
const assert = require('assert/strict');
const crypto = require('crypto');
const readline = require('readline');
const { Readable, Transform, PassThrough, promises: streams } = require('stream');
const { StringDecoder } = require('string_decoder');
const { promisify } = require('util');
const zlib = require('zlib');

module.exports = {
  'buffer'() {
    const bytes = Buffer.alloc(16);
    bytes.writeDoubleBE(Math.PI, 0);
    bytes.writeBigInt64LE(-5n, 8);
    assert.equal(bytes.readDoubleBE(0), Math.PI);
    assert.equal(bytes.readBigInt64LE(8), -5n);
    assert.equal(Buffer.from('þ€😀').toString('hex'), 'c3bee282acf09f9880');
    assert.equal(Buffer.from('_-8', 'base64url').toString('base64'), '/+8=');
    assert.equal(Buffer.compare(Buffer.from('a'), Buffer.from('b')), -1);
    assert.equal(new TextDecoder('utf-16le').decode(Buffer.from('hé', 'utf16le')), 'hé');
  },
  'string_decoder'() {
    const decoder = new StringDecoder('utf8');
    assert.equal(decoder.write(Buffer.from([0xe2, 0x82])), '');
    assert.equal(decoder.end(Buffer.from([0xac])), '€');
  },
  'crypto: digests'() { // FIPS 180-4, RFC 2202, RFC 6070, RFC 7914
    const sha = crypto.createHash('sha256').update('abc').digest('hex');
    assert.equal(sha, 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
    const mac = crypto.createHmac('md5', 'Jefe').update('what do ya want for nothing?').digest('hex');
    assert.equal(mac, '750c783e6ab0b503eaa86e310a5db738');
    const key = crypto.pbkdf2Sync('password', 'salt', 2, 20, 'sha1').toString('hex');
    assert.equal(key, 'ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957');
    const scrypt = crypto.scryptSync('password', 'NaCl', 64, { N: 1024, r: 8, p: 16 }).toString('hex');
    assert.equal(scrypt.slice(0, 32), 'fdbabe1c9d3472007856e7190d01e9fe');
  },
  'crypto: ciphers'() {
    const [key, iv] = [crypto.randomBytes(32), crypto.randomBytes(12)];
    for (const name of ['aes-256-gcm', 'chacha20-poly1305']) {
      const cipher = crypto.createCipheriv(name, key, iv, { authTagLength: 16 });
      const body = Buffer.concat([cipher.update('text'), cipher.final()]);
      const decipher = crypto.createDecipheriv(name, key, iv, { authTagLength: 16 });
      decipher.setAuthTag(cipher.getAuthTag());
      assert.equal(decipher.update(body, null, 'utf8') + decipher.final('utf8'), 'text');
    }
  },
  async 'crypto: keys'() {
    const { publicKey, privateKey } = await promisify(crypto.generateKeyPair)('ec', { namedCurve: 'P-256' });
    const signature = crypto.sign('sha256', Buffer.from('text'), privateKey);
    assert.ok(crypto.verify('sha256', Buffer.from('text'), publicKey, signature));
    assert.ok(!crypto.verify('sha256', Buffer.from('test'), publicKey, signature));
    const [a, b] = [crypto.createECDH('secp256k1'), crypto.createECDH('secp256k1')];
    assert.ok(a.computeSecret(b.generateKeys() && a.generateKeys() && b.getPublicKey()).equals(b.computeSecret(a.getPublicKey())));
    const digest = await crypto.webcrypto.subtle.digest('SHA-1', new TextEncoder().encode('abc'));
    assert.equal(Buffer.from(digest).toString('hex'), 'a9993e364706816aba3e25717850c26c9cd0d89d');
  },
  async 'zlib'() {
    const data = Buffer.alloc(500000, 'compress me ');
    for (const name of ['gzip', 'deflate', 'deflateRaw', 'brotliCompress']) {
      const packed = await promisify(zlib[name])(data);
      const back = name === 'brotliCompress' ? 'brotliDecompress' : name.replace('gzip', 'gunzip').replace('deflate', 'inflate');
      assert.ok(packed.length < 10000 && (await promisify(zlib[back])(packed)).equals(data), name);
    }
    assert.throws(() => zlib.gunzipSync('no gzip'), { code: 'Z_DATA_ERROR' });
  },
  async 'stream: pipeline and backpressure'() {
    let produced = 0;
    const source = Readable.from((function* () { while (produced < 1000) yield String(produced++); })());
    const doubled = new Transform({
      objectMode: true, highWaterMark: 4, transform(chunk, _, done) { setImmediate(done, null, 2 * Number(chunk)); },
    });
    let sum = 0;
    await streams.pipeline(source, doubled, async (numbers) => {
      for await (const number of numbers) {
        sum += number;
        assert.ok(2 * produced - number < 200, 'the source ran ahead');
      }
    });
    assert.equal(sum, 999000);
    const broken = new PassThrough();
    setImmediate(() => broken.destroy(new Error('broken')));
    await assert.rejects(streams.pipeline(broken, new PassThrough()), /broken/);
  },
  async 'readline'() {
    const lines = [];
    for await (const line of readline.createInterface({ input: Readable.from(['a\nb', 'c\r\n', 'd']) })) lines.push(line);
    assert.deepEqual(lines, ['a', 'bc', 'd']);
  },
};

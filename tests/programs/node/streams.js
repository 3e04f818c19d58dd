// Streams: CSV from a file through transforms into gzip, with backpressure, a tee and an error.
'use strict';
const fs = require('fs');
const zlib = require('zlib');
const crypto = require('crypto');
const { StringDecoder } = require('string_decoder');
const { Transform, Writable, Readable } = require('stream');
const { pipeline } = require('stream/promises');

class Lines extends Transform {
  constructor() {
    super({ readableObjectMode: true });
    this.rest = '';
    this.decoder = new StringDecoder('utf8'); // a chunk may end inside a character
  }
  _transform(chunk, encoding, done) {
    const lines = (this.rest + this.decoder.write(chunk)).split('\n');
    this.rest = lines.pop();
    for (const line of lines) this.push(line);
    done();
  }
  _flush(done) {
    this.rest += this.decoder.end();
    if (this.rest) this.push(this.rest);
    done();
  }
}

const parse = (columns) =>
  new Transform({
    objectMode: true,
    transform(line, encoding, done) {
      const cells = line.split(',');
      if (cells.length !== columns.length) return done(new Error(`bad line: ${line}`));
      done(null, Object.fromEntries(columns.map((name, i) => [name, cells[i]])));
    },
  });

class Totals extends Transform {
  constructor() {
    super({ objectMode: true });
    this.sums = new Map();
  }
  _transform(row, encoding, done) {
    this.sums.set(row.city, (this.sums.get(row.city) ?? 0) + Number(row.amount));
    done(null, JSON.stringify(row) + '\n');
  }
}

async function main() {
  const totals = new Totals();
  await pipeline(
    fs.createReadStream('/inputs/amounts.csv', { highWaterMark: 1000 }),
    new Lines(), parse(['city', 'amount']), totals, zlib.createGzip(), fs.createWriteStream('/output/rows.jsonl.gz'),
  );
  for (const [city, sum] of [...totals.sums].sort()) console.log(city, sum);

  let slow = 0, most = 0;
  const source = Readable.from((function* () { for (let i = 0; i < 500; i++) yield Buffer.alloc(1024, i % 256); })());
  const hash = crypto.createHash('sha256');
  await pipeline(source, new Writable({
    highWaterMark: 4096,
    write(chunk, encoding, done) {
      slow += chunk.length;
      most = Math.max(most, this.writableLength);
      hash.update(chunk);
      setImmediate(done);
    },
  }));
  console.log('slow', slow, most <= 8192, hash.digest('hex'));
  await pipeline(Readable.from(['a,1\nb\n']), new Lines(), parse(['x', 'y']), new Totals().resume())
    .catch((error) => console.log('error:', error.message));
}

main();

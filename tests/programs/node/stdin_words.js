// Reads text from standard input line by line: word frequencies, longest line, an index by initial letter.
'use strict';
const readline = require('readline');
const { once } = require('events');

const limit = Number(process.env.TOP ?? 3);
const shout = process.argv.includes('--upper');

async function main() {
  const lines = readline.createInterface({ input: process.stdin, crlfDelay: Infinity });
  const counts = new Map();
  const initials = new Map();
  let longest = '', number = 0, characters = 0, where = 0;
  for await (const line of lines) {
    number++;
    characters += [...line].length;
    if ([...line].length > [...longest].length) [longest, where] = [line, number];
    for (const [word] of line.normalize('NFC').matchAll(/[\p{L}\p{M}']+/gu)) {
      const key = shout ? word.toUpperCase() : word.toLowerCase();
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
  }
  for (const word of counts.keys()) {
    const initial = [...word][0];
    if (!initials.has(initial)) initials.set(initial, []);
    initials.get(initial).push(word);
  }
  console.log(`lines ${number}, characters ${characters}, words ${[...counts.values()].reduce((a, b) => a + b, 0)}`);
  console.log(`longest is line ${where}`);
  const ranked = [...counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
  for (const [word, count] of ranked.slice(0, limit)) console.log(String(count).padStart(6), word);
  const busiest = [...initials].sort(([a, m], [b, n]) => n.length - m.length || (a < b ? -1 : 1))[0];
  console.log('initial', busiest[0], busiest[1].length);
  if (!process.stdout.write('.'.repeat(300000) + '\n')) await once(process.stdout, 'drain');
  process.stderr.write(`${number} lines read\n`);
  process.exit(number % 256);
}

main();

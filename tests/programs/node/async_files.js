// Reads a tree of inputs concurrently with fs/promises, and writes an index, copies and a summary.
'use strict';
const fs = require('fs/promises');
const path = require('path');

const INPUTS = '/inputs/notes';
const OUTPUT = '/output';

async function* walk(directory) {
  const entries = await fs.readdir(directory, { withFileTypes: true });
  entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of entries) {
    const full = path.join(directory, entry.name);
    if (entry.isDirectory()) yield* walk(full);
    else yield full;
  }
}

async function describe(file) {
  const [text, stat] = await Promise.all([fs.readFile(file, 'utf8'), fs.stat(file)]);
  const title = /^# (.+)$/m.exec(text)?.[1] ?? '(none)';
  const links = [...text.matchAll(/\[\[([^\]]+)\]\]/g)].map((match) => match[1]);
  return { name: path.relative(INPUTS, file), title, links, size: stat.size };
}

async function main() {
  const files = [];
  for await (const file of walk(INPUTS)) files.push(file);
  const notes = await Promise.all(files.map(describe));
  const known = new Set(notes.map((note) => note.title));
  const broken = notes.flatMap((note) => note.links.filter((link) => !known.has(link)));
  console.log(`${notes.length} notes, ${notes.reduce((sum, note) => sum + note.size, 0)} bytes`);
  console.log('broken:', [...new Set(broken)].sort().join(', '));
  await fs.mkdir(path.join(OUTPUT, 'notes'), { recursive: true });
  const results = await Promise.allSettled([
    fs.writeFile(path.join(OUTPUT, 'index.json'), JSON.stringify(notes, null, 1)),
    ...files.slice(0, 5).map((file) => fs.copyFile(file, path.join(OUTPUT, 'notes', path.basename(file)))),
    fs.writeFile('/inputs/notes/new.md', 'x'),
    fs.readFile('/inputs/notes/absent.md'),
  ]);
  console.log(results.map((result) => (result.status === 'rejected' ? result.reason.code : 'ok')).join(' '));
  const handle = await fs.open(path.join(OUTPUT, 'index.json'));
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(8), 0, 8, 0);
  await handle.close();
  console.log(bytesRead, JSON.stringify(buffer.toString()));
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});

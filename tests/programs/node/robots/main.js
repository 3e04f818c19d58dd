// A robot simulator in several modules: require by path, index files, JSON, cycles and a dynamic import.
'use strict';
const path = require('path');
const { World, SIZE } = require('./lib/world');
const commands = require('./lib/commands');
const settings = require('./settings.json');

async function main() {
  const { parse } = await import('./lib/parser.mjs');
  const world = new World(settings.start);
  const trail = [world.toString()];
  for (const { verb, count } of parse(settings.program)) {
    const command = commands[verb];
    if (!command) {
      console.error(`unknown command ${verb}`);
      process.exitCode = 2;
      continue;
    }
    for (let i = 0; i < count; i++) command(world);
    trail.push(world.toString());
  }
  console.log(trail.join('\n'));
  console.log('size', SIZE, 'moves', world.moves, 'bumps', world.bumps);
  console.log('same module', require('./lib/world.js').World === World, require.main === module);
  console.log(Object.keys(require.cache).map((file) => path.relative(__dirname, file)).sort().join(' '));
}

main();

'use strict';
const turn = require('./turn');

module.exports = { F: (world) => world.forward(), L: turn(-1), R: turn(1) };

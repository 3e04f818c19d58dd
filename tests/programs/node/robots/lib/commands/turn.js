'use strict';
module.exports = (by) => (world) => world.turn(by);

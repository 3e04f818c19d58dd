'use strict';
const headings = require('./headings');

const SIZE = 8;

class World {
  constructor({ x, y, heading }) {
    Object.assign(this, { x, y, heading, moves: 0, bumps: 0 });
  }
  forward() {
    const [dx, dy] = headings.step(this.heading);
    const [x, y] = [this.x + dx, this.y + dy];
    if (Math.min(x, y) < 0 || Math.max(x, y) >= SIZE) {
      this.bumps++;
      return;
    }
    Object.assign(this, { x, y, moves: this.moves + 1 });
  }
  turn(by) {
    this.heading = headings.turned(this.heading, by);
  }
  toString() {
    return `${this.x},${this.y} ${this.heading}`;
  }
}

module.exports = { World, SIZE };

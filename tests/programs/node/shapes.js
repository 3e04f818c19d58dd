// A class hierarchy: private fields, static members, getters, mixins, symbols, iteration, proxies, errors.
'use strict';

class ShapeError extends Error {
  constructor(message, shape) {
    super(message);
    this.name = new.target.name;
    this.shape = shape;
  }
}

const Named = (Base) => class extends Base {
  get label() { return `${this.constructor.name}#${this.id}`; }
};

class Shape {
  static #count = 0;
  static get count() { return Shape.#count; }
  constructor() {
    if (new.target === Shape) throw new ShapeError('abstract', 'Shape');
    this.id = ++Shape.#count;
  }
  get area() { throw new ShapeError('no area', this.constructor.name); }
  [Symbol.toPrimitive](hint) { return hint === 'number' ? this.area : `<${this.label}>`; }
  compare(other) { return this.area - other.area; }
}

class Rectangle extends Named(Shape) {
  #width; #height;
  constructor(width, height) {
    super();
    if (!(width > 0 && height > 0)) throw new ShapeError('not positive', 'Rectangle');
    [this.#width, this.#height] = [width, height];
  }
  get area() { return this.#width * this.#height; }
  static isRectangle(value) { return #width in value; }
}

class Square extends Rectangle {
  constructor(side) { super(side, side); }
}

class Polygon extends Named(Shape) {
  constructor(...points) { super(); this.points = points; }
  *[Symbol.iterator]() {
    for (let i = 0; i < this.points.length; i++) yield [this.points[i], this.points[(i + 1) % this.points.length]];
  }
  get area() {
    let twice = 0;
    for (const [[x1, y1], [x2, y2]] of this) twice += x1 * y2 - x2 * y1;
    return Math.abs(twice) / 2;
  }
}

const shapes = [new Rectangle(3, 4.5), new Square(3), new Polygon([0, 0], [6, 0], [6, 2], [0, 7])];
shapes.sort((a, b) => a.compare(b));
for (const shape of shapes) console.log(`${shape}`, +shape, shape instanceof Rectangle, Rectangle.isRectangle(shape));
console.log('count', Shape.count, Object.getPrototypeOf(Square) === Rectangle);
for (const make of [() => new Shape(), () => new Rectangle(0, 1), () => new (class Blob extends Shape {})().area]) {
  try {
    make();
  } catch (error) {
    console.log(error.name, error.message, error.shape, error instanceof ShapeError);
  }
}
const counted = new Proxy({}, { get: (target, key) => (target[key] = (target[key] ?? 0) + 1) });
counted.a; counted.b; counted.a;
console.log('proxy', counted.a, counted.b, JSON.stringify([...new Polygon([0, 0], [1, 0], [0, 1])].length));
throw new ShapeError('uncaught on purpose', 'none');

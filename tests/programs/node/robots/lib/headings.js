'use strict';
const ORDER = ['N', 'E', 'S', 'W'];
const STEPS = { N: [0, 1], E: [1, 0], S: [0, -1], W: [-1, 0] };

exports.step = (heading) => STEPS[heading];
exports.turned = (heading, by) => ORDER[(ORDER.indexOf(heading) + by + 4) % 4];

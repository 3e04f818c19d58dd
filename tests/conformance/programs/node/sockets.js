// Sockets: those in the file system work, the network does not.
'use strict';
const assert = require('assert/strict');
const dgram = require('dgram');
const dns = require('dns');
const { once } = require('events');
const fs = require('fs');
const http = require('http');
const http2 = require('http2');
const net = require('net');
const os = require('os');
const path = require('path');

const root = fs.mkdtempSync(path.join(os.tmpdir(), 'sockets-'));
const socketPath = (name) => path.join(root, name);

module.exports = {
  async 'net: over a socket in the file system'() {
    const server = net.createServer((peer) => peer.pipe(peer)).listen(socketPath('net'));
    await once(server, 'listening');
    const client = net.connect(socketPath('net'));
    const data = Buffer.alloc(1e6, 'echo');
    client.end(data);
    const chunks = [];
    for await (const chunk of client) chunks.push(chunk);
    assert.ok(Buffer.concat(chunks).equals(data));
    await new Promise((done) => server.close(done));
    assert.equal(fs.existsSync(socketPath('net')), false);
  },
  async 'http: over a socket in the file system'() {
    const server = http.createServer((request, response) => {
      response.writeHead(201, { 'x-method': request.method });
      request.pipe(response);
    }).listen(socketPath('http'));
    await once(server, 'listening');
    const agent = new http.Agent({ keepAlive: true, maxSockets: 2 });
    const ask = (body) => new Promise((done, fail) => {
      const options = { socketPath: socketPath('http'), method: 'PUT', path: '/x', agent };
      const request = http.request(options, async (response) => {
        let text = '';
        for await (const chunk of response) text += chunk;
        done([response.statusCode, response.headers['x-method'], text]);
      });
      request.on('error', fail).end(body);
    });
    const answers = await Promise.all(['a', 'b', 'c', 'd'].map(ask));
    assert.deepEqual(answers, ['a', 'b', 'c', 'd'].map((body) => [201, 'PUT', body]));
    agent.destroy();
    await new Promise((done) => server.close(done));
  },
  async 'http2: over a socket in the file system'() {
    const server = http2.createServer((request, response) => response.end(request.url)).listen(socketPath('http2'));
    await once(server, 'listening');
    const session = http2.connect('http://localhost', { createConnection: () => net.connect(socketPath('http2')) });
    const request = session.request({ ':path': '/two' }).setEncoding('utf8');
    let text = '';
    for await (const chunk of request) text += chunk;
    assert.equal(text, '/two');
    session.close();
    await new Promise((done) => server.close(done));
  },
  async 'net: listening on the loopback'() {
    const server = net.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    server.close();
  },
  async 'net: no way out'() {
    const [error] = await once(net.connect(80, '192.0.2.1'), 'error');
    assert.match(error.code, /^(EPERM|EACCES|EHOSTUNREACH|ENETUNREACH|EAFNOSUPPORT)$/);
  },
  async 'dgram: a datagram to oneself'() {
    const socket = dgram.createSocket('udp4');
    await new Promise((done, fail) => socket.on('error', fail).bind(0, '127.0.0.1', done));
    socket.send('x', socket.address().port, '127.0.0.1');
    assert.equal((await once(socket, 'message'))[0].toString(), 'x');
    socket.close();
  },
  async 'dns: localhost'() {
    assert.equal((await dns.promises.lookup('localhost', { family: 4 })).address, '127.0.0.1');
  },
  async 'dns: no names of the world'() {
    await assert.rejects(dns.promises.lookup('example.org'), /EAI_AGAIN|ENOTFOUND|EPERM/);
  },
};

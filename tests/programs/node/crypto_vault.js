// Encrypts an input with AES-GCM under a scrypt key, signs it, detects tampering, and prints digests.
'use strict';
const crypto = require('crypto');
const fs = require('fs');

const [, , password, salt] = process.argv;

function seal(text, key) {
  const iv = crypto.createHash('md5').update(text).digest().subarray(0, 12); // the same file each time
  const cipher = crypto.createCipheriv('aes-256-gcm', key, iv);
  const body = Buffer.concat([cipher.update(text), cipher.final()]);
  return Buffer.concat([iv, cipher.getAuthTag(), body]);
}

function open(box, key) {
  const decipher = crypto.createDecipheriv('aes-256-gcm', key, box.subarray(0, 12));
  decipher.setAuthTag(box.subarray(12, 28));
  return Buffer.concat([decipher.update(box.subarray(28)), decipher.final()]);
}

const text = fs.readFileSync('inputs/letter.txt');
for (const name of ['sha1', 'sha256', 'sha512', 'blake2b512']) {
  console.log(name, crypto.createHash(name).update(text).digest('hex').slice(0, 32));
}
console.log('hmac', crypto.createHmac('sha256', password).update(text).digest('base64url'));
const key = crypto.scryptSync(password, salt, 32, { N: 2 ** 12 });
console.log('scrypt', key.toString('hex'));
console.log('pbkdf2', crypto.pbkdf2Sync(password, salt, 1000, 16, 'sha512').toString('hex'));

const box = seal(text, key);
fs.writeFileSync('/output/letter.box', box);
console.log('opened', open(box, key).equals(text), box.length - text.length);
box[box.length - 1] ^= 1;
try {
  open(box, key);
  console.log('not noticed');
} catch (error) {
  console.log('tampered', error.message.includes('authenticate'));
}

const { publicKey, privateKey } = crypto.generateKeyPairSync('ed25519');
const signature = crypto.sign(null, text, privateKey);
console.log('signature', signature.length, crypto.verify(null, text, publicKey, signature));
console.log('forged', crypto.verify(null, Buffer.from('other'), publicKey, signature));
console.log('random', new Set(Array.from({ length: 50 }, () => crypto.randomUUID())).size);

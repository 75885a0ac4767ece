// Plays a client on Node's TLS: TLS 1 to the relay, TLS 2 inside it to the gateway. Sends what it was told to, says what it
// had ("received <bytes> <end>"), and ends as it was told to.
//
// usage: node client.js WAY HOST TEXT end|destroy|exit|read

'use strict';

const fs = require('fs');
const tls = require('tls');

const [path, host, text, how] = process.argv.slice(2);
const way = JSON.parse(fs.readFileSync(path, 'utf8'));
const outer = tls.connect({
  host,
  port: 8443,
  cert: way.relayLeaf.certificate,
  key: way.relayLeaf.key,
  ca: way.relayAnchors,
});
outer.on('error', (error) => console.log('outer', error.message));
outer.on('secureConnect', () => {
  const inner = tls.connect({
    socket: outer,
    servername: 'localhost',
    ALPNProtocols: ['infisical-tcp-proxy'],
    cert: way.gatewayLeaf.certificate,
    key: way.gatewayLeaf.key,
    ca: way.gatewayAnchors,
  });
  let received = 0;
  const end = [];
  inner.on('secureConnect', () => {
    console.log('connected');
    inner.write(text, () => {
      if (how === 'end') inner.end();
      if (how === 'destroy') setImmediate(() => { inner.destroy(); outer.destroy(); });
      if (how === 'exit') setImmediate(() => process.exit(0));
    });
  });
  inner.on('data', (data) => {
    received += data.length;
    console.log('so far', received);
  });
  inner.on('end', () => { end.push('end'); });
  inner.on('error', (error) => { end.push(error.message); });
  inner.on('close', () => {
    console.log('received', received, end.join(', '));
    outer.destroy();
  });
});

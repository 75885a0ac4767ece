// An OpenID provider for tests: it logs in whoever GET /account?name= has named last, without a
// question. Argument: the directory with node_modules. Prints its URL once it serves.
import http from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const require = createRequire(`${process.argv[2]}/package.json`);
const { default: Provider } = await import(pathToFileURL(require.resolve('oidc-provider')));

const accounts = {
  alice: { email: 'Alice@example.com', email_verified: true, groups: ['dba', 'no such/group'] },
  // The address of someone else, which is not theirs.
  mallory: { email: 'alice@example.com', email_verified: false, groups: [] },
  bob: { email: 'bob@example.com', email_verified: true, groups: ['dba'] },
};
let account = 'alice';

const server = http.createServer((request, response) => answer(request, response));
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

const client = {
  application_type: 'native',
  redirect_uris: ['http://127.0.0.1/callback', 'http://127.0.0.1/login/oidc/callback'],
  grant_types: ['authorization_code', 'urn:ietf:params:oauth:grant-type:device_code'],
  response_types: ['code'],
};
const provider = new Provider(issuer, {
  clients: [
    { ...client, client_id: 'platform', client_secret: 'provider-secret' },
    { ...client, client_id: 'public', token_endpoint_auth_method: 'none' },
  ],
  scopes: ['openid', 'profile', 'email', 'groups'],
  claims: { openid: ['sub'], email: ['email', 'email_verified'], groups: ['groups'] },
  // Some providers put claims into the ID token only if they are asked to.
  conformIdTokenClaims: false,
  pkce: { required: () => true },
  features: { devInteractions: { enabled: false }, deviceFlow: { enabled: true } },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...accounts[id] }) }),
});
const callback = provider.callback();

async function interact(request, response) {
  const { prompt, params } = await provider.interactionDetails(request, response);
  if (prompt.name === 'login') {
    const login = { login: { accountId: account } };
    return provider.interactionFinished(request, response, login);
  }
  const grant = new provider.Grant({ accountId: account, clientId: params.client_id });
  grant.addOIDCScope('openid profile email groups');
  const consent = { consent: { grantId: await grant.save() } };
  return provider.interactionFinished(request, response, consent, { mergeWithLastSubmission: true });
}

function answer(request, response) {
  const url = new URL(request.url, issuer);
  if (url.pathname === '/account') {
    account = url.searchParams.get('name');
    return response.end();
  }
  if (url.pathname.startsWith('/interaction/')) {
    return interact(request, response).catch((error) => response.writeHead(500).end(`${error}`));
  }
  return callback(request, response);
}

console.log(`serving ${issuer}`);

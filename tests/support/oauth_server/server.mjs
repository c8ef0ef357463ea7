// A real OAuth 2.0 server for the tests: configuration and a first grant, the rest is the oidc-provider package's.
//
// Usage: node server.mjs SETTINGS.json ADDRESS.json
// Settings: client_id, client_secret, scope, access_token_lifetime, refresh_token_lifetime (seconds).
// Once it listens, on a free port of 127.0.0.1, it writes the address file: token_url, introspection_url,
// refresh_token (the first one of a grant, as if a merchant had just authorised).

import { readFile, rename, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';

import Provider from 'oidc-provider';

const [settingsFile, addressFile] = process.argv.slice(2);
const settings = JSON.parse(await readFile(settingsFile, 'utf8'));

const server = createServer();
await new Promise((resolve, reject) => {
  server.once('error', reject);
  server.listen(0, '127.0.0.1', resolve);
});
const issuer = `http://127.0.0.1:${server.address().port}`;

const account = 'merchant';
const scope = `openid offline_access ${settings.scope}`;
const provider = new Provider(issuer, {
  clients: [
    {
      client_id: settings.client_id,
      client_secret: settings.client_secret,
      grant_types: ['client_credentials', 'refresh_token', 'authorization_code'],
      redirect_uris: ['https://platform.example/callback'],
      scope,
    },
  ],
  clientAuthMethods: ['client_secret_basic', 'client_secret_post'],
  scopes: scope.split(' '),
  findAccount: (_, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true },
  },
  // Always a new one. A spent one that comes again ends the grant: that is the package's own doing.
  rotateRefreshToken: true,
  ttl: {
    AccessToken: settings.access_token_lifetime,
    ClientCredentials: settings.access_token_lifetime,
    Grant: settings.refresh_token_lifetime,
    RefreshToken: settings.refresh_token_lifetime,
  },
});

// What an authorisation in the browser would have left behind.
const client = await provider.Client.find(settings.client_id);
const grant = new provider.Grant({ accountId: account, clientId: settings.client_id });
grant.addOIDCScope(scope);
const refreshToken = new provider.RefreshToken({
  accountId: account,
  client,
  grantId: await grant.save(),
  gty: 'authorization_code',
  scope,
});

server.on('request', provider.callback());
const address = {
  token_url: `${issuer}/token`,
  introspection_url: `${issuer}/token/introspection`,
  refresh_token: await refreshToken.save(),
};
// At once, so that whoever waits for the file never reads half of it.
await writeFile(`${addressFile}.new`, JSON.stringify(address));
await rename(`${addressFile}.new`, addressFile);

// An OpenID Connect issuer for the tests: client credentials give access tokens as JWTs, with the roles that the client's
// id names (`client-engineer` has the role `engineer`).
//
// usage: node provider.mjs
// Prints its issuer URL, and ends when its standard input does.

import { createServer } from 'node:http';

import { exportJWK, generateKeyPair } from 'jose';
import Provider from 'oidc-provider';

const AUDIENCES = { 'urn:safari': 'safari', 'urn:other': 'other' };

const key = async (algorithm) => {
  const { privateKey } = await generateKeyPair(algorithm, { extractable: true });
  return { ...(await exportJWK(privateKey)), alg: algorithm, use: 'sig' };
};
const clients = ['engineer', 'viewer', 'stranger'].map((role) => ({
  client_id: `client-${role}`,
  client_secret: 'a secret of the tests',
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
}));

const server = createServer();
server.listen(0, '127.0.0.1', async () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients,
    jwks: { keys: await Promise.all(['RS256', 'ES256'].map(key)) },
    extraTokenClaims: (_context, token) => ({ realm_access: { roles: [token.clientId.replace('client-', 'wild-')] } }),
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_context, resource) => ({
          audience: AUDIENCES[resource],
          accessTokenFormat: 'jwt',
          accessTokenTTL: 60,
          scope: '',
          jwt: { sign: { alg: resource === 'urn:safari' ? 'RS256' : 'ES256' } },
        }),
      },
    },
  });
  server.on('request', provider.callback());
  console.log(issuer);
});
process.stdin.on('end', () => process.exit(0));
process.stdin.resume();

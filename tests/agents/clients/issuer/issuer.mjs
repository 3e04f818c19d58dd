// An OIDC issuer for tests: access tokens for clients by their credentials (RFC 9068), ID tokens by a grant of its own,
// and log-ins of people by device code and in a browser, in which any name and password will do.
import { Provider } from "oidc-provider";

const { port, keys, clients, audience, people } = JSON.parse(process.argv[2]);
const idTokens = "urn:test:id-token";
const provider = new Provider(`http://127.0.0.1:${port}`, {
  jwks: { keys },
  clients: [
    ...Object.keys(clients).map((id) => ({
      client_id: id,
      client_secret: `secret-of-${id}`,
      grant_types: ["client_credentials", idTokens],
      redirect_uris: [],
      response_types: [],
      id_token_signed_response_alg: "ES256",
    })),
    {
      client_id: "mayfly-cli",
      application_type: "native",
      token_endpoint_auth_method: "none",
      grant_types: ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
      redirect_uris: ["http://127.0.0.1/callback"],
      response_types: ["code"],
      id_token_signed_response_alg: "ES256",
    },
  ],
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: true },
    deviceFlow: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => audience,
      getResourceServerInfo: (_, resource) => ({
        scope: "run",
        audience: resource,
        accessTokenTTL: 300,
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: "ES256" } },
      }),
    },
  },
  extraTokenClaims: (_, token) => clients[token.clientId] ?? people,
});
provider.registerGrantType(idTokens, async (context) => {
  const token = new provider.IdToken({ sub: context.oidc.client.clientId }, { ctx: context });
  context.body = { id_token: await token.issue({ use: "idtoken" }) };
});
provider.listen(port, "127.0.0.1");

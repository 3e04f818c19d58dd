// An OIDC issuer for tests: access tokens for clients by their credentials (RFC 9068), and ID tokens by a grant of its own.
import { Provider } from "oidc-provider";

const { port, keys, clients, audience } = JSON.parse(process.argv[2]);
const idTokens = "urn:test:id-token";
const provider = new Provider(`http://127.0.0.1:${port}`, {
  jwks: { keys },
  clients: Object.keys(clients).map((id) => ({
    client_id: id,
    client_secret: `secret-of-${id}`,
    grant_types: ["client_credentials", idTokens],
    redirect_uris: [],
    response_types: [],
    id_token_signed_response_alg: "ES256",
  })),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
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
  extraTokenClaims: (_, token) => clients[token.clientId],
});
provider.registerGrantType(idTokens, async (context) => {
  const token = new provider.IdToken({ sub: context.oidc.client.clientId }, { ctx: context });
  context.body = { id_token: await token.issue({ use: "idtoken" }) };
});
provider.listen(port, "127.0.0.1");

"""An OIDC issuer for tests: Canaille in memory, with the users and clients of its argument. Needs no Mayfly."""

from __future__ import annotations

import json
import sys

import canaille
from canaille.app import models
from canaille.backends import Backend
from werkzeug.serving import make_server

given = json.loads(sys.argv[1])
active, *inactive = given["keys"]
app = canaille.create_app(
    {
        "SECRET_KEY": "of a test",
        "OAUTH2_TOKEN_EXPIRES_IN": {"password": 300, "authorization_code": 300},
        "CANAILLE": {"DATABASE": "memory", "SMTP": None},
        "CANAILLE_OIDC": {
            "ACTIVE_JWKS": [active],
            "INACTIVE_JWKS": inactive,
            "USERINFO_MAPPING": {"PREFERRED_USERNAME": "{{ user.display_name or '' }}"},
        },
    }
)
with app.app_context(), Backend.instance.session():
    for name, about in given["users"].items():
        user = models.User(
            formatted_name=name,
            family_name=name,
            user_name=name,
            display_name=about["tenant"],
            emails=[f"{name}@example.com"],
            password=f"secret-of-{name}",
        )
        Backend.instance.save(user)
        Backend.instance.save(models.Group(display_name=about["group"], members=[user]))
    for name, audience in given["clients"].items():
        client = models.Client(
            client_id=name,
            client_name=name,
            client_uri="http://127.0.0.1",  # which is trusted, so that no user has to consent
            client_secret=f"secret-of-{name}",
            redirect_uris=[given["back"]],
            grant_types=["password", "authorization_code"],
            response_types=["code"],
            token_endpoint_auth_method="client_secret_basic",
            id_token_signed_response_alg="RS256",
            scope=["openid", "profile", "groups"],
        )
        Backend.instance.save(client)
        client.audience = [Backend.instance.get(models.Client, client_id=audience)]
        Backend.instance.save(client)
make_server("127.0.0.1", given["port"], app, threaded=True).serve_forever()

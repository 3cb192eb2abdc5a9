"""An OpenID provider in a process of its own: Authlib's authorization server over Flask, on real HTTP with real keys.

POST /control takes JSON that says who signs in and what the provider is to get wrong from then on; {} makes it honest.
"""

# ruff: noqa: ARG002 - Authlib decides what its methods are called with

from __future__ import annotations

import base64
import json
import sys
import time
from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import grants
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core.grants import OpenIDCode
from flask import Flask, Response, jsonify, redirect, request
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from werkzeug.serving import make_server

CLIENT_ID, CLIENT_SECRET = "bellwire", "s3cret/with:signs +"
PERSON = {"sub": "person-1", "email": "ada@example.com", "email_verified": True, "name": "Ada"}
CODE_SECONDS = 60

app = Flask("provider")
keys = {"first": RSAKey.generate_key(2048, {"kid": "first"})}
foreign_key = RSAKey.generate_key(2048, {"kid": "first"})
codes: dict[str, Any] = {}
told: dict[str, Any] = {}
counts: dict[str, int] = {}


class Client:
    """Bellwire, as the provider knows it."""

    client_id = CLIENT_ID

    def get_client_id(self):
        return CLIENT_ID

    def get_default_redirect_uri(self):
        return None

    def get_allowed_scope(self, scope):
        return scope

    def check_redirect_uri(self, redirect_uri):
        return redirect_uri.endswith("/login/oidc/callback")

    def check_client_secret(self, secret):
        return secret == CLIENT_SECRET

    def check_endpoint_auth_method(self, method, endpoint):
        return method in told.get("auth_methods", ["client_secret_basic"])

    def check_response_type(self, response_type):
        return response_type == "code"

    def check_grant_type(self, grant_type):
        return grant_type == "authorization_code"


class Code:
    """A code that was given out."""

    def __init__(self, payload):
        self.redirect_uri, self.scope = payload.redirect_uri, payload.scope
        self.nonce = payload.data.get("nonce")
        self.code_challenge = payload.data.get("code_challenge")
        self.code_challenge_method = payload.data.get("code_challenge_method")
        self.auth_time = int(time.time())

    def is_expired(self):
        return self.auth_time + CODE_SECONDS < time.time()

    def get_redirect_uri(self):
        return self.redirect_uri

    def get_scope(self):
        return self.scope

    def get_nonce(self):
        return self.nonce

    def get_auth_time(self):
        return self.auth_time

    def get_acr(self):
        return None

    def get_amr(self):
        return None


class CodeGrant(grants.AuthorizationCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic", "client_secret_post")

    def save_authorization_code(self, code, request):
        codes[code] = Code(request.payload)

    def query_authorization_code(self, code, client):
        return codes.get(code)

    def delete_authorization_code(self, authorization_code):
        for name in [name for name, kept in codes.items() if kept is authorization_code]:
            del codes[name]

    def authenticate_user(self, authorization_code):
        return PERSON | told.get("person", {})


class IdToken(OpenIDCode):
    """Signs id_tokens; and gets wrong what it was told to."""

    def exists_nonce(self, nonce, request):
        return False

    def encode_id_token(self, token, request):
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": [CLIENT_ID],
            "iat": now,
            "exp": now + 300,
            **self.get_authorization_code_claims(request.authorization_code),
            **request.user,
            **told.get("claims", {}),
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        if told.get("unsigned"):
            parts = (json.dumps({"alg": "none"}), json.dumps(claims))
            return ".".join(base64.urlsafe_b64encode(p.encode()).decode().rstrip("=") for p in parts) + "."
        kid = list(keys)[-1]
        if told.get("hmac"):
            from joserfc.jwk import OctKey

            # The classic: HS256 with the public key, or the client's secret, as the secret.
            secret = OctKey.import_key(CLIENT_SECRET.encode().ljust(32, b"."))
            return jwt.encode({"alg": "HS256", "kid": kid}, claims, secret, ["HS256"])
        key = foreign_key if told.get("foreign_key") else keys[kid]
        return jwt.encode({"alg": "RS256", "kid": kid}, claims, key, ["RS256"])


server = AuthorizationServer(
    app, query_client=lambda name: Client() if name == CLIENT_ID else None, save_token=lambda *_: None
)
server.register_grant(CodeGrant, [IdToken(require_nonce=True), CodeChallenge(required=True)])


@app.before_request
def count():
    counts[request.path] = counts.get(request.path, 0) + 1


@app.get("/.well-known/openid-configuration")
def describe():
    return jsonify(
        {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/authorize",
            "token_endpoint": f"{ISSUER}/token",
            "jwks_uri": f"{ISSUER}/jwks",
            "response_types_supported": ["code"],
            "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
            "token_endpoint_auth_methods_supported": told.get("auth_methods", ["client_secret_basic"]),
            **told.get("description", {}),
        }
    )


@app.get("/jwks")
def jwks():
    return jsonify(KeySet(list(keys.values())).as_dict(private=False))


@app.get("/authorize")
def authorize():
    if told.get("denies"):
        return redirect(f"{request.args['redirect_uri']}?error=access_denied&state={request.args['state']}")
    grant = server.get_consent_grant(end_user=PERSON)
    return server.create_authorization_response(grant_user=PERSON, grant=grant)


@app.post("/token")
def token():
    if told.get("token_status"):
        return Response("{}", status=told["token_status"], mimetype="application/json")
    if told.get("floods"):
        return Response(b"x" * 1_000_000, mimetype="application/json")
    return server.create_token_response()


@app.post("/control")
def control():
    told.clear()
    told.update(request.get_json())
    if told.get("new_key"):
        keys[told["new_key"]] = RSAKey.generate_key(2048, {"kid": told["new_key"]})
    return jsonify(counts)


if __name__ == "__main__":
    listening = make_server("127.0.0.1", 0, app, threaded=True)
    ISSUER = f"http://127.0.0.1:{listening.server_port}"
    print(f"serving {ISSUER}", flush=True)  # noqa: T201 - whoever started us waits for this line
    sys.stdout.flush()
    listening.serve_forever()

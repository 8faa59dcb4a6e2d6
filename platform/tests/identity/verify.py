"""Reads an access token by the published keys, with a library that is not ours.

usage: verify.py JWKS_URL TOKEN
"""

import json
import sys

import jwt

url, token = sys.argv[1:]
key = jwt.PyJWKClient(url).get_signing_key_from_jwt(token)
claims = jwt.decode(token, key.key, algorithms=["EdDSA"], audience="safari", issuer="safari")
try:
    jwt.decode(token, key.key, algorithms=["EdDSA"], audience="other", issuer="safari")
    sys.exit("a token for one audience was taken by another")
except jwt.InvalidAudienceError:
    pass
print(json.dumps({"claims": claims, "kid": key.key_id}))

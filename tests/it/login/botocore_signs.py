"""Signs, with AWS's own library, the request that a login hands over, and prints the signature.

Reads JSON: the request as it was handed over, and the keys.
"""

import json
import sys

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

given = json.load(sys.stdin)
headers = given["headers"]
authorization = headers["Authorization"]
fields = dict(
    field.split("=", 1)
    for field in authorization.removeprefix("AWS4-HMAC-SHA256 ").split(", ")
)
region = fields["Credential"].split("/")[2]
url = f"https://sts.{region}.amazonaws.com/"
signed = fields["SignedHeaders"].split(";")
request = AWSRequest(method=given["method"], url=url, data=given["body"])
for name, value in headers.items():
    if name.lower() in signed:
        request.headers[name] = value
if "content-length" in signed and "Content-Length" not in request.headers:
    # The platform's HTTP library adds it, as its HTTP library does for everybody.
    request.headers["Content-Length"] = str(len(given["body"]))
request.context["timestamp"] = headers["X-Amz-Date"]
auth = SigV4Auth(Credentials(given["key"], given["secret"], given["session"]), "sts", region)
text = auth.string_to_sign(request, auth.canonical_request(request))
print(auth.signature(text, request))

"""An admission webhook as people write them: `webhook.py PORT CERTIFICATE KEY`.

Under /mutate it labels what it is shown, under /validate it refuses names that begin with "evil" and warns of others.
"""

import base64
import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def mutate(request):
    metadata = request["object"]["metadata"]
    patch = [] if "labels" in metadata else [{"op": "add", "path": "/metadata/labels", "value": {}}]
    patch.append({"op": "add", "path": "/metadata/labels/seen-by", "value": "python"})
    encoded = base64.b64encode(json.dumps(patch).encode()).decode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": encoded}


def validate(request):
    name = request["name"]
    if name.startswith("evil"):
        return {"allowed": False, "status": {"code": 403, "message": f"{name} means harm"}}
    return {"allowed": True, "warnings": [f"{name} was looked at"]}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = review["request"]
        response = mutate(request) if self.path.startswith("/mutate") else validate(request)
        answer = {
            "apiVersion": review["apiVersion"],
            "kind": "AdmissionReview",
            "response": {"uid": request["uid"], **response},
        }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main():
    port, certificate, key = sys.argv[1:]
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

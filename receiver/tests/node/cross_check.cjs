// Signs and verifies the cases on stdin with the reference library of Standard Webhooks, and with Node's own
// ed25519. Reads a JSON array, writes a JSON array of what each case gave.
const crypto = require("node:crypto");
const { Webhook } = require("standardwebhooks");

const raw = (text, prefix) => Buffer.from(text.slice(prefix.length), "base64");
const url = (bytes) => bytes.toString("base64url");

function hmac({ secret, id, timestamp, body, signature }) {
  const webhook = new Webhook(secret);
  let error = null;
  try {
    webhook.verify(body, {
      "webhook-id": id,
      "webhook-timestamp": String(timestamp),
      "webhook-signature": signature,
    });
  } catch (refusal) {
    error = String(refusal.message);
  }
  return { signature: webhook.sign(id, new Date(timestamp * 1000), body), error };
}

function ed25519({ private_key, public_key, id, timestamp, body, signature }) {
  const x = url(raw(public_key, "whpk_"));
  const d = url(raw(private_key, "whsk_"));
  const signed = Buffer.from(`${id}.${timestamp}.${body}`);
  const theirs = Buffer.from(signature.slice("v1a,".length), "base64");
  const verifier = crypto.createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
  const signer = crypto.createPrivateKey({ key: { kty: "OKP", crv: "Ed25519", x, d }, format: "jwk" });
  return {
    signature: "v1a," + crypto.sign(null, signed, signer).toString("base64"),
    error: crypto.verify(null, signed, verifier, theirs) ? null : "ed25519 signature refused",
  };
}

const cases = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(cases.map((one) => (one.private_key ? ed25519(one) : hmac(one)))));

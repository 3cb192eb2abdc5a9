"""How a receiver verifies, in the words of docs/howto/verify-webhooks.md; a test holds them to it, and runs those there."""

from __future__ import annotations

# What it is for, and the code. The header names are those of Standard Webhooks, which each endpoint sends.
SNIPPETS: tuple[tuple[str, str], ...] = (
    (
        "FastAPI",
        """\
import os

from bellwire import Webhook, WebhookVerificationError
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

app = FastAPI()
webhook = Webhook(os.environ["BELLWIRE_SECRET"])


@app.exception_handler(WebhookVerificationError)
async def refuse(request: Request, error: WebhookVerificationError) -> JSONResponse:
    return JSONResponse({"reason": error.reason, "message": error.message}, status_code=400)


@app.post("/webhooks")
async def receive(request: Request) -> dict[str, str]:
    message = webhook.verify(await request.body(), request.headers)
    return {"received": message.id, "type": message.type}
""",
    ),
    (
        "Flask",
        """\
import os

from bellwire import Webhook, WebhookVerificationError
from flask import Flask, request

app = Flask(__name__)
webhook = Webhook(os.environ["BELLWIRE_SECRET"])


@app.errorhandler(WebhookVerificationError)
def refuse(error: WebhookVerificationError) -> tuple[dict[str, str], int]:
    return {"reason": error.reason, "message": error.message}, 400


@app.post("/webhooks")
def receive() -> dict[str, str]:
    message = webhook.verify(request.get_data(), request.headers)
    return {"received": message.id, "type": message.type}
""",
    ),
    (
        "Django",
        """\
import os

from bellwire import Webhook, WebhookVerificationError
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

webhook = Webhook(os.environ["BELLWIRE_SECRET"])


@csrf_exempt  # The signature takes the place of the CSRF token, which only a browser has.
@require_POST
def receive(request: HttpRequest) -> JsonResponse:
    try:
        message = webhook.verify(request.body, request.headers)
        return JsonResponse({"received": message.id, "type": message.type})
    except WebhookVerificationError as error:
        return JsonResponse({"reason": error.reason, "message": error.message}, status=400)
""",
    ),
    (
        "Python, anything else",
        """\
import os

from bellwire import Webhook

webhook = Webhook(
    os.environ["BELLWIRE_SECRET"]
)  # once, at start: a bad secret is an error here, not per request


def receive(body: bytes, headers: dict[str, str]) -> None:
    message = webhook.verify(body, headers)  # raises WebhookVerificationError, and nothing else
    print(message.id, message.type, message.data)
""",
    ),
)

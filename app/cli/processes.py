"""`bellwire api`, `worker`, `beat`, `dev`, `demo-receiver`: the long-running processes.

Each looks first whether it can run, and says in one sentence what is in its way. Worker and beat then *become*
Celery (exec), so that signals reach Celery itself and no process stands in between.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from app.cli.outcome import Unavailable

if TYPE_CHECKING:
    from app.core.settings import Settings

CELERY_APP = "workers.celery_app"
QUEUE = "bellwire"

Host = Annotated[str | None, typer.Option("--host", help="Address to listen on; else BELLWIRE_HOST.")]
Port = Annotated[
    int | None,
    typer.Option(
        "--port", min=0, max=65535, help="Port to listen on; 0 takes a free one. Else BELLWIRE_PORT."
    ),
]


def api(*, host: Host = None, port: Port = None) -> None:
    """Serve the API. Logs go to standard error; Ctrl-C or SIGTERM finishes what is under way, then stops."""
    from app.cli.database import require_ready
    from app.cli.serve import serve_api
    from app.cli.surroundings import read_settings

    settings = read_settings()
    changes = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = settings.model_copy(update=changes)
    require_ready(settings)
    serve_api(settings)


def worker(
    *,
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency", min=1, help="Processes; else BELLWIRE_WORKER_PROCESSES, else one per two cores."
        ),
    ] = None,
) -> None:
    """Run workers, which claim, sign, send and record.

    SIGTERM finishes what is in flight, within BELLWIRE_WORKER_GRACE_SECONDS.
    """
    settings = _ready_settings()
    processes = concurrency or settings.worker_processes or max(1, (os.cpu_count() or 1) // 2)
    _become_celery(
        "worker",
        # More than one on a machine: Celery's own default name would be the same for all.
        f"--hostname=bellwire-{os.getpid()}@%h",
        f"--concurrency={processes}",
        f"--queues={QUEUE}",
        "--without-gossip",
        "--without-mingle",
        f"--loglevel={settings.log_level}",
    )


def beat() -> None:
    """Run beat, which sends wake-ups by the clock. Several at once do no harm."""
    settings = _ready_settings()
    _become_celery("beat", f"--loglevel={settings.log_level}")


def dev(
    *,
    data_dir: Annotated[
        str | None,
        typer.Option("--data-dir", help="Folder of the data; else BELLWIRE_DATA_DIR, else .bellwire."),
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="Port of the API; else BELLWIRE_PORT.")
    ] = None,
    demo_port: Annotated[
        int | None,
        typer.Option(
            "--demo-port", min=0, max=65535, help="Port of the demo receiver; else BELLWIRE_DEMO_PORT."
        ),
    ] = None,
) -> None:
    """Start everything on this machine.

    Postgres, broker, API, worker, beat and demo receiver, with their data in one folder. Ctrl-C stops it all.
    """
    from app.core.settings import load_settings

    given = {"BELLWIRE_DATA_DIR": data_dir, "BELLWIRE_PORT": port, "BELLWIRE_DEMO_PORT": demo_port}
    # The processes that it starts read the same environment.
    os.environ.update({name: str(value) for name, value in given.items() if value is not None})
    # Not what an earlier run keeps: the supervisor starts these services itself.
    settings = load_settings(need_database=False)
    from app.embedded.development import run_development

    raise typer.Exit(run_development(settings))


def demo_receiver(
    *,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65535, help="Port to listen on; else BELLWIRE_DEMO_PORT."),
    ] = None,
) -> None:
    """Receive webhooks, verify and print them.

    BELLWIRE_DEMO_SECRET is the secret of the endpoint that leads here.
    """
    from app.cli.surroundings import demo_secret, read_settings
    from app.demo_receiver import serve

    settings = read_settings(need_database=False)
    with suppress(KeyboardInterrupt):
        serve(port=settings.demo_port if port is None else port, secret=demo_secret())


def _ready_settings() -> Settings:
    """Return the settings of a Celery process that has what it needs to begin."""
    from app.cli.database import require_ready
    from app.cli.surroundings import read_settings

    settings = read_settings()
    if not settings.broker_url.get_secret_value():
        raise Unavailable(
            "BELLWIRE_BROKER_URL is not set, and Celery cannot run without a broker. Set it to "
            "redis://host:6379/0 or amqp://user:password@host:5672/."
        )
    require_ready(settings)
    return settings


def _become_celery(*arguments: str) -> NoReturn:
    """Replace this process by Celery. `app` never imports `workers`, so Celery is told the name."""
    from app.cli.surroundings import environment

    # Without its banner: what it says is in our own log lines.
    command = [sys.executable, "-m", "celery", "--quiet", "-A", CELERY_APP, *arguments]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, command, environment())  # noqa: S606 - our own interpreter, no shell

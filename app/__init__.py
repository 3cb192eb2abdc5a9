"""The API of Bellwire, and all that API and workers share."""

from importlib.metadata import version

__version__ = version("bellwire-server")

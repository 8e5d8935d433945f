"""A server of segmentation: ``/v1`` with jobs, and the protocol of MONAI Label."""

from volseg.server.app import create_app
from volseg.server.serving import serve
from volseg.server.settings import Limits, ServerSettings

__all__ = ["Limits", "ServerSettings", "create_app", "serve"]

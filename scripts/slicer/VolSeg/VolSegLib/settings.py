"""Which volseg the user chose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .bundles import Bundle
from .child_process import child_environment
from .installation import find_volseg
from .local import LocalVolSeg
from .remote import VolSegServer
from .steps import Progress, Steps
from .workflow import Service


@dataclass(frozen=True)
class Settings:
    """Where volseg runs.

    Attributes:
        on_server: whether on a server; else on this computer.
        program: the program, or the folder of its environment; found without it.
        own_bundle: folder of a bundle of the user's own, listed with the others.
        server: address of the server.
        token: what the server asks for.
    """

    on_server: bool = False
    program: str = ""
    own_bundle: str = ""
    server: str = ""
    token: str = ""


def connect(
    settings: Settings, environment: Mapping[str, str]
) -> Steps[tuple[Service, list[Bundle]]]:
    """Step until volseg has listed its bundles, and return both.

    Args:
        settings: which volseg.
        environment: that of Slicer, or the one it was started in.

    Raises:
        VolSegError: it is not there, or it says why it cannot be used.
    """
    service: Service
    if settings.on_server:
        yield Progress("asking the server")
        service = VolSegServer(settings.server, settings.token)
    else:
        yield Progress("looking for volseg")
        child = child_environment(environment)
        program = yield from find_volseg(settings.program, child)
        own = [settings.own_bundle] if settings.own_bundle else []
        service = LocalVolSeg(program, child, own)
    bundles = yield from service.bundles()
    return service, bundles

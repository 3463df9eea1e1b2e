"""What a release's things on a KFP server are called, and whether its runs could start there."""

import hashlib
import re
from urllib.parse import urlsplit

from feedrank.config.pipelines import PipelinesConfig, ReleaseConfig

NAME_LENGTH = 128
"""KFP's limit for pipelines and experiments."""
_SERVICE = re.compile(r"ml-pipeline\.([a-z0-9-]+)|[a-z0-9-]+\.([a-z0-9-]+)\.svc(\..+)?")
"""A host that is a Kubernetes Service, and so names its namespace."""


def server_name(name: str, release: ReleaseConfig) -> str:
    """The name with that of the release before it, so that several releases can share a server."""
    if not release.name:
        return name
    # Neither a namespace nor our own names hold a dot, so no two releases can give the same name.
    owner = f"{release.namespace}.{release.name}"
    if len(owner) + 1 + len(name) > NAME_LENGTH:
        digest = hashlib.sha256(owner.encode()).hexdigest()[:12]
        owner = f"{owner[: NAME_LENGTH - len(name) - len(digest) - 2]}-{digest}"
    return f"{owner}.{name}"


def namespace_of(host: str) -> str:
    """The namespace that KFP runs in, as far as the address tells; else empty."""
    service = _SERVICE.fullmatch(urlsplit(host).hostname or "")
    return (service[1] or service[2]) if service else ""


def refused_namespace(host: str, config: PipelinesConfig) -> str:
    """Why no run could start there: its pods mount what is in another namespace. Empty if they can, or nobody knows."""
    runs, ours = config.namespace or namespace_of(host), config.release.namespace
    mounted = [
        what
        for what in (
            config.volume.claim and f"the claim {config.volume.claim}",
            config.config_map and f"the ConfigMap {config.config_map}",
        )
        if what
    ]
    if not (runs and ours and mounted) or runs == ours:
        return ""
    return (
        f"its runs start in the namespace {runs}, where {' and '.join(mounted)} of the release in {ours} can't be "
        f"mounted; install the release into {runs}, or set pipelines.enabled to false"
    )

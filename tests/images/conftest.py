"""The built images and volumes for their containers."""

import uuid
from collections.abc import Callable, Iterator

import pytest
from containers import Image, docker, why_not


@pytest.fixture(scope="session")
def image() -> Callable[..., Image]:
    """Gives an image by name, with options of `docker run`; skips the test if it isn't there."""

    def get(name: str, *options: str) -> Image:
        found = Image(name, list(options))
        reason = why_not(found.tag)
        if reason:
            pytest.skip(reason)
        return found

    return get


@pytest.fixture(scope="module")
def volume() -> Iterator[str]:
    """A volume of its own; a new one belongs to the user of the image that mounts it first."""
    name = f"feedrank-test-{uuid.uuid4().hex[:8]}"
    yield name
    docker("volume", "rm", "--force", name)

"""A task turns the logging of its process off to the end; here the process is that of all tests."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def logging_again() -> Iterator[None]:
    yield
    logging.disable(logging.NOTSET)

"""A verdict of an earlier task that the rest depends on."""

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES.data, install_kfp_package=False)
def require(*, passed: bool, verdict: str) -> None:
    """Fails with `verdict` unless it `passed`.

    KFP uploads nothing of a task that fails, so the task that writes the report succeeds, and this one fails after it.
    """
    from feedrank.errors import FeedrankError
    from feedrank.task_log import say, task

    with task("requires that the task before it passed"):
        if not passed:
            raise FeedrankError(verdict)
        say(verdict)

"""The checks, one module an area; each `test_…` takes an `MlflowClient`."""

import contextlib
import uuid

from mlflow.exceptions import MlflowException


def fresh(prefix):
    """A name that nothing has yet."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


@contextlib.contextmanager
def refused(code, *words):
    """What is inside must be refused with this error code and a message with these words."""
    try:
        yield
    except MlflowException as error:
        assert error.error_code == code, f"{error.error_code}, not {code}: {error}"
        for word in words:
            assert word in str(error), f"{word!r} is not in {error}"
        return
    raise AssertionError(f"nothing was refused; expected {code}")


def equal(found, expected):
    assert found == expected, f"found {found!r}, expected {expected!r}"

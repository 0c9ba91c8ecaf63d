"""Reads the messages of refusals."""

import pytest

from adv_jax.types import UserError


def refusal(function, *args, error=UserError, **kwargs):
    """Returns the message of the error, which must be one line."""
    with pytest.raises(error) as raised:
        function(*args, **kwargs)
    message = str(raised.value)
    assert message
    assert "\n" not in message
    return message

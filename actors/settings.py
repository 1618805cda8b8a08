"""The base of all settings sections, and types of fields that several sections have."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

# Seconds: a week, which is as good as no limit. The clocks of poll, of threads and of stores overflow at 24
# days and more, each with an error of its own.
LONGEST_TIMEOUT = 604_800
Timeout = Annotated[float, Field(gt=0, le=LONGEST_TIMEOUT)]

# A label's value, as in Kubernetes.
LABEL = r"[A-Za-z0-9](?:[\w.-]{0,61}[A-Za-z0-9])?"


class Settings(BaseModel):
    """Base of every settings section: frozen, and unknown names are refused."""

    # run.json is JSON, which has no infinity. In YAML a channel, a commit or a label may look like a number,
    # but is text.
    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False, coerce_numbers_to_str=True
    )


def checked_labels(labels: dict[str, str]) -> dict[str, str]:
    """Check Ray's label selectors.

    Args:
        labels: selector by name of the label.

    Returns:
        The selectors without spaces, which Ray would take for a part of the value.

    Raises:
        ValueError: Ray would not understand a selector, and would say so only during the run.
    """
    for name, selector in labels.items():
        if not re.fullmatch(rf"([A-Za-z0-9.-]{{1,253}}/)?{LABEL}", name):
            raise ValueError(f"{name!r} cannot be the name of a label")
        if not re.fullmatch(rf"!?(in\({LABEL}(, ?{LABEL})*\)|{LABEL})", selector):
            raise ValueError(
                f"{name} must be VALUE, !VALUE, in(VALUE, ...) or !in(VALUE, ...), not {selector!r}"
            )
    return {name: selector.replace(" ", "") for name, selector in labels.items()}


Labels = Annotated[dict[str, str], AfterValidator(checked_labels)]

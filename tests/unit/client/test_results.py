"""What the client reads has the fields of what the service writes; it may leave some out, and adds none."""

from __future__ import annotations

import msgspec
import pytest

from vnpy_core.client import results
from vnpy_core.client.tokens import Issued
from vnpy_core.features.auth.schemas import Me
from vnpy_core.features.auth.service import Tokens
from vnpy_core.features.market_data.wire import Bar, Stored
from vnpy_core.features.risk.service import Halted, RiskState
from vnpy_core.features.trading.schemas import PlacedOrder
from vnpy_core.features.trading.service import CancelAllResult, CancelFailure, Subscription
from vnpy_core.ports.registry import Node, NodeLoad


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (results.PlacedOrder, PlacedOrder),
        (results.Subscription, Subscription),
        (results.CancelledAll, CancelAllResult),
        (results.CancelFailure, CancelFailure),
        (results.RiskState, RiskState),
        (results.Halted, Halted),
        (results.Bar, Bar),
        (results.Stored, Stored),
        (results.Node, Node),
        (results.NodeLoad, NodeLoad),
        (results.Me, Me),
        (Issued, Tokens),
    ],
)
def test_the_fields_are_the_services(ours, theirs):
    assert {field.name for field in msgspec.structs.fields(ours)} <= {
        field.name for field in msgspec.structs.fields(theirs)
    }

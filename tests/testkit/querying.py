"""A gateway that shows all on request, each request as slowly as the test wants it."""

from __future__ import annotations

import threading

from testkit.gateways import PlainGateway


class QueryingGateway(PlainGateway):
    """Says itself that it is connected, and lists every order; `hold(query)` keeps the next such query waiting."""

    capabilities = {"can_query_orders": True, "can_query_trades": True}
    connected = False

    def __init__(self, event_engine, gateway_name):
        super().__init__(event_engine, gateway_name)
        self.session = 0
        self.held = {}
        self.reached = {}

    def hold(self, query: str) -> tuple[threading.Event, threading.Event]:
        """`(reached, go)`: set once the query has begun; to be set for it to go on."""
        self.held[query] = pair = (threading.Event(), threading.Event())
        return pair

    def connect(self, setting):
        super().connect(setting)
        self.session += 1
        self.connected = True

    def query_account(self):
        return self._wait("query_account")

    def query_position(self):
        return self._wait("query_position")

    def query_orders(self):
        self._wait("query_orders")
        for order in list(self.orders.values()):
            self.on_order(order)
        return self.connected

    def query_trades(self):
        return self._wait("query_trades")

    def _wait(self, query):
        if pair := self.held.pop(query, None):
            pair[0].set()
            assert pair[1].wait(10)
        return self.connected

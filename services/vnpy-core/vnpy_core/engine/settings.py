"""What the VnPy host can be told: `[engine]`, `[apps.NAME]`, `[gateways.NAME]`, `[strategies.NAME]` of service.toml."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

TARGET = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class EngineSettings(_Frozen):
    """The host itself."""

    language: Literal["zh_CN", "en"] = "zh_CN"
    """Language of VnPy's own log lines."""
    order_answer_s: float = Field(default=1.0, gt=0, le=10)
    """How long an order request waits for the engine's first word, seconds."""
    command_deadline_s: float = Field(default=2.0, gt=0, le=60)
    """A command that the event thread did not start within this time is cancelled, seconds."""
    drain_s: float = Field(default=5.0, ge=0, le=60)
    """On stop: how long the event queue may take to run empty, seconds."""
    cancel_on_stop: bool = True
    """On stop: cancel what is active and wait for it (within drain_s)."""
    settle_s: float = Field(default=5.0, gt=0, le=60)
    """After a connect: a gateway that does not say when its venue has shown all counts as done after this long without
    news; then it is compared with the books, and only then orders pass. Seconds."""
    watchdog_s: float = Field(default=5.0, gt=0, le=600)
    """The event thread counts as stuck when a ping takes longer than this, seconds."""
    init_limit_s: float = Field(default=300.0, gt=0, le=86_400)
    """A strategy's on_init that takes longer is ended, and the strategy put into quarantine. Seconds."""
    load_limit_s: float = Field(default=10.0, gt=0, le=600)
    """A strategy file that takes longer to load is given up, seconds."""


class AppSettings(_Frozen):
    """One VnPy app."""

    class_: str = Field(alias="class", pattern=TARGET)
    """`module:Class` of the BaseApp."""
    enabled: bool = True
    required: bool = False
    """Refuse to start without it, instead of starting and saying so."""


class GatewaySettings(_Frozen):
    """One VnPy gateway; the table's name is the gateway's name."""

    class_: str = Field(alias="class", pattern=TARGET)
    """`module:Class` of the BaseGateway."""
    enabled: bool = True
    auto_connect: bool = False
    setting: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """Laid over `connect_<name>.json` of VnPy's folder, which is laid over the gateway's defaults."""
    capabilities: dict[
        Literal["can_query_orders", "can_query_trades", "ids_unique_across_restart", "exclusive_account"], bool
    ] = Field(default_factory=dict)
    """What the gateway does, where its class does not declare it; decides what a restart takes as evidence.

    `exclusive_account = false`: no other core can reach its account, or may well trade it too; then no lease is held.
    """


class StrategySettings(_Frozen):
    """One CTA strategy that is added at the start where VnPy's own file does not have it yet."""

    class_name: str
    vt_symbol: str
    setting: dict[str, Any] = Field(default_factory=dict)
    auto_init: bool = True
    auto_start: bool = False


def default_apps() -> dict[str, AppSettings]:
    """The apps that every start loads; risk control is the one it refuses to start without."""
    return {
        "RiskManager": AppSettings(class_="vnpy_riskmanager:RiskManagerApp", required=True),
        "CtaStrategy": AppSettings(class_="vnpy_ctastrategy:CtaStrategyApp"),
        "AlgoTrading": AppSettings(class_="vnpy_algotrading:AlgoTradingApp"),
        "DataManager": AppSettings(class_="vnpy_datamanager:DataManagerApp"),
    }

"""`[profit]` of service.toml."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Capital = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ProfitSettings(BaseModel):
    """What the strategies' profit is reckoned with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    days_per_year: int = Field(default=240, ge=1, le=366)
    """Trading days of a year, for the Sharpe ratio."""
    capital: dict[str, Capital] = Field(default_factory=dict)
    """Strategy name -> its funds in quote currency, for drawdowns in percent; none by default."""
    snapshot_s: float = Field(default=600.0, ge=1, le=3600)
    """How often a profit that has changed goes on record, seconds. Fills are on record at once, last prices wait."""

"""What the plugin shows in VnPy's window: where the service answers. Needs Qt, so it is imported on demand only."""

from vnpy.event import EventEngine
from vnpy.trader.engine import MainEngine
from vnpy.trader.ui import QtWidgets

from vnpy_core.plugin.engine import APP_NAME


class CoreServiceWidget(QtWidgets.QWidget):  # type: ignore[misc]
    """Qt's main thread only."""

    def __init__(self, main_engine: MainEngine, event_engine: EventEngine) -> None:
        super().__init__()
        engine = main_engine.get_engine(APP_NAME)
        self.setWindowTitle("VnPy Core Service")
        layout = QtWidgets.QVBoxLayout(self)
        layout.addWidget(QtWidgets.QLabel(engine.address or engine.error or "starting"))

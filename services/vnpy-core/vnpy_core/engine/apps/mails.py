"""What strategies mail: through VnPy's mail and WeChat engines where those are set up, else a line of the log.

VnPy's mail engine tries a server that nobody chose where none is set up. It takes mails without end, and while a server
does not answer its thread keeps the process from ending.
"""

from __future__ import annotations

from typing import Any

from vnpy.trader.setting import SETTINGS

MOST_WAITING = 1_000
"""Mails beyond these are only logged."""
_NEEDED = ("email.server", "email.sender", "email.receiver")


def send(main_engine: Any, subject: str, content: str) -> None:
    """Queue it, or log it. Any thread; waits for nothing, raises nothing."""
    subject = " ".join(subject.split())
    by_mail = _mail(main_engine.engines.get("email"), subject, content.encode(errors="replace").decode())
    by_wechat = _wechat(main_engine.engines.get("wechat"), f"{subject}\n{content}")
    if not (by_mail or by_wechat):
        main_engine.write_log(f"not mailed: {subject}: {content}", "CtaStrategy")


def _mail(engine: Any, subject: str, content: str) -> bool:
    if engine is None or not all(SETTINGS.get(name) for name in _NEEDED) or engine.queue.qsize() >= MOST_WAITING:
        return False
    if not engine.active:
        if engine.thread.ident is not None:  # it was closed
            return False
        engine.thread.daemon = True
    engine.send_email(subject, content)
    return True


def _wechat(engine: Any, text: str) -> bool:
    if engine is None or not getattr(engine, "active", False) or engine.queue.qsize() >= MOST_WAITING:
        return False
    engine.send_wechat(text)
    return True

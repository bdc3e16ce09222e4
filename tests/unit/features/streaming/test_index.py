from vnpy_core.features.streaming.index import TopicIndex


def test_a_listener_comes_once_and_every_tick_wins() -> None:
    index: TopicIndex[str] = TopicIndex()
    index.add("a", "tick.*", every_tick=False)
    index.add("a", "tick.x.X", every_tick=True)
    index.add("b", "tick.x.X", every_tick=False)
    assert dict(index.receivers("tick.x.X")) == {"a": True, "b": False}
    assert index.receivers("tick.y.X") == (("a", False),)
    assert index.receivers("log") == ()


def test_changes_show_at_once() -> None:
    index: TopicIndex[str] = TopicIndex()
    assert index.receivers("log") == ()
    index.add("a", "*", every_tick=False)
    assert index.receivers("log") == (("a", False),)
    index.remove("a", "*")
    index.remove("a", "never")
    assert index.receivers("log") == ()

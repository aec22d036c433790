from jaxcd.base.ahead import held_back


def test_items_come_in_order_each_after_as_many_later_ones_were_made():
    made, used = [], []

    def making():
        for k in range(6):
            made.append(k)
            yield k

    for item in held_back(making(), 2):
        used.append((item, len(made)))
    assert used == [(0, 3), (1, 4), (2, 5), (3, 6), (4, 6), (5, 6)]


def test_nothing_is_kept_back_where_nothing_runs_ahead_and_what_is_used_is_let_go():
    assert list(held_back(iter("abc"), 0)) == ["a", "b", "c"]
    assert list(held_back(iter("ab"), 5)) == ["a", "b"] and list(held_back((), 3)) == []

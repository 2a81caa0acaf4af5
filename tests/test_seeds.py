"""Generators made of one seed."""

from hemaest._seeds import spawn


def test_spawned_generators_do_not_depend_on_how_many_there_are():
    few, many = spawn(7, 2), spawn(7, 9)
    assert [g.integers(1 << 60) for g in few] == [g.integers(1 << 60) for g in many[:2]]
    assert len({int(g.integers(1 << 60)) for g in spawn(7, 50)}) == 50
    assert spawn(8, 1)[0].integers(1 << 60) != spawn(7, 1)[0].integers(1 << 60)

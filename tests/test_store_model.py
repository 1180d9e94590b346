"""Every store behaves like a dict: one state machine over all of them."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from store_makers import MAKERS

from zarrcy.errors import ConflictError
from zarrcy.stores.zip import ZipStore

segments = st.sampled_from(["a", "b", "c", "temp", "temp2", "0", "größe", "zarr.json"])
# Keys and prefixes of different first segments: on a file system a key is not also a directory.
keys = st.one_of(
    st.tuples(st.just("dir"), segments, st.sampled_from(["k1", "k2", "k3"])).map("/".join),
    segments.map("top-{}".format),
)
prefixes = st.one_of(st.sampled_from(["", "dir/", "absent/"]), segments.map("dir/{}/".format))
values = st.one_of(st.binary(max_size=20), st.sampled_from([5000, 70_000]).map(lambda n: bytes([n % 256]) * n))
bounds = st.one_of(st.none(), st.integers(-30, 30))


class StoreModel(RuleBasedStateMachine):
    make = None

    def __init__(self):
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.store = type(self).make(Path(self.directory.name))
        self.model = {}
        self.versions = {}

    def teardown(self):
        self.store.close()
        self.directory.cleanup()

    @rule(key=keys, value=values)
    def set(self, key, value):
        self.store.set(key, value)
        self.model[key] = value

    @rule(items=st.dictionaries(keys, values, max_size=4))
    def set_many(self, items):
        self.store.set_many(items.items())
        self.model.update(items)

    @rule(key=keys)
    def delete(self, key):
        self.store.delete(key)
        self.model.pop(key, None)

    @rule(prefix=prefixes)
    def delete_prefix(self, prefix):
        self.store.delete_prefix(prefix)
        self.model = {key: value for key, value in self.model.items() if not key.startswith(prefix)}

    @rule(key=keys, start=bounds, stop=bounds)
    def get(self, key, start, stop):
        got = self.store.get(key, slice(start, stop))
        assert (None if got is None else bytes(got)) == (self.model[key][start:stop] if key in self.model else None)

    @rule(requests=st.lists(keys, max_size=5))
    def get_many(self, requests):
        got = {i: None if v is None else bytes(v) for i, v in self.store.get_many([(key, None) for key in requests])}
        assert got == {i: self.model.get(key) for i, key in enumerate(requests)}

    @precondition(lambda self: self.store.supports_cas)
    @rule(key=keys)
    def remember_version(self, key):
        value, version = self.store.get_with_version(key)
        assert (None if value is None else bytes(value)) == self.model.get(key)
        self.versions[key] = version, self.model.get(key)

    @precondition(lambda self: self.versions)
    @rule(data=st.data(), value=values)
    def set_if(self, data, value):
        key = data.draw(st.sampled_from(sorted(self.versions)))
        version, known = self.versions.pop(key)
        try:
            self.store.set_if(key, value, version)
        except ConflictError:
            # A stale version may belong to an equal value; an absent key is never stale while it is absent.
            assert not (version is None and key not in self.model)
        else:
            assert self.model.get(key) == known
            self.model[key] = value

    @rule(prefix=prefixes)
    def list_dir(self, prefix):
        names = {key[len(prefix) :].partition("/") for key in self.model if key.startswith(prefix)}
        assert sorted(self.store.list_dir(prefix)) == sorted({name + slash for name, slash, _ in names})

    @rule()
    def sync(self):
        self.store.sync()

    @rule()
    def close(self):
        self.store.close()

    @precondition(lambda self: isinstance(self.store, ZipStore))
    @rule()
    def compact(self):
        self.store.compact()

    @invariant()
    def holds_what_the_model_holds(self):
        assert sorted(self.store.list_prefix()) == sorted(self.model)
        for key, value in self.model.items():
            assert bytes(self.store.get(key)) == value
            assert self.store.size(key) == len(value)


def run(name, n_examples, n_steps):
    machine = type(f"Model of {name}", (StoreModel,), {"make": staticmethod(MAKERS[name])})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=n_examples,
            stateful_step_count=n_steps,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("name", MAKERS)
def test_a_store_behaves_like_a_dict(name):
    run(name, 30, 40)


@pytest.mark.long
@pytest.mark.parametrize("name", MAKERS)
def test_a_store_behaves_like_a_dict_for_long(name):
    run(name, 500, 100)

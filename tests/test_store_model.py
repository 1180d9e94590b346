"""Every store behaves like a dict, also when calls fail: one state machine over all of them."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sanitized import share
from store_makers import EVERY, MAKERS, ON_SERVERS

from zarrcy.errors import ConflictError, OutcomeUnknownError, StoreError
from zarrcy.stores.mock import (
    Crash,
    Crashed,
    DiskFull,
    Duplicate,
    Fail,
    Flip,
    MockStore,
    Reset,
    Stale,
    Status,
    Timeout,
    Truncate,
    VirtualClock,
)
from zarrcy.stores.zip import ZipStore

NAMES = ["temp", "temp2", "0", "größe", "zarr.json"]
segments = st.sampled_from(NAMES)
# Keys and prefixes of different first segments: on a file system a key is not also a directory.
keys = st.one_of(
    st.tuples(st.just("dir"), segments, st.sampled_from(["k1", "k2", "k3"])).map("/".join),
    segments.map("top-{}".format),
)
prefixes = st.one_of(st.sampled_from(["", "dir/", "absent/"]), segments.map("dir/{}/".format))
# Seldom everything: a model that is often empty finds little.
deleted_prefixes = st.sampled_from([f"dir/{name}/" for name in NAMES] * 4 + ["", "dir/", "absent/"])
values = st.one_of(st.binary(max_size=20), st.sampled_from([5000, 70_000]).map(lambda n: bytes([n % 256]) * n))
bounds = st.one_of(st.none(), st.integers(-30, 30))


REFUSALS = [*(Status(status) for status in (403, 404, 409, 429, 500, 503)), Fail(), DiskFull()]
UNKNOWN = [effect(stored=stored) for effect in (Timeout, Reset, Crash) for stored in (False, True)]
DAMAGE = [Truncate(), Flip(), Stale()]
effects = st.sampled_from([*REFUSALS, *UNKNOWN, *DAMAGE, Duplicate()])


class StoreModel(RuleBasedStateMachine):
    """A store, a dict that it should equal, and a mock around the store, through which a call goes that is to fail."""

    make = None

    def __init__(self):
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.store = type(self).make(Path(self.directory.name))
        self.mock = MockStore(self.store, clock=VirtualClock())
        self.armed = None
        self.model = {}
        self.versions = {}
        self.touched = set()
        self.n_steps = 0

    def teardown(self):
        try:
            self.equals_the_dict(self.model)
        finally:
            self.store.close()
            self.directory.cleanup()

    @rule(effect=effects)
    def arm(self, effect):
        """The next call meets a fault."""
        self.mock.reset()
        self.mock.arm(effect, method="read" if effect in DAMAGE else None)
        self.armed = effect

    def call(self, work):
        """What `work` of the store answers, or the error that a fault made of it; and the fault."""
        effect, self.armed = self.armed, None
        if effect is None:
            return work(self.store), None
        try:
            return work(self.mock), effect
        except (StoreError, Crashed) as error:
            return error, effect

    def write(self, work, changes):
        """A call that makes of some keys other values, of None none; whether it was done."""
        answer, effect = self.call(work)
        self.touched.update(changes)
        if not isinstance(answer, BaseException):
            self.take_over(changes)
            return True
        # An error says that nothing happened, or that this is not known; a call of several keys may end half-way.
        may_be_done = isinstance(answer, (OutcomeUnknownError, Crashed)) or effect == Duplicate() or len(changes) > 1
        for key, value in changes.items():
            found = self.store.get(key)
            found = None if found is None else bytes(found)
            assert found == self.model.get(key) or (may_be_done and found == value)
            self.take_over({key: found})
        return False

    def take_over(self, changes):
        self.model.update(changes)
        for key in [key for key, value in changes.items() if value is None]:
            del self.model[key]

    def read(self, work, expected):
        """A call that changes nothing: right, or failed where a fault was due."""
        answer, effect = self.call(work)
        assert answer == expected or effect in [*REFUSALS, *UNKNOWN, *DAMAGE]

    @rule(key=keys, value=values)
    def set(self, key, value):
        self.write(lambda store: store.set(key, value), {key: value})

    @rule(items=st.dictionaries(keys, values, max_size=4))
    def set_many(self, items):
        self.write(lambda store: store.set_many(items.items()), items)

    @rule(key=keys)
    def delete(self, key):
        self.write(lambda store: store.delete(key), {key: None})

    @rule(prefix=deleted_prefixes)
    def delete_prefix(self, prefix):
        self.write(
            lambda store: store.delete_prefix(prefix), {key: None for key in self.model if key.startswith(prefix)}
        )

    @rule(key=keys, start=bounds, stop=bounds)
    def get(self, key, start, stop):
        part = slice(start, stop)
        self.read(lambda store: in_bytes(store.get(key, part)), self.model[key][part] if key in self.model else None)

    @rule(requests=st.lists(keys, max_size=5))
    def get_many(self, requests):
        self.read(
            lambda store: {i: in_bytes(value) for i, value in store.get_many([(key, None) for key in requests])},
            {i: self.model.get(key) for i, key in enumerate(requests)},
        )

    @rule(key=keys)
    def look(self, key):
        value = self.model.get(key)
        self.read(lambda store: store.size(key), None if value is None else len(value))
        self.read(lambda store: store.exists(key), value is not None)

    @precondition(lambda self: self.store.supports_cas)
    @rule(key=keys)
    def remember_version(self, key):
        value, version = self.store.get_with_version(key)
        assert in_bytes(value) == self.model.get(key)
        self.versions[key] = version, self.model.get(key)

    @precondition(lambda self: self.versions)
    @rule(data=st.data(), value=values)
    def set_if(self, data, value):
        key = data.draw(st.sampled_from(sorted(self.versions)))
        version, known = self.versions.pop(key)
        before = self.model.get(key)
        try:
            done = self.write(lambda store: store.set_if(key, value, version), {key: value})
        except ConflictError:
            # A stale version may belong to an equal value; an absent key is never stale while it is absent.
            assert not (version is None and before is None)
        else:
            assert not done or before == known

    # One that reads a damaged value stores what it makes of it.
    @precondition(lambda self: self.armed not in DAMAGE)
    @rule(key=keys, value=values)
    def update(self, key, value):
        before = self.model.get(key)
        self.write(
            lambda store: store.update(key, lambda old: (in_bytes(old) or b"") + value), {key: (before or b"") + value}
        )

    @rule(prefix=prefixes)
    def list_dir(self, prefix):
        names = {key[len(prefix) :].partition("/") for key in self.model if key.startswith(prefix)}
        self.read(lambda store: sorted(store.list_dir(prefix)), sorted({name + slash for name, slash, _ in names}))

    @rule(prefix=prefixes)
    def list_prefix(self, prefix):
        self.read(
            lambda store: sorted(store.list_prefix(prefix)), sorted(key for key in self.model if key.startswith(prefix))
        )

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
        self.n_steps += 1
        touched, self.touched = self.touched, set()
        if self.n_steps % 20 == 0:
            self.equals_the_dict(self.model)
        else:
            for key in touched:
                assert in_bytes(self.store.get(key)) == self.model.get(key)

    def equals_the_dict(self, model):
        assert sorted(self.store.list_prefix()) == sorted(model)
        for key, value in model.items():
            assert in_bytes(self.store.get(key)) == value
            assert self.store.size(key) == len(value)


def in_bytes(value):
    return None if value is None else bytes(value)


def run(make, n_examples, n_steps, phases=tuple(Phase)):
    machine = type("Model", (StoreModel,), {"make": staticmethod(make)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=n_examples,
            stateful_step_count=n_steps,
            phases=phases,
            report_multiple_bugs=False,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("name", EVERY)
def test_a_store_behaves_like_a_dict(name):
    # Stacks are fewer: what lies below them has its own full count.
    n_examples, n_steps = (500, 100) if name in MAKERS and name not in ON_SERVERS else (50, 40)
    run(EVERY[name], share(n_examples), n_steps)


def test_a_refused_write_that_was_done_is_found(monkeypatch):
    refuse = Status.apply

    def done_and_refused(self, delivery):
        if delivery.writes:
            delivery.perform()
        return refuse(self, delivery)

    monkeypatch.setattr(Status, "apply", done_and_refused)
    with pytest.raises(AssertionError):
        run(EVERY["memory"], 200, 40, phases=[Phase.generate])


@pytest.mark.long
@pytest.mark.parametrize("name", EVERY)
def test_a_store_behaves_like_a_dict_for_long(name):
    run(EVERY[name], 2000, 500)

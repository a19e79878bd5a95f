"""Completion in Python: what it finds, and that it runs no code of objects that want to notice it."""
from __future__ import annotations

import builtins
import enum
import importlib.util
import sys
import threading
import types

import pytest

from boxsession.python.completion import complete

RAN: list[str] = []


def ran(what):
    def method(*arguments, **named):
        RAN.append(what)
        raise AssertionError(f'{what} ran')
    return method


SPIES = ('__getattr__', '__getattribute__', '__dir__', '__repr__', '__str__', '__iter__', '__len__', '__bool__',
         '__contains__', '__getitem__', '__missing__', '__call__', '__instancecheck__', '__subclasscheck__', '__hash__',
         '__eq__', '__lt__', '__format__', '__sizeof__')
# Methods that a hostile class has, and those that its metaclass has.
OF_INSTANCES = {name: ran(name) for name in SPIES}
OF_CLASSES = {f'{name}': ran(f'metaclass {name}') for name in SPIES if name not in ('__call__', '__hash__', '__eq__')}


class Meta(type):
    """A metaclass that wants to be asked."""

    __mro__ = property(ran('metaclass __mro__'))
    __dict__ = property(ran('metaclass __dict__'))
    __name__ = property(ran('metaclass __name__'))


for _name, _method in OF_CLASSES.items():
    type.__setattr__(Meta, _name, _method)


class Descriptor:
    """A descriptor that wants to be asked."""

    def __get__(self, *_):
        return ran('__get__')()


class DataDescriptor(Descriptor):
    __set__ = ran('__set__')


class Order:
    kind = 'order'
    costly = property(ran('costly'))
    asks = Descriptor()
    takes = DataDescriptor()

    def __init__(self, **fields):
        self.__dict__.update(fields)

    def refund(self): ...

    @staticmethod
    def parsed(): ...

    @classmethod
    def made(cls): ...


class Slots:
    __slots__ = ('name', 'never_set')

    def __init__(self):
        self.name = Order(number=1)


class Color(enum.Enum):
    RED = 1


def hostile_class():
    """A class whose instances answer everything. Not in this module: pytest would look at it."""
    class Hostile(metaclass=Meta):
        classy = 1

        def __init__(self):
            object.__setattr__(self, 'inner', Order(number=7))
            object.__setattr__(self, 'number', 1)

    for name, method in OF_INSTANCES.items():
        type.__setattr__(Hostile, name, method)
    return Hostile


@pytest.fixture(autouse=True)
def no_code():
    RAN.clear()
    yield
    assert RAN == []


def names(text, **scope):
    """The completions without their common prefix, which is checked."""
    __tracebackhide__ = True
    found = complete(text, [scope, vars(builtins)])
    if found:
        common = found.pop(0)
        assert all(name.startswith(common) for name in found) and common.startswith(text)
    return found


class TestNames:
    def test_the_form_is_that_of_lua(self):
        assert complete('orde', [{'order_a': 1, 'order_b': 2}]) == ['order_', 'order_a', 'order_b']
        assert complete('order_a', [{'order_a': 1}]) == ['order_a', 'order_a']
        assert complete('nothing', [{'order': 1}]) == []

    @pytest.mark.parametrize(('text', 'expected'), [
        ('app', ['app']), ('prin', ['print(']), ('ZeroD', ['ZeroDivisionError(']), ('impo', ['import ']), ('Non', ['None']),
        ('finall', ['finally:']), ('__build', ['__build_class__(']), ('x y', []), ('1', []), ('.', []), ("'a", [])])
    def test_of_statements(self, text, expected):
        assert names(text, app=1) == expected

    def test_without_a_text(self):
        assert {'app', 'print('} < set(names('', app=1))

    def test_the_first_scope_counts(self):
        scopes = [{'app': Order(a_session=1)}, {'app': Order(a_program=1)}]
        assert complete('app.a', scopes)[1:] == ['app.a_session', 'app.asks']
        assert complete('app', [{'app': 1}, {'app': len, 'app_b': 1}])[1:] == ['app', 'app_b']

    def test_private_names_are_asked_for(self):
        assert names('o.', o=Order(_secret=1, open=2)) == [
            'o.asks', 'o.costly', 'o.kind', 'o.made(', 'o.open', 'o.parsed(', 'o.refund(', 'o.takes']
        assert names('o._s', o=Order(_secret=1)) == ['o._secret']
        assert '_hidden' not in names('', _hidden=1) and names('_hid', _hidden=1) == ['_hidden']

    @pytest.mark.parametrize(('text', 'expected'), [
        ('o.cache.ent', ['o.cache.entries']), ('o.ref', ['o.refund(']), ('o.cache.kin', ['o.cache.kind']),
        ('Order.par', ['Order.parsed(']), ('Order.kind.upp', ['Order.kind.upper(']), ('o.kind.upp', ['o.kind.upper(']),
        ('slots.na', ['slots.name']), ('slots.never', []), ('Slots.never', ['Slots.never_set']),
        ('slots.name.num', ['slots.name.number']), ('slots.never_set.', []),
        ('sys.modul', ['sys.modules']), ('sys.modules["json"].loads', ['sys.modules["json"].loads(']),
        ('threading.Thr', ['threading.Thread(', 'threading.ThreadError(']), ('o.refund.__na', ['o.refund.__name__']),
        ('Color.R', ['Color.RED']), ('o.__class__.', []), ('o.made.', []), ('o.parsed.', [])])
    def test_of_values(self, text, expected):
        assert names(text, o=Order(cache=Order(entries={})), Order=Order, slots=Slots(), Slots=Slots, sys=sys,
                     threading=threading, Color=Color) == expected

    @pytest.mark.parametrize(('text', 'expected'), [
        ("flags['ne", ["flags['new_checkout']"]), ('flags["ne', ['flags["new_checkout"]']),
        ('flags[', ["flags['a \"b\"']", "flags['new_checkout']", "flags['о']"]),
        ("flags['new_checkout'].own", ["flags['new_checkout'].owner"]),
        ("flags['new_checkout']", []), ('flags[0', []), ('flags[0].', []), ('flags[name].', []), ("flags['none'].", []),
        ("flags['new_checkout']['x", []), ("flags.ite", ['flags.items(']), ('flags().', []), ("o['a", []), ("o['a'].", [])])
    def test_of_items(self, text, expected):
        flags = {'new_checkout': Order(owner='ann'), "it's": 1, 'a "b"': 2, 3: 4, 'back\\slash': 5, 'line\n': 6, 'о': 7}
        assert names(text, flags=flags, o=Order()) == expected

    def test_other_alphabets(self):
        assert names('заказ.ном', заказ=Order(номер=1)) == ['заказ.номер']


class TestLimits:
    def test_many_names(self):
        scope = {f'n{number}': number for number in range(1000)}
        assert len(names('n', **scope)) == 500
        assert complete('n', [scope])[0] == 'n'

    def test_many_items(self):
        many = {f'key{number}': Order(a=1) for number in range(100_000)}
        assert 500 == len(names("many['key", many=many))
        assert names("many['key0'].a", many=many) == ["many['key0'].a", "many['key0'].asks"]
        assert names("many['key99999'].a", many=many) == []

    def test_long_names(self):
        assert names('x', **{'x' * 1000: 1, 'xy': 2}) == ['xy']
        assert names('a' * 10_000, **{'a' * 10_001: 1}) == []
        assert names('o' + '.o' * 450, o=1) == []

    def test_names_that_are_none(self):
        assert names('o.', o=types.SimpleNamespace(**{'a b': 1, '1': 2, 'x': 3})) == ['o.x']


class TestNoCodeRuns:
    @pytest.mark.parametrize('name', ['costly', 'asks', 'takes'])
    def test_descriptors(self, name):
        assert names(f'o.{name[:3]}', o=Order()) == [f'o.{name}']
        assert names(f'o.{name}.', o=Order()) == [] == names(f'Order.{name}.', Order=Order)

    def test_a_property_wins_over_what_is_stored(self):
        assert names('o.costly.', o=Order(costly='text')) == [] == names('o.takes.', o=Order(takes='text'))
        assert names('o.asks.upp', o=Order(asks='text')) == ['o.asks.upper(']

    # Their completions have names before they are compared: pytest shows what is in a failed comparison.
    def test_instances_that_answer_everything(self):
        hostile = hostile_class()()
        found = [names(text, h=hostile) for text in ('h.', 'h.inner.num', 'h.nothing.', "h['a", "h['a'].")]
        assert found == [['h.classy', 'h.inner', 'h.number'], ['h.inner.number'], [], [], []]

    def test_classes_with_a_metaclass(self):
        kind = hostile_class()
        hostile = kind()
        found = [names(text, Kind=kind, kindly=hostile)
                 for text in ('Kind.cl', 'Kind.classy.rea', 'Kind.nothing.', 'Ki', 'ki')]
        assert found == [['Kind.classy'], ['Kind.classy.real'], [], ['Kind('], ['kindly']]

    def test_a_class_that_lies(self):
        class Liar:
            __class__ = property(ran('__class__'))
            __dict__ = property(ran('__dict__'))

        class LiarBelow(Order):
            __dict__ = property(ran('__dict__'))
            __slots__ = ()

        below = LiarBelow.__new__(LiarBelow)
        object.__setattr__(below, 'number', 1)
        assert names('liar.', liar=Liar()) == []
        assert names('below.num', below=below) == ['below.number']
        assert names('below.__dict__.', below=below) == []

    def test_a_dict_of_its_own_kind(self):
        class Own(dict):
            keys = items = values = get = ran('dict')

        for name, method in OF_INSTANCES.items():
            setattr(Own, name, method)
        own = Own({'first': Order(number=1)})
        assert names("own['fi", own=own) == ["own['first']"]
        assert names("own['first'].num", own=own) == ["own['first'].number"]
        assert names("own['missing'].", own=own) == []
        for scope in ({'own': own}, Own(first=1)):
            assert complete('fir', [scope]) in ([], ['first', 'first'])
        order = Order()
        order.__dict__ = Own(number=1)
        assert names('order.num', order=order) == ['order.number']

    def test_keys_that_are_no_plain_strings(self):
        class Key(str):
            __eq__ = startswith = isidentifier = ran('key')

            def __hash__(self):
                return str.__hash__(self)

        class Same:
            __eq__ = ran('key')

            def __hash__(self):
                return hash('found')

        mapping = {Key('other'): 1, Same(): 2}
        assert names("d['", d=mapping) == [] == names("d['found'].", d=mapping)
        assert complete('found', [mapping]) == [] == complete('found.', [mapping])
        order = Order()
        order.__dict__[Key('other')] = Order(a=1)
        assert names('o.oth', o=order) == [] == names('o.other.', o=order)

    def test_a_module_with_getattr(self):
        module = types.ModuleType('lazy')
        module.__getattr__ = ran('module __getattr__')
        module.__dir__ = ran('module __dir__')
        module.ready = Order(number=1)
        assert names('lazy.rea', lazy=module) == ['lazy.ready']
        assert names('lazy.ready.num', lazy=module) == ['lazy.ready.number']
        assert names('lazy.late.', lazy=module) == []

    def test_a_module_that_is_loaded_when_it_is_used(self, tmp_path, monkeypatch):
        (tmp_path / 'loaded_late.py').write_text('raise AssertionError("it was loaded")')
        spec = importlib.util.spec_from_file_location('loaded_late', tmp_path / 'loaded_late.py')
        spec.loader = importlib.util.LazyLoader(spec.loader)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert names('module.', module=module) == [] == names('module.x.', module=module)

    def test_a_class_of_modules(self):
        class Lazy(types.ModuleType):
            answer = property(ran('answer'))
            __getattribute__ = ran('__getattribute__')

        module = Lazy('lazy')
        types.ModuleType.__getattribute__(module, '__dict__')['ready'] = 1
        assert names('lazy.', lazy=module) == ['lazy.answer', 'lazy.ready']
        assert names('lazy.answer.', lazy=module) == []

    def test_locals_of_a_thread_that_has_none(self):
        made = []

        class Local(threading.local):
            def __init__(self):
                made.append(threading.current_thread())
                self.number = 1

        local, plain, found = Local(), threading.local(), []
        thread = threading.Thread(target=lambda: found.extend([names('l.num', l=local), names('l.num', l=plain)]))
        thread.start()
        thread.join()
        assert len(made) == 1 and found == [[], []]

    def test_attributes_that_are_deleted(self):
        slots = Slots()
        del slots.name
        assert names('slots.', slots=slots) == [] == names('slots.name.', slots=slots)
        order = Order(number=1)
        del order.number
        assert names('order.num', order=order) == []

    def test_a_slot_of_another_class(self):
        class Thief:
            stolen = Slots.__dict__['name']

        assert names('thief.', thief=Thief()) == [] == names('thief.stolen.', thief=Thief())

    def test_a_mapping_behind_a_proxy(self):
        proxy = types.MappingProxyType(hostile_class()())
        found = [names("proxy['a", proxy=proxy), names("proxy['a'].", proxy=proxy)]
        assert found == [[], []]

    def test_exceptions_and_functions_have_attributes(self):
        def function(): ...

        function.counted = 1
        error = ValueError('x')
        error.number = 2
        assert names('f.coun', f=function) == ['f.counted'] and names('e.num', e=error) == ['e.number']

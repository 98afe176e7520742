"""Writes jinja-table.json: what jinja2 3.1.6, set up as transformers sets it up, prints for each template below.

python3 -m venv venv && venv/bin/pip install jinja2==3.1.6 && venv/bin/python make-jinja-table.py
"""
import json
from datetime import datetime
from pathlib import Path

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

    def _said(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


NOW = datetime(2026, 3, 7, 15, 4, 9)
env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
env.filters["tojson"] = tojson
env.globals["raise_exception"] = raise_exception
env.globals["strftime_now"] = lambda format: NOW.strftime(format)

VARIABLES = {
    "n": 7, "f": 2.5, "small": 1e-7, "yes": True, "no": False, "nothing": None, "s": "Hello, World",
    "pad": "  x\t\n", "lines": "a\nb\n\nc\n", "emoji": "a😀b", "quote": "it's", "both": "it's \"so\"", "html": "<a href=\"x\">&'</a>",
    "empty": "", "list": [3, 1, 2], "words": ["b", "A", "c"], "mixed": [1, "a", None, True, 2.5, [1], {"k": "v"}],
    "dict": {"b": 1, "a": 2, "items": 3}, "deep": {"x": {"y": [10, {"z": "deep"}]}},
    "people": [{"name": "Ann", "age": 31, "city": "Ulm"}, {"name": "bob", "age": 25, "city": "Kiel"}, {"name": "Cy", "age": 31}],
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": " Hi "},
                 {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1, "b": [True, None], "c": "é<"}}}]}],
    "unicode": "Straße ÉÀ ǆ İ", "neg": -7, "zero": 0, "tree": [{"v": 1, "c": [{"v": 2, "c": []}, {"v": 3, "c": [{"v": 4, "c": []}]}]}],
}

EXPRESSIONS = r"""
n
f
1e20
small
yes
nothing
list
mixed
dict
deep
people[0]
missing
missing.x
missing['x']
missing + 1
missing ~ 'x'
missing == missing
missing|length
missing|default('d')
dict.zz
dict.zz.y
dict['zz']|default('none')
nothing|default('d')
nothing|default('d', true)
empty|default('d', true)
nothing.x
'' if no
('x' if no)|length
1 + 1
1 + 1.0
7 / 2
7 // 2
-7 // 2
7 % 3
-7 % 3
7 % -3
-7.5 % 2
7.5 // 2
2 ** 10
2 ** -1
2 ** 0.5
-2 ** 2
2 ** 3 ** 2
1 / 0
1 // 0
10 ** 20
10 ** 15 * 10
9007199254740993
9007199254740993 + 1
1e3
1e16
1e15
1e-4
1e-5
123456789012345680.0
0.1 + 0.2
100.0
1_000
0x1f
0b101
0o17
3.0 == 3
1 == True
'1' == 1
yes + 1
'a' + 'b'
'a' + 1
1 + 'a'
'a' ~ 1 ~ none ~ true ~ 1.0
'x' * 3
3 * 'x'
[1] * 3
(1, 2) * 2
'x' * -1
[1] + [2]
(1,) + (2,)
[1] + (2,)
()
(1,)
(1, 2)
1, 2
{}
{'a': 1, 2: 'b', none: 3, (1, 2): 4}
{1: 'a', true: 'b'}
[]
'a' 'b' "c"
'\n\t\\\x41\u00e9\q'
"it's"
'say "x"'
['it\'s', "a\"b", 'a\'b"c']
['\n', '\x00', '\x7f', 'é', '😀', '\u200b', '\xa0']
1 < 2 < 3
1 < 3 < 2
1 < 2 > 1 == 1
1 < 'a'
none < 1
'a' < 'b'
'a' < 'B'
'😀' > '\uffff'
[1, 2] < [1, 3]
(1, 2) < (1, 2, 0)
1 == 1.0
[1, 2] == [1, 2.0]
(1, 2) == [1, 2]
{'a': 1} == {'a': 1.0}
none == none
'a' in 'abc'
'' in 'abc'
1 in [1, 2]
'b' in dict
'z' not in dict
1 in 'abc'
'a' in nothing
'a' in missing
not yes
not missing
not 0.0
yes and 'a'
no or 'b'
empty or nothing
not no and yes
1 if yes else 2
1 if no else 2 if yes else 3
list[0]
list[-1]
list[9]
list[1:]
list[:-1]
list[::-1]
list[::2]
list[5:]
list[-2:]
list['0']
s[0]
s[-1]
s[1:4]
s[::-1]
s[99]
emoji[1]
emoji[::-1]
emoji|length
emoji.upper()
(1, 2, 3)[1:]
dict.b
dict['b']
dict.items
dict['items']
dict.items()
dict.keys()
dict.values()
dict.items()|list
dict.keys()|list
dict|list
dict|length
dict.items()|length
dict.get('b')
dict.get('q')
dict.get('q', 5)
dict.copy()
dict.update({'q': 1})
dict.pop('b')
dict.setdefault('b', 1)
list.append(4)
list.sort()
list.pop()
list.index(1)
list.count(1)
list.copy()
deep.x.y.1.z
deep.x.y[1]['z']
deep['x']['y'][0]
s.upper()
s.lower()
s.title()
s.swapcase()
s.capitalize()
'hELLO wORLD'.capitalize()
unicode.upper()
unicode.lower()
unicode.casefold()
unicode.title()
"they're bill's".title()
pad.strip()
pad.lstrip()
pad.rstrip()
pad.rstrip('\n')
'\n\nab\n'.lstrip('\n')
'  indented'.strip('\n')
'xxhixx'.strip('x')
'xyhixy'.strip('yx')
'[a-]'.strip('[]-')
'a.b.c'.strip('.a')
s.split(', ')
s.split(',')
'a b  c '.split()
'a b  c '.split(' ')
'a b c d'.split(' ', 1)
'a b c d'.split(none, 1)
'a b c d'.rsplit(' ', 1)
'a b c d'.rsplit(none, 1)
'a b c d'.split(maxsplit=2)
'a,b,c'.split(',', maxsplit=1)
''.split()
''.split(',')
'abc'.split('')
lines.splitlines()
lines.splitlines(true)
'a\r\nb\x0bc'.splitlines()
s.startswith('Hello')
s.startswith(('X', 'H'))
s.endswith('World')
s.startswith('ello', 1)
s.find('o')
s.find('o', 5)
s.find('zz')
s.rfind('o')
s.index('o')
s.index('zz')
s.count('o')
'aaa'.count('aa')
'abc'.count('')
s.replace('o', '0')
s.replace('o', '0', 1)
'abc'.replace('', '-')
'abc'.replace('', '-', 2)
s.partition(', ')
s.rpartition('o')
s.partition('zz')
s.rpartition('zz')
'x'.center(6, '*')
'x'.center(5, '*')
'ab'.center(5)
'x'.ljust(3, '.')
'x'.rjust(3, '.')
'7'.zfill(3)
'-7'.zfill(4)
'a\tb'.expandtabs(4)
'abc'.isalpha()
'123'.isdigit()
'²'.isdigit()
'½'.isnumeric()
'1.5'.isdecimal()
'abc1'.isalnum()
''.isalpha()
'Ab'.islower()
'ab1'.islower()
'AB'.isupper()
' \t'.isspace()
'Ab Cd'.istitle()
'a_1'.isidentifier()
'abc'.isascii()
'a\n'.isprintable()
'TestHook'.removeprefix('Test')
'TestHook'.removesuffix('Hook')
'TestHook'.removeprefix('x')
'-'.join(['a', 'b'])
'-'.join([1, 2])
', '.join(words)
'abc'.join('123')
'{} and {}'.format(1, 'a')
'{0}{1}{0}'.format('a', 'b')
'{x}/{y!r}'.format(x=1, y='q')
'{:>5}|{:<5}|{:^5}|'.format('a', 'b', 'c')
'{:05d}|{:+d}|{:,}|{:x}|{:#x}|{:b}'.format(42, 42, 1234567, 255, 255, 5)
'{:.2f}|{:8.3f}|{:e}|{:g}|{:%}'.format(3.14159, 2.5, 12345.678, 0.00001, 0.25)
'{:*^9}'.format('mid')
'{0[a]} {0[b]}'.format({'a': 1, 'b': 2})
'{{}} {}'.format(1)
'{}'.format()
'{:d}'.format('a')
'{:s}'.format(1)
'{}'.format(none)
'{}'.format([1, 'a'])
'{:>8}'.format(true)
'%s is %d' % ('x', 5)
'%s' % 'x'
'%r' % 'x'
'%5s|%-5s|' % ('a', 'b')
'%05d' % 42
'%+.2f' % 3.14159
'%x %X %o' % (255, 255, 8)
'%e' % 12345.678
'%g %g' % (0.0001, 1e10)
'%c' % 65
'%%' % ()
'%(a)s-%(b)d' % {'a': 'x', 'b': 2}
'%s' % (1, 2)
'%d' % 'a'
'%s %s' % ('a',)
'%.3s' % 'abcdef'
'%d' % 3.9
s|upper
s|lower
s|title
'foo-bar baz(qux'|title
s|capitalize
s|length
s|count
s|first
s|last
s|list
s|reverse
s|string
list|first
list|last
[]|first
[]|last
list|sort
list|sort(reverse=true)
words|sort
words|sort(case_sensitive=true)
people|sort(attribute='age')|map(attribute='name')|list
people|sort(attribute='age,name')|map(attribute='name')|list
mixed|sort
list|reverse
list|reverse|list
list|sum
[1.5, 2]|sum
people|sum(attribute='age')
['a', 'b']|sum
list|max
list|min
words|max
[]|max
people|max(attribute='age')
list|join(', ')
list|join
people|join(', ', attribute='name')
[none, true, 1.0]|join('-')
dict|join(',')
list|map('string')|list
words|map('upper')|list
words|map('upper')
people|map(attribute='city')|list
people|map(attribute='city', default='?')|list
people|map(attribute='name')|map('lower')|join(' ')
[1, 2, 3, 4]|select('even')|list
[1, 2, 3, 4]|select('odd')|list
[1, 2, 3, 4]|reject('odd')|list
[0, 1, '', 'a', none]|select|list
[1, 2, 3]|select('gt', 1)|list
[1, 2, 3]|select('>', 1)|list
[1, 2, 3]|select('in', [1, 3])|list
[1, 2, 3]|select('divisibleby', 3)|list
people|selectattr('city', 'defined')|map(attribute='name')|list
people|selectattr('age', 'equalto', 31)|map(attribute='name')|list
people|selectattr('city')|map(attribute='name')|list
people|rejectattr('age', 'eq', 31)|map(attribute='name')|list
messages|selectattr('role', '==', 'user')|list
messages|rejectattr('role', '==', 'system')|map(attribute='role')|list
nothing|selectattr('x')|list
people|groupby('age')|length
people|groupby('age')
people|groupby('city', default='none')|map('first')|list
[1, 1, 2, 'a', 'A']|unique|list
[1, 2, 3, 4, 5]|batch(2)|list
[1, 2, 3, 4, 5]|batch(2, 'x')|list
[1, 2, 3, 4, 5]|slice(2)|list
[1, 2, 3, 4, 5]|slice(3, 'x')|list
dict|dictsort
dict|dictsort(by='value')
dict|dictsort(reverse=true)
dict|items|list
missing|items|list
dict|tojson
mixed|tojson
mixed|tojson(indent=2)
deep|tojson(indent=4)
{}|tojson(indent=2)
dict|tojson(sort_keys=true)
dict|tojson(separators=(',', ':'))
'é<>&\'"😀\x01\x7f'|tojson
'é😀'|tojson(ensure_ascii=true)
[1.0, 1e20, 0.1, 1e-7, 12345678.9]|tojson
{1: 'a', none: 'b', true: 'c', 1.5: 'd'}|tojson
(1, 2)|tojson
missing|tojson
range(2)|tojson
none|tojson
'a'|string|tojson
n|string
nothing|string
nothing|string + 'x'
list|string
f|int
'42'|int
'4.9'|int
'x'|int
'x'|int(9)
'0x1f'|int(base=16)
none|int
'3.5'|float
'x'|float
'1e3'|float
3|float
2.5|round
3.5|round
2.675|round(2)
0.5|round
1.5|round
-0.5|round
-1.5|round
1234.567|round(-2)
7|round
2.1|round(method='ceil')
2.9|round(0, 'floor')
2.25|round(1)
-7|abs
-2.5|abs
'a'|abs
s|trim
pad|trim
nothing|trim
n|trim
'xxaxx'|trim('x')
s|replace('o', '0')
s|replace('o', '0', 1)
n|replace('7', '8')
lines|indent
lines|indent(2)
lines|indent(2, true)
lines|indent(2, false, true)
lines|indent('> ')
'a'|indent(2, first=true)
s|wordcount
s|center(20)
'a long text that goes on'|truncate(10)
'a long text that goes on'|truncate(10, true)
'short'|truncate(10)
'a long text that goes on'|truncate(10, end='!')
html|escape
html|e
html|safe
html|safe + '<'
html|safe ~ '<'
'<' ~ html|safe
'<' + '>'|safe
html|e|upper
html|e|length
html|escape|string
html|forceescape
html|striptags
'<'|e|replace('&', '&')
('<'|safe).join(['<', '>'|safe])
'%s'|safe % '<'
'<b>'|safe|safe
'a b/c?é'|urlencode
{'a': 1, 'b': 'x y'}|urlencode
1000000|filesizeformat
1024|filesizeformat(true)
'%s-%s'|format('a', 'b')
'%(x)s'|format(x=1)
dict|attr('b')
s|attr('upper')
[[1, 2], [3]]|sum(start=[])
n is defined
missing is defined
missing is not defined
missing is undefined
nothing is none
nothing is not none
n is number
yes is number
f is number
n is integer
yes is integer
f is integer
f is float
yes is boolean
yes is true
no is false
1 is true
s is string
n is string
list is iterable
s is iterable
n is iterable
missing is iterable
list is sequence
dict is sequence
dict is mapping
list is mapping
n is odd
n is even
n is divisibleby 7
n is divisibleby(2)
n is eq 7
n is equalto 7
n is == 7
n is ne 8
n is gt 3
n is lt 3
n is ge 7
n is in [7]
s is lower
'abc' is lower
'ABC' is upper
n is sameas n
nothing is sameas none
range is callable
n is callable
'upper' is filter
'odd' is test
html|safe is escaped
n is nosuchtest
n|nosuchfilter
range(3)
range(3)|list
range(1, 7, 2)|list
range(3, 0, -1)|list
range(0)|length
range(5)[-1]
range(10**9)
dict(a=1, b=2)
dict([('a', 1)])
namespace(a=1).a
lipsum is callable
joiner is callable
raise_exception('boom')
strftime_now('%Y-%m-%d')
strftime_now('%d %b %Y')
strftime_now('%A %B %d %j %p %I:%M:%S %H %y')
strftime_now('%-d %-m %e %U %W %V %u %w %%')
messages[0].content
messages[-1]['content']
messages[2].tool_calls[0].function.arguments|tojson
messages[2].content is none
messages[1]['content'] | trim
messages|length
messages[0]['role'] == 'system' and messages[0].content
messages[0].__class__
''.__class__
n.__add__
nosuch()
n()
s.nosuch()
s.upper
list is not string and list is iterable
(n if n > 3 else 0) + 1
n > 3 and n < 10
[n, f]|map('string')|join(' ')
{'a': [1, {'b': none}]}
{'x': 1}.x
[1, 2, 3,]
{'a': 1,}
-n
+n
- -n
-n|abs
not n == 7
n|string ~ 'x'
n ~ 'x'|upper
'a' if n else 'b' ~ 'c'
neg // 2
neg % 4
zero or 'z'
loop
true
True
None
none
False
'a' is string and 'b' is string
1 is number is number
f|string
1.0|string
100000000000000000000000.0
2.0 ** 70
3 / 1
1.5e300 * 1e10
"caf\u00e9"|upper
'ß'|upper
'ﬁ'|title
emoji|list
emoji|first
emoji|reverse
emoji.find('b')
emoji.center(6, '-')
emoji[1:2]
'a,b'.split(',')[1]
(1, 2)|first
s|map('upper')|join
dict.items()|first
dict|first
people|first
people|map(attribute='age')|unique|list
people|map('length')|list
[3, 1]|sort|first
[['b', 2], ['a', 1]]|sort
[('b', 2), ('a', 1)]|sort
['b', 'A']|sort|join
[true, false]|sort
[1, '1']|unique|list
'x'|default
none|default
''|length
nothing|length
n|length
'abc'|random|length
1 is divisibleby 0
"a\
b"
"""

TEMPLATES = [
    "a{% if yes %}b{% endif %}c",
    "{% if yes %}\nb\n{% endif %}\nc",
    "  {% if yes %}\n  b\n  {% endif %}\nc\n",
    "x  {% if yes %}  y{% endif %}",
    "x\n  {%+ if yes %}y{% endif %}",
    "x {%- if yes -%}  y  {%- endif -%} z",
    "a\n\n{%- if yes %}\nb{% endif +%}\nc",
    "{{ n }}\n",
    "{{ n }}\n\n",
    "\r\na\r\n{% if yes %}\r\nb{% endif %}\r\n",
    "  {# comment #}\nx",
    "a {#- comment -#} b",
    "a\n{# one\ntwo #}\nb",
    "  {{ n }}\n  {%- set x = 1 %}\n  {{ x }}",
    "{% raw %}{{ n }}{% if %}{% endraw %}",
    "a\n  {% raw %}\n  {{ n }}\n  {% endraw %}\nb",
    "{%- raw -%}  x  {%- endraw -%}",
    "{% for x in list %}{{ x }},{% endfor %}",
    "{% for x in list %}{{ loop.index }}/{{ loop.length }}:{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% for x in list %}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }};{% endfor %}",
    "{% for x in list %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}",
    "{% for x in list %}{{ loop.previtem is defined }}{% endfor %}",
    "{% for x in list %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for x in [1, 1, 2] %}{{ loop.changed(x) }} {% endfor %}",
    "{% for x in list if x > 1 %}{{ loop.index }}{{ x }}{% endfor %}",
    "{% for x in [] %}a{% else %}none{% endfor %}",
    "{% for x in list if x > 9 %}a{% else %}none{% endfor %}",
    "{% for k, v in dict.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in dict %}{{ k }}{% endfor %}",
    "{% for (a, b) in [(1, 2), (3, 4)] %}{{ a }}{{ b }}{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}",
    "{% for a, b in [1] %}{{ a }}{% endfor %}",
    "{% for c in 'abc' %}{{ c }}-{% endfor %}",
    "{% for x in missing %}a{% endfor %}b",
    "{% for x in nothing %}a{% endfor %}",
    "{% for x in n %}a{% endfor %}",
    "{% for x in dict.zz %}a{% endfor %}b",
    "{% for x in list %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in list %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in list %}{% for y in list %}{{ loop.index }}{% endfor %}{{ loop.index }} {% endfor %}",
    "{% for t in tree recursive %}{{ t.v }}[{{ loop.depth }}{{ loop(t.c) }}]{% endfor %}",
    "{% set x = 1 %}{% for y in list %}{% set x = x + y %}{{ x }} {% endfor %}{{ x }}",
    "{% set ns = namespace(x=1) %}{% for y in list %}{% set ns.x = ns.x + y %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}{{ ns.c }}",
    "{% set d = {} %}{% set d.x = 1 %}",
    "{% if yes %}{% set x = 5 %}{% endif %}{{ x }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set x %}  block {{ n }}\n{% endset %}[{{ x }}]",
    "{% set x | upper %}abc{% endset %}{{ x }}",
    "{% set x = '<' %}{{ x }}",
    "{% macro m(a, b=2, c=none) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, c=3) }} {{ m(1, 4, 5) }} {{ m() }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}",
    "{% macro m() %}{{ n }}{% endmacro %}{{ m() }}",
    "{% macro m() %}x{% endmacro %}{{ m.name }}{{ m.arguments }}",
    "{% macro m(x) %}[{{ caller(x) }}]{% endmacro %}{% call(y) m(3) %}<{{ y }}>{% endcall %}",
    "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}in{% endcall %}",
    "{% macro f(k) %}{% if k > 0 %}{{ k }}{{ f(k - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
    "{% set q = 1 %}{% macro m() %}{{ q }}{% endmacro %}{% set q = 2 %}{{ m() }}",
    "{% macro m(x) -%}\n  {{ x }}\n{%- endmacro %}\n{{ m('a') }}|{{ m('b')|upper }}",
    "{% filter upper %}abc {{ s }}{% endfilter %}",
    "{% filter replace('a', 'b')|upper %}abc{% endfilter %}",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}",
    "{% with %}{% set z = 1 %}{{ z }}{% endwith %}{{ z }}",
    "{% generation %}said{% endgeneration %}",
    "{% for m in messages %}{% generation %}{{ m.role }}{% endgeneration %}\n{% endfor %}",
    "{% block a %}in {{ n }}{% endblock %}",
    "{% if n > 9 %}a{% elif n > 5 %}b{% else %}c{% endif %}",
    "{% if missing %}a{% else %}b{% endif %}",
    "{% if not missing.x %}a{% endif %}",
    "{% if dict.zz is defined %}a{% else %}b{% endif %}",
    "{% print n %}",
    "{% include 'x' %}",
    "{% extends 'x' %}",
    "{% nosuch %}",
    "{% if yes %}",
    "{{ n",
    "{{ }}",
    "{{ n | }}",
    "{% for x list %}{% endfor %}",
    "{{ 'a' }",
    "{# open",
    "{% endif %}",
    "{% break %}",
    "{{ (1 }}",
    "{{ [1, 2 }}",
    "{{ {'a': {'b': 1}} }}",
    "{{ '}}' }}{{ '%}' }}",
    "{{ loop }}",
    "{% for x in list %}{% endfor %}{{ x }}",
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}{% if message.content is string %}{{ message.content }}{% endif %}\n{% endfor %}",
    "{%- for message in messages -%}\n  {{- message.role | upper -}}:\n  {%- if message.tool_calls -%}\n    {%- for c in message.tool_calls %}{{ c.function | tojson }}{% endfor -%}\n  {%- endif -%}\n{%- endfor -%}",
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% endif %}{{ system_message }}{{ loop_messages|length }}",
    "{% for m in messages %}{{ m.content | trim }}|{% endfor %}",
    "{% for m in messages %}{{ m['content'] or 'nil' }}|{% endfor %}",
    "{% for m in messages %}{{ m.content + '' }}{% endfor %}",
    "{% for m in messages %}{{ '' ~ m.content }}|{% endfor %}",
    "{% for m in messages %}{{ '%s: %s' % (m.role, m.content) }}|{% endfor %}",
    "{%- set ns = namespace(found=false, last=none) -%}{%- for m in messages|reverse -%}{%- if not ns.found and m.role == 'user' -%}{%- set ns.found = true -%}{%- set ns.last = loop.index0 -%}{%- endif -%}{%- endfor -%}{{ ns.last }}",
    "{% for m in messages[::-1] %}{{ m.role[0] }}{% endfor %}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}",
    "{% set j = joiner('|') %}{% for x in list %}{{ j() }}{{ x }}{% endfor %}",
    "{% set g = list|map('string') %}{{ g|list }}{{ g|list }}",
    "{{ people|map(attribute='name')|first }}",
    "{% set x = [] %}{% for i in range(3) %}{% set _ = x.append(i) %}{% endfor %}{{ x }}",
    "{% set items = dict.items() %}{% for k, v in items %}{{ k }}{% endfor %}{% for k, v in items %}{{ v }}{% endfor %}",
    "{{ messages|tojson(indent=2) }}",
    "{{ raise_exception('Roles must alternate') }}",
    "{% if n is divisibleby 7 and n is odd %}both{% endif %}",
    "{{ 'a' if yes }}{{ 'b' if no }}",
    "{{- n -}}   {{- f -}}",
    "a {{- ' ' -}} b",
    "{%set x=1%}{{x}}",
    "{{x.y}}",
    "line1\n\n   {%- if yes %}   \nline2{% endif %}",
    "\t{% if yes %}\tx\t{% endif %}\t",
    "{% if yes -%}\n\n x\n\n {%- endif %}",
    "  {{ n }}  {# c #}  \n",
    "{% macro m(t) %}{{ t }}{% endmacro %}{{ m('<')|e }}",
    "{% set x = 'a' %}{% for i in [1] %}{% set x = 'b' %}{{ x }}{% endfor %}{{ x }}",
    "{% for i in [1,2] %}{% if loop.first %}{% set y = i %}{% endif %}{{ y }}{% endfor %}",
    "{{ namespace(a=1) is mapping }}",
    "{{ 'x' }}\n{% for i in [1] %}\n\n{{ i }}\n\n{% endfor %}\n",
]


def row(template):
    try:
        return [template, env.from_string(template).render(**VARIABLES)]
    except Exception as error:
        return [template, None, type(error).__name__]


if __name__ == "__main__":
    lines = EXPRESSIONS.strip("\n").split("\n")
    expressions, held = [], ""
    for line in lines:  # a line that ends in a backslash goes on
        held += line
        if line.endswith("\\"):
            held += "\n"
            continue
        expressions.append(held)
        held = ""
    rows = [row("{{ " + e + " }}") for e in expressions] + [row(t) for t in TEMPLATES]
    rows = [r for r in rows if " at 0x" not in (r[1] or "")]  # addresses
    path = Path(__file__).parent / "jinja-table.json"
    body = ",\n".join(json.dumps(r, ensure_ascii=True) for r in rows)
    path.write_text('{"jinja2": %s, "now": %s, "variables": %s, "rows": [\n%s\n]}\n' % (json.dumps(jinja2.__version__), json.dumps(NOW.isoformat()), json.dumps(VARIABLES), body))
    print(len(rows), "rows,", sum(r[1] is None for r in rows), "errors")

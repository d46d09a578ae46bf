"""Small semantic changes of Python source, one at a time, as text.

Knows the syntax of a file and no test. Left alone is what no test should look at: docstrings, error texts, `__repr__`,
annotations, imports, what only type checkers see. Strings are changed where they decide something (compared, or the
key of a look-up), never where they are read by people.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMPARISONS: dict[type[ast.cmpop], tuple[str, tuple[str, ...]]] = {
    ast.Lt: ("<", ("<=", ">")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<")),
    ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: ("not in", ("in",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: ("is not", ("is",)),
}
OPERATORS: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "//"),
    ast.Pow: ("**", "*"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
}
#: A function -> the one it is taken for.
TWINS = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "floor": "ceil",
    "ceil": "floor",
    "sorted": "list",
}
#: Decorators and keywords that say how Python runs the code, not what it computes.
PLUMBING = ("dataclass", "cache", "lru_cache", "overload", "runtime_checkable")
SILENT_KEYWORDS = ("strict", "stacklevel", "daemon", "help", "metavar", "short_help", "flush", "check")
#: Calls in which the order of the first two arguments says nothing, or only how Python runs.
UNORDERED = (
    "min",
    "max",
    "gcd",
    "isclose",
    "logaddexp",
    "isinstance",
    "cast",
    "setattr",
    "getattr",
    "hasattr",
)
#: Functions whose output is for a developer's eyes.
UNSEEN = ("__repr__", "__str__")
#: Tests of what reads or runs the code: a type checker, another Python.
OTHERS = ("TYPE_CHECKING", "version_info")
LOGGING = ("debug", "info", "warning", "warn")


@dataclass(frozen=True)
class Mutant:
    """One change: bytes `start` to `end` of a file become `text`."""

    path: str  # from the root of the checkout
    start: int
    end: int
    text: str
    kind: str
    line: int  # of the change
    lines: tuple[int, ...]  # which have to be executed for it to be seen; none: the module's own level
    names: tuple[str, ...] = ()  # what the changed statement of a module binds

    def apply(self, source: bytes) -> bytes:
        """The file with the change."""
        return source[: self.start] + self.text.encode() + source[self.end :]

    def diff(self, source: bytes) -> tuple[str, str]:
        """The lines touched, before and after, blanks run together: what a reader sees, and a key that lasts."""
        first = source.rfind(b"\n", 0, self.start) + 1
        last = source.find(b"\n", self.end)
        after = source[first : self.start] + self.text.encode() + source[self.end : last]
        return " ".join(source[first:last].decode().split()), " ".join(after.decode().split())


def mutants(root: Path, path: str) -> list[Mutant]:
    """All changes of one file, in the order of its lines. A few may not be Python: ask `compiles`."""
    source = (root / path).read_bytes()
    return sorted(set(_Finder(path, source).all()), key=lambda m: (m.start, m.end, m.text))


def compiles(source: bytes) -> bool:
    """Whether a changed file is still Python."""
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


class _Finder:
    """Walks a file's tree with what surrounds a node in mind: its statement, its function, its module-level name."""

    def __init__(self, path: str, source: bytes) -> None:
        self.path, self.source = path, source
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.lines: tuple[int, ...] = ()
        self.names: tuple[str, ...] = ()

    def all(self) -> Iterator[Mutant]:
        yield from self.block(ast.parse(self.source).body, top=True)

    # -- where things are

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[
            node.end_lineno - 1
        ] + node.end_col_offset

    def text(self, node: ast.expr) -> str:
        start, end = self.span(node)
        return self.source[start:end].decode()

    def change(self, start: int, end: int, text: str, kind: str) -> Mutant:
        line = self.source.count(b"\n", 0, start) + 1
        return Mutant(self.path, start, end, text, kind, line, self.lines, self.names)

    def replace(self, node: ast.expr | ast.stmt, text: str, kind: str) -> Mutant:
        return self.change(*self.span(node), text, kind)

    def between(self, left: ast.expr, right: ast.expr, old: str, new: str, kind: str) -> Iterator[Mutant]:
        """An operator stands between two expressions and has no place of its own in the tree."""
        start, end = self.span(left)[1], self.span(right)[0]
        gap = self.source[start:end].decode()
        if gap.count(old) == 1 and "#" not in gap:
            at = start + len(gap[: gap.index(old)].encode())
            yield self.change(at, at + len(old), new, kind)

    # -- statements

    def block(self, body: list[ast.stmt], *, top: bool = False) -> Iterator[Mutant]:
        for i, node in enumerate(body):
            if i == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue  # a docstring
            if top:
                self.lines, self.names = (), _bound(node)
            yield from self.statement(node, top=top)

    def statement(self, node: ast.stmt, *, top: bool = False) -> Iterator[Mutant]:
        if isinstance(node, (ast.Import, ast.ImportFrom, ast.Assert, ast.Pass, ast.Global, ast.Nonlocal)):
            return
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield from self.definition(node, top=top)
            return
        if isinstance(node, ast.If) and any(name in ast.dump(node.test) for name in OTHERS):
            return
        outer = self.lines
        if outer:
            self.lines = tuple(range(node.lineno, self.last_line(node) + 1))
        yield from self.deleted(node, top=top)
        if not isinstance(node, ast.Raise):
            yield from self.conditions(node)
            for child in ast.iter_child_nodes(node):
                yield from self.child(child, node)
        self.lines = outer

    def last_line(self, node: ast.stmt) -> int:
        """Of the statement without the statements inside it."""
        body = getattr(node, "body", None)
        return max(node.lineno, body[0].lineno - 1) if body else node.end_lineno or node.lineno

    def child(self, child: ast.AST, parent: ast.stmt) -> Iterator[Mutant]:
        if isinstance(child, ast.stmt):
            yield from self.statement(child)
        elif isinstance(child, ast.expr):
            if not (isinstance(parent, ast.AnnAssign) and child is parent.annotation):
                yield from self.expression(child)
        elif isinstance(child, ast.ExceptHandler):
            for inner in child.body:
                yield from self.statement(inner)
        elif isinstance(child, ast.withitem):
            yield from self.expression(child.context_expr)
        elif isinstance(child, ast.match_case):
            for inner in child.body:
                yield from self.statement(inner)

    def definition(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, *, top: bool
    ) -> Iterator[Mutant]:
        if node.name in UNSEEN:
            return
        for decorator in node.decorator_list:
            if not any(word in self.text(decorator).split("(")[0] for word in PLUMBING):
                yield from self.expression(decorator)
        outer = self.lines
        if isinstance(node, ast.ClassDef):
            yield from self.block(node.body)
            return
        self.lines = tuple(range(node.body[0].lineno, (node.end_lineno or node.lineno) + 1))
        for default in (*node.args.defaults, *(d for d in node.args.kw_defaults if d)):
            yield from self.expression(default)
        yield from self.block(node.body)
        self.lines = outer

    def deleted(self, node: ast.stmt, *, top: bool) -> Iterator[Mutant]:
        if isinstance(node, ast.Return):
            if node.value and not (isinstance(node.value, ast.Constant) and node.value.value is None):
                yield self.replace(node.value, "None", "return value dropped")
        elif isinstance(node, ast.Raise):
            if node.exc is not None:
                yield self.replace(node, "pass", "raise deleted")
        elif isinstance(node, (ast.AugAssign, ast.Break, ast.Continue, ast.Delete)):
            yield self.replace(node, "pass", "statement deleted")
        elif isinstance(node, ast.Expr):
            value = node.value
            logs = isinstance(value, ast.Call) and _called(value) in LOGGING
            if isinstance(value, (ast.Call, ast.Await)) and not logs and not (top and self.names):
                yield self.replace(node, "pass", "statement deleted")
        elif isinstance(node, ast.Assign) and all(
            isinstance(t, (ast.Attribute, ast.Subscript)) for t in node.targets
        ):
            yield self.replace(node, "pass", "statement deleted")

    def conditions(self, node: ast.AST) -> Iterator[Mutant]:
        if isinstance(node, (ast.If, ast.While, ast.IfExp)):
            if not (isinstance(node, ast.While) and isinstance(node.test, ast.Constant)):
                yield self.replace(node.test, f"(not ({self.text(node.test)}))", "condition negated")
        elif isinstance(node, ast.comprehension):
            for test in node.ifs:
                yield self.replace(test, f"(not ({self.text(test)}))", "condition negated")

    # -- expressions

    def expression(self, node: ast.expr) -> Iterator[Mutant]:
        if isinstance(node, ast.JoinedStr):  # its parts have no places of their own before Python 3.12
            return
        yield from self.conditions(node)
        yield from self.operators(node)
        if isinstance(node, ast.Call):
            yield from self.calls(node)
        if isinstance(node, ast.Constant):
            yield from self.constants(node)
        for child in ast.iter_child_nodes(node):
            yield from self.inside(child)

    def inside(self, child: ast.AST) -> Iterator[Mutant]:
        if isinstance(child, ast.comprehension):
            yield from self.conditions(child)
            for each in (child.iter, *child.ifs):
                yield from self.expression(each)
        elif isinstance(child, ast.keyword):
            if child.arg not in SILENT_KEYWORDS:
                yield from self.expression(child.value)
        elif isinstance(child, ast.expr):
            yield from self.expression(child)

    def operators(self, node: ast.expr) -> Iterator[Mutant]:
        if isinstance(node, ast.BoolOp):
            old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
            for left, right in zip(node.values, node.values[1:], strict=False):
                yield from self.between(left, right, old, new, f"{old} for {new}")
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield self.replace(node, f"bool({self.text(node.operand)})", "not dropped")
        elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            old, new = OPERATORS[type(node.op)]
            if not (_is_text(node.left) or _is_text(node.right)):
                yield from self.between(node.left, node.right, old, new, "operator swapped")
        elif isinstance(node, ast.Compare):
            for left, op, right in zip(
                [node.left, *node.comparators], node.ops, node.comparators, strict=False
            ):
                old, others = COMPARISONS[type(op)]
                for new in others:
                    yield from self.between(left, right, old, new, "comparison swapped")
                if _is_text(right) and isinstance(right, ast.Constant):
                    yield self.replace(right, repr(right.value + "x"), "word changed")

    def calls(self, node: ast.Call) -> Iterator[Mutant]:
        name = _called(node)
        if name in TWINS:
            start, end = self.span(node.func)
            yield self.change(end - len(name), end, TWINS[name], "twin called")
        if len(node.args) >= 2 and not any(isinstance(a, ast.Starred) for a in node.args[:2]):
            a, b = node.args[:2]
            if self.text(a) != self.text(b) and name not in UNORDERED:
                start, end = self.span(a)[0], self.span(b)[1]
                middle = self.source[self.span(a)[1] : self.span(b)[0]].decode()
                yield self.change(start, end, self.text(b) + middle + self.text(a), "arguments swapped")
        if name == "get" and node.args and isinstance(node.args[0], ast.Constant) and _is_text(node.args[0]):
            yield self.replace(node.args[0], repr(f"{node.args[0].value}x"), "word changed")

    def constants(self, node: ast.Constant) -> Iterator[Mutant]:
        value = node.value
        if isinstance(value, bool):
            yield self.replace(node, str(not value), "constant changed")
        elif isinstance(value, int):
            yield self.replace(node, str(value + 1), "constant changed")
            if value > 1:
                yield self.replace(node, str(value - 1), "constant changed")
        elif isinstance(value, float):
            yield self.replace(node, repr(value * 1.5 if value else 1.0), "constant changed")


def _bound(node: ast.stmt) -> tuple[str, ...]:
    """The names that a statement at a module's level gives to others."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return (node.name,)
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return tuple(t.id for t in targets if isinstance(t, ast.Name))


def _called(node: ast.Call) -> str:
    return getattr(node.func, "id", None) or getattr(node.func, "attr", "")


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))

"""Types of Python for stubs: shapes as annotations, objects as classes of their own."""

from __future__ import annotations

from orchestrator.tools.names import is_identifier
from orchestrator.tools.shapes import Field, Shape
from orchestrator.tools.signatures import NOTATIONS

MOST_CLASSES = 40


class Types:
    """The definitions that the annotations of one module need, in the order in which they are needed."""

    def __init__(self) -> None:
        self.definitions: list[str] = []
        self.imports: set[str] = set()
        self._known: dict[tuple[Field, ...], str] = {}
        self._names: set[str] = set()

    def written(self, shape: Shape, name: str, depth: int) -> str:
        """A shape as an annotation; ``name`` is for the class that an object needs."""
        match shape.kind:
            case "array":
                return f"list[{self.written(shape.parts[0], name, depth)}]"
            case "map":
                return f"dict[str, {self.written(shape.parts[0], name, depth)}]"
            case "union":
                return " | ".join(dict.fromkeys(self.written(part, name, depth) for part in shape.parts))
            case "literal":
                self.imports.add("Literal")
                return f"Literal[{', '.join(map(repr, shape.values))}]"
            case "object" if depth > 0 and len(self._names) < MOST_CLASSES:
                return self.named(name, shape.fields, depth)
            case "object" | "any":
                self.imports.add("Any")
                return "Any" if shape.kind == "any" else "dict[str, Any]"
        return NOTATIONS["python"].names[shape.kind]

    def named(self, name: str, fields: tuple[Field, ...], depth: int) -> str:
        """The name of the class for an object with these fields; the class is defined if no other has them."""
        if fields in self._known:
            return self._known[fields]
        unique, number = name, 1
        while unique in self._names:
            number += 1
            unique = f"{name}{number}"
        self._names.add(unique)
        self._known[fields] = unique
        self.imports.add("TypedDict")
        parts = [(field, self._annotation(field, f"{unique}{_class_part(field.name)}", depth - 1)) for field in fields]
        if all(is_identifier(field.name) for field in fields):
            lines = [f"class {unique}(TypedDict):"]
            for field, annotation in parts:
                about = f"  # {field.description}" if field.description else ""
                lines.append(f"    {field.name}: {annotation}{about}")
        else:
            lines = [f'{unique} = TypedDict("{unique}", {{']
            lines += [f"    {field.name!r}: {annotation!r}," for field, annotation in parts]
            lines += ["})"]
        self.definitions += ["", *lines, ""]
        return unique

    def _annotation(self, field: Field, name: str, depth: int) -> str:
        text = self.written(field.shape, name, depth)
        if field.is_required:
            return text
        self.imports.add("NotRequired")
        return f"NotRequired[{text}]"


def _class_part(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_")) if is_identifier(name) else "Item"

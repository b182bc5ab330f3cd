# SPDX-License-Identifier: GPL-3.0-or-later
"""A C project of some thousand lines, made up: as many files as asked for, the same for the same numbers."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

INCLUDES = "".join(f"#include <{name}.h>\n" for name in ("stdio", "stdlib", "string", "stdint", "errno", "time"))


def write_project(folder: pathlib.Path, *, files: int, functions: int) -> int:
    """Write ``files`` sources of ``functions`` functions each, and a Makefile that links them; return their lines.

    The functions differ in constants, shape and what they call, so that no two objects are alike and the optimiser has
    something to do in each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = 0
    names = [f"unit{number:02}" for number in range(files)]
    header = "".join(f"long {name}_run(long);\n" for name in names)
    (folder / "units.h").write_text(header)
    for number, name in enumerate(names):
        text = INCLUDES + '#include "units.h"\n' + "".join(_functions(name, number, functions))
        (folder / f"{name}.c").write_text(text)
        lines += text.count("\n")
    calls = "".join(f"    sum += {name}_run(sum);\n" for name in names)
    main = '#include <stdio.h>\n#include "units.h"\nint main(void)\n{\n    long sum = 1;\n' + calls
    main += '    printf("%ld\\n", sum);\n    return 0;\n}\n'
    (folder / "main.c").write_text(main)
    objects = " ".join(f"{name}.o" for name in (*names, "main"))
    (folder / "Makefile").write_text(
        f"CFLAGS = -O2\napp: {objects}\n\tgcc -o app {objects}\n%.o: %.c units.h\n\t$(CC) $(CFLAGS) -c $< -o $@\n"
    )
    return lines + main.count("\n")


def _functions(name: str, number: int, count: int) -> Iterator[str]:
    for index in range(count):
        seed = number * 131 + index * 17 + 7
        yield f"""
struct {name}_{index} {{ uint32_t key[{index % 5 + 3}]; char text[{seed % 40 + 16}]; double weight; }};
static long {name}_f{index}(const char *text, long start)
{{
    struct {name}_{index} rows[{seed % 13 + 4}];
    long sum = start ^ {seed};
    memset(rows, {seed % 251}, sizeof rows);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {{
        snprintf(rows[i].text, sizeof rows[i].text, "%s-%zu-%ld", text, i, sum);
        for (size_t k = 0; k < sizeof rows[i].key / sizeof *rows[i].key; k++)
            rows[i].key[k] = (uint32_t)(sum * {seed % 97 + 3} + (long)(k * {seed % 31 + 1}));
        rows[i].weight = (double)sum / {seed % 19 + 1}.0;
        if (rows[i].key[0] % {seed % 7 + 2} == 0)
            sum += (long)strlen(rows[i].text) + (long)rows[i].weight;
        else
            sum ^= (long)rows[i].key[{index % 3}] << {index % 11};
    }}
    return sum;
}}
"""
    calls = "".join(f'    sum = {name}_f{index}("{name}", sum);\n' for index in range(count))
    yield f"long {name}_run(long start)\n{{\n    long sum = start;\n{calls}    return sum;\n}}\n"

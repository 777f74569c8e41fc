"""Running a script as a rank of dbp run: it is run as Python would."""

import sys
from types import SimpleNamespace

import pytest

from dbp.script import __main__ as runner


@pytest.mark.parametrize("safe", [False, True])
def test_a_script_runs_as_python_runs_it_whatever_it_does_to_its_arguments(tmp_path, monkeypatch, safe):
    script = tmp_path / "script.py"
    script.write_text("import sys\nsys.argv.clear()\nthere = __file__, __name__\n1 / 0\n")
    found, words, modules = [], ["dbp", str(script), "1"], {}
    stub = SimpleNamespace(argv=words, path=["where dbp was started"], modules=modules, exit=sys.exit)
    stub.flags = SimpleNamespace(safe_path=safe)  # then Python looks for no modules beside a script
    stub.excepthook = lambda kind, error, trace: found.append((kind, trace.tb_frame.f_code.co_filename))
    monkeypatch.setattr(runner, "sys", stub)
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        runner.main()
    assert ended.value.code == 1
    assert found == [(ZeroDivisionError, str(script))]
    assert modules["__main__"].there == (str(script), "__main__")
    assert stub.path == (["where dbp was started"] if safe else [str(tmp_path)])

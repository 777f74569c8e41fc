"""The command eval, with its report."""

import re


def test_a_report_follows_the_line_of_values(small_run, run_command):
    folder, _ = small_run
    code, out = run_command("eval", folder, "dbp:digits-test")[:2]
    assert code == 0
    reported = run_command("eval", folder, "dbp:digits-test", "--report")[1]
    assert reported.startswith(out.rstrip("\n") + "\n\nclass ")
    lines = reported.splitlines()
    assert max(map(len, lines[1:])) <= 80
    assert [line.split()[0] for line in lines[3:13]] == [str(number) for number in range(10)]
    accuracy = re.search(r"accuracy ([\d.]+)", out).group(1)
    assert re.search(rf"^micro average +{accuracy} ", reported, re.MULTILINE)
    counts = [[int(cell) for cell in line.split()[1:]] for line in lines[-10:]]
    assert sum(map(sum, counts)) == 359
    assert f"{sum(counts[i][i] for i in range(10)) / 359:.4f}" == accuracy

"""Launches are counted from the files that XLA dumps; these are excerpts of such files."""

import pytest

from launch.compiling.kernels import Launched, launched

# Seven turns of a product, a reduction and a copy, of which the first two lie in a graph; then a
# condition of one launch or of two, and an inner loop of unknown length.
SEQUENCE = """\
001: kCopy  [source       | next=002 (1)] kCopy
002: kWhile [prev=001 (1) | next=007 (1)]   
condition:
    003: kCustomKernel [source | sink] loop_compare_fusion grid: [1, 1, 1]
  body:
    000: kCommandBuffer [source | next=006 (1)] 
        004: kCustomKernel [source | next=005 (1)] gemm_fusion_dot grid: [8, 1, 1]
        005: kCustomKernel [prev=004 (1) | sink] input_reduce_fusion grid: [8, 1, 1]
    006: kDynamicSliceFusion [prev=000 (1) | sink] params=1, results=1
        014: kCopy [source | sink] kCopy
007: kConditional [prev=002 (1) | next=011 (1)]   
  branch_0:
    008: kCustomKernel [source | sink] loop_multiply_fusion grid: [8, 1, 1]
  branch_1:
    009: kCustomKernel [source | sink] loop_multiply_fusion grid: [8, 1, 1]
    010: kAllReduce [source | sink] kAllReduce
011: kWhile [prev=007 (1) | sink]   
condition:
    012: kCustomKernel [source | sink] loop_compare_fusion grid: [1, 1, 1]
  body:
    013: kCustomCall [source | sink] kCustomCall
"""  # noqa: W291
METADATA = "\n".join(
    f'thunk_info {{\n  profile_annotation: "{name}"\n  thunk_id: {number}\n}}'
    for number, name in {
        **{1: "copy.1", 2: "while.1", 3: "compare.1", 4: "gemm.1", 5: "sum.1", 8: "mul.1"},
        **{9: "mul.2", 10: "all-reduce.1", 11: "while.2", 12: "compare.2", 13: "call.1"},
    }.items()
)
TEXT = """\
%product (a: f32[8,8], b: f32[8,8]) -> f32[8,8] {
  ROOT %dot.1 = f32[8,8]{1,0} dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%sums (a: f32[8,8]) -> f32[8] {
  ROOT %reduce.1 = f32[8]{0} reduce(%a, %zero), dimensions={0}, to_apply=%add
}

%twice (a: f32[8]) -> f32[8] {
  ROOT %multiply.1 = f32[8]{0} multiply(%a, %a)
}

ENTRY %main (x: f32[8,8]) -> f32[8] {
  %while.1 = (s32[], f32[8]) while(%t), backend_config={"known_trip_count":{"n":"7"}}
  %while.2 = (s32[], f32[8]) while(%t), condition=%c, body=%b
  %gemm.1 = f32[8,8]{1,0} fusion(%x, %x), kind=kCustom, calls=%product, \
backend_config={"reification_cost":[{"exec_time_us":9,"name":""},{"exec_time_us":2.5,"name":"sol"}]}
  %sum.1 = f32[8]{0} fusion(%x), kind=kInput, calls=%sums, \
backend_config={"reification_cost":[{"exec_time_us":1e-1,"compute_time_us":0,"name":"sol"}]}
  %mul.1 = f32[8]{0} fusion(%x), kind=kLoop, calls=%twice
  %mul.2 = f32[8]{0} fusion(%x), kind=kLoop, calls=%twice
  %compare.2 = pred[] fusion(%x), kind=kLoop, calls=%twice
  ROOT %call.1 = f32[8]{0} custom-call(%x), custom_call_target="__cublas$gemm"
}
"""


@pytest.fixture
def found(tmp_path) -> Launched:
    for name, text in {"thunk_sequence": SEQUENCE, "thunk_metadata": METADATA}.items():
        (tmp_path / f"module_0001.jit_f.{name}.txt").write_text(text)
    return launched(TEXT, tmp_path)


def test_a_loop_of_known_length_counts_in_full_and_a_condition_its_dearer_branch(found):
    # 1 copy, 7 x (product, reduction, copy), the branch of 2, and condition and body once.
    kinds = {"copy": 1 + 7, "product": 7 + 1, "reduction": 7, "elementwise": 1 + 1, "collective": 1}
    assert found.call.kinds == kinds
    assert found.call.launches == 26


def test_a_loop_of_unknown_length_is_named(found):
    assert found.call.open_ended and not found.turn.open_ended


def test_launches_under_a_command_buffer_lie_in_a_graph(found):
    assert found.call.in_graphs == 7 * 2


def test_the_time_at_the_peaks_is_the_estimate_named_sol_in_each_turn(found):
    assert found.call.peak == pytest.approx(7 * (2.5e-6 + 0.1e-6))


def test_a_turn_is_one_of_the_loop_that_launches_most(found):
    assert found.turn.kinds == {"product": 1, "reduction": 1, "copy": 1}


def test_the_second_sequence_is_read_where_graphs_were_made(tmp_path):
    (tmp_path / "m.f.thunk_sequence.txt").write_text("001: kCopy [source | sink] kCopy\n" * 3)
    name = "m.f.thunk_sequence_after_thunk_passes.txt"
    (tmp_path / name).write_text("001: kCopy [source | sink] kCopy\n")
    (tmp_path / "m.f.thunk_metadata.txt").write_text("")
    assert launched("", tmp_path).call.kinds == {"copy": 1}
